"""Native worlds: the laws of every backend bit for bit, and what is native's own."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import mujoco
import mujoco.batch
import numpy as np
import pytest
import torch

from robotrl.errors import BadInputError
from robotrl.sim import memory
from robotrl.sim.memory import available_bytes
from robotrl.sim.native import NativeWorlds
from tests.sim.agreement import (
    assert_one_step_agrees,
    assert_same_distribution,
    distribution_gap,
    one_step_difference,
)
from tests.sim.conformance import (
    NUM,
    READ,
    SUBSTEPS,
    Conformance,
    Scene,
    ant,
    ids,
    quad12,
    run,
    told,
)

SCENES = pytest.mark.parametrize("scene", [quad12(), ant()], ids=["quad12", "ant"])


@pytest.fixture(autouse=True)
def _aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo logs its warnings about broken worlds into a file of the working directory."""
    monkeypatch.chdir(tmp_path)


class TestNative(Conformance):
    """Every law, and nothing is rounded."""

    exact = 0.0

    def make(self, model: mujoco.MjModel, num: int) -> NativeWorlds:
        return NativeWorlds(model, num, threads=2, dtype=torch.float64)


@SCENES
def test_threads_change_nothing(scene: Scene) -> None:
    one, three = (NativeWorlds(scene.model, 7, threads) for threads in (1, 3))
    for worlds in (one, three):
        scene.start(worlds)
        run(worlds, scene.goals(worlds, 20))
    for name in READ:
        assert torch.equal(one.data(name), three.data(name))


@SCENES
def test_single_precision_only_rounds_what_is_told(scene: Scene) -> None:
    single, double = (NativeWorlds(scene.model, NUM, 1, dtype) for dtype in (torch.float32, torch.float64))
    for worlds in (single, double):
        told(worlds)
        scene.start(worlds)
        run(worlds, scene.goals(worlds, 20))
    for name in READ:
        assert torch.equal(single.data(name), double.data(name).float())
    assert not torch.equal(double.qpos, double.qpos.float().double())


def test_a_field_first_read_after_a_step_is_of_the_present_state_and_disturbs_nothing() -> None:
    scene = quad12()
    late, early = (NativeWorlds(scene.model, NUM, 1, torch.float64) for _ in range(2))
    told(early)
    for worlds in (late, early):
        scene.start(worlds)
        run(worlds, scene.goals(worlds, 5))
    force = early.actuator_force
    data = mujoco.MjData(scene.model)
    data.qpos[:] = late.qpos[2]
    mujoco.mj_kinematics(scene.model, data)
    np.testing.assert_array_equal(late.data("xpos")[2], data.xpos)
    assert torch.equal(late.actuator_force, force)
    for worlds in (late, early):
        run(worlds, scene.goals(worlds, 5))
    for name in ("qpos", "qvel", "actuator_force", "xpos"):
        assert torch.equal(late.data(name), early.data(name))


# Worlds that break.


def test_controls_that_are_not_numbers_break_their_world() -> None:
    """MuJoCo would set them to zero and go on."""
    scene = quad12()
    worlds = NativeWorlds(scene.model, 3, 1)
    scene.start(worlds)
    targets = scene.goals(worlds, 1)[0].clone()
    targets[2, 1, 4] = float("nan")
    worlds.step(targets)
    assert worlds.broken().tolist() == [False, True, False]


def boxes(memory_size: str, integrator: str = "Euler") -> mujoco.MjModel:
    """Twelve boxes on slides over a floor, with so little memory that they must not all touch it."""
    parts = '<joint name="j{}" type="slide" axis="0 0 1"/><geom type="box" size=".1 .1 .1"/>'
    bodies = "".join(f'<body pos="{0.3 * i} 0 1">{parts.format(i)}</body>' for i in range(12))
    return mujoco.MjModel.from_xml_string(
        f'<mujoco><size memory="{memory_size}"/><option integrator="{integrator}"/>'
        f'<worldbody><geom type="plane" size="5 5 .1"/>{bodies}</worldbody>'
        '<actuator><motor joint="j0"/></actuator></mujoco>'
    )


def test_a_world_in_which_mujoco_fails_breaks_alone_and_is_healed_by_a_reset() -> None:
    """20 KB do not hold the contacts: MuJoCo raises in the middle of the step."""
    worlds, twin = (NativeWorlds(boxes("20K"), 3, 2) for _ in range(2))
    up, down = torch.zeros((1, 12)), torch.full((1, 12), -0.901)
    worlds.reset(torch.tensor([0]), torch.full((1, 12), -0.6), up)
    twin.reset(torch.tensor([0]), torch.full((1, 12), -0.6), up)
    assert not worlds.broken().any()
    worlds.reset(torch.tensor([1]), down, up)
    assert worlds.broken().tolist() == [False, True, False]  # what it leads to cannot be derived
    steps = torch.arange(6.0).repeat(3, 1).T[:, :, None]
    for w in (worlds, twin):
        w.step(steps)
    assert worlds.broken().tolist() == [False, True, False]
    assert torch.equal(worlds.qpos[[0, 2]], twin.qpos[[0, 2]])
    assert torch.equal(worlds.qpos[1:2], down)
    worlds.reset(torch.tensor([1]), up, up)
    assert not worlds.broken().any()
    worlds.step(steps)
    assert (worlds.qpos[1] < 0).all()


def test_a_world_that_fails_between_substeps_breaks_alone_and_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worlds, twin = (NativeWorlds(boxes("20K"), 3, 2) for _ in range(2))
    for w in (worlds, twin):
        w.reset(torch.tensor([1]), torch.full((1, 12), -0.8), torch.zeros((1, 12)))
    worlds.set_velocity(torch.tensor([1]), torch.full((1, 12), -20.0))
    changing = torch.arange(8.0).repeat(3, 1).T[:, :, None]
    twin.step(changing)
    stepped: list[list[int] | None] = []
    step = mujoco.batch.Batch.step

    def recorded(batch: mujoco.batch.Batch, rows: np.ndarray | None, nstep: int) -> None:
        stepped.append(None if rows is None else rows.tolist())
        step(batch, rows, nstep)

    monkeypatch.setattr(mujoco.batch.Batch, "step", recorded)
    worlds.step(changing)
    assert worlds.broken().tolist() == [False, True, False]
    assert torch.equal(worlds.qpos[[0, 2]], twin.qpos[[0, 2]])
    tried = stepped.count(None)
    assert 1 < tried < 8
    assert stepped == [None] * tried + [[0, 2]] * (8 - tried)


def test_a_world_that_failed_stays_broken_whatever_is_read_or_reset() -> None:
    """A Runge-Kutta step that fails in a late stage leaves a state that can be derived again."""
    worlds = NativeWorlds(boxes("20K", "RK4"), 3, 1)
    state = torch.full((1, 12), -0.7), torch.full((1, 12), -200.0)
    worlds.reset(torch.tensor([1]), *state)
    assert not worlds.broken().any()
    for _ in range(2):
        worlds.step(torch.zeros((1, 3, 1)))
        worlds.data("xpos")
        worlds.reset(torch.tensor([0]), torch.zeros((1, 12)), torch.zeros((1, 12)))
        assert worlds.broken().tolist() == [False, True, False]
        assert torch.equal(worlds.qpos[1:2], state[0])


def test_a_broken_world_is_not_stepped() -> None:
    scene = quad12()
    worlds = NativeWorlds(scene.model, 3, 1)
    qpos, qvel = scene.start(worlds)
    qvel[1] = torch.inf
    worlds.reset(ids(worlds, 1), qpos[[1]], qvel[[1]])
    run(worlds, scene.goals(worlds, 3))
    assert worlds.broken().tolist() == [False, True, False]
    time_s = SUBSTEPS * scene.model.opt.timestep
    np.testing.assert_allclose(worlds.data("time"), [3 * time_s, time_s, 3 * time_s], rtol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_state_that_mujoco_will_call_bad_is_broken_at_once(sign: float) -> None:
    """The last substep led beyond 1e10, which MuJoCo looks at only when the next one starts."""
    worlds = NativeWorlds(boxes("1M"), 3, 1)
    fast = torch.zeros((1, 12)).index_fill(1, torch.tensor(11), sign * 9.99e9)
    worlds.reset(torch.tensor([1]), torch.zeros((1, 12)), fast)
    worlds.field("opt.gravity")[1, 2] = sign * 9e9
    worlds.step(torch.zeros((1, 3, 1)))
    assert 1e10 < sign * float(worlds.qvel[1, 11]) < 1e11
    assert worlds.broken().tolist() == [False, True, False]


def test_lost_constraints_are_counted_until_they_are_told() -> None:
    worlds = NativeWorlds(boxes("40K"), 3, 1)
    worlds.reset(torch.tensor([1]), torch.full((1, 12), -0.901), torch.zeros((1, 12)))
    worlds.take_metrics()
    worlds.step(torch.zeros((3, 3, 1)))
    worlds.reset(torch.tensor([1]), torch.zeros((1, 12)), torch.zeros((1, 12)))
    assert not worlds.broken().any()
    assert worlds.take_metrics() == {"overflow_constraints": 3.0}
    assert worlds.take_metrics() == {}


# Memory.


def test_worlds_that_do_not_fit_in_memory_are_refused_before_they_are_made() -> None:
    model = quad12().model
    with pytest.raises(
        BadInputError, match=r"worlds: need .* GiB of memory.*got 10000000000; allowed: at most"
    ) as error:
        NativeWorlds(model, 10**10, 1)
    fitting = int(str(error.value).rsplit(" ", 1)[1])
    assert 1e4 < fitting < 1e10


def test_a_field_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = quad12().model
    worlds = NativeWorlds(model, 100, 1)
    monkeypatch.setattr(memory, "available_bytes", lambda: 50 * model.geom_friction.nbytes)
    with pytest.raises(BadInputError, match="allowed: at most 45"):
        worlds.field("geom_friction")


def test_the_estimate_that_is_checked_is_what_worlds_then_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch's own bookkeeping, 15 counters and flags of 4 bytes a world, is left out of it."""
    demanded: list[int] = []
    threads: list[int] = []

    def record(_: int, each: int, shared: int = 0) -> None:
        demanded.append(each)
        threads.append(shared)

    monkeypatch.setattr("robotrl.sim.native.require_memory", record)
    scene = quad12()
    worlds = NativeWorlds(scene.model, 64, 2)
    scene.start(worlds)
    worlds.step(scene.goals(worlds, 1)[0])
    for name in ("qpos", "qvel", "actuator_force", "sensordata"):
        worlds.data(name)
    held = worlds.bytes_per_world()
    assert 0 <= held - demanded[0] <= 15 * 4 + 1
    assert threads[0] > 2 * scene.model.narena
    worlds.field("geom_friction")
    assert worlds.bytes_per_world() - held == demanded[1] == scene.model.geom_friction.nbytes
    held = worlds.bytes_per_world()
    worlds.field("body_mass")[3] *= 2.0
    worlds.update_constants(ids(worlds, 3))
    derived = (
        "body_mass",
        "dof_M0",
        "body_subtreemass",
        "body_invweight0",
        "dof_invweight0",
        "actuator_acc0",
    )
    assert worlds.bytes_per_world() - held == sum(getattr(scene.model, name).nbytes for name in derived)


def machine(root: Path, files: dict[str, str]) -> Path:
    """A file system with what Linux tells of its memory."""
    for name, text in {"proc/meminfo": "MemTotal: 4000 kB\nMemAvailable: 3000 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 3000 * 1024),
        ({"memory.max": "max\n"}, 3000 * 1024),
        (
            {"memory.max": "900\n", "memory.current": "700\n", "memory.stat": "anon 1\ninactive_file 500\n"},
            700,
        ),
        ({"memory.max": "900\n", "memory.current": "990\n", "memory.stat": "inactive_file 0\n"}, 0),
        (
            {
                "memory/memory.limit_in_bytes": "900\n",
                "memory/memory.usage_in_bytes": "700\n",
                "memory/memory.stat": "inactive_file 100\ntotal_inactive_file 400\n",
            },
            600,
        ),
    ],
)
def test_available_memory_is_what_machine_and_container_leave(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    groups = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    assert available_bytes(machine(tmp_path, groups)) == expected


def test_available_memory_is_positive_here() -> None:
    assert available_bytes() > 2**20


# The comparisons of two backends, shown to tell physics apart.


def changed(scene: Scene, change: Callable[[mujoco.MjModel], None], num: int) -> NativeWorlds:
    model = copy.copy(scene.model)
    change(model)
    return NativeWorlds(model, num, 2)


def icy(model: mujoco.MjModel) -> None:
    model.geom_friction[:, 0] *= 0.25


def weak(model: mujoco.MjModel) -> None:
    model.actuator_gainprm[:, 0] *= 0.8
    model.actuator_biasprm[:, 1] *= 0.8


def nudged(model: mujoco.MjModel) -> None:
    """Single precision's own error: chaos makes of it another sample of the same distribution."""
    model.opt.gravity[2] *= 1.0 + 1e-7


@SCENES
def test_one_step_tells_physics_apart(scene: Scene) -> None:
    plain = NativeWorlds(scene.model, 16, 2)
    assert_one_step_agrees(plain, changed(scene, nudged, 16), scene, 1e-5)
    for change in (icy, weak):
        with pytest.raises(AssertionError, match="qvel"):
            assert_one_step_agrees(plain, changed(scene, change, 16), scene, 1e-3)


def test_one_step_tells_a_single_number_apart() -> None:
    scene = quad12()

    def heavier(model: mujoco.MjModel) -> None:
        model.body_mass[3] *= 1.01

    difference = one_step_difference(NativeWorlds(scene.model, 16, 2), changed(scene, heavier, 16), scene)
    assert difference["qvel"] > 1e-4


def test_a_run_tells_distributions_apart_and_not_samples() -> None:
    scene, num = quad12(), 48
    plain = NativeWorlds(scene.model, num, 2)
    chaotic = changed(scene, nudged, num)
    assert_same_distribution(plain, chaotic, scene)
    assert (plain.qpos - chaotic.qpos).abs().max() > 1e-2
    for change in (icy, weak):
        with pytest.raises(AssertionError, match="paired_mean"):
            assert_same_distribution(plain, changed(scene, change, num), scene, steps=60)


def test_other_goals_are_another_distribution() -> None:
    scene = quad12()
    plain = NativeWorlds(scene.model, 48, 2)
    elsewhere = dataclasses.replace(scene, hold=tuple(goal + 0.2 for goal in scene.hold))

    class Moved(NativeWorlds):
        def step(self, targets: torch.Tensor) -> None:
            super().step(targets - torch.tensor(scene.hold) + torch.tensor(elsewhere.hold))

    gap = distribution_gap(plain, Moved(scene.model, 48, 2), scene, steps=40)
    assert min(gap.values()) > 1.0
