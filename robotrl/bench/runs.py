"""Many training runs in one kept folder: each a process, finished ones skipped, interrupted ones resumed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from robotrl.cli.outputs import alone_in
from robotrl.cli.runfile import CONFIG, SCORES
from robotrl.errors import BadInputError, CheckpointError, GroupError
from robotrl.learn.checkpoint import FOLDER, keep_only, newest_checkpoint
from robotrl.learn.logs import METRICS

COMMAND = (sys.executable, "-m", "robotrl", "train")
"""Starts one training run."""
LOG, FAILURE = "log.txt", "failure.txt"
"""Files in a run's folder: all that its process printed, and why it cannot be finished."""
PROBLEM, WRONG_USE, DIVERGED = 1, 2, 3
"""Exit codes of a run that came to grief, one that was refused, and one that diverged."""
POLL_S = 0.2
LARGEST_KEPT_BYTES = 20_000_000

Tell = Callable[["Status"], None]
"""Told about the progress, several times a second."""


@dataclass(frozen=True)
class Run:
    """One training run: its name, which is its place in the kept folder too, and its TOML."""

    name: str
    """Like `ppo/HalfCheetah-v5/seed0`."""
    text: str
    """The TOML as the run is to have it."""

    @property
    def steps(self) -> int:
        """Environment steps to train for."""
        return int(tomllib.loads(self.text)["steps"])


class Named(Protocol):
    """What a run is of: an algorithm on a task, or a configuration."""

    @property
    def name(self) -> str:
        """Start of the names of its runs."""


Entry = TypeVar("Entry", bound=Named)


@dataclass(frozen=True)
class Status:
    """How far all runs are."""

    finished: int
    """Runs."""
    runs: int
    steps: int
    """Environment steps of all runs, done in earlier sessions included."""
    steps_wanted: int
    active: tuple[str, ...]
    """Names of the runs in progress."""


def choose(entries: Sequence[Entry], only: Sequence[str]) -> list[Entry]:
    """Return the entries of which a name in `only` is the start.

    Raises:
        BadInputError: a name is the start of none.
    """
    for prefix in only:
        if not any(entry.name.startswith(prefix) for entry in entries):
            raise BadInputError(
                "is the start of no entry",
                key="--only",
                value=prefix,
                allowed=[entry.name for entry in entries],
            )
    return [e for e in entries if not only or any(e.name.startswith(prefix) for prefix in only)]


def with_keys(text: str, values: Mapping[str, str]) -> str:
    """Set keys of a TOML, comments kept.

    Args:
        text: of the TOML; its tables stand in lines of their own.
        values: TOML literals by dotted key; a key that is not there is added to its table.

    Raises:
        BadInputError: there is no such table.
    """
    parts = re.split(r"(?m)^(?=\[)", text)
    for dotted, value in values.items():
        table, _, key = dotted.rpartition(".")
        place = next((i for i, part in enumerate(parts) if _holds(part, i, table)), None)
        if place is None:
            raise BadInputError("there is no such table", key=table)
        line = f"{key} = {value}"
        pattern = rf"(?m)^{re.escape(key)} = [^\n#]*?(?=[ \t]*(#|$))"
        new, found = re.subn(pattern, lambda _, line=line: line, parts[place], count=1)
        parts[place] = new if found else _added(parts[place], line, in_table=bool(table))
    return "".join(parts)


def _holds(part: str, index: int, table: str) -> bool:
    """Whether a part of a TOML is this table; the top level is the first part."""
    return part.startswith(f"[{table}]") if table else index == 0


def _added(part: str, line: str, in_table: bool) -> str:
    head, end, rest = part.partition("\n") if in_table else ("", "", part)
    return f"{head}{end}{line}\n{rest}"


def check_kept(runs: Sequence[Run], folder: Path) -> None:
    """Refuse a folder that holds one of the runs with another configuration.

    Raises:
        BadInputError: the first of them.
    """
    for run in runs:
        kept = folder / run.name / CONFIG
        if kept.is_file() and tomllib.loads(kept.read_text(encoding="utf-8")) != tomllib.loads(run.text):
            raise BadInputError(
                "holds a run of another configuration",
                file=kept.parent,
                allowed="remove it, or choose another --folder",
            )


def ended(folder: Path) -> bool:
    """Whether the run in this folder is finished, or would only fail again."""
    return (folder / SCORES).is_file() or (folder / FAILURE).is_file()


def train_all(
    runs: Sequence[Run], folder: Path, jobs: int, tell: Tell, command: Sequence[str] = COMMAND
) -> None:
    """Train what is not finished; returns once everything is, or after Ctrl-C once all have saved.

    Args:
        runs: what to train.
        folder: where all are kept.
        jobs: runs at once.
        tell: told about the progress.
        command: starts one training run.

    Raises:
        BadInputError: see `check_kept`; or a run was refused.
        GroupError: the process of a run ended by an error; every run can be resumed.
        KeyboardInterrupt: after Ctrl-C; every run can be resumed.
    """
    check_kept(runs, folder)
    waiting = deque(run for run in runs if not ended(folder / run.name))
    active: dict[str, subprocess.Popen[bytes]] = {}
    tell(_status(runs, folder, ()))
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                run = waiting.popleft()
                active[run.name] = _start(run, folder / run.name, command)
            for name in [name for name, process in active.items() if process.poll() is not None]:
                _settle(folder / name, active.pop(name).returncode)
            tell(_status(runs, folder, tuple(active)))
            time.sleep(POLL_S if active else 0)
    finally:
        for process in active.values():  # a terminal's Ctrl-C reached it too; a second one changes nothing
            process.send_signal(signal.SIGINT)
        for process in active.values():
            process.wait()


def _start(run: Run, folder: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a run, or go on with one from its newest checkpoint."""
    with alone_in(folder):
        (folder / CONFIG).write_text(run.text, encoding="utf-8")
        target = ["--resume", folder] if _resumable(folder) else [folder / CONFIG, "--out", folder]
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [*command, *map(str, target), "--json"],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def _resumable(folder: Path) -> bool:
    """Whether there is a whole checkpoint; one that was killed while its first was written starts anew."""
    try:
        newest_checkpoint(folder)
    except CheckpointError:
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        return False
    return True


def _settle(folder: Path, code: int) -> None:
    """Look at how a run's process ended; one that was killed or interrupted is for the next time.

    A run that diverged would do so again, so its last sentence is kept. Of a finished run's state only
    the actor is, where a replay memory would fill the disk.

    Raises:
        BadInputError: the run was refused.
        GroupError: its process ended by an error; the run goes on the next time.
    """
    if (folder / SCORES).is_file():
        _thin(folder)
    if code in {PROBLEM, WRONG_USE, DIVERGED}:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        reason = (lines or ["gave no reason"])[-1]
        if code == WRONG_USE:
            raise BadInputError(f"was refused: {reason}", file=folder)
        if code == PROBLEM:
            raise GroupError(f"{folder}: ended before it was finished: {reason}")
        (folder / FAILURE).write_text(reason + "\n", encoding="utf-8")


def _thin(run: Path) -> None:
    """Forget all but the actor where checkpoints hold more than networks."""
    if sum(file.stat().st_size for file in (run / FOLDER).rglob("*.safetensors")) > LARGEST_KEPT_BYTES:
        keep_only(run, "actor")


def _status(runs: Sequence[Run], folder: Path, active: tuple[str, ...]) -> Status:
    done = [ended(folder / run.name) for run in runs]
    steps = sum(
        run.steps if over else min(_last_step(folder / run.name), run.steps)
        for run, over in zip(runs, done, strict=True)
    )
    return Status(sum(done), len(runs), steps, sum(run.steps for run in runs), active)


def _last_step(folder: Path) -> int:
    """Environment steps that a run in progress has logged, from the end of its metrics."""
    file = folder / METRICS
    if not file.is_file():
        return 0
    with file.open("rb") as metrics:
        metrics.seek(max(0, file.stat().st_size - 4096))
        found = re.findall(rb'"steps": (\d+)', metrics.read())
    return int(found[-1]) if found else 0
