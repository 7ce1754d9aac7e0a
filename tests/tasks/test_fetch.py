"""Goal tasks: rewards of goals alone, options that exist, and what their model files are taken from."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium_robotics.utils import rotations  # type: ignore[import-untyped, unused-ignore]

from robotrl.errors import BadInputError
from robotrl.tasks.fetch import FETCH, NEAR
from robotrl.tasks.goal import euler_angles
from robotrl.tasks.robotics import ROBOTICS, goal_task

F64 = torch.float64


@pytest.mark.parametrize("name", ROBOTICS)
def test_a_task_has_gymnasiums_name_and_an_installed_model_file(name: str) -> None:
    task = goal_task(name)
    assert task.name == name
    assert task.model_file.is_file()
    assert "gymnasium_robotics" in task.model_file.parts


def test_a_sparse_reward_is_0_up_to_the_threshold_and_minus_1_beyond() -> None:
    task = goal_task("FetchPush-v4")
    desired = torch.zeros((3, 3), dtype=F64)
    achieved = torch.tensor([[NEAR.limit_m - 1e-9, 0, 0], [0, 0, NEAR.limit_m + 1e-9], [1, 1, 1]], dtype=F64)
    assert task.compute_reward(achieved, desired).tolist() == [0.0, -1.0, -1.0]
    assert task.is_success(achieved, desired).tolist() == [True, False, False]


def test_a_dense_reward_is_the_distance() -> None:
    achieved, desired = torch.rand((2, 4, 6, 3), dtype=F64)
    reward = goal_task("FetchPushDense-v4").compute_reward(achieved, desired)
    torch.testing.assert_close(reward, -(achieved - desired).square().sum(-1).sqrt())


@pytest.mark.parametrize("shape", [(), (3,), (2, 5, 3)])
def test_goals_of_any_leading_shape_are_judged_one_by_one(shape: tuple[int, ...]) -> None:
    shape = (*shape, 3)
    achieved, desired = 0.05 * torch.rand((2, *shape))
    for name in FETCH:
        task = goal_task(name)
        for judge in (task.compute_reward, task.is_success):
            flat = [judge(a, d) for a, d in zip(achieved.view(-1, 3), desired.view(-1, 3), strict=True)]
            assert torch.equal(judge(achieved, desired), torch.stack(flat).view(shape[:-1]))


@pytest.mark.parametrize(
    ("achieved", "desired", "sentence"),
    [
        ((5, 4), (5, 4), r"achieved_goal: is no goal of FetchReach-v4, got \(5, 4\); allowed: \(\.\.\., 3\)"),
        ((5, 3), (5, 2), r"desired_goal: is no goal of FetchReach-v4, got \(5, 2\)"),
        ((5, 3), (6, 3), r"desired_goal: is not shaped like achieved_goal, got \(6, 3\); allowed: \(5, 3\)"),
        ((), (3,), r"achieved_goal: is no goal"),
    ],
)
def test_a_goal_of_the_wrong_shape_is_refused(
    achieved: tuple[int, ...], desired: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(BadInputError, match=sentence):
        goal_task("FetchReach-v4").compute_reward(torch.zeros(achieved), torch.zeros(desired))


def test_options_are_those_of_the_original_and_nothing_else() -> None:
    assert goal_task("FetchReach-v4", max_episode_steps=7).episode_steps == 7
    with pytest.raises(BadInputError, match="FetchReach-v4 has no such option; allowed: max_episode_steps"):
        goal_task("FetchReach-v4", touch=True)
    with pytest.raises(BadInputError, match="max_episode_steps: is not a count, got 0"):
        goal_task("FetchReach-v4", max_episode_steps=0)
    with pytest.raises(
        BadInputError, match="there is no such task, got 'FetchFly-v4'; allowed: FetchReach-v4"
    ):
        goal_task("FetchFly-v4")


def test_a_package_that_is_missing_or_incomplete_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = ModuleSpec("gymnasium_robotics", None, is_package=True)
    empty.submodule_search_locations = [str(tmp_path)]
    for found, sentence in ((None, "not installed"), (empty, r"reach\.xml: the installed .* lacks")):
        monkeypatch.setattr("robotrl.tasks.assets.find_spec", lambda _, found=found: found)
        with pytest.raises(BadInputError, match=sentence):
            goal_task("FetchReach-v4")
    assert importlib.util.find_spec("gymnasium_robotics") is not None


def test_euler_angles_are_the_originals_also_where_they_are_singular() -> None:
    random = np.random.default_rng(0)
    euler = np.concatenate((random.uniform(-3, 3, (50, 3)), [[0.3, np.pi / 2, 0.2], [0, -np.pi / 2, 1]]))
    matrix = rotations.euler2mat(euler)
    matrix[-2:, 2, 2] = matrix[-2:, 1, 2] = 0.0  # what rounding leaves there would hide the singularity
    got = euler_angles(torch.from_numpy(matrix.reshape(-1, 9)))
    np.testing.assert_allclose(got.numpy(), rotations.mat2euler(matrix), rtol=0, atol=1e-12)
