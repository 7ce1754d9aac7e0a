"""The classic tasks on the warp backend, against the native one: the same step from the same state."""

from __future__ import annotations

import pytest
import torch

from robotrl.sim.direct import DirectEnv, direct_model, native_worlds
from robotrl.tasks.classic import classic_task

pytest.importorskip("mujoco_warp")


@pytest.mark.parametrize("name", ["Reacher-v5", "Ant-v5"])
def test_a_step_on_warp_is_that_of_native(name: str) -> None:
    from robotrl.sim.warp import WarpWorlds

    task = classic_task(name)
    native = DirectEnv(task, native_worlds(task, 4, threads=1), seed=3)
    warp = DirectEnv(task, WarpWorlds(direct_model(task), 4, device="cpu"), seed=4)
    still = torch.zeros((4, native.action_size))
    for _ in range(12):  # until ants stand on the ground
        native.step(still)
    for env in (warp, native):
        env.place(torch.arange(4), native.worlds.qpos, native.worlds.qvel)
    torch.testing.assert_close(warp.observation, native.observation, rtol=1e-5, atol=1e-5)
    a, b = warp.step(still), native.step(still)
    torch.testing.assert_close(warp.observation, native.observation, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(a.reward, b.reward, rtol=1e-4, atol=1e-4)
    if task.contact_forces:
        forces = native.worlds.data("cfrc_ext")
        assert float(forces.abs().max()) > 1.0
        torch.testing.assert_close(warp.worlds.data("cfrc_ext"), forces, rtol=1e-3, atol=1e-2)
