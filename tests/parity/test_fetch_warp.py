"""The Fetch tasks on the warp backend, against the native one: the same step from the same state."""

from __future__ import annotations

import pytest
import torch

from robotrl.sim.goal import GoalEnv, goal_model, native_goal_worlds
from robotrl.tasks.robotics import goal_task

pytest.importorskip("mujoco_warp")


@pytest.mark.parametrize("name", ["FetchReach-v4", "FetchPush-v4", "FetchPickAndPlace-v4", "FetchSlide-v4"])
def test_steps_on_warp_are_those_of_native(name: str) -> None:
    from robotrl.sim.warp import WarpWorlds

    task = goal_task(name)
    native = GoalEnv(task, native_goal_worlds(task, 2, threads=1), seed=3)
    warp = GoalEnv(task, WarpWorlds(goal_model(task), 2, device="cpu"), seed=4)
    for env in (warp, native):
        env.place(
            torch.arange(2),
            native.worlds.qpos.to(env.worlds.dtype),
            native.worlds.qvel.to(env.worlds.dtype),
            native.goal,
        )
    torch.testing.assert_close(warp.observation, native.observation, rtol=1e-5, atol=1e-5)
    move = torch.tensor([[1.0, -0.5, 0.5, 1.0], [-1.0, 0.5, 1.0, -1.0]])
    for _ in range(3):
        a, b = warp.step(move), native.step(move)
        torch.testing.assert_close(warp.observation, native.observation, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(a.achieved, b.achieved, rtol=1e-3, atol=1e-3)
        assert torch.equal(a.reward, b.reward)
    assert warp.worlds.take_metrics() == {}, "no contact was lost"
