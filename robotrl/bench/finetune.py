"""Fine-tuning: rough ground learned from a policy that walks on flat ground, against from nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from robotrl.cli.algorithms import EVALUATION
from robotrl.cli.train import Train
from robotrl.errors import BadInputError
from robotrl.learn.checkpoint import FOLDER
from robotrl.spec.shipped import find_shipped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONFIG, POLICY = "quad12_rough_ppo", "quad12_walk"
CHANGES = {"hidden": "[64, 64]"}
"""Both starts have the networks of the policy."""
STARTS = {"from nothing": None, "from flat ground": Path(POLICY)}
STEPS = 5_000_000
"""Of each run: some minutes, in which a walk is learned from nothing."""
CHECKPOINTS = 10
"""Evaluations of each run."""

FIGURES = {
    "survived_share": EVALUATION + "survived_share",
    "error_vx_m_s": EVALUATION + "error_vx_m_s",
    "error_vy_m_s": EVALUATION + "error_vy_m_s",
    "error_wz_rad_s": EVALUATION + "error_wz_rad_s",
    "level": "level",
}
"""Of the deterministic policy on all tiles of the rough terrain, and the curriculum's mean level."""
MARKS: Mapping[str, tuple[float, ...]] = {
    "error_vx_m_s": (0.1, 0.07, 0.05),
    "error_wz_rad_s": (0.3, 0.2, 0.15),
    "level": (2.0, 3.0, 4.0),
}
"""How good is to be reached; errors from above, all else from below. Survival is none of them: a robot
that has learned nothing yet stands still and survives."""
LABELS = {"survived_share": "episodes without a fall", "error_vx_m_s": "forward error  m/s", "level": "level"}

NEVER = "never"
"""Where the median seed does not get there."""

Record = dict[str, Any]


def bench_finetune(
    steps: int, seeds: Sequence[int], folder: Path, report: Callable[[str], None]
) -> dict[str, Any]:
    """Train both starts with each seed for the same steps, and compare them at the same checkpoints.

    Args:
        steps: environment steps of each run.
        seeds: of the runs.
        folder: where the runs are kept; those that are there are not trained again.
        report: told of each run.

    Returns:
        `curves`: a record for each start, seed and checkpoint; `reached`: for each mark the steps that
        each start needs, median of the seeds, or `NEVER`. The figure lies in `folder` as finetune.png.

    Raises:
        BadInputError: too few steps for an evaluation, or no seed.
    """
    if steps < CHECKPOINTS or not seeds:
        raise BadInputError("is too little", key="steps", value=steps, allowed=f"{CHECKPOINTS} and a seed")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{CONFIG}.toml"
    file.write_text(_config(steps), encoding="utf-8")
    curves: list[Record] = []
    for seed in seeds:
        for start, policy in STARTS.items():
            run = folder / f"{start.replace(' ', '-')}-{seed}"
            report(f"{start}, seed {seed}")
            again = Train(resume=run, steps=steps)
            new = Train(config=str(file), out=run, seed=seed, init_from=policy)
            (again if (run / FOLDER).exists() else new).train(quiet=True)
            curves += [{"start": start, "seed": seed, **row} for row in _evaluations(run)]
    figures = {"curves": curves, "reached": reached(curves, seeds)}
    draw_finetune(figures, folder / "finetune.png")
    return figures


def _config(steps: int) -> str:
    """The shipped run on rough ground, counting steps, with the networks of the policy."""
    text = find_shipped("configs", CONFIG).read_text(encoding="utf-8")
    pace = f"steps = {steps}\nevaluate_every = {steps // CHECKPOINTS}"
    for key, line in {"seconds": pace, **{key: f"{key} = {value}" for key, value in CHANGES.items()}}.items():
        text, found = re.subn(rf"(?m)^{key} = .*$", line, text)
        assert found == 1, f"the shipped run has one {key}"
    return text


def _evaluations(run: Path) -> list[Record]:
    """Steps and figures of a run's evaluated iterations."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {"steps": row["steps"]} | {name: row[key] for name, key in FIGURES.items()}
        for row in rows
        if FIGURES["survived_share"] in row
    ]


def reached(curves: Sequence[Record], seeds: Sequence[int]) -> list[Record]:
    """Tell for each mark after how many steps the median seed of each start reaches it."""
    return [
        {"figure": figure, "mark": mark}
        | {start: _median(curves, start, seeds, figure, mark) for start in STARTS}
        for figure, marks in MARKS.items()
        for mark in marks
    ]


def _median(
    curves: Sequence[Record], start: str, seeds: Sequence[int], figure: str, mark: float
) -> float | str:
    """Steps that the median seed needs."""
    counts = []
    for seed in seeds:
        own = [row for row in curves if (row["start"], row["seed"]) == (start, seed)]
        counts.append(min((row["steps"] for row in own if _good(row, figure, mark)), default=float("inf")))
    middle = median(counts)
    return middle if middle < float("inf") else NEVER


def _good(row: Record, figure: str, mark: float) -> bool:
    return bool(row[figure] <= mark if figure.startswith("error") else row[figure] >= mark)


def draw_finetune(figures: Mapping[str, Any], file: Path) -> None:
    """Draw each figure over the steps: thin every seed, thick their median; the suffix says the format."""
    from robotrl.bench.style import BLUE, ORANGE, look, panels

    with look():
        figure, axes = panels(1, len(LABELS), row_in=2.6)
        for ax, (name, label) in zip(axes, LABELS.items(), strict=True):
            for start, colour in zip(STARTS, (ORANGE, BLUE), strict=True):
                own = [row for row in figures["curves"] if row["start"] == start]
                _draw_start(ax, own, name, start, colour)
            ax.set_title(label)
            ax.set_xlabel("million steps")
        axes[0].legend(loc="lower right")
        figure.savefig(file, dpi=150)


def _draw_start(ax: Axes, rows: Sequence[Record], name: str, start: str, colour: str) -> None:
    for seed in sorted({row["seed"] for row in rows}):
        own = [row for row in rows if row["seed"] == seed]
        ax.plot(
            [r["steps"] / 1e6 for r in own], [r[name] for r in own], color=colour, alpha=0.3, linewidth=0.8
        )
    steps = sorted({row["steps"] for row in rows})
    middle = [median(row[name] for row in rows if row["steps"] == count) for count in steps]
    ax.plot([count / 1e6 for count in steps], middle, color=colour, label=start)
