"""Evaluation in the original environments: the same policy from the same start does the same there."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from robotrl.bench.in_original import NetworkController, original_episode
from robotrl.bench.originals import make_original
from robotrl.errors import BadInputError
from robotrl.learn.playing import play
from robotrl.learn.td3 import Td3, Td3Params
from robotrl.sim.boxed import UnitBox
from robotrl.sim.goal import GoalEnv, native_goal_worlds
from robotrl.tasks.robotics import goal_task


def test_an_episode_in_the_original_is_the_batch_environments_own() -> None:
    name, seeds = "FetchReachDense-v4", (5, 6)
    task, original = goal_task(name), make_original(name)
    env = GoalEnv(task, native_goal_worlds(task, len(seeds), threads=1), seed=0)
    torch.manual_seed(0)
    learner = Td3(Td3Params(hidden=(32,)), env.observation.shape[1], 0, [-1.0] * 4, [1.0] * 4)
    actor, unit = learner.actor, UnitBox(env.action_low, env.action_high)
    starts, theirs = [], []
    inner: Any = original.unwrapped
    for seed in seeds:
        original.reset(seed=seed)
        starts.append([torch.tensor(x) for x in (inner.data.qpos, inner.data.qvel, inner.goal)])
        theirs.append(original_episode(original, NetworkController(actor, unit), seed))
    env.place(torch.arange(len(seeds)), *(torch.stack(parts) for parts in zip(*starts, strict=True)))
    tick, returns = play(env, actor), torch.zeros(len(seeds), dtype=torch.float64)
    for _ in range(50):
        stepped = tick()
        returns += stepped.reward
    assert stepped.truncated.all()
    assert returns.tolist() == pytest.approx([episode[0] for episode in theirs], abs=1e-3)
    assert returns[0] != pytest.approx(float(returns[1]), abs=0.1), "the episodes differ"
    assert [episode[1:] for episode in theirs] == [
        (50, *outcome)
        for outcome in zip(stepped.success.tolist(), stepped.final_reached.tolist(), strict=True)
    ]


def test_an_original_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(
        BadInputError, match="env: the installed gymnasium-robotics lacks it, got 'FetchTea-v4'"
    ):
        make_original("FetchTea-v4")
