"""What a run shows and keeps while it trains: a progress bar, metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from robotrl.learn.loop import Iteration

METRICS = "metrics.jsonl"
"""One JSON object per iteration: iteration, steps, seconds and every figure."""


class RunLog:
    """Consumes iterations; use as a context manager."""

    def __init__(self, folder: Path, quiet: bool) -> None:
        self._metrics = (folder / METRICS).open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"))
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[line]}"),
            disable=quiet,
        )
        self._task = self._bar.add_task("training", total=1.0, line="")

    def __enter__(self) -> RunLog:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        self._bar.stop()
        self._metrics.close()
        self._board.close()

    def write(self, done: Iteration, seconds: float, share: float) -> None:
        """Log one iteration.

        Args:
            done: the iteration.
            seconds: wall clock that the run has trained for.
            share: of the run that is done.
        """
        row = {"iteration": done.index, "steps": done.steps, "seconds": round(seconds, 3)}
        row |= {name: round(value, 6) for name, value in done.figures.items()}
        self._metrics.write(json.dumps(row) + "\n")
        self._metrics.flush()
        for name, value in done.figures.items():
            self._board.add_scalar(name, value, done.steps)
        line = (
            f"{done.steps / 1e6:.2f} M steps  {done.figures['steps_per_s']:,.0f} steps/s  "
            f"reward {done.figures['step_reward']:.4f}"
        )
        self._bar.update(self._task, completed=share, line=line)
