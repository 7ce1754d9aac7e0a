"""Policies of classic tasks as files: observations in, controls out, as the network gave them in training."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from robotrl.bench.originals import make_classic
from robotrl.cli.gymfile import GymJob, parse_training
from robotrl.cli.simulated import OBSERVATION, simulated_task
from robotrl.export.graph import ACTOR_MEMORY
from robotrl.learn.playing import Playing
from robotrl.runtime.policy import Policy
from robotrl.spec.fit import incompatibilities
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.classic import CLASSIC
from tests.classic_policies import CONFIGS, PPO, Untrained, untrained

TICKS = 300
LIMIT = {"Hopper-v5": 1.0, "InvertedPendulum-v5": 3.0}
"""Of the controls, in both directions: Gymnasium's hopper.xml and inverted_pendulum.xml."""


@pytest.fixture(params=CONFIGS)
def made(request: pytest.FixtureRequest) -> Untrained:
    return untrained(request.param)


def actions(made: Untrained) -> Iterator[torch.Tensor]:
    """The network's own unit actions along the recording."""
    playing = Playing(made.actor, torch.zeros((1, made.actor.memory_size)))
    for row in made.recorded[OBSERVATION]:
        yield playing(torch.from_numpy(row)[None])[0]


def test_the_file_gives_the_networks_clipped_and_scaled_actions(made: Untrained) -> None:
    limit = LIMIT[made.task.name]
    wanted = [limit * np.clip(action.numpy(), -1.0, 1.0) for action in islice(actions(made), TICKS)]
    policy = Policy.load(made.file)
    found = np.stack([policy.step({OBSERVATION: row}) for row in made.recorded[OBSERVATION][:TICKS]])
    np.testing.assert_allclose(found, wanted, atol=2e-5 * limit)
    assert np.ptp(found, axis=0).min() > 0.1 * limit, "and it does something"
    assert policy.replay_golden() < 1e-5
    assert made.report.parity_error < 1e-5


def test_only_the_one_that_remembers_carries_something(made: Untrained) -> None:
    remembers = made is untrained("gru")
    policy, rows = Policy.load(made.file), made.recorded[OBSERVATION][:TICKS]
    assert [m.name for m in policy.contract.memory] == [ACTOR_MEMORY] * remembers
    carried, anew = [policy.step({OBSERVATION: row}) for row in rows], []
    for row in rows:
        policy.reset()
        anew.append(policy.step({OBSERVATION: row}))
    assert (np.abs(np.array(carried) - anew).max() > 1e-3) == remembers


def test_the_contract_describes_the_task_and_fits_it(made: Untrained) -> None:
    contract, task = Policy.load(made.file).contract, made.task
    assert (contract.robot, contract.command, contract.rate_hz) == (task.name, "control", task.rate_hz)
    assert contract.policy_hash == task.policy_hash
    assert [(c.name, c.shape, c.source) for c in contract.channels] == [
        (OBSERVATION, (task.observation_size,), "simulation")
    ]
    assert [(c.name, c.low, c.high) for c in contract.controls] == [
        (c.name, c.low, c.high) for c in task.controls
    ]
    seen = LIMIT[task.name] * np.clip(np.stack([action.numpy() for action in actions(made)]), -1.0, 1.0)
    for name, ends in (("command_min", seen.min(0)), ("command_max", seen.max(0))):
        np.testing.assert_allclose([getattr(c, name) for c in contract.controls], ends, atol=1e-4)
    assert (contract.command_low, contract.operator_ranges) == ((), {})
    assert incompatibilities(contract, task) == []


@pytest.mark.parametrize("name", CLASSIC)
def test_every_classic_task_is_described_as_gymnasium_has_it(name: str) -> None:
    job = parse_training(PPO.format(task=name), find_shipped("policies", "hopper"))
    assert isinstance(job, GymJob)
    task, original = simulated_task(job, job.evaluation_env(1, 1, threads=1)), make_classic(name)
    box, observation = original.action_space, original.observation_space
    assert isinstance(box, gymnasium.spaces.Box)
    assert task.name == name
    inner: Any = original.unwrapped
    assert task.rate_hz == pytest.approx(1.0 / inner.dt)
    assert observation.shape == (task.observation_size,)
    np.testing.assert_array_equal([c.low for c in task.controls], box.low)
    np.testing.assert_array_equal([c.high for c in task.controls], box.high)
    assert all(control.name for control in task.controls)
    original.close()
