"""Time to quality: the first good evaluation counts, a late one does not, and medians know the difference."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from robotrl.bench.logged import Logged, Point
from robotrl.bench.time_to import GOALS, Goal, bench_time, outcome, time_tables
from robotrl.cli.gymfile import parse_training

GOAL = Goal("Hopper-v5", "hopper_ppo", 3000.0, 90.0)


def run(*values: float, pace_s: float = 30.0) -> Logged:
    """A run with an evaluation after every `pace_s` seconds."""
    curve = tuple(Point(1000 * i, pace_s * i, value) for i, value in enumerate(values, 1))
    return Logged(values[-1], curve[-1].seconds, curve[-1].steps, curve, "")


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.task)
def test_every_goal_is_a_run_that_stops_once_it_is_reached(goal: Goal, tmp_path: Path) -> None:
    config = parse_training(goal.run(2).text, tmp_path).config
    assert config.seed == 2
    assert config.target is not None
    assert (config.target.figure, config.target.at_least) == ("return_mean", goal.at_least)
    assert config.evaluate_every > 0
    assert (config.sim.processes, config.sim.threads) == (1, 2)


def test_the_first_good_evaluation_counts() -> None:
    found = outcome(GOAL, [run(10.0, 3000.0, 20.0, 4000.0)])
    assert (found["seconds"], found["steps"], found["median_s"]) == ([60.0], [2000], 60.0)


def test_what_was_not_reached_or_too_late_is_endless() -> None:
    late, never = run(1.0, 3500.0, pace_s=200.0), run(1.0, 2999.0)
    found = outcome(GOAL, [run(3100.0), late, never, run(1.0, 3100.0), run(1.0, 1.0, 3100.0)])
    assert found["seconds"] == [30.0, None, None, 60.0, 90.0]
    assert (found["reached"], found["runs"], found["median_s"]) == (3, 5, 90.0)
    assert outcome(GOAL, [run(3100.0), late, never])["median_s"] is None


def test_the_table_tells_what_was_not_reached() -> None:
    found = outcome(GOAL, [run(1.0, 2999.0)]) | {"share_physics": 0.62}
    written = io.StringIO()
    console = Console(width=120, file=written)
    console.print(time_tables({"goals": [found]})[0])
    text = written.getvalue()
    assert "0 of 1" in text
    assert "not reached" in text
    assert "62%" in text


def test_a_tiny_goal_is_trained_timed_and_its_physics_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robotrl.bench.time_to.MEASURE_S", 0.2)
    monkeypatch.setattr("robotrl.bench.time_to.EVALUATE_EVERY", 4096)
    goal = Goal("InvertedPendulum-v5", "hopper_ppo", at_least=1.0, within_s=1e6, steps=100_000)
    (found,) = bench_time(tmp_path, 1, True, lambda _: None, [goal])["goals"]
    assert (found["reached"], found["steps"]) == (1, [4096]), "it stopped at the first evaluation"
    assert found["median_s"] == found["seconds"][0] > 0
    assert sum(value for name, value in found.items() if name.startswith("share_")) == pytest.approx(1.0)
    assert 0 < found["share_physics"] < 1
