"""The laws of `robotrl.sim.worlds.Worlds`: a backend's tests inherit them and say how worlds are made."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from robotrl.errors import SimulationError
from robotrl.sim.model import position_model
from robotrl.sim.worlds import Worlds
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped

NUM = 5
SUBSTEPS = 4
READ = ("qpos", "qvel", "actuator_force", "xpos", "cvel")
"""What is compared where a law speaks of everything that worlds tell."""


@dataclass(frozen=True)
class Scene:
    """A model with start states and goals that bring it into contact with the floor."""

    model: mujoco.MjModel
    rest: tuple[float, ...]
    """qpos (nq,) shortly above the floor."""
    hold: tuple[float, ...]
    """Goals (nu,) about which others are drawn."""
    reach: float
    """Standard deviation of the goals."""
    body: str
    """The moving body whose mass the laws change."""

    def start(self, worlds: Worlds, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Reset every world into its own state; returns qpos (B, nq) and qvel (B, nv)."""
        num, m = worlds.num, self.model
        noise = torch.randn((num, m.nq + m.nv), generator=torch.Generator().manual_seed(seed))
        qpos = torch.tensor(self.rest).repeat(num, 1)
        qpos[:, 7:] += 0.1 * noise[:, 7 : m.nq]
        state = qpos.to(worlds.device, worlds.dtype), (0.1 * noise[:, m.nq :]).to(worlds.device, worlds.dtype)
        worlds.reset(torch.arange(num, device=worlds.device), *state)
        return state

    def goals(self, worlds: Worlds, steps: int, substeps: int = SUBSTEPS, seed: int = 1) -> Tensor:
        """Goals (steps, substeps, B, nu), new ones every fifth step, the same in all substeps."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn((math.ceil(steps / 5), 1, worlds.num, self.model.nu), generator=generator)
        goals = (torch.tensor(self.hold) + self.reach * noise).repeat_interleave(5, 0)[:steps]
        return goals.expand(-1, substeps, -1, -1).to(worlds.device, worlds.dtype)


@functools.cache
def quad12() -> Scene:
    """The servo quadruped, dropped from a few centimetres."""
    robot = load_robot(find_shipped("hardware", "quad12"))
    default = tuple(float(angle) for angle in robot.default_rad)
    return Scene(position_model(robot, 0.005), (0, 0, 0.18, 1, 0, 0, 0, *default), default, 0.3, "trunk")


@functools.cache
def ant() -> Scene:
    """Gymnasium's ant: torque motors, Runge-Kutta integrator; friction the same in all directions.

    Where a capsule stands steep on a plane, MuJoCo Warp turns the contact's tangents otherwise than
    MuJoCo does, which a pyramid of friction would show.
    """
    file = Path(gymnasium.__file__).parent / "envs/mujoco/assets/ant.xml"
    model = mujoco.MjModel.from_xml_path(str(file))
    model.opt.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    bent = (0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0)
    return Scene(model, (0, 0, 0.6, 1, 0, 0, 0, *bent), (0.0,) * 8, 0.5, "torso")


def run(worlds: Worlds, goals: Tensor) -> None:
    """Take one step for each entry of goals (steps, substeps, B, nu)."""
    for targets in goals:
        worlds.step(targets)


def told(worlds: Worlds) -> dict[str, Tensor]:
    """Everything in `READ`, as the worlds tell it now."""
    return {name: worlds.data(name) for name in READ}


def in_mujoco(worlds: Worlds, world: int, qpos: Tensor, qvel: Tensor) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """A world's own model with plain data in a state (nq,), (nv,) at rest of all memory."""
    model = worlds.world_model(world)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos.cpu().numpy(), qvel.cpu().numpy()
    mujoco.mj_forward(model, data)
    return model, data


def ids(worlds: Worlds, *chosen: int) -> Tensor:
    """Worlds as a tensor (k,)."""
    return torch.tensor(chosen, dtype=torch.long, device=worlds.device)


class Conformance:
    """Laws of one backend; a subclass makes the worlds and states its tolerances."""

    undisturbed = 0.0
    """How far apart two runs of the same worlds may lie; 0 is the same bits."""
    exact = 1e-4
    """How far from plain MuJoCo, relative to the largest value of a field, one step may lead."""
    breaking_speed = 1e12
    """A velocity that no world survives."""

    def make(self, model: mujoco.MjModel, num: int) -> Worlds:
        """Build worlds whose runs can be repeated bit by bit."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _aside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """MuJoCo logs its warnings about broken worlds into a file of the working directory."""
        monkeypatch.chdir(tmp_path)

    @pytest.fixture(params=[quad12, ant], ids=["quad12", "ant"])
    def scene(self, request: pytest.FixtureRequest) -> Scene:
        build: Callable[[], Scene] = request.param
        return build()

    @pytest.fixture
    def worlds(self, scene: Scene) -> Worlds:
        worlds = self.make(scene.model, NUM)
        told(worlds)  # backends keep a field up to date from its first reading on
        return worlds

    @pytest.fixture
    def twin(self, scene: Scene) -> Worlds:
        """Worlds to which nothing is done but the same steps."""
        twin = self.make(scene.model, NUM)
        told(twin)
        return twin

    def assert_same(self, a: Worlds, b: Worlds, *chosen: int) -> None:
        """The chosen worlds (default: all) tell the same in both."""
        rows = list(chosen) or list(range(a.num))
        for name in READ:
            x, y = (w.data(name)[rows].cpu().numpy() for w in (a, b))
            np.testing.assert_allclose(x, y, rtol=0, atol=self.undisturbed, err_msg=name)

    def assert_like_mujoco(self, worlds: Worlds, world: int, data: mujoco.MjData) -> None:
        """A world tells what a plain `MjData` holds."""
        for name in READ:
            expected = np.asarray(getattr(data, name))
            tolerance = self.exact * max(1.0, float(np.abs(expected).max()))
            value = worlds.data(name)[world].double().cpu().numpy()
            np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance, err_msg=name)

    # What is told.

    def test_tensors_have_the_shapes_device_and_dtype_of_the_worlds(
        self, worlds: Worlds, scene: Scene
    ) -> None:
        plain = mujoco.MjData(scene.model)
        for name in READ:
            value = worlds.data(name)
            assert value.shape == (NUM, *getattr(plain, name).shape)
            assert (value.device, value.dtype) == (worlds.device, worlds.dtype)
        assert worlds.broken().shape == (NUM,)
        assert worlds.broken().dtype == torch.bool
        assert worlds.broken().device == worlds.device
        for name, attribute in (
            ("qpos", worlds.qpos),
            ("qvel", worlds.qvel),
            ("actuator_force", worlds.actuator_force),
        ):
            assert torch.equal(worlds.data(name), attribute)

    def test_a_name_that_does_not_exist_is_refused(self, worlds: Worlds) -> None:
        for read in (worlds.data, worlds.field, worlds.sensor):
            with pytest.raises(SimulationError, match="tail"):
                read("tail")
        with pytest.raises(SimulationError, match="efc_force"):
            worlds.data("efc_force")

    def test_a_reset_derives_what_mj_forward_does(self, worlds: Worlds, scene: Scene) -> None:
        qpos, qvel = scene.start(worlds)
        for world in range(NUM):
            self.assert_like_mujoco(worlds, world, in_mujoco(worlds, world, qpos[world], qvel[world])[1])

    def test_a_step_leaves_what_mj_step_leaves(self, worlds: Worlds, scene: Scene) -> None:
        qpos, qvel = scene.start(worlds)
        targets = scene.goals(worlds, 1)[0]
        worlds.step(targets)
        for world in range(NUM):
            model, data = in_mujoco(worlds, world, qpos[world], qvel[world])
            data.ctrl[:] = targets[0, world].cpu().numpy()
            mujoco.mj_step(model, data, SUBSTEPS)
            self.assert_like_mujoco(worlds, world, data)

    def test_sensors_are_those_of_mujoco(self) -> None:
        scene = quad12()
        worlds = self.make(scene.model, NUM)
        qpos, qvel = scene.start(worlds)
        feet = worlds.sensor("FL_foot_pos", "RR_foot_pos")
        assert feet.shape == (NUM, 2, 3)
        _, data = in_mujoco(worlds, 2, qpos[2], qvel[2])
        for k, name in enumerate(("FL_foot_pos", "RR_foot_pos")):
            np.testing.assert_allclose(feet[2, k].cpu(), data.sensor(name).data, atol=1e-6)
        with pytest.raises(SimulationError, match="differ in size"):
            worlds.sensor("FL_foot_pos", "FL_foot_touch")

    def test_what_was_told_never_changes(self, worlds: Worlds, scene: Scene) -> None:
        goals = scene.goals(worlds, 2)
        everyone = torch.arange(NUM, device=worlds.device)
        scene.start(worlds)
        moves: tuple[Callable[[], object], ...] = (
            lambda: worlds.step(goals[0]),
            lambda: worlds.set_velocity(everyone, worlds.qvel + 1.0),
            lambda: worlds.reset(everyone[1:3], worlds.qpos[:2], worlds.qvel[:2]),
            lambda: worlds.step(goals[1]),
        )
        for move in moves:
            held = told(worlds) | {"broken": worlds.broken()}
            copies = {name: value.clone() for name, value in held.items()}
            move()
            told(worlds), worlds.broken()
            assert all(torch.equal(held[name], copies[name]) for name in held)

    def test_writing_into_what_was_told_moves_nothing(
        self, worlds: Worlds, twin: Worlds, scene: Scene
    ) -> None:
        goals = scene.goals(worlds, 2)
        for w in (worlds, twin):
            scene.start(w)
            w.step(goals[0])
        for value in (*told(worlds).values(), worlds.broken()):
            value.fill_(1)
        for w in (worlds, twin):
            w.step(goals[1])
        self.assert_same(worlds, twin)
        assert not worlds.broken().any()

    # How worlds move.

    def test_the_same_seed_gives_the_same_run(self, worlds: Worlds, twin: Worlds, scene: Scene) -> None:
        for w in (worlds, twin):
            scene.start(w)
            run(w, scene.goals(w, 30))
        self.assert_same(worlds, twin)
        assert not torch.equal(worlds.qpos[0], worlds.qpos[1])

    def test_reading_moves_nothing(self, worlds: Worlds, twin: Worlds, scene: Scene) -> None:
        goals = scene.goals(worlds, 10)
        for w in (worlds, twin):
            scene.start(w)
        for targets in goals:
            worlds.step(targets)
            told(worlds), worlds.broken(), worlds.take_metrics(), worlds.world_model(1)
        run(twin, goals)
        assert (worlds.qpos - twin.qpos).abs().max() <= self.undisturbed

    def test_goals_act_from_their_substep_on(self, worlds: Worlds, twin: Worlds, scene: Scene) -> None:
        rows = scene.goals(worlds, 30, substeps=1)[::5, 0]
        rows = torch.stack([rows[0], rows[1], rows[1], rows[2], rows[2], rows[3]])
        for w in (worlds, twin):
            scene.start(w)
        worlds.step(rows)
        run(twin, rows[:, None])
        self.assert_same(worlds, twin)

    def test_a_velocity_is_overwritten_at_once_and_only_in_its_worlds(
        self, worlds: Worlds, twin: Worlds, scene: Scene
    ) -> None:
        for w in (worlds, twin):
            scene.start(w)
        pushed = worlds.qvel[[1, 3]] + 0.5
        worlds.set_velocity(ids(worlds, 1, 3), pushed)
        assert torch.equal(worlds.qvel[[1, 3]], pushed)
        for w in (worlds, twin):
            w.step(scene.goals(w, 1)[0])
        self.assert_same(worlds, twin, 0, 2, 4)
        assert not torch.equal(worlds.qpos[1], twin.qpos[1])

    # Settle.

    @pytest.mark.parametrize("chosen", [(3, 1), (4, 0, 1, 3, 2)], ids=["some", "all"])
    def test_worlds_that_settle_move_as_in_a_step_and_the_others_stay(
        self, worlds: Worlds, twin: Worlds, scene: Scene, chosen: tuple[int, ...]
    ) -> None:
        goals = scene.goals(worlds, 5)
        for w in (worlds, twin):
            scene.start(w)
            run(w, goals[:3])
        before = told(worlds)
        worlds.settle(ids(worlds, *chosen), goals[3][:, list(chosen)])
        others = sorted(set(range(NUM)) - set(chosen))
        for name, value in told(worlds).items():
            assert torch.equal(value[others], before[name][others])
        twin.step(goals[3])
        settled, near = list(chosen), self.undisturbed
        for a, b in ((worlds.qpos, twin.qpos), (worlds.qvel, twin.qvel)):
            torch.testing.assert_close(a[settled], b[settled], rtol=0, atol=near)
        model, data = in_mujoco(worlds, 3, worlds.qpos[3], worlds.qvel[3])
        data.ctrl[:] = goals[3][-1, 3].cpu().numpy()
        mujoco.mj_forward(model, data)
        self.assert_like_mujoco(worlds, 3, data)
        for w in (worlds, twin):
            w.step(goals[4])
        torch.testing.assert_close(worlds.qpos[settled], twin.qpos[settled], rtol=0, atol=near)

    def test_what_is_read_first_after_settling_is_current(self, worlds: Worlds, scene: Scene) -> None:
        scene.start(worlds)
        goals = scene.goals(worlds, 2)
        worlds.step(goals[0])
        worlds.settle(ids(worlds, 3, 1), goals[1][:, [3, 1]])
        origin = worlds.data("geom_xpos")[1].cpu()
        _, data = in_mujoco(worlds, 1, worlds.qpos[1], worlds.qvel[1])
        np.testing.assert_allclose(origin, data.geom_xpos, atol=1e-6)

    # Reset.

    def test_a_reset_touches_only_its_worlds(self, worlds: Worlds, twin: Worlds, scene: Scene) -> None:
        goals = scene.goals(worlds, 12)
        for w in (worlds, twin):
            qpos, qvel = scene.start(w)
            run(w, goals[:6])
        worlds.reset(ids(worlds, 1, 3), qpos[[1, 3]], qvel[[1, 3]])
        self.assert_same(worlds, twin, 0, 2, 4)
        assert torch.equal(worlds.qpos[[1, 3]], qpos[[1, 3]])
        assert torch.equal(worlds.qvel[[1, 3]], qvel[[1, 3]])
        for w in (worlds, twin):
            run(w, goals[6:])
        self.assert_same(worlds, twin, 0, 2, 4)

    def test_a_reset_world_remembers_nothing(self, worlds: Worlds, twin: Worlds, scene: Scene) -> None:
        goals = scene.goals(worlds, 10)
        scene.start(worlds, seed=7)
        run(worlds, goals)
        for w in (worlds, twin):
            scene.start(w)
        self.assert_same(worlds, twin)
        for w in (worlds, twin):
            run(w, goals)
        self.assert_same(worlds, twin)

    def test_worlds_are_named_in_any_order(self, worlds: Worlds, scene: Scene) -> None:
        qpos, qvel = scene.start(worlds)
        worlds.reset(ids(worlds, 4, 0, 2), qpos[:3], qvel[:3])
        assert torch.equal(worlds.qpos[[4, 0, 2]], qpos[:3])
        worlds.set_velocity(ids(worlds, 3, 1), qvel[:2])
        assert torch.equal(worlds.qvel[[3, 1]], qvel[:2])

    def test_no_worlds_can_be_reset_too(self, worlds: Worlds, twin: Worlds, scene: Scene) -> None:
        for w in (worlds, twin):
            scene.start(w)
        worlds.reset(ids(worlds), worlds.qpos[:0], worlds.qvel[:0])
        worlds.update_constants(ids(worlds))
        self.assert_same(worlds, twin)

    # Model fields.

    def test_a_field_changes_only_the_worlds_written(
        self, worlds: Worlds, twin: Worlds, scene: Scene
    ) -> None:
        worlds.field("body_mass")[2] *= 1.5
        worlds.field("opt.gravity")[3, 2] = -3.0
        goals = scene.goals(worlds, 10)
        for w in (worlds, twin):
            scene.start(w)
            run(w, goals)
        self.assert_same(worlds, twin, 0, 1, 4)
        for world in (2, 3):
            assert not torch.equal(worlds.qpos[world], twin.qpos[world])

    def test_a_field_is_live_and_starts_as_the_model_has_it(self, worlds: Worlds, scene: Scene) -> None:
        friction = worlds.field("geom_friction")
        assert friction.shape == (NUM, *scene.model.geom_friction.shape)
        np.testing.assert_allclose(friction[1].cpu(), scene.model.geom_friction, rtol=1e-6)
        friction[2, 0, 0] = 0.25
        assert float(worlds.field("geom_friction")[2, 0, 0]) == 0.25
        assert worlds.world_model(2).geom_friction[0, 0] == 0.25
        assert worlds.world_model(1).geom_friction[0, 0] == scene.model.geom_friction[0, 0]
        assert worlds.model.geom_friction[0, 0] == scene.model.geom_friction[0, 0]

    def test_constants_follow_the_masses_of_their_world(self, worlds: Worlds, scene: Scene) -> None:
        body = scene.model.body(scene.body).id
        for world in (2, 3):
            worlds.field("body_mass")[world, body] *= 2.0
            worlds.field("body_inertia")[world, body] *= 2.0
        worlds.update_constants(ids(worlds, 2))
        changed = copy.copy(scene.model)
        changed.body_mass[body] *= 2.0
        changed.body_inertia[body] *= 2.0
        mujoco.mj_setConst(changed, mujoco.MjData(changed))
        for name in ("body_subtreemass", "dof_invweight0", "body_invweight0", "actuator_acc0"):
            nominal, expected = getattr(scene.model, name), getattr(changed, name)
            assert not np.allclose(nominal, expected, rtol=1e-3)
            np.testing.assert_allclose(getattr(worlds.world_model(2), name), expected, rtol=1e-3, atol=1e-5)
            for world in (1, 3):
                np.testing.assert_allclose(
                    getattr(worlds.world_model(world), name), nominal, rtol=1e-3, atol=1e-5
                )

    def test_fields_never_compound(self, worlds: Worlds, twin: Worlds, scene: Scene) -> None:
        everyone = torch.arange(NUM, device=worlds.device)
        mass = worlds.field("body_mass")
        nominal = mass.clone()
        worlds.update_constants(everyone)
        first = worlds.world_model(1).dof_invweight0.copy()
        for _ in range(3):
            mass.copy_(nominal * 1.7)
            worlds.update_constants(everyone)
            scene.start(worlds)
            run(worlds, scene.goals(worlds, 2))
            assert torch.equal(worlds.field("body_mass"), nominal * 1.7)
        mass.copy_(nominal)
        worlds.update_constants(everyone)
        np.testing.assert_array_equal(worlds.world_model(1).dof_invweight0, first)
        twin.field("body_mass")
        twin.update_constants(everyone)
        for w in (worlds, twin):
            scene.start(w)
            run(w, scene.goals(w, 10))
        self.assert_same(worlds, twin)

    def test_a_worlds_model_moves_like_the_world(self, worlds: Worlds, scene: Scene) -> None:
        body = scene.model.body(scene.body).id
        worlds.field("body_mass")[1, body] *= 2.0
        worlds.field("geom_friction")[1, :, 0] = 0.2
        worlds.field("opt.gravity")[1, 0] = 2.0
        worlds.update_constants(ids(worlds, 1))
        qpos, qvel = scene.start(worlds)
        targets = scene.goals(worlds, 1)[0]
        worlds.step(targets)
        model, data = in_mujoco(worlds, 1, qpos[1], qvel[1])
        data.ctrl[:] = targets[0, 1].cpu().numpy()
        mujoco.mj_step(model, data, SUBSTEPS)
        self.assert_like_mujoco(worlds, 1, data)

    # Worlds that break.

    def test_a_broken_world_is_reported_and_disturbs_nobody(
        self, worlds: Worlds, twin: Worlds, scene: Scene
    ) -> None:
        goals = scene.goals(worlds, 12)
        for w in (worlds, twin):
            scene.start(w)
            run(w, goals[:4])
        assert not worlds.broken().any()
        worlds.set_velocity(ids(worlds, 1), torch.full_like(worlds.qvel[:1], self.breaking_speed))
        for targets in goals[4:]:
            for w in (worlds, twin):
                w.step(targets)
            assert worlds.broken().tolist() == [False, True, False, False, False]
        self.assert_same(worlds, twin, 0, 2, 3, 4)

    def test_nothing_but_a_reset_heals(self, worlds: Worlds, twin: Worlds, scene: Scene) -> None:
        goals = scene.goals(worlds, 10)
        for w in (worlds, twin):
            qpos, qvel = scene.start(w)
        worlds.set_velocity(ids(worlds, 1, 3), torch.full_like(worlds.qvel[:2], self.breaking_speed))
        worlds.step(goals[0])
        worlds.reset(ids(worlds, 2), qpos[[2]], qvel[[2]])
        assert worlds.broken().tolist() == [False, True, False, True, False]
        worlds.reset(ids(worlds, 1), qpos[[1]], qvel[[1]])
        assert worlds.broken().tolist() == [False, False, False, True, False]
        worlds.reset(ids(worlds, 3), qpos[[3]], qvel[[3]])
        assert not worlds.broken().any()
        for w in (worlds, twin):
            scene.start(w)
            run(w, goals)
        self.assert_same(worlds, twin)
        assert not worlds.broken().any()

    def test_no_world_resets_itself(self, worlds: Worlds, scene: Scene) -> None:
        """MuJoCo would put a world that exploded back to qpos0, and nobody would know."""
        scene.start(worlds)
        worlds.set_velocity(ids(worlds, 0), torch.full_like(worlds.qvel[:1], self.breaking_speed))
        run(worlds, scene.goals(worlds, 3))
        assert worlds.model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_AUTORESET
        assert not scene.model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_AUTORESET
        rest = torch.tensor(scene.model.qpos0, device=worlds.device, dtype=worlds.dtype)
        assert not torch.allclose(worlds.qpos[0], rest, atol=0.1)

    def test_what_was_counted_is_told_once(self, worlds: Worlds, scene: Scene) -> None:
        scene.start(worlds)
        worlds.step(scene.goals(worlds, 1)[0])
        assert all(isinstance(count, float) for count in worlds.take_metrics().values())
        assert not any(worlds.take_metrics().values())
