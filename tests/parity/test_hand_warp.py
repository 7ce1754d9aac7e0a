"""The Shadow Hand's tasks on the warp backend, against the native one: the same step from the same state.

In some worlds a step makes or breaks a contact that the other backend's collision finds a hair's
breadth beside, so not all of them agree closely.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robotrl.sim.goal import GoalEnv, goal_model, native_goal_worlds
from robotrl.tasks.robotics import goal_task

pytest.importorskip("mujoco_warp")

NUM, HEIGHT = 32, 26
"""Worlds, and where the object's height stands among the positions."""
TOUCHING = "HandManipulateBlock_ContinuousTouchSensors-v1"
FELT = "HandManipulatePenRotate_BooleanTouchSensors-v1"


@pytest.fixture(autouse=True)
def _aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo logs its warnings where it runs


def both(name: str) -> tuple[GoalEnv, GoalEnv]:
    """Warp's environment and native's in the state to which three random actions led."""
    from robotrl.sim.warp import WarpWorlds

    task = goal_task(name)
    native = GoalEnv(task, native_goal_worlds(task, NUM, threads=1), seed=3)
    warp = GoalEnv(task, WarpWorlds(goal_model(task), NUM, device="cpu"), seed=4)
    assert warp.task.name == "HandReach-v3" or bool((warp.worlds.qpos[:, HEIGHT] > 0.04).all())
    for action in actions(3):
        native.step(action)
    qpos, qvel, goal = native.worlds.qpos, native.worlds.qvel, native.goal
    for env in (warp, native):
        env.place(torch.arange(NUM), qpos.to(env.worlds.dtype), qvel.to(env.worlds.dtype), goal)
    return warp, native


def actions(count: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand((count, NUM, 20), generator=torch.Generator().manual_seed(seed)) - 1


@pytest.mark.parametrize("name", ["HandReach-v3", TOUCHING, "HandManipulateEgg-v1", FELT])
def test_a_step_on_warp_is_that_of_native(name: str) -> None:
    warp, native = both(name)
    [action] = actions(1, seed=1)
    a, b = warp.step(action), native.step(action)
    moved = (native.worlds.qpos - warp.worlds.qpos).abs().amax(1), (a.achieved - b.achieved).abs().amax(1)
    for gap in moved:
        assert float(gap.median()) < 1e-4
        assert float(gap.quantile(0.75)) < 1e-3
        assert float(gap.max()) < 0.1
    assert float((a.reward == b.reward).float().mean()) > 0.9
    assert warp.worlds.take_metrics() == {}


def test_touch_is_felt_on_warp_where_native_feels_it() -> None:
    warp, native = both(TOUCHING)
    width = native.layout.observation
    ours, theirs = (env.observation[:, width - 92 : width] for env in (warp, native))
    assert int((theirs > 0).sum()) > NUM
    assert float(((ours > 0) == (theirs > 0)).float().mean()) > 0.99
    near = torch.isclose(ours, theirs, rtol=1e-2, atol=1e-3)
    assert float(near[theirs > 0].float().mean()) > 0.9
