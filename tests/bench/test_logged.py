"""What a kept run says: evaluations are not training, the curve is thinned but ends where the run did."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from robotrl.bench.logged import CURVE_POINTS, Point, Row, read_logged, thinned, training_seconds


def row(steps: int, seconds: float, value: float | None = None, rate: float = 100.0) -> Row:
    found = {"iteration": steps / 100 - 1, "steps": float(steps), "seconds": seconds, "steps_per_s": rate}
    return found if value is None else {**found, "eval/return_mean": value}


ROWS = [row(100, 1.5), row(200, 3.0, value=10.0), row(300, 9.0), row(400, 10.5, value=30.0)]
"""The evaluation after 200 steps took about 5 s: the iteration after it took 1 s, says its rate."""


def write(folder: Path, rows: list[Row], torn: str = "") -> Path:
    folder.mkdir()
    lines = "".join(json.dumps(one) + "\n" for one in rows)
    (folder / "metrics.jsonl").write_text(lines + torn)
    return folder


def test_evaluations_are_not_counted_as_training() -> None:
    assert training_seconds(ROWS) == [1.5, 3.0, 4.0, 5.5]
    assert training_seconds([]) == []


def test_a_finished_run_says_its_score_its_seconds_and_its_curve(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", ROWS)
    (folder / "scores.json").write_text('{"return_mean": 31.0}')
    logged = read_logged(folder)
    assert (logged.final, logged.seconds, logged.steps, logged.failure) == (31.0, 5.5, 400, "")
    assert logged.curve == (Point(200, 3.0, 10.0), Point(400, 5.5, 30.0))


def test_the_final_score_ends_a_curve_whose_last_evaluation_is_older(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", [*ROWS, row(500, 20.0)])
    (folder / "scores.json").write_text('{"return_mean": 31.0}')
    assert read_logged(folder).curve[-1] == Point(500, 6.5, 31.0)


def test_a_diverged_run_has_no_score_but_a_reason(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", ROWS, torn='{"iteration": 4, "st')
    (folder / "failure.txt").write_text("robotrl: iteration 4 diverged\n")
    logged = read_logged(folder)
    assert (logged.final, logged.steps, logged.failure) == (None, 400, "robotrl: iteration 4 diverged")


@pytest.mark.parametrize("points", [0, 1, 49, 50, 51, 488])
def test_a_thinned_curve_is_short_even_and_whole_at_its_end(points: int) -> None:
    curve = [Point(step, 0.0, 0.0) for step in range(points)]
    kept = thinned(curve)
    assert len(kept) <= CURVE_POINTS
    assert kept[-1:] == curve[-1:]
    assert len({b.steps - a.steps for a, b in itertools.pairwise(kept)}) <= 1
    assert len(kept) >= min(points, CURVE_POINTS // 2)
