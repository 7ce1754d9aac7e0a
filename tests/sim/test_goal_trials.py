"""Start states that are tried out: worlds settle alone, and what fails is drawn anew."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import robotrl.sim.goal
from robotrl.errors import SimulationError
from robotrl.sim.goal import GoalEnv, native_goal_worlds
from robotrl.tasks.robotics import goal_task

NAME = "HandManipulateBlock_ContinuousTouchSensors-v1"
F64 = torch.float64
SIDE, HEIGHT = 24, 26
"""Of the block in the positions."""
READ = ("qpos", "qvel", "ctrl", "site_xpos", "sensordata", "actuator_force")


@pytest.fixture(autouse=True)
def _aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo logs its warnings where it runs


def make(num: int = 3, seed: int = 0, name: str = NAME, **options: object) -> GoalEnv:
    task = goal_task(name, **options)
    return GoalEnv(task, native_goal_worlds(task, num, threads=1), seed, dtype=F64)


def drawing(env: GoalEnv, spoil: Callable[[int, Tensor], object]) -> list[int]:
    """Let `spoil` change the k-th draw of positions from now on; sizes of the draws, as they come."""
    start = env._rules.start
    sizes: list[int] = []

    def spoiled(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        qpos, qvel = start(count, generator)
        spoil(len(sizes), qpos)
        sizes.append(count)
        return qpos, qvel

    env._rules = dataclasses.replace(env._rules, start=spoiled)
    return sizes


def everything(env: GoalEnv) -> list[Tensor]:
    return [*(env.worlds.data(name) for name in READ), env.observation, env.goal]


@pytest.mark.parametrize("fault", [0.5, math.nan])  # beside the hand; not a number
def test_a_start_that_fails_is_drawn_anew_until_one_passes(fault: float) -> None:
    env = make()

    def spoil(k: int, qpos: Tensor) -> None:
        if k < 3:
            qpos[: 3 - k, SIDE] += fault

    sizes = drawing(env, spoil)
    env.restart()
    assert sizes == [3, 3, 2, 1]
    assert bool((env.worlds.qpos[:, HEIGHT] > 0.04).all())
    assert bool(env.observation.isfinite().all())
    assert not bool(env.worlds.broken().any())


def test_worlds_that_begin_leave_the_others_as_they_are() -> None:
    env, whole = make(), make()
    action = torch.rand((3, 20), generator=torch.Generator().manual_seed(4)) - 0.5
    for e in (env, whole):
        for _ in range(3):
            e.step(action)
    before = everything(env)
    env._begin(torch.tensor([1]))
    for old, new in zip(before, everything(env), strict=True):
        assert torch.equal(old[[0, 2]], new[[0, 2]])
    assert not torch.equal(before[0][1], env.worlds.qpos[1])
    env.step(action)
    whole.step(action)
    for ours, expected in zip(everything(env), everything(whole), strict=True):
        assert torch.equal(ours[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("relative", [False, True])
def test_an_episode_begins_ten_idle_steps_after_the_drop(relative: bool) -> None:
    """As stepping by hand from the drop does, whichever way actions count."""
    env, other = (make(seed=seed, relative_control=relative) for seed in (1, 2))
    drops: list[Tensor] = []
    sizes = drawing(env, lambda _, qpos: drops.append(qpos.clone()))
    env.restart()
    assert sizes == [3]
    other.place(torch.arange(3), drops[0], torch.zeros((3, 36), dtype=F64), env.goal)
    for _ in range(10):
        other.step(torch.zeros((3, 20)))
    torch.testing.assert_close(other.worlds.qpos, env.worlds.qpos, rtol=0, atol=1e-12)
    torch.testing.assert_close(other.worlds.qvel, env.worlds.qvel, rtol=0, atol=1e-12)


def test_what_derives_from_the_settled_state_is_current() -> None:
    env = make()
    centre = env.worlds.model.site("object:center").id
    assert torch.equal(env.worlds.data("site_xpos")[:, centre], env.worlds.qpos[:, 24:27])


def test_broken_worlds_stay_as_they_are_while_others_settle() -> None:
    worlds = native_goal_worlds(goal_task(NAME), 3, threads=1)
    flight = torch.nn.functional.one_hot(torch.tensor([30]), 36) * 1e12  # of what shows the goal
    worlds.set_velocity(torch.tensor([1]), flight)
    worlds.step(torch.zeros((1, 3, 20), dtype=F64))
    before = worlds.qpos
    assert worlds.broken().tolist() == [False, True, False]
    worlds.settle(torch.tensor([2, 1]), torch.zeros((2, 2, 20), dtype=F64))
    assert worlds.broken().tolist() == [False, True, False]
    assert torch.equal(worlds.qpos[:2], before[:2])
    assert not torch.equal(worlds.qpos[2], before[2])


def test_targets_go_to_the_worlds_they_are_meant_for() -> None:
    worlds = native_goal_worlds(goal_task(NAME), 3, threads=1)
    targets = torch.tensor([0.1, 0.2], dtype=F64)[:, None].expand(1, 2, 20)
    worlds.settle(torch.tensor([2, 0]), targets)
    assert worlds.data("ctrl")[:, 0].tolist() == [0.2, 0.0, 0.1]


def test_a_task_that_nothing_passes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robotrl.sim.goal, "MOST_TRIALS", 2)
    env = make(num=1)
    drawing(env, lambda _, qpos: qpos[:, SIDE].add_(0.5))
    with pytest.raises(SimulationError, match=r"no start state of HandManipulateBlock.* passes its trial"):
        env.restart()


def test_worlds_go_on_from_their_state_bit_for_bit() -> None:
    env, other = make(max_episode_steps=4), make(seed=9, max_episode_steps=4)
    action = torch.rand((10, 3, 20), generator=torch.Generator().manual_seed(4)) - 0.5
    env.step(action[0])
    other.load_state({name: value.clone() for name, value in env.state().items()})
    for k in range(1, 10):
        a, b = env.step(action[k]), other.step(action[k])
        assert torch.equal(a.reward, b.reward)
        assert torch.equal(env.observation, other.observation)
