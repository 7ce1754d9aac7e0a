"""Final deterministic returns of every algorithm on the classic tasks, next to the published ones."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robotrl.bench.interquartile import bootstrap_interval, interquartile_mean
from robotrl.bench.logged import read_logged
from robotrl.bench.published import (
    FLOORS,
    PUBLISHED,
    RANDOM_AND_TD3,
    TARGETS,
    best_published,
)
from robotrl.bench.runs import Run, Tell, check_kept, choose, ended, train_all, with_keys
from robotrl.spec.records import read_text
from robotrl.spec.shipped import find_shipped

if TYPE_CHECKING:
    from rich.table import Table

FOLDER = Path("runs/returns")
RUNNERS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v4")
MILLION, EARLY = 1_000_000, 200_000
"""Environment steps of a run; of those that compare the modern critic with the plain one early on."""


@dataclass(frozen=True)
class Entry:
    """One algorithm on one task."""

    algorithm: str
    task: str
    config: str
    """A shipped one; the task replaces the environment that it names."""
    seeds: int
    evaluations: int
    """Of the deterministic policy during training, evenly spread."""
    steps: int = MILLION

    @property
    def name(self) -> str:
        """Like `ppo/HalfCheetah-v5`."""
        return f"{self.algorithm}/{self.task}"

    def run(self, seed: int) -> Run:
        """Return the training run with this seed."""
        values = {
            "env": f'"robotrl/{self.task}"',
            "seed": str(seed),
            "steps": str(self.steps),
            "evaluate_every": str(self.steps // self.evaluations),
        }
        text = read_text(find_shipped("configs", self.config))
        return Run(f"{self.name}/seed{seed}", with_keys(text, values))


def on_policy(algorithm: str, configs: Mapping[str, str]) -> tuple[Entry, ...]:
    """Five seeds on each task: configuration by task."""
    return tuple(Entry(algorithm, task, config, seeds=5, evaluations=10) for task, config in configs.items())


def off_policy(algorithm: str, config: str, steps: int = MILLION, evaluations: int = 20) -> tuple[Entry, ...]:
    """Three seeds on each task."""
    return tuple(Entry(algorithm, task, config, 3, evaluations, steps) for task in RUNNERS)


ENTRIES: tuple[Entry, ...] = (
    *on_policy(
        "ppo",
        {
            "HalfCheetah-v5": "halfcheetah_ppo",
            "Hopper-v5": "hopper_ppo",
            "Walker2d-v5": "walker2d_ppo",
            "Ant-v4": "ant_ppo",
            "Swimmer-v5": "swimmer_ppo",
        },
    ),
    *on_policy("trpo", dict.fromkeys(RUNNERS, "trpo")),
    *on_policy("npg", dict.fromkeys(RUNNERS, "npg")),
    *on_policy("a2c", dict.fromkeys(RUNNERS, "a2c")),
    *on_policy("vpg", dict.fromkeys(RUNNERS, "vpg")),
    *off_policy("sac_modern", "sac_modern", EARLY, evaluations=16),
    *off_policy("sac_early", "sac", EARLY, evaluations=16),
    *off_policy("td3", "td3"),
    *off_policy("sac", "sac"),
    *off_policy("ddpg", "ddpg"),
)
"""In the order in which they are trained."""


def bench_returns(
    folder: Path,
    only: Sequence[str],
    seeds: int | None,
    jobs: int,
    tell: Tell,
    entries: Sequence[Entry] = ENTRIES,
) -> dict[str, Any]:
    """Train what is chosen and not yet finished, then report on everything that the folder holds.

    Args:
        folder: of all runs.
        only: starts of names such as `ppo/Hopper`; empty: all.
        seeds: of each entry, instead of its own number.
        jobs: runs at once; with 0 nothing is trained.
        tell: told about the progress.
        entries: to choose from.

    Returns:
        See `summary`.

    Raises:
        BadInputError: a name that none begins with, or a kept run of another configuration.
    """
    chosen = choose(entries, only)
    if jobs:
        train_all([e.run(seed) for e in chosen for seed in range(seeds or e.seeds)], folder, jobs, tell)
    return summary(folder, entries)


def summary(folder: Path, entries: Sequence[Entry] = ENTRIES) -> dict[str, Any]:
    """Put together what the folder holds of all entries.

    Returns:
        `entries`, one record for each with a run that ended (see `record`); `normalised`, of each
        algorithm with all tasks its interquartile mean where TD3 is 1; and `published`, everything
        that is known.
    """
    kept = [(entry, runs) for entry in entries if (runs := _kept(entry, folder))]
    check_kept([run for _, runs in kept for run in runs.values()], folder)
    records = [record(entry, folder, runs) for entry, runs in kept]
    return {
        "entries": records,
        "normalised": normalised(records),
        "published": [
            {"algorithm": algorithm, **vars(source)}
            for algorithm, sources in PUBLISHED.items()
            for source in sources
        ],
    }


def _kept(entry: Entry, folder: Path) -> dict[int, Run]:
    """The entry's runs that ended, by seed."""
    places = (folder / entry.name).glob("seed*")
    seeds = sorted(int(place.name.removeprefix("seed")) for place in places if ended(place))
    return {seed: entry.run(seed) for seed in seeds}


def record(entry: Entry, folder: Path, runs: Mapping[int, Run]) -> dict[str, Any]:
    """Sum up an entry: statistics over seeds, target, best published mean, and every run."""
    logged = {seed: read_logged(folder / run.name) for seed, run in runs.items()}
    finals = [run.final for run in logged.values() if run.final is not None]
    published, key = best_published(entry.algorithm, entry.task), (entry.algorithm, entry.task)
    return {
        "algorithm": entry.algorithm,
        "task": entry.task,
        "config": entry.config,
        "steps": entry.steps,
        "seeds": len(logged),
        "diverged": len(logged) - len(finals),
        **over_seeds(finals),
        "target": TARGETS.get(key),
        "floor": FLOORS.get(key),
        "published_mean": published and published[1],
        "published_std": published and published[2],
        "published_source": published and published[0].name,
        "published_seeds": published and published[0].seeds,
        "runs": [{"seed": seed, **run.record()} for seed, run in logged.items()],
    }


def over_seeds(finals: Sequence[float]) -> dict[str, float | None]:
    """Mean, deviation (of samples), interquartile mean with its interval, and minimum of final returns."""
    if not finals:
        return dict.fromkeys(("mean", "std", "iqm", "iqm_low", "iqm_high", "min"))
    low, high = bootstrap_interval([finals])
    return {
        "mean": statistics.fmean(finals),
        "std": statistics.stdev(finals) if len(finals) > 1 else None,
        "iqm": float(interquartile_mean(finals)),
        "iqm_low": low,
        "iqm_high": high,
        "min": min(finals),
    }


def normalised(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Interquartile mean over tasks and seeds of scores with random = 0 and TD3 = 1, by algorithm.

    Only algorithms with a result on all four tasks have one; the bootstrap is stratified by task.
    """
    rows = []
    for algorithm in dict.fromkeys(str(one["algorithm"]) for one in records):
        own = {one["task"]: _finals(one) for one in records if one["algorithm"] == algorithm}
        if not all(own.get(task) for task in RANDOM_AND_TD3):
            continue
        strata = [
            [(final - zero) / (unit - zero) for final in own[task]]
            for task, (zero, unit) in RANDOM_AND_TD3.items()
        ]
        low, high = bootstrap_interval(strata)
        iqm = float(interquartile_mean([score for stratum in strata for score in stratum]))
        rows.append({"algorithm": algorithm, "iqm": iqm, "iqm_low": low, "iqm_high": high})
    return rows


def _finals(one: Mapping[str, Any]) -> list[float]:
    return [run["final"] for run in one["runs"] if run["final"] is not None]


def returns_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Lay a summary out for a terminal."""
    from rich.table import Table

    columns = ("", "steps", "mean ± std", "IQM [95 %]", "lowest", "seeds", "target", "published", "s")
    table = Table(*columns, title="final deterministic return", title_justify="left")
    for one in figures["entries"]:
        table.add_row(*_cells(one))
    if not figures["normalised"]:
        return [table]
    scores = Table("", "IQM [95 %]", title="TD3-normalised, four tasks", title_justify="left")
    for row in figures["normalised"]:
        interval = f"[{row['iqm_low']:.2f}, {row['iqm_high']:.2f}]"
        scores.add_row(row["algorithm"], f"{row['iqm']:.2f} \\{interval}")
    return [table, scores]


def _cells(one: Mapping[str, Any]) -> list[str]:
    interval = f" \\[{_whole(one['iqm_low'])}, {_whole(one['iqm_high'])}]" if one["seeds"] > 1 else ""
    source = f" ({one['published_source']}, {one['published_seeds']})" if one["published_source"] else ""
    diverged = f", {one['diverged']} diverged" if one["diverged"] else ""
    return [
        f"{one['algorithm']} {one['task']}",
        f"{one['steps'] / MILLION:g} M",
        _mean_and_std(one["mean"], one["std"]),
        f"{_whole(one['iqm'])}{interval}",
        _marked(one["min"], one["floor"]),
        f"{one['seeds']}{diverged}",
        _target(one["mean"], one["target"]),
        _mean_and_std(one["published_mean"], one["published_std"]) + source,
        _whole(statistics.median(run["seconds"] for run in one["runs"])),
    ]


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _mean_and_std(mean: float | None, std: float | None) -> str:
    return _whole(mean) + ("" if std is None else f" ± {_whole(std)}")


def _target(mean: float | None, target: float | None) -> str:
    """The target, green where it is reached and red where it is not."""
    if target is None:
        return "-"
    return f"[{'green' if (mean or -math.inf) >= target else 'red'}]{target:,.0f}[/]"


def _marked(lowest: float | None, floor: float | None) -> str:
    """The lowest seed, red where it is below the floor."""
    below = floor is not None and lowest is not None and lowest < floor
    return f"[red]{_whole(lowest)}[/]" if below else _whole(lowest)
