"""Live progress of many training runs: how many are done, environment steps per second, time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from robotrl.bench.runs import Status, Tell

WINDOW_S = 300.0
"""Over which the speed is averaged."""


@contextmanager
def progress() -> Iterator[Tell]:
    """Show a bar on the error output inside the block; gives what is to be told about every status."""
    bar = Progress(
        TextColumn("{task.fields[runs]}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[active]}"),
        console=Console(stderr=True),
        speed_estimate_period=WINDOW_S,
    )
    task = bar.add_task("", start=False, runs="", rate="", active="")
    first = True

    def tell(status: Status) -> None:
        nonlocal first
        if first:  # what earlier sessions did says nothing about the speed
            bar.update(task, total=status.steps_wanted, completed=status.steps)
            bar.reset(task, total=status.steps_wanted, completed=status.steps)
            first = False
        speed = bar.tasks[0].speed
        bar.update(
            task,
            completed=status.steps,
            runs=f"{status.finished} of {status.runs} runs",
            rate=f"{speed:,.0f} steps/s" if speed else "",
            active=", ".join(status.active),
        )

    with bar:
        yield tell
