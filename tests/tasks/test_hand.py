"""Tasks of the Shadow Hand: what counts as achieved, what an action asks for, options."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from robotrl.errors import BadInputError
from robotrl.tasks.hand import HAND_REACH, NEAR
from robotrl.tasks.manipulate import MANIPULATE
from robotrl.tasks.robotics import goal_task
from robotrl.tasks.rotations import product, quat_about

F64 = torch.float64
NAMES = (*HAND_REACH, *MANIPULATE)


def pose(
    x_m: float = 0.0, turn_rad: float = 0.0, axis: tuple[float, float, float] = (1.0, 0.0, 0.0)
) -> Tensor:
    quat = quat_about(torch.tensor(axis, dtype=F64), torch.tensor(turn_rad, dtype=F64))
    return torch.cat((torch.tensor([x_m, 0.0, 0.0], dtype=F64), quat))


def judged(name: str, achieved: Tensor, desired: Tensor) -> float:
    return float(goal_task(name).compute_reward(achieved, desired))


def test_fingertips_are_judged_all_together() -> None:
    task, home = goal_task("HandReach-v3"), torch.zeros(15, dtype=F64)
    for error_m, reached in ((NEAR.limit_m - 1e-9, True), (NEAR.limit_m + 1e-9, False)):
        away = torch.full((15,), error_m / math.sqrt(15), dtype=F64)
        assert bool(task.is_success(away, home)) is reached
        assert float(task.compute_reward(away, home)) == (0.0 if reached else -1.0)
        assert judged("HandReachDense-v3", away, home) == pytest.approx(-error_m)


@pytest.mark.parametrize(("thing", "limit_m"), [("Block", 0.01), ("Egg", 0.01), ("Pen", 0.05)])
def test_a_place_counts_only_in_the_full_tasks(thing: str, limit_m: float) -> None:
    for x_m, reward in ((0.99 * limit_m, 0.0), (1.01 * limit_m, -1.0)):
        assert judged(f"HandManipulate{thing}-v1", pose(x_m), pose()) == reward
    turning = "BlockRotateXYZ" if thing == "Block" else f"{thing}Rotate"
    assert judged(f"HandManipulate{turning}-v1", pose(0.3), pose()) == 0.0
    assert judged(f"HandManipulate{turning}Dense-v1", pose(0.3), pose()) == 0.0


def test_an_orientation_counts_within_a_tenth_of_a_radian() -> None:
    for turn_rad, reward in ((0.099, 0.0), (0.101, -1.0)):
        assert judged("HandManipulateBlock-v1", pose(0.0, turn_rad), pose()) == reward
    assert judged("HandManipulateBlockDense-v1", pose(0.02, 0.3), pose()) == pytest.approx(-10 * 0.02 - 0.3)


def test_turning_about_a_pens_own_axis_does_not_count() -> None:
    spun = pose(turn_rad=2.0, axis=(0.0, 0.0, 1.0))
    tilted = pose(turn_rad=0.5)
    achieved = torch.cat((tilted[:3], product(tilted[3:], spun[3:])))
    assert judged("HandManipulatePenRotateDense-v1", achieved, tilted) == pytest.approx(0.0, abs=1e-6)
    assert judged("HandManipulateBlockRotateXYZDense-v1", achieved, tilted) == pytest.approx(-2.0)


@pytest.mark.parametrize("shape", [(), (3,), (2, 5, 3)])
def test_goals_of_any_leading_shape_are_judged_one_by_one(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    for name in ("HandReach-v3", "HandManipulateBlockDense-v1", "HandManipulatePenDense-v1"):
        task = goal_task(name)
        achieved, desired = torch.randn((2, *shape, task.goal_size), generator=generator, dtype=F64)
        rows = (goal.view(-1, task.goal_size) for goal in (achieved, desired))
        flat = [task.compute_reward(a, d) for a, d in zip(*rows, strict=True)]
        torch.testing.assert_close(task.compute_reward(achieved, desired), torch.stack(flat).view(shape))


def test_a_full_task_has_two_names() -> None:
    for thing in ("Block", "Egg", "Pen"):
        short, long = (goal_task(f"HandManipulate{thing}{end}-v1") for end in ("", "Full"))
        assert (short.name, long.name) == (f"HandManipulate{thing}-v1", f"HandManipulate{thing}Full-v1")
        assert short.model_file == long.model_file


@pytest.mark.parametrize("name", [NAMES[0], NAMES[-1]])
def test_options_are_the_originals_of_the_right_kind(name: str) -> None:
    assert goal_task(name, max_episode_steps=7, relative_control=True).episode_steps == 7
    with pytest.raises(BadInputError, match=r"relative_control: is of the wrong kind, got 1; allowed: bool"):
        goal_task(name, relative_control=1)
    with pytest.raises(BadInputError, match=r"has no such option"):
        goal_task(name, touch_get_obs="boolean")
