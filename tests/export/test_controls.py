"""Policies of simulated tasks as files: observations in, controls out, as the network gave them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from robotrl.bench.in_original import row_of
from robotrl.bench.originals import make_classic, make_original
from robotrl.cli.gymfile import GymJob, parse_training
from robotrl.cli.simulated import OBSERVATION, simulated_name, simulated_task
from robotrl.export.graph import ACTOR_MEMORY
from robotrl.learn.playing import Playing
from robotrl.runtime.policy import Policy
from robotrl.spec.fit import incompatibilities
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.classic import CLASSIC
from tests.simulated_policies import CONFIGS, PPO, TD3_WITH_GOALS, Untrained, untrained

TICKS = 300
LIMIT = {"Hopper-v5": 1.0, "FetchPushDense-v4": 1.0, "InvertedPendulum-v5": 3.0}
"""Of the controls, in both directions: Gymnasium's hopper.xml and inverted_pendulum.xml; Fetch's actions."""


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


@pytest.mark.parametrize(
    ("name", "rate_hz", "numbers", "controls"),
    [
        ("FetchPush-v4", 25.0, 25 + 3 + 3, ["x", "y", "z", "opening"]),
        ("FetchSlide-v4", 25.0, 25 + 3 + 3, ["x", "y", "z", "opening"]),
        ("HandManipulatePenRotate_BooleanTouchSensors-v1", 25.0, 61 + 92 + 7 + 7, None),
    ],
)
def test_tasks_with_goals_that_no_robot_does_are_described_as_theirs(
    name: str, rate_hz: float, numbers: int, controls: list[str] | None
) -> None:
    job = parse_training(
        TD3_WITH_GOALS.replace("FetchPushDense-v4", name), find_shipped("policies", "hopper")
    )
    assert isinstance(job, GymJob)
    task, original = simulated_task(job, job.evaluation_env(1, 1, threads=1)), make_original(name)
    inner: Any = original.unwrapped
    seen, _ = original.reset(seed=0)
    assert (task.name, task.observation_size, len(row_of(seen))) == (name, numbers, numbers)
    assert task.rate_hz == pytest.approx(rate_hz) == pytest.approx(1.0 / inner.dt)
    named = controls or [inner.model.actuator(i).name for i in range(inner.model.nu)]
    assert [(c.name, c.low, c.high) for c in task.controls] == [(one, -1.0, 1.0) for one in named]
    original.close()


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ("robotrl/FetchReach-v4", ""),
        ("robotrl/FetchPush-v4", "FetchPush-v4"),
        ("robotrl/HandReach-v3", ""),
        ("robotrl/Hopper-v5", "Hopper-v5"),
        ("gym:Pendulum-v1", ""),
    ],
)
def test_a_robots_task_is_no_simulated_one(env: str, name: str) -> None:
    text = TD3_WITH_GOALS.replace("robotrl/FetchPushDense-v4", env)
    assert simulated_name(parse_training(text, find_shipped("policies", "hopper"))) == name


def test_a_hand_whose_actions_are_relative_is_done_by_no_robot() -> None:
    text = (
        TD3_WITH_GOALS.replace("FetchPushDense-v4", "HandReach-v3") + "\n[options]\nrelative_control = true\n"
    )
    assert simulated_name(parse_training(text, find_shipped("policies", "hopper"))) == "HandReach-v3"
