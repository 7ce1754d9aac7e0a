"""What `robotrl bench learn` can measure in a kept folder of training runs, as one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from robotrl.bench import ablation, curves, goals, returns, time_to
from robotrl.bench.runs import Tell

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Ask:
    """What a user chose."""

    folder: Path
    jobs: int
    """Runs at once; with 0 nothing is trained."""
    seeds: int | None
    only: tuple[str, ...]
    device: goals.Device = "cpu"
    """Of `goals`."""


@dataclass(frozen=True)
class Part:
    """One measurement: how it is made and shown."""

    folder: Path
    """Where its runs are kept by default."""
    measure: Callable[[Ask, Tell], dict[str, Any]]
    tables: Callable[[Mapping[str, Any]], Sequence[Table]]
    draw: Callable[[Mapping[str, Any], Path], None] | None = None
    """Draws the figures into a PNG."""


def _returns(ask: Ask, tell: Tell) -> dict[str, Any]:
    return returns.bench_returns(ask.folder, ask.only, ask.seeds, ask.jobs, tell)


def _ablation(ask: Ask, tell: Tell) -> dict[str, Any]:
    return ablation.bench_ablation(ask.folder, ask.seeds or ablation.SEEDS, ask.jobs, tell)


def _time(ask: Ask, tell: Tell) -> dict[str, Any]:
    return time_to.bench_time(ask.folder, ask.seeds or time_to.SEEDS, ask.jobs > 0, tell)


def _goals(ask: Ask, tell: Tell) -> dict[str, Any]:
    return goals.bench_goals(ask.folder, ask.only, ask.seeds, ask.jobs, tell, device=ask.device)


PARTS: Mapping[str, Part] = MappingProxyType(
    {
        "returns": Part(returns.FOLDER, _returns, returns.returns_tables, curves.draw_curves),
        "ablation": Part(ablation.FOLDER, _ablation, ablation.ablation_tables, ablation.draw_ablation),
        "goals": Part(goals.FOLDER, _goals, goals.goals_tables, goals.draw_goals),
        "time": Part(time_to.FOLDER, _time, time_to.time_tables),
    }
)
"""By the name of the flag."""
