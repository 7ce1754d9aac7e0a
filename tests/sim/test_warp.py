"""Warp worlds, on Warp's CPU device: the laws of every backend, and what is warp's own."""

from __future__ import annotations

import copy
import subprocess

import mujoco
import numpy as np
import pytest
import torch

from robotrl.errors import ConfigError, SimulationError
from robotrl.sim.native import NativeWorlds
from robotrl.sim.sizes import probe_sizes
from robotrl.sim.warp import WarpWorlds
from tests.blocking import run_without
from tests.sim.agreement import (
    assert_one_step_agrees,
    assert_same_distribution,
)
from tests.sim.conformance import (
    Conformance,
    ant,
    ids,
    quad12,
    run,
)


def make(model: mujoco.MjModel, num: int = 5, deterministic: bool = True) -> WarpWorlds:
    return WarpWorlds(model, num, device="cpu", deterministic=deterministic, nconmax=24, njmax=100)


class TestWarp(Conformance):
    """Warp's graphs run on its CPU device too, so everything but CUDA itself is covered."""

    def make(self, model: mujoco.MjModel, num: int) -> WarpWorlds:
        return make(model, num)


def test_one_step_leads_where_native_does() -> None:
    scene = quad12()
    native = NativeWorlds(scene.model, 16, threads=1)
    assert_one_step_agrees(native, make(scene.model, 16), scene, 1e-4)


def test_a_contact_rich_run_is_distributed_as_on_native() -> None:
    scene = quad12()
    native = NativeWorlds(scene.model, 64, threads=2)
    assert_same_distribution(native, make(scene.model, 64), scene, steps=200)


def test_worlds_need_not_be_deterministic() -> None:
    scene = quad12()
    fast, exact = make(scene.model, deterministic=False), make(scene.model)
    for worlds in (fast, exact):
        scene.start(worlds)
        run(worlds, scene.goals(worlds, 1))
    torch.testing.assert_close(fast.qpos, exact.qpos, rtol=0, atol=1e-5)


def test_more_worlds_than_are_worked_out_at_once_can_be_reset() -> None:
    scene = quad12()
    worlds = make(scene.model, 150)
    qpos, qvel = scene.start(worlds)
    assert torch.equal(worlds.qpos, qpos)
    assert torch.equal(worlds.qvel, qvel)
    height = worlds.data("xpos")[:, scene.model.body(scene.body).id]
    torch.testing.assert_close(height, qpos[:, :3])
    mass = worlds.field("body_mass")
    mass *= torch.linspace(1, 2, 150)[:, None]
    worlds.update_constants(torch.arange(150))
    torch.testing.assert_close(worlds.field("body_subtreemass")[:, 0], mass.sum(1))


def test_a_field_that_is_read_for_the_first_time_after_a_reset_is_that_of_the_reset() -> None:
    scene = quad12()
    worlds = make(scene.model)
    qpos, qvel = scene.start(worlds)
    run(worlds, scene.goals(worlds, 3))
    worlds.reset(ids(worlds, 1, 3), qpos[[1, 3]], qvel[[1, 3]])
    position = worlds.data("xipos")
    for world in (1, 3):
        data = mujoco.MjData(scene.model)
        data.qpos[:] = qpos[world]
        mujoco.mj_forward(scene.model, data)
        np.testing.assert_allclose(position[world], data.xipos, atol=1e-6)


def test_a_field_expanded_after_capture_is_seen_by_the_next_step() -> None:
    """A stale graph would go on reading the array that was shared by all worlds."""
    scene = quad12()
    worlds, twin = make(scene.model), make(scene.model)
    for w in (worlds, twin):
        scene.start(w)
        run(w, scene.goals(w, 4))  # plainly, captured, replayed
    worlds.field("actuator_gainprm")[2, :, 0] = 0.0
    for w in (worlds, twin):
        run(w, scene.goals(w, 4))
    others = [0, 1, 3, 4]
    assert torch.equal(worlds.qpos[others], twin.qpos[others])
    assert not torch.equal(worlds.qpos[2], twin.qpos[2])


@pytest.mark.parametrize(
    ("nconmax", "njmax", "metric"), [(24, 10, "overflow_nefc"), (1, 100, "overflow_broadphase")]
)
def test_what_does_not_fit_is_counted_even_across_a_reset(nconmax: int, njmax: int, metric: str) -> None:
    scene = quad12()
    worlds = WarpWorlds(scene.model, 5, device="cpu", nconmax=nconmax, njmax=njmax)
    qpos, qvel = scene.start(worlds)
    run(worlds, scene.goals(worlds, 20))
    everyone = torch.arange(5)
    worlds.reset(everyone, qpos, qvel)
    assert worlds.take_metrics()[metric] > 0
    assert worlds.take_metrics() == {}


def test_contact_forces_are_those_that_mujoco_computes_after_a_step() -> None:
    scene = ant()
    worlds = make(scene.model)
    qpos, qvel = scene.start(worlds)
    goals = scene.goals(worlds, 1, substeps=6)[0]
    worlds.step(goals)
    forces = worlds.data("cfrc_ext")
    assert forces.abs().max() > 0.1
    for world in range(5):
        data = mujoco.MjData(scene.model)
        data.qpos[:], data.qvel[:], data.ctrl[:] = qpos[world], qvel[world], goals[0, world]
        mujoco.mj_step(scene.model, data, 6)
        mujoco.mj_rnePostConstraint(scene.model, data)
        np.testing.assert_allclose(
            forces[world], data.cfrc_ext, atol=2e-3 * np.abs(data.cfrc_ext).max() + 1e-4
        )


def test_an_effect_that_the_nominal_model_lacks_can_be_switched_on() -> None:
    scene = quad12()
    worlds = make(scene.model)
    assert scene.model.opt.density == 0
    worlds.field("opt.density")[1] = 1000.0
    qpos, qvel = scene.start(worlds)
    worlds.reset(torch.arange(5), qpos[:1].expand(5, -1), 5 * qvel[:1].expand(5, -1))
    worlds.step(torch.tensor(scene.hold).expand(4, 5, -1))
    assert torch.equal(worlds.qpos[0], worlds.qpos[2])
    assert (worlds.qvel[0] - worlds.qvel[1]).abs().max() > 0.1


# Sizes.


def test_the_probe_leaves_room_above_all_that_a_run_uses() -> None:
    scene = quad12()
    sizes = probe_sizes(scene.model)
    worlds = WarpWorlds(scene.model, 16, device="cpu", nconmax=sizes.nconmax, njmax=sizes.njmax)
    scene.start(worlds)
    run(worlds, scene.goals(worlds, 100))
    assert worlds.take_metrics() == {}
    assert sizes == probe_sizes(scene.model)  # no chance in it


def test_the_probe_counts_given_motion() -> None:
    scene = quad12()
    lying = np.tile(scene.model.qpos0, (1, 1))
    lying[0, 2] = 0.0  # every foot and the trunk deep in the floor
    nothing = probe_sizes(scene.model, worlds=0)
    given = probe_sizes(scene.model, lying, np.zeros((1, scene.model.nv)), worlds=0, steps=1)
    assert given.nconmax > nothing.nconmax
    assert given.njmax > nothing.njmax


def test_the_default_sizes_are_probed() -> None:
    sizes = probe_sizes(quad12().model)
    data = WarpWorlds(quad12().model, 3, device="cpu").raw[1]
    assert (data.naconmax, data.njmax) == (3 * sizes.nconmax, sizes.njmax)


# What is refused.


@pytest.mark.parametrize("num", [0, 10**9])
def test_a_number_of_worlds_that_does_not_fit_is_refused_before_anything_is_allocated(num: int) -> None:
    with pytest.raises(ConfigError, match=r"sim\.worlds: a world takes .* on cpu, got .*; allowed: 1 to \d+"):
        make(quad12().model, num)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(SimulationError, match="no such device"):
        WarpWorlds(quad12().model, 2, device="cuda:99" if torch.cuda.is_available() else "cuda")
    with pytest.raises(SimulationError, match="no such device"):
        WarpWorlds(quad12().model, 2, device="meta")


def test_a_model_beyond_mujoco_warp_is_refused() -> None:
    model = copy.copy(quad12().model)
    model.opt.solver = mujoco.mjtSolver.mjSOL_PGS
    with pytest.raises(SimulationError, match="mujoco_warp cannot simulate this model: mjSOL_PGS"):
        make(model)


def test_a_field_that_holds_damping_of_actuators_too_is_refused() -> None:
    model = copy.copy(quad12().model)
    model.actuator_damping[:, ...] = 0.1
    with pytest.raises(SimulationError, match="actuators have damping too"):
        make(model).field("dof_damping")


def test_without_warp_the_extra_to_install_is_named() -> None:
    done: subprocess.CompletedProcess[str] = run_without(["warp"], "import robotrl.sim.warp")
    assert done.returncode != 0
    assert "warp worlds need warp: pip install 'robotrl[gpu]'" in done.stderr
