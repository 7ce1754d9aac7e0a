"""Fetch and Shadow Hand with hindsight: success of trained policies, in the original environments too."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from robotrl.bench.in_original import evaluate_original
from robotrl.bench.logged import Row, read_rows, training_seconds
from robotrl.bench.on_gpu import AT_LEAST, on_gpu
from robotrl.bench.runs import FAILURE, Run, Tell, check_kept, choose, ended, train_all, with_keys
from robotrl.bench.style import BLUE, INK, WIDTH_IN, look
from robotrl.bench.table_learning import wanted
from robotrl.cli.algorithms import EVALUATION
from robotrl.cli.runfile import SCORES
from robotrl.spec.records import read_text
from robotrl.spec.shipped import find_shipped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

Device = Literal["cpu", "cuda"]
FOLDER, ORIGINAL = Path("runs/goals"), "original.json"
"""Where the runs are kept; file in a run's folder with its scores in the original environment."""
EPISODES = 200
SUCCESS = "success_last"
MILLION, DPI = 1e6, 170


@dataclass(frozen=True)
class Entry:
    """One task, trained by the shipped configuration of this name."""

    name: str
    task: str
    seeds: int
    target: float
    """Share of episodes with success at their last step that every seed should reach."""
    within_s: float | None = None
    """Seconds of training that it should take, on two cores."""

    def run(self, seed: int, device: Device = "cpu") -> Run:
        """Return the training run with this seed."""
        text = with_keys(read_text(find_shipped("configs", self.name)), {"seed": str(seed)})
        return Run(f"{self.name}/seed{seed}", text if device == "cpu" else on_gpu(text))


ENTRIES = (
    Entry("fetch_reach", "FetchReach-v4", 5, 1.0, 10.0),
    Entry("fetch_push", "FetchPush-v4", 3, 0.95, 900.0),
    Entry("fetch_pick_and_place", "FetchPickAndPlace-v4", 3, 0.95, 900.0),
    Entry("fetch_slide", "FetchSlide-v4", 1, 0.8),
    Entry("hand_reach", "HandReach-v3", 1, 0.7),
    Entry("hand_block_rotate_z", "HandManipulateBlockRotateZ-v1", 1, 0.6),
)


@dataclass(frozen=True)
class Point:
    """One evaluation of the deterministic policy while it learns."""

    steps: int
    seconds: float
    """Of training before it, evaluations not counted."""
    success_last: float


def bench_goals(
    folder: Path,
    only: Sequence[str],
    seeds: int | None,
    jobs: int,
    tell: Tell,
    entries: Sequence[Entry] = ENTRIES,
    device: Device = "cpu",
) -> dict[str, Any]:
    """Train what is chosen and not yet finished, then report on everything that the folder holds.

    Args:
        folder: of all runs.
        only: starts of names such as `fetch_`; empty: all.
        seeds: of each entry, instead of its own number.
        jobs: runs at once; with 0 nothing is trained.
        tell: told about the progress.
        entries: to choose from.
        device: of worlds and learner; on a GPU a run ends with the first evaluation of 80 % or more.

    Returns:
        `entries`: one record for each with a run that ended: what was wanted, and of every run the seed,
        steps, seconds, curve, and success in our batch and in 200 episodes of the original environment.

    Raises:
        BadInputError: a name that none begins with, or a kept run of another configuration.
    """
    chosen = choose(entries, only)
    if jobs:
        train_all(
            [e.run(seed, device) for e in chosen for seed in range(seeds or e.seeds)], folder, jobs, tell
        )
    return {"entries": [record for entry in entries if (record := _record(entry, folder, device))["runs"]]}


def _record(entry: Entry, folder: Path, device: Device) -> dict[str, Any]:
    places = sorted((folder / entry.name).glob("seed*"))
    done = {int(place.name.removeprefix("seed")): place for place in places if ended(place)}
    check_kept([entry.run(seed, device) for seed in done], folder)
    runs = [{"seed": seed, **_run(place)} for seed, place in done.items()]
    target, within_s = (entry.target, entry.within_s) if device == "cpu" else (AT_LEAST, None)
    return {"name": entry.name, "task": entry.task, "target": target, "within_s": within_s, "runs": runs}


def _run(place: Path) -> dict[str, Any]:
    """What a run that ended says; only its failure if it diverged."""
    if (place / FAILURE).is_file():
        return {"failure": (place / FAILURE).read_text(encoding="utf-8").strip()}
    rows, scores = read_rows(place), json.loads((place / SCORES).read_text(encoding="utf-8"))
    seconds = training_seconds(rows)
    return {
        "steps": int(rows[-1]["steps"]),
        "seconds": seconds[-1],
        "success": _successes(scores),
        "original": _successes(_in_original(place)),
        "curve": [asdict(point) for point in _curve(rows, seconds)],
    }


def _curve(rows: Sequence[Row], seconds: Sequence[float]) -> list[Point]:
    key = EVALUATION + SUCCESS
    pairs = zip(rows, seconds, strict=True)
    return [Point(int(row["steps"]), spent, row[key]) for row, spent in pairs if key in row]


def _in_original(place: Path) -> dict[str, float]:
    """Evaluate a run once, and keep what came out beside it."""
    file = place / ORIGINAL
    if not file.is_file():
        scores = evaluate_original(place, EPISODES)
        file.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    scores = json.loads(file.read_text(encoding="utf-8"))
    return {name: float(value) for name, value in scores.items()}


def _successes(scores: Mapping[str, float]) -> dict[str, float]:
    """Shares of success and their 95 % intervals."""
    return {name: value for name, value in scores.items() if name.startswith("success_")}


def goals_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Lay the figures out for a terminal: a row for each run."""
    from rich.table import Table

    columns = ("", "seed", "steps", "seconds", "success", "in the original", "at any step", "wanted")
    table = Table(*columns, title="success at the last step, deterministic policy", title_justify="left")
    for entry in figures["entries"]:
        for run in entry["runs"]:
            table.add_row(entry["task"], str(run["seed"]), *_cells(run, entry))
    return [table]


def _cells(run: Mapping[str, Any], entry: Mapping[str, Any]) -> tuple[str, ...]:
    if "failure" in run:
        return "", "", f"[red]{run['failure']}[/]", "", "", wanted(entry)
    original = run["original"]
    colour = "green" if original[SUCCESS] >= entry["target"] else "red"
    late = entry["within_s"] is not None and run["seconds"] > entry["within_s"]
    interval = f"{original[f'{SUCCESS}_low']:.0%} to {original[f'{SUCCESS}_high']:.0%}"
    return (
        f"{run['steps']:,}",
        f"[{'red' if late else 'none'}]{run['seconds']:,.0f}[/]",
        f"{run['success'][SUCCESS]:.1%}",
        f"[{colour}]{original[SUCCESS]:.1%}[/] ({interval})",
        f"{original['success_any']:.1%}",
        wanted(entry),
    )


def draw_goals(figures: Mapping[str, Any], file: Path) -> None:
    """Draw the learning curves, a panel for each task with evaluations during training, into a PNG."""
    from matplotlib.figure import Figure

    entries = [one for one in figures["entries"] if any(len(_curve_of(run)) > 1 for run in one["runs"])]
    with look():
        figure = Figure(figsize=(WIDTH_IN, 2.8), layout="constrained")
        for place, entry in enumerate(entries):
            _draw(figure.add_subplot(1, len(entries), place + 1, ylabel="" if place else "success"), entry)
        figure.savefig(file, dpi=DPI)


def _draw(axis: Axes, entry: Mapping[str, Any]) -> None:
    """Thin every seed, thick their median where all have been evaluated."""
    curves = [_curve_of(run) for run in entry["runs"] if _curve_of(run)]
    for curve in curves:
        axis.plot(*zip(*curve, strict=True), color=BLUE, alpha=0.35, linewidth=0.9)
    shared = sorted(set.intersection(*(({steps for steps, _ in curve}) for curve in curves)))
    values = [[dict(curve)[steps] for curve in curves] for steps in shared]
    axis.plot(shared, [statistics.median(own) for own in values], color=BLUE)
    axis.axhline(entry["target"], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axis.set_ylim(0, 1.03)
    axis.set_title(entry["task"].partition("-")[0].removeprefix("HandManipulate"))
    axis.set_xlabel("million steps")


def _curve_of(run: Mapping[str, Any]) -> list[tuple[float, float]]:
    return [(point["steps"] / MILLION, point[SUCCESS]) for point in run.get("curve", ())]
