"""Goal tasks as Gymnasium's environments: the originals' spaces, infos and reward function."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, VectorEnv

import robotrl.sim.gym  # noqa: F401 - registers ours
from robotrl.errors import BadInputError
from robotrl.tasks.robotics import ROBOTICS
from tests.parity.robotics import Original

NAMES = [
    "FetchReach-v4",
    "FetchPush-v4",
    "FetchPickAndPlaceDense-v4",
    "HandManipulatePen_BooleanTouchSensors-v1",
]


def make_vec(name: str, num: int = 3, **options: Any) -> VectorEnv[Any, Any, Any]:
    return gymnasium.make_vec(f"robotrl/{name}", num, threads=1, **options)


@pytest.mark.parametrize("name", ROBOTICS)
def test_every_goal_task_is_registered_with_the_spaces_of_the_original(name: str) -> None:
    ours, original = make_vec(name), Original(name).env
    assert ours.single_observation_space == original.observation_space
    assert ours.single_action_space == original.action_space
    assert ours.num_envs == 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:.*infinity. This is probably too:UserWarning")
def test_gymnasiums_checker_passes(name: str) -> None:
    check_env(gymnasium.make(f"robotrl/{name}").unwrapped)


@pytest.mark.parametrize("name", NAMES)
def test_rewards_are_those_of_the_goals(name: str) -> None:
    env = make_vec(name)
    env.reset(seed=2)
    env.action_space.seed(2)
    for _ in range(10):
        seen, reward, *_ = env.step(env.action_space.sample())
        assert seen in env.observation_space
        expected = env.unwrapped.compute_reward(seen["achieved_goal"], seen["desired_goal"], {})  # type: ignore[attr-defined]
        np.testing.assert_array_equal(reward, expected)
        assert (reward.dtype, reward.shape) == (np.float64, (3,))


def test_infos_are_formed_as_gymnasium_forms_the_originals() -> None:
    ours = make_vec("FetchReach-v4", max_episode_steps=3)
    theirs = gymnasium.vector.SyncVectorEnv(
        [lambda: gymnasium.make("FetchReach-v4", max_episode_steps=3)] * 3,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    for env in (ours, theirs):
        env.reset(seed=0)
    for _ in range(7):
        (*_, a), (*_, b) = (env.step(np.zeros((3, 4), np.float32)) for env in (ours, theirs))
        assert form(a) == form(b)


def form(value: Any) -> Any:
    """Nested keys with the types and shapes of what lies there."""
    if isinstance(value, dict):
        return {key: form(inner) for key, inner in value.items()}
    if value.dtype == object:
        return [form(inner) for inner in value]
    return value.dtype, value.shape, value.tolist() if value.dtype == bool else None


def test_the_last_observation_of_an_episode_belongs_to_its_goal() -> None:
    env = gymnasium.make("robotrl/FetchPush-v4", max_episode_steps=4)
    first, _ = env.reset(seed=1)
    for k in range(4):
        seen, *_, truncated, info = env.step(np.full(4, 0.5, np.float32))
        np.testing.assert_array_equal(seen["desired_goal"], first["desired_goal"])
        assert set(info) == {"is_success"}
        assert truncated == (k == 3)
    again, _ = env.reset()
    assert not np.array_equal(again["desired_goal"], first["desired_goal"])


def test_a_seed_fixes_what_follows_and_nothing_returned_changes() -> None:
    env, other = make_vec("FetchPush-v4"), make_vec("FetchPush-v4")
    kept: list[tuple[Any, Any]] = []
    for one, two in zip(trajectory(env), trajectory(other), strict=True):
        for key, rows in one.items():
            np.testing.assert_array_equal(rows, two[key])
            kept.append((rows, rows.copy()))
    for returned, copy in kept:
        np.testing.assert_array_equal(returned, copy)


def trajectory(env: VectorEnv[Any, Any, Any]) -> list[dict[str, Any]]:
    env.action_space.seed(3)
    return [env.reset(seed=3)[0], *(env.step(env.action_space.sample())[0] for _ in range(4))]


def test_goals_of_whole_numbers_are_judged_as_the_original_does() -> None:
    env = make_vec("FetchReachDense-v4")
    goals = np.array([[0, 3, 0], [1, 1, 1]]), np.array([[4, 0, 0], [1, 1, 1]])
    reward = env.unwrapped.compute_reward(*goals, {})  # type: ignore[attr-defined]
    assert reward.tolist() == [-5.0, 0.0]
    single = env.unwrapped.compute_reward(*(g.astype(np.float32) for g in goals), {})  # type: ignore[attr-defined]
    assert single.dtype == np.float32
    env.close()


def test_bad_use_is_one_clear_error() -> None:
    env = make_vec("FetchReach-v4")
    with pytest.raises(BadInputError, match=r"actions have the wrong shape, got \(3, 5\); allowed: \(3, 4\)"):
        env.step(np.zeros((3, 5), np.float32))
    with pytest.raises(BadInputError, match="there are no options of reset"):
        env.reset(options={"reset_mask": [True]})
    with pytest.raises(BadInputError, match="achieved_goal: is no goal of FetchReach-v4"):
        env.unwrapped.compute_reward(np.zeros(2), np.zeros(2), {})  # type: ignore[attr-defined]
    env.close()
    with pytest.raises(ClosedEnvironmentError):
        env.reset()
