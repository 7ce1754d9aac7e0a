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

    def __init__(self, folder: Path, quiet: bool, first: int = 0, steps_done: int = 0) -> None:
        """Open the logs of a run.

        Args:
            folder: of the run.
            quiet: show no bar.
            first: index of the first iteration that will be written; what was logged of it and of
                later ones, before the run was interrupted, is forgotten.
            steps_done: environment steps before it.
        """
        _forget(folder / METRICS, first)
        self._metrics = (folder / METRICS).open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=steps_done + 1 if first else None)
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


def _forget(file: Path, first: int) -> None:
    """Keep the rows before iteration `first`: there is one row for each, the last one perhaps torn."""
    if not file.exists():
        return
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text("".join(lines[:first]), encoding="utf-8")
    temporary.replace(file)
