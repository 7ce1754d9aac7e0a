"""Time to quality: seconds of PPO until the deterministic policy first returns as much as wanted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robotrl.bench.logged import Logged, read_logged
from robotrl.bench.runs import Run, Tell, check_kept, ended, train_all, with_keys
from robotrl.bench.train import Timers, train_for
from robotrl.spec.records import read_text
from robotrl.spec.shipped import find_shipped

if TYPE_CHECKING:
    from rich.table import Table

FOLDER, SEEDS, THREADS = Path("runs/time"), 5, 2
EVALUATE_EVERY = 20_480
"""Environment steps; about a second of training."""
PATIENCE = 4.0
"""A run that takes longer than so many times the wanted seconds has not reached its goal."""
MEASURE_S = 8.0


@dataclass(frozen=True)
class Goal:
    """A return to reach on a task, in a time."""

    task: str
    config: str
    at_least: float
    within_s: float
    """What we want the median of the seeds to be."""
    steps: int = 1_000_000
    """Environment steps after which a run gives up."""

    def run(self, seed: int) -> Run:
        """Return the training run with this seed: it ends once an evaluation is good enough."""
        values = {
            "env": f'"robotrl/{self.task}"',
            "seed": str(seed),
            "steps": str(self.steps),
            "evaluate_every": str(EVALUATE_EVERY),
            "sim.threads": str(THREADS),
        }
        text = with_keys(read_text(find_shipped("configs", self.config)), values).rstrip()
        target = f'[target]\nfigure = "return_mean"\nat_least = {self.at_least}'
        return Run(f"{self.task}/seed{seed}", f"{text}\n\n{target}\n")


GOALS = (
    Goal("HalfCheetah-v5", "halfcheetah_ppo", 5000.0, 30.0),
    Goal("Hopper-v5", "hopper_ppo", 3000.0, 90.0),
    Goal("Walker2d-v5", "walker2d_ppo", 4000.0, 180.0),
)


def bench_time(
    folder: Path, seeds: int, train: bool, tell: Tell, goals: Sequence[Goal] = GOALS
) -> dict[str, Any]:
    """Train one run after the other, each with both cores.

    Args:
        folder: of all runs.
        seeds: of each goal.
        train: otherwise only what the folder holds is told.
        tell: told about the progress.
        goals: what to reach.

    Returns:
        `goals`, for each one of which a run has ended what `outcome` and `physics_share` say.

    Raises:
        BadInputError: a kept run of another configuration.
    """
    runs = {goal: [goal.run(seed) for seed in range(seeds)] for goal in goals}
    every = [run for own in runs.values() for run in own]
    if train:
        train_all(every, folder, 1, tell)
    check_kept(every, folder)
    outcomes = []
    for goal, own in runs.items():
        places = [folder / run.name for run in own if ended(folder / run.name)]
        if places:
            shares = physics_share(places[0])
            outcomes.append(outcome(goal, [read_logged(place) for place in places]) | shares)
    return {"goals": outcomes}


def outcome(goal: Goal, runs: Sequence[Logged]) -> dict[str, Any]:
    """Sum up the runs of a goal.

    Returns:
        The goal; `median_s`, where a run that did not reach it counts as endless, None if that is the
        median; `reached` of `runs`; and the `seconds` and `steps` of each run, None where not reached.
    """
    reached = [_reached(goal, run) for run in runs]
    median = statistics.median(math.inf if one is None else one[0] for one in reached)
    return {
        "task": goal.task,
        "at_least": goal.at_least,
        "within_s": goal.within_s,
        "median_s": median if math.isfinite(median) else None,
        "reached": sum(one is not None for one in reached),
        "runs": len(runs),
        "seconds": [one and one[0] for one in reached],
        "steps": [one and one[1] for one in reached],
    }


def _reached(goal: Goal, run: Logged) -> tuple[float, int] | None:
    """Seconds and steps of the first evaluation that is good enough, unless it came too late."""
    for point in run.curve:
        if point.value >= goal.at_least:
            late = point.seconds > PATIENCE * goal.within_s
            return None if late else (point.seconds, point.steps)
    return None


def physics_share(folder: Path) -> dict[str, float]:
    """Go on with a run for a while, not kept, and measure which share of it is physics and what else."""
    from robotrl.cli.train import Ranks
    from robotrl.cli.training import Worker

    with Ranks(folder, resume=True) as group:
        worker = Worker(folder, group, resume=True)
        timers = Timers(worker)
        try:
            with timers:
                train_for(worker, MEASURE_S / 4)
                timers.reset()
                train_for(worker, MEASURE_S)
        finally:
            worker.stop()
    return timers.shares()


def time_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Lay the outcomes out for a terminal."""
    from rich.table import Table

    columns = ("", "return", "wanted", "median", "reached", "each", "physics")
    table = Table(*columns, title="PPO on two cores: seconds to quality", title_justify="left")
    for one in figures["goals"]:
        good = one["median_s"] is not None and one["median_s"] <= one["within_s"]
        table.add_row(
            one["task"],
            f"{one['at_least']:,.0f}",
            f"{one['within_s']:.0f} s",
            f"[{'green' if good else 'red'}]{_seconds(one['median_s'])}[/]",
            f"{one['reached']} of {one['runs']}",
            ", ".join(_seconds(value) for value in one["seconds"]),
            f"{one['share_physics']:.0%}",
        )
    return [table]


def _seconds(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.1f} s"
