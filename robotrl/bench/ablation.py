"""What keeps PPO's policy near the old one, compared as in the paper (Schulman et al. 2017, table 1)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from robotrl.bench.logged import Row, read_rows
from robotrl.bench.runs import FAILURE, Run, Tell, check_kept, ended, train_all, with_keys
from robotrl.bench.style import BLUE, INK, ORANGE, WIDTH_IN, look
from robotrl.spec.records import read_text
from robotrl.spec.shipped import find_shipped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

FOLDER, CONFIG = Path("runs/ablation"), "ppo_paper"
TASKS = (
    "HalfCheetah-v5",
    "Hopper-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
)
STEPS, SEEDS = 1_000_000, 3
LAST_EPISODES = 100
RANDOM_WORLDS = 100
BAR, DPI = 0.6, 170


@dataclass(frozen=True)
class Arm:
    """One row of the paper's table."""

    surrogate: str
    """Name in the TOML; also the folder of its runs."""
    label: str
    paper: float
    """Its score in the paper."""


ARMS = (
    Arm("none", "no clipping or penalty", -0.39),
    Arm("clip", "clipping, 0.2", 0.82),
    Arm("adaptive_kl", "adaptive KL, 0.01", 0.74),
    Arm("fixed_kl", "fixed KL, beta 1", 0.71),
)


def ablation_run(arm: Arm, task: str, seed: int, steps: int = STEPS) -> Run:
    """Return the run of an arm: everything but the surrogate is equal."""
    values = {
        "env": f'"robotrl/{task}"',
        "seed": str(seed),
        "steps": str(steps),
        "ppo.surrogate": f'"{arm.surrogate}"',
    }
    text = with_keys(read_text(find_shipped("configs", CONFIG)), values)
    return Run(f"{arm.surrogate}/{task}/seed{seed}", text)


def bench_ablation(
    folder: Path, seeds: int, jobs: int, tell: Tell, tasks: Sequence[str] = TASKS, steps: int = STEPS
) -> dict[str, Any]:
    """Train every arm on every task and score what the folder holds.

    Args:
        folder: of all runs.
        seeds: of each arm and task.
        jobs: runs at once; with 0 nothing is trained.
        tell: told about the progress.
        tasks: to train on.
        steps: environment steps of a run.

    Returns:
        `arms`, one record each with its score, the paper's, and its score on every task; and `tasks`,
        one record each with the random policy's return, the best run's, and every run's by arm.

    Raises:
        BadInputError: a kept run of another configuration.
    """
    runs = [ablation_run(arm, task, seed, steps) for task in tasks for seed in range(seeds) for arm in ARMS]
    if jobs:
        train_all(runs, folder, jobs, tell)
    check_kept(runs, folder)
    return table_of({task: _returns(folder, task, seeds) for task in tasks}, folder)


def _returns(folder: Path, task: str, seeds: int) -> dict[str, list[float]]:
    """Return of each run that ended, by arm."""
    return {
        arm.surrogate: [
            last_return(read_rows(place))
            for seed in range(seeds)
            if ended(place := folder / arm.surrogate / task / f"seed{seed}")
        ]
        for arm in ARMS
    }


def last_return(rows: Sequence[Row]) -> float:
    """Mean return of the last training episodes: of whole iterations that hold 100 or more together.

    Worlds that started together end together, so an iteration often holds as many episodes as worlds.
    """
    total, count = 0.0, 0.0
    for row in reversed(rows):
        if count >= LAST_EPISODES:
            break
        episodes = row.get("episodes", 0.0)
        if episodes:
            total, count = total + episodes * row["episode_return"], count + episodes
    return total / count


def table_of(returns: Mapping[str, Mapping[str, Sequence[float]]], folder: Path) -> dict[str, Any]:
    """Normalise the returns by task and arm, and average them over all runs of an arm."""
    tasks = []
    scores: dict[str, dict[str, list[float]]] = {arm.surrogate: {} for arm in ARMS}
    for task, by_arm in returns.items():
        found = [value for values in by_arm.values() for value in values]
        if not found:
            continue
        zero = random_return(task)
        best = max(found)
        tasks.append({"task": task, "random": zero, "best": best, "returns": dict(by_arm)})
        for arm, values in by_arm.items():
            scores[arm][task] = normalised(values, zero, best)
    arms = [
        {
            "arm": arm.surrogate,
            "label": arm.label,
            "score": _mean([score for own in scores[arm.surrogate].values() for score in own]),
            "paper": arm.paper,
            "runs": sum(len(own) for own in scores[arm.surrogate].values()),
            "diverged": len(list((folder / arm.surrogate).rglob(FAILURE))),
            "tasks": {task: _mean(own) for task, own in scores[arm.surrogate].items()},
        }
        for arm in ARMS
    ]
    return {"arms": arms, "tasks": tasks}


def normalised(returns: Sequence[float], random: float, best: float) -> list[float]:
    """Shift and scale returns of a task so that the random policy has 0 and the best run 1."""
    return [(value - random) / (best - random) for value in returns]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def random_return(task: str) -> float:
    """Mean return of the random policy over 100 episodes."""
    from robotrl.bench.episodes import first_episodes
    from robotrl.sim.boxed import UnitActions
    from robotrl.sim.direct import DirectEnv, native_worlds
    from robotrl.tasks.classic import classic_task

    wanted = classic_task(task)
    env = UnitActions(DirectEnv(wanted, native_worlds(wanted, RANDOM_WORLDS, 1), seed=0))
    size, generator = (env.num, env.action_size), torch.Generator().manual_seed(0)
    done = first_episodes(env, lambda: env.step(2 * torch.rand(size, generator=generator) - 1))
    return float(done[0].mean())


def ablation_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Lay the scores out for a terminal."""
    from rich.table import Table

    tasks = [one["task"] for one in figures["tasks"]]
    columns = ("", "score", "paper", "runs", "diverged", *(_short(task) for task in tasks))
    table = Table(*columns, title="PPO: random policy 0, best run 1", title_justify="left")
    for arm in figures["arms"]:
        own = [_shown(arm["tasks"].get(task)) for task in tasks]
        counts = str(arm["runs"]), str(arm["diverged"])
        table.add_row(arm["label"], _shown(arm["score"]), _shown(arm["paper"]), *counts, *own)
    return [table]


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"


def _short(task: str) -> str:
    return task.partition("-")[0].replace("Inverted", "").replace("Double", "Double ")


def draw_ablation(figures: Mapping[str, Any], file: Path) -> None:
    """Draw a bar for each arm, with a point for each task, into a PNG."""
    from matplotlib.figure import Figure

    with look():
        figure = Figure(figsize=(0.75 * WIDTH_IN, 3.4), layout="constrained")
        axis = figure.subplots()
        for place, arm in enumerate(figures["arms"]):
            if arm["score"] is not None:
                _draw_arm(axis, place, arm)
        axis.axhline(0, color=INK, linewidth=0.8)
        axis.set_xticks(range(len(ARMS)), [str(arm["label"]) for arm in figures["arms"]])
        axis.tick_params(axis="x", labelcolor=INK)
        axis.grid(visible=False, axis="x")
        axis.set_ylabel("normalised return")
        tasks, runs = len(figures["tasks"]), min(arm["runs"] for arm in figures["arms"])
        axis.set_title(f"PPO on {tasks} tasks, seeds of each: {runs // tasks}; random policy 0, best run 1")
        axis.legend(loc="lower right")
        figure.savefig(file, dpi=DPI)


def _draw_arm(axis: Axes, place: int, arm: Mapping[str, Any]) -> None:
    """One bar; its dots stand side by side in the order of the tasks, the lowest is named."""
    axis.bar(place, arm["score"], width=BAR, color=BLUE, alpha=0.35)
    tasks = [(task, score) for task, score in arm["tasks"].items() if score is not None]
    spread = [place + BAR * ((i + 0.5) / len(tasks) - 0.5) for i in range(len(tasks))]
    scores = [score for _, score in tasks]
    axis.plot(spread, scores, "o", color=BLUE, markersize=4.5, label="one task" if place == 0 else None)
    paper = [place - 0.6 * BAR, place + 0.6 * BAR], [arm["paper"]] * 2
    axis.plot(*paper, "--", color=ORANGE, linewidth=1.4, label="the paper's mean" if place == 0 else None)
    worst = scores.index(min(scores))
    axis.annotate(
        _short(tasks[worst][0]),
        (spread[worst], scores[worst]),
        xytext=(0, -11),
        textcoords="offset points",
        horizontalalignment="center",
        color=INK,
        fontsize=8,
    )
