"""The Shadow Hand's tasks against Gymnasium-Robotics' own: same state, goal and actions, same everything."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium_robotics.utils import rotations  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray

from robotrl.sim.goal import GoalEnv, native_goal_worlds
from robotrl.tasks.hand import HAND_REACH
from robotrl.tasks.manipulate import MANIPULATE
from robotrl.tasks.robotics import goal_task
from tests.parity.robotics import Array, Original
from tests.parity.test_classic import ks_distance
from tests.parity.test_fetch import close, compare, exact_env, follow

STEPS = 50
NAMES = (*HAND_REACH, *MANIPULATE)
FAMILIES = [
    f"HandManipulate{kind}-v1"
    for kind in (
        "BlockRotateZ",
        "BlockRotateParallel",
        "BlockRotateXYZ",
        "Block",
        "EggRotate",
        "Egg",
        "PenRotate",
        "Pen",
    )
]
POSE = slice(24, 31)
"""Of the object in the positions."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo logs what it dislikes where it runs


def script(seed: int) -> NDArray[np.float32]:
    """Targets that are held for some steps, some beyond the range, which is clipped."""
    random = np.random.default_rng(seed)
    held = np.repeat(random.uniform(-1.3, 1.3, (STEPS // 5, 20)), 5, axis=0)
    return (held + random.normal(0, 0.05, held.shape)).astype(np.float32)


def prepare(original: Original, actions: NDArray[np.float32], seed: int) -> None:
    """Start an episode whose goal is close to what the tenth action will achieve."""
    original.reset(seed)
    original.start_over(original.inner.goal)
    qpos, qvel, _ = original.state
    for action in actions[:10]:
        original.step(action)
    random, goal = np.random.default_rng(seed), original.seen["achieved_goal"]
    noise = np.full(15, 0.001) if len(goal) == 15 else np.repeat((0.002, 0.01), (3, 4))
    goal = goal + random.normal(0, noise)
    if len(goal) == 7:
        goal[3:] /= np.linalg.norm(goal[3:])
    original.env.reset()
    original.inner.data.qpos[:], original.inner.data.qvel[:] = qpos, qvel
    original.start_over(goal)


def run(env: GoalEnv, originals: list[Original]) -> tuple[list[bool], int, int]:
    """Successes of all steps, contacts, and readings of touch sensors that are not zero."""
    scripts = [script(seed) for seed in range(env.num)]
    for seed, original in enumerate(originals):
        prepare(original, scripts[seed], seed)
    follow(env, originals)
    successes, contacts, touches = [], 0, 0
    for actions in zip(*scripts, strict=True):
        got = env.step(torch.from_numpy(np.stack(actions)))
        compare(env, got, originals, list(actions))
        successes += got.success.tolist()
        contacts += sum(original.inner.data.ncon for original in originals)
        touches += int((env.observation[:, 61 : env.layout.observation] > 0).sum())
    return successes, contacts, touches


@pytest.mark.parametrize("name", NAMES)
def test_fifty_steps_equal_the_original(name: str) -> None:
    num = 1 if "Dense" in name or "Touch" in name else 2
    successes, contacts, touches = run(exact_env(name, num), [Original(name) for _ in range(num)])
    assert any(successes)
    assert not all(successes)
    assert contacts > 25 * num
    assert touches > 25 or "Touch" not in name


@pytest.mark.parametrize("name", ["HandReach-v3", "HandManipulateBlock-v1"])
def test_relative_control_equals_the_originals(name: str) -> None:
    task = goal_task(name, relative_control=True)
    env = GoalEnv(task, native_goal_worlds(task, 2, threads=1), seed=7, dtype=torch.float64)
    _, contacts, _ = run(env, [Original(name, relative_control=True) for _ in range(2)])
    assert contacts > 50


@pytest.mark.parametrize("name", ["HandManipulateEgg_ContinuousTouchSensors-v1", *FAMILIES[2:8:3]])
def test_objects_settle_as_in_the_original(name: str) -> None:
    """From the same drop, the episode's first observation is the same."""
    env, original, drops = exact_env(name, 2), Original(name), []
    set_action = original.inner._set_action

    def spy(action: Array) -> None:
        drops.append(original.state[:2])
        set_action(action)

    original.inner._set_action = spy
    original.reset(seed=1)
    assert len(drops) == 10  # it stayed on the palm
    drop = [torch.from_numpy(values).expand(2, -1) for values in drops[0]]
    env._rules = dataclasses.replace(
        env._rules, start=lambda *_: (drop[0], drop[1]), draw_goal=lambda *_: env.goal
    )
    env.restart()
    width = env.layout.achieved.stop
    close(env.observation[:, :width], [original.row[:width]] * 2, "first observation")
    if "Touch" in name:
        assert int((env.observation[0, 61:153] > 0).sum()) >= 2


@pytest.mark.parametrize("name", FAMILIES)
def test_drops_and_goals_are_drawn_as_the_original_draws_them(name: str) -> None:
    env, original = exact_env(name, num=2, seed=3), Original(name)
    generator, one = torch.Generator().manual_seed(3), torch.ones(1500, dtype=torch.int64)
    drops = env._rules.start(1500, generator)[0][:, POSE]
    goal = env._rules.draw_goal(env.worlds, one, generator)
    goal[:, :3] -= env.worlds.qpos[1, POSE][:3]
    original.inner.n_substeps = 0  # nothing settles, and nothing falls
    original.reset(1)
    theirs = []
    for _ in range(800):
        original.reset()
        (qpos, _, drawn) = original.state
        theirs.append(np.concatenate((qpos[POSE], drawn[:3] - qpos[POSE][:3], drawn[3:])))
    compare_draws(torch.cat((drops, goal), dim=-1).numpy(), np.stack(theirs))


def compare_draws(a: Array, b: Array) -> None:
    """Poses, places of goals from there, orientations of goals; which way their axes lie together."""
    a, b = (np.column_stack((x, upwards(x[:, 3:7]), upwards(x[:, 10:]))).round(9) for x in (a, b))
    distance = np.array([ks_distance(p, q) for p, q in zip(a.T, b.T, strict=True)])
    # Two-sample Kolmogorov-Smirnov, 1e-5 that one of these fixed draws would fail by chance.
    assert distance.max() < 2.47 * math.sqrt(1 / len(a) + 1 / len(b))
    # A range that is 4 % shorter would leave its end empty in 800 uniform draws.
    offset, expected = a[:, 7:10], b[:, 7:10]
    tolerance_m = 0.04 * np.ptp(expected, axis=0)
    assert (abs(offset.max(0) - expected.max(0)) <= tolerance_m).all()
    assert (abs(offset.min(0) - expected.min(0)) <= tolerance_m).all()


def upwards(quats: Array) -> Array:
    """How far each axis of an object points up, and how far its third one points each way."""
    matrices: Array = rotations.quat2mat(quats)
    return np.column_stack((matrices[:, 2], matrices[:, :2, 2]))


@pytest.mark.parametrize("name", ["HandManipulateBlockRotateXYZ-v1", "HandManipulatePenRotate-v1"])
def test_episodes_start_as_the_originals_do(name: str) -> None:
    env, original = exact_env(name, num=120, seed=3), Original(name)
    ours = torch.cat((env.worlds.qpos[:, :31], env.worlds.qvel[:, :30]), dim=-1).numpy()
    original.reset(1)
    theirs = []
    for _ in range(100):
        original.reset()
        theirs.append(np.concatenate((original.state[0][:31], original.state[1][:30])))
    expected = np.stack(theirs)
    # Joints that no object pushes come to rest up to the solver's tolerance.
    spread = np.minimum(np.std(expected, axis=0), np.std(ours, axis=0)) > 1e-4
    assert spread[POSE].all()
    np.testing.assert_allclose(ours.mean(0)[~spread], expected.mean(0)[~spread], atol=1e-3)
    distance = [ks_distance(p, q) for p, q in zip(ours[:, spread].T, expected[:, spread].T, strict=True)]
    assert max(distance) < 2.47 * math.sqrt(1 / len(ours) + 1 / len(expected))


def test_the_hands_goals_are_drawn_as_the_original_draws_them() -> None:
    env, original = exact_env("HandReach-v3", num=2000, seed=3), Original("HandReach-v3")
    original.reset(1)
    close(env.worlds.qpos, [original.state[0]] * env.num, "start")
    ours = env.goal.numpy()
    theirs = np.stack([original.inner._sample_goal() for _ in range(2000)])
    home = original.inner.initial_goal
    a, b = (np.column_stack((x, tips_moved(x, home))) for x in (ours, theirs))
    distance = [ks_distance(p, q) for p, q in zip(a.T, b.T, strict=True)]
    assert max(distance) < 2.47 * math.sqrt(1 / len(a) + 1 / len(b))
    # Both goals of a pair are short of one place, by the same length.
    places = [meeting(x, home)[tips_moved(x, home).any(-1)] for x in (ours, theirs)]
    assert max(abs(thumb - finger).max() for thumb, finger in (x.swapaxes(0, 1) for x in places)) < 1e-9
    # Which pairs of fingertips are asked to move: the thumb and one other, or none.
    assert {tuple(row) for row in a[:, 15:]} == {tuple(row) for row in b[:, 15:]}


def tips_moved(goals: Array, home: Array) -> Array:
    moved: Array = abs((goals - home).reshape(-1, 5, 3)).max(-1) > 1e-12
    return moved


def meeting(goals: Array, home: Array) -> Array:
    """Where the thumb and the finger that moves most were to meet (n, 2, 3)."""
    tips, start = goals.reshape(-1, 5, 3), home.reshape(5, 3)
    finger = np.linalg.norm(tips - start, axis=-1)[:, :4].argmax(-1)
    pair = np.column_stack((np.full_like(finger, 4), finger))
    tip = tips[np.arange(len(tips))[:, None], pair]
    way = tip - start[pair]
    length = np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-12)
    place: Array = tip + 0.005 * way / length
    return place


def test_rewards_of_any_goals_are_the_originals() -> None:
    random = np.random.default_rng(2)
    for name in ["HandReach-v3", "HandReachDense-v3", *FAMILIES, *dense(FAMILIES)]:
        inner, task = Original(name).inner, goal_task(name)
        achieved, desired = (goals(task.goal_size, random) for _ in range(2))
        desired = normal(achieved + random.choice((0.02, 1.0), (200, 1)) * (desired - achieved))
        # The originals judge a batch of pens wrongly, and a batch of batches not at all.
        expected = [inner.compute_reward(a, d, {}) for a, d in zip(achieved, desired, strict=True)]
        got = task.compute_reward(*(torch.from_numpy(x.reshape(2, 100, -1)) for x in (achieved, desired)))
        close(got.flatten(), expected, name)
        assert len(np.unique(expected)) > 1
        reached = [inner._is_success(a, d) for a, d in zip(achieved, desired, strict=True)]
        assert task.is_success(*map(torch.from_numpy, (achieved, desired))).tolist() == reached


def goals(size: int, random: np.random.Generator) -> Array:
    """Fingertips within centimetres of each other, or poses of any orientation."""
    return normal(random.normal(0, 0.05, (200, size)))


def normal(goals: Array) -> Array:
    """Poses with quaternions of length 1."""
    if goals.shape[1] == 7:
        goals[:, 3:] /= np.linalg.norm(goals[:, 3:], axis=1, keepdims=True)
    return goals


def dense(names: list[str]) -> list[str]:
    return [name.replace("-v", "Dense-v") for name in names]


def test_there_is_every_task_of_the_hand_with_its_limit() -> None:
    known: dict[str, Any] = {
        name: spec
        for name, spec in gymnasium.registry.items()
        if name.startswith("Hand")
        and "robotics.envs.shadow" in str(spec.entry_point)
        and "MujocoPy" not in str(spec)
    }
    newest = {
        name for name in known if name.endswith(("HandReach-v3", "HandReachDense-v3")) or "Manipulate" in name
    }
    assert set(NAMES) == newest
    for name in NAMES:
        assert goal_task(name).episode_steps == known[name].max_episode_steps
