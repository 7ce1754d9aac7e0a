"""Evaluation of goal tasks: success at the last step and at any, of the first episodes alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from unittest import mock

import pytest
import torch
from torch import Tensor

from robotrl.bench.episodes import (
    SUCCESS,
    _Judged,
    first_episodes,
    score_actor,
    success_shares,
    wilson_interval,
)
from robotrl.sim.goal import GoalTransition
from tests.simulated_policies import untrained


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)],
)
def test_intervals_are_the_published_ones(successes: int, episodes: int, low: float, high: float) -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    assert wilson_interval(successes, episodes) == pytest.approx((low, high), abs=1e-4)


def test_an_actor_that_lives_elsewhere_is_scored_by_a_copy_on_the_cpu() -> None:
    """The device "meta" stands for the GPU: what is there has no values, so only the move gives them back."""
    made = untrained("gru")
    live = copy.deepcopy(made.actor).to("meta")
    with mock.patch.object(torch.nn.Module, "to", autospec=True, return_value=made.actor) as moved:
        scores = score_actor(made.job, live, threads=1)
    [((module, device), _)] = moved.call_args_list
    assert device == "cpu"
    assert module is not live, "it goes on learning where it is"
    assert {weights.device.type for weights in live.parameters()} == {"meta"}
    assert scores == score_actor(made.job, made.actor, threads=1)


SUCCESSES = (
    (False, True, False, True, True),
    (False, True, True, True, True),
    (True, False, False, True, True),
    (False, False, False, True, True),
)
"""Of four worlds at each of five steps; their first episodes have three, and the next ones go on."""


@dataclass
class Scripted:
    """Worlds whose success is written down."""

    num = 4
    time = 0

    def tick(self) -> GoalTransition:
        success = torch.tensor([row[self.time] for row in SUCCESSES])
        self.time += 1
        # The last world's simulation fails one step early, and never succeeds in its first episode.
        lengths = torch.tensor([3, 3, 3, 2])
        over = (lengths == self.time) if self.time < 4 else torch.ones(4, dtype=torch.bool)
        ids = over.nonzero()[:, 0]
        nothing, never = torch.zeros(len(ids)), torch.zeros(4, dtype=torch.bool)
        rows: Tensor = torch.zeros((4, 1))
        final = ids, rows[ids], rows[ids, :0], nothing, nothing, nothing.bool()
        return GoalTransition(-(~success).float(), never, over, *final, rows, success, never)


def test_success_is_that_of_first_episodes_at_their_last_step_and_at_any() -> None:
    env = Scripted()
    judged = _Judged(env.tick, env.num)
    returns, lengths = first_episodes(env, judged)  # type: ignore[arg-type]
    assert lengths.tolist() == [3, 3, 3, 2]
    assert returns.tolist() == [-2, -1, -2, -2]
    assert judged.last.tolist() == [False, True, False, False]
    assert judged.reached.tolist() == [True, True, True, False]
    shares = success_shares(torch.stack((judged.last, judged.reached)))
    assert {name: shares[name] for name in SUCCESS} == {"success_last": 0.25, "success_any": 0.75}
    assert (shares["success_any_low"], shares["success_any_high"]) == wilson_interval(3, 4)
