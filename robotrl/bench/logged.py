"""What a kept training run says about itself: learning curve, seconds of training, final scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from robotrl.bench.runs import FAILURE
from robotrl.cli.algorithms import EVALUATION
from robotrl.cli.runfile import SCORES
from robotrl.learn.logs import METRICS

RETURN = "return_mean"
"""The figure that says how good a policy is."""
CURVE_POINTS = 50

Row = dict[str, float]
"""One iteration of a run."""


@dataclass(frozen=True)
class Point:
    """One evaluation of the deterministic policy."""

    steps: int
    seconds: float
    """Of training before it, evaluations not counted."""
    value: float
    """Mean return."""


@dataclass(frozen=True)
class Logged:
    """A run that ended: finished, or diverged."""

    final: float | None
    """Mean return of the final deterministic policy; None if the run diverged."""
    seconds: float
    """Of training, evaluations not counted."""
    steps: int
    curve: tuple[Point, ...]
    failure: str
    """Why it diverged; empty if it did not."""

    def record(self) -> dict[str, object]:
        """Everything as JSON, the curve thinned."""
        return {**asdict(self), "curve": [asdict(point) for point in thinned(self.curve)]}


def read_logged(folder: Path) -> Logged:
    """Read the folder of a run that ended."""
    rows = read_rows(folder)
    seconds = training_seconds(rows)
    final: float | None = None
    if (folder / SCORES).is_file():
        final = float(json.loads((folder / SCORES).read_text(encoding="utf-8"))[RETURN])
    curve = [
        Point(int(row["steps"]), spent, row[EVALUATION + RETURN])
        for row, spent in zip(rows, seconds, strict=True)
        if EVALUATION + RETURN in row
    ]
    last = (int(rows[-1]["steps"]), seconds[-1]) if rows else (0, 0.0)
    if final is not None and (not curve or curve[-1].steps < last[0]):
        curve.append(Point(*last, final))
    failure = folder / FAILURE
    reason = failure.read_text(encoding="utf-8").strip() if failure.is_file() else ""
    return Logged(final, last[1], last[0], tuple(curve), reason)


def read_rows(folder: Path) -> list[Row]:
    """Read a run's metrics, an empty list if there are none; the last line may be torn."""
    file = folder / METRICS
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def training_seconds(rows: Sequence[Row]) -> list[float]:
    """Seconds of training up to the end of each iteration, without the evaluations in between.

    A row's own `seconds` are taken before its evaluation. After one, only what the next iteration
    itself took is counted.
    """
    spent = [rows[0]["seconds"]] if rows else []
    for before, row in pairwise(rows):
        if EVALUATION + RETURN in before:
            took = (row["steps"] - before["steps"]) / row["steps_per_s"]
        else:
            took = row["seconds"] - before["seconds"]
        spent.append(spent[-1] + took)
    return spent


def thinned(curve: Sequence[Point]) -> list[Point]:
    """Keep at most `CURVE_POINTS` points, evenly, the last one among them."""
    every = -(-len(curve) // CURVE_POINTS)
    return list(curve[::-1][:: max(every, 1)])[::-1]
