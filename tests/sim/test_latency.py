"""Delays: a goal or measurement comes out as late as it is said to, in ticks and fractions of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robotrl.sim.latency import ActionLatency, ObservationLatency

PERIOD_S, SUBSTEPS = 0.02, 4


def goal_of_tick(tick: int, worlds: int = 1) -> Tensor:
    return torch.full((worlds, 2), float(tick))


def followed(delay_s: float, ticks: int, longest_s: float) -> list[float]:
    """The tick whose goal acts in each physics step, from a line that has only known goal -1."""
    line = ActionLatency(1, 2, PERIOD_S, SUBSTEPS, longest_s, "cpu")
    line.reset(torch.tensor([0]), goal_of_tick(-1))
    rows = [line.goals(goal_of_tick(t), torch.tensor([delay_s])) for t in range(ticks)]
    return torch.cat(rows)[:, 0, 1].tolist()


@pytest.mark.parametrize("substeps", range(11))
def test_a_goal_acts_exactly_its_delay_later(substeps: int) -> None:
    delay_s = substeps * PERIOD_S / SUBSTEPS
    expected = [max((step - substeps) // SUBSTEPS, -1) for step in range(5 * SUBSTEPS)]
    assert followed(delay_s, 5, longest_s=0.05) == expected


def test_a_delay_counts_to_the_nearest_physics_step() -> None:
    assert followed(0.0024, 3, 0.02) == followed(0.0, 3, 0.02)
    assert followed(0.0026, 3, 0.02) == followed(0.005, 3, 0.02)


def test_worlds_are_late_each_by_its_own_delay() -> None:
    line = ActionLatency(3, 2, PERIOD_S, SUBSTEPS, 0.04, "cpu")
    line.reset(torch.arange(3), goal_of_tick(-1, 3))
    line.goals(goal_of_tick(0, 3), torch.zeros(3))
    goals = line.goals(goal_of_tick(1, 3), torch.tensor([0.0, 0.01, 0.04]))
    assert goals.shape == (SUBSTEPS, 3, 2)
    assert goals[:, 0, 0].tolist() == [1, 1, 1, 1]
    assert goals[:, 1, 0].tolist() == [0, 0, 1, 1]
    assert goals[:, 2, 0].tolist() == [-1, -1, -1, -1]


def test_a_reset_forgets_the_goals_of_its_worlds_only_and_leaves_the_callers_alone() -> None:
    line = ActionLatency(3, 2, PERIOD_S, SUBSTEPS, 0.04, "cpu")
    given = [goal_of_tick(t, 3) for t in range(2)]
    for goal in given:
        line.goals(goal, torch.zeros(3))
    line.reset(torch.tensor([1]), torch.full((1, 2), 7.0))
    goals = line.goals(goal_of_tick(2, 3), torch.full((3,), 0.03))
    assert goals[:, 0, 0].tolist() == [0, 0, 1, 1]
    assert goals[:, 1, 0].tolist() == [7, 7, 7, 7]
    assert all((goal == t).all() for t, goal in enumerate(given))


def test_without_delay_the_goals_are_the_target_itself() -> None:
    target = torch.rand(3, 2)
    goals = ActionLatency(3, 2, PERIOD_S, SUBSTEPS, 0.0, "cpu").goals(target, torch.zeros(3))
    assert goals.shape == (SUBSTEPS, 3, 2)
    assert goals.untyped_storage().data_ptr() == target.untyped_storage().data_ptr()
    value = torch.rand(3, 5)
    assert ObservationLatency(3, PERIOD_S, 0.0, "cpu").delayed(value, torch.zeros(3)) is value


@pytest.mark.parametrize("delay_s", [0.0, 0.004, 0.02, 0.033, 0.05])
def test_a_ramp_is_seen_as_late_as_stated_whatever_the_fraction(delay_s: float) -> None:
    line = ObservationLatency(1, PERIOD_S, 0.05, "cpu")
    line.reset(torch.tensor([0]), torch.zeros(1, 1))
    seen = [float(line.delayed(torch.tensor([[t * PERIOD_S]]), torch.tensor([delay_s]))) for t in range(1, 8)]
    expected = [max(t * PERIOD_S - delay_s, 0.0) for t in range(1, 8)]
    assert seen == pytest.approx(expected, abs=1e-7)


def test_a_reset_forgets_the_measurements_of_its_worlds_only() -> None:
    line = ObservationLatency(3, PERIOD_S, 0.04, "cpu")
    for tick in range(3):
        line.delayed(goal_of_tick(tick, 3), torch.zeros(3))
    line.reset(torch.tensor([2]), torch.full((1, 2), 9.0))
    seen = line.delayed(goal_of_tick(3, 3), torch.tensor([0.02, 0.04, 0.03]))
    assert seen.tolist() == [[2, 2], [1, 1], [9, 9]]


def test_a_measurement_that_is_not_finite_is_gone_after_the_reset_of_its_world() -> None:
    line = ObservationLatency(2, PERIOD_S, 0.04, "cpu")
    line.delayed(torch.tensor([[float("nan")], [1.0]]), torch.zeros(2))
    line.reset(torch.tensor([0]), torch.zeros(1, 1))
    seen = line.delayed(torch.ones(2, 1), torch.full((2,), 0.03))
    assert torch.isfinite(seen).all()
