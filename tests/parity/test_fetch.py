"""The Fetch tasks against Gymnasium-Robotics' own: same state, goal and actions, same everything."""

from __future__ import annotations

import math
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robotrl.sim.goal import GoalEnv, GoalTransition, native_goal_worlds
from robotrl.tasks.fetch import FETCH
from robotrl.tasks.robotics import goal_task
from tests.parity.robotics import Array, Original
from tests.parity.test_classic import ks_distance

STEPS = 50
SEEDS = (0, 1, 2)
TOLERANCE = 1e-9
Action = NDArray[np.float32]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo logs what it dislikes where it runs


def exact_env(name: str, num: int, seed: int = 7) -> GoalEnv:
    task = goal_task(name)
    return GoalEnv(task, native_goal_worlds(task, num, threads=1), seed, dtype=torch.float64)


def follow(env: GoalEnv, originals: list[Original]) -> None:
    """Begin the episodes of all worlds in the originals' states, and compare the first observations."""
    states = zip(*(original.state for original in originals), strict=True)
    qpos, qvel, goal = (torch.from_numpy(np.stack(values)) for values in states)
    env.place(torch.arange(env.num), qpos, qvel, goal)
    close(env.observation, [original.row for original in originals], "first observation")


def close(got: torch.Tensor, expected: object, what: str) -> None:
    np.testing.assert_allclose(got.numpy(), np.asarray(expected), rtol=0, atol=TOLERANCE, err_msg=what)


def compare(env: GoalEnv, got: GoalTransition, originals: list[Original], actions: list[Action]) -> None:
    steps = [original.step(action) for original, action in zip(originals, actions, strict=True)]
    rewards, successes, time_outs = zip(*steps, strict=True)
    seen = env.observation.clone()
    seen[got.final_ids] = got.final_observation
    close(seen, [original.row for original in originals], "observation")
    close(got.achieved, [original.seen["achieved_goal"] for original in originals], "achieved goal")
    close(got.reward, rewards, "reward")
    assert got.success.tolist() == list(successes)
    assert got.truncated.tolist() == list(time_outs)
    assert not got.terminated.any()


def towards(target: Array, original: Original) -> Array:
    """Displacement that brings the gripper a good part of the way."""
    return 10 * (target - original.seen["observation"][:3])


def wander(original: Original, k: int, random: np.random.Generator) -> Action:
    """Held random actions, some beyond the range, which is clipped."""
    drawn = np.random.default_rng((k // 8, original.inner.np_random_seed)).uniform(-1.5, 1.5, 4)
    return (drawn + random.normal(0, 0.1, 4)).astype(np.float32)


def reach(original: Original, k: int, random: np.random.Generator) -> Action:
    """Bring the gripper to the goal."""
    move = towards(original.seen["desired_goal"], original) + random.normal(0, 0.2, 3)
    return np.append(move, 0.3).astype(np.float32)


def push(original: Original, k: int, random: np.random.Generator) -> Action:
    """Go over the object to its far side from the goal, down, and push."""
    thing, goal = original.seen["achieved_goal"], original.seen["desired_goal"]
    way = (goal - thing) / max(float(np.linalg.norm(goal - thing)), 0.05)
    behind = thing - 0.09 * way
    target = behind + np.array([0, 0, 0.1]) if k < 8 else behind if k < 16 else thing
    move = towards(target, original) + random.normal(0, 0.05, 3)
    return np.append(move, random.uniform(-1, 1)).astype(np.float32)


def grasp(original: Original, k: int, random: np.random.Generator) -> Action:
    """Go over the object, down, close the fingers and carry it to the goal."""
    thing, goal = original.seen["achieved_goal"], original.seen["desired_goal"]
    target = thing + np.array([0, 0, 0.1]) if k < 10 else thing if k < 22 else goal
    move = towards(target, original) + random.normal(0, 0.02, 3)
    # In the end the fingers' targets lie a little inside of where each is, not beyond their range.
    grip = 1.0 if k < 18 else -1.0 if k < 25 else random.uniform(-0.02, -0.01)
    return np.append(move, grip).astype(np.float32)


SCRIPTS = {"FetchReach": reach, "FetchPush": push, "FetchSlide": push, "FetchPickAndPlace": grasp}
"""What brings each task's robot to touch something or to succeed."""


@pytest.mark.parametrize("name", FETCH)
def test_fifty_steps_equal_the_original(name: str) -> None:
    env, originals = exact_env(name, len(SEEDS)), [Original(name) for _ in SEEDS]
    family = name.removesuffix("-v4").removesuffix("Dense")
    moved_m = []
    for script in (SCRIPTS[family], wander):
        random = np.random.default_rng(5)
        for original, seed in zip(originals, SEEDS, strict=True):
            original.reset(seed)
        follow(env, originals)
        for k in range(STEPS):
            actions = [script(original, k, random) for original in originals]
            compare(env, env.step(torch.from_numpy(np.stack(actions))), originals, actions)
        moved_m.append([np.linalg.norm(o.seen["achieved_goal"] - o.start) for o in originals])
    assert min(moved_m[0]) > 0.04  # the script did what it is for


def test_grasped_objects_reach_their_goals_as_in_the_original() -> None:
    env, originals = (
        exact_env("FetchPickAndPlace-v4", 8),
        [Original("FetchPickAndPlace-v4") for _ in range(8)],
    )
    for seed, original in enumerate(originals):
        original.reset(seed)
    follow(env, originals)
    random = np.random.default_rng(5)
    highest_m = np.zeros(8)
    for k in range(STEPS):
        actions = [grasp(original, k, random) for original in originals]
        got = env.step(torch.from_numpy(np.stack(actions)))
        compare(env, got, originals, actions)
        highest_m = np.maximum(highest_m, got.achieved[:, 2].numpy())
    assert int(got.success.sum()) >= 6
    assert int((highest_m > 0.5).sum()) >= 2  # the table is 0.42 m high: some goals are in the air
    assert torch.equal(got.final_reached, got.success)


@pytest.mark.parametrize("name", [name for name in FETCH if "Dense" not in name])
def test_episodes_start_as_the_original_draws_them(name: str) -> None:
    env, original = exact_env(name, num=200, seed=3), Original(name)
    ours = []
    for _ in range(6):
        env.restart()
        ours.append(torch.cat((env.worlds.qpos, env.worlds.qvel, env.goal), dim=-1))
    original.reset(1)
    theirs = []
    for _ in range(600):
        original.reset()
        theirs.append(np.concatenate(original.state))
    a, b = (with_distance(x, original) for x in (torch.cat(ours).numpy(), np.stack(theirs)))
    distance = np.array([ks_distance(p, q) for p, q in zip(a.T, b.T, strict=True)])
    # Two-sample Kolmogorov-Smirnov, 1e-5 that one of these fixed draws would fail by chance.
    assert distance.max() < 2.47 * math.sqrt(1 / len(a) + 1 / len(b))
    # A range that is 4 % shorter would leave its end empty in 300 uniform draws; the other way round, 5e-6.
    goals, expected = a[:, -5:-2], b[:, -5:-2]
    tolerance_m = 0.04 * np.ptp(expected, axis=0)
    assert (abs(goals.max(0) - expected.max(0)) <= tolerance_m).all()
    assert (abs(goals.min(0) - expected.min(0)) <= tolerance_m).all()


def with_distance(states: Array, original: Original) -> Array:
    """Add how far objects lie from the gripper and from their goals: coordinates are drawn jointly."""
    grip = original.inner.initial_gripper_xpos[:2]
    thing = states[:, 15:17]
    gaps = [np.linalg.norm(thing - grip, axis=1), np.linalg.norm(thing - states[:, -3:-1], axis=1)]
    return np.column_stack((states, *gaps))


def test_rewards_of_any_goals_are_the_originals() -> None:
    random = np.random.default_rng(2)
    achieved, desired = random.normal(0, 0.03, (2, 5, 40, 3))
    for name in FETCH:
        expected = Original(name).inner.compute_reward(achieved, desired, {})
        got = goal_task(name).compute_reward(torch.from_numpy(achieved), torch.from_numpy(desired))
        close(got, expected, name)
        assert len(np.unique(expected)) > 1


def test_limits_of_episodes_are_the_originals() -> None:
    for name in FETCH:
        assert goal_task(name).episode_steps == gymnasium.spec(name).max_episode_steps
