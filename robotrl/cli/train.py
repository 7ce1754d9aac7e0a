"""`robotrl train`: one TOML in, one run folder out; live progress, resumable."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from robotrl.errors import BadInputError, DivergedError, GroupError

if TYPE_CHECKING:
    from robotrl.learn.group import Group, Place

PATIENCE_S = 30.0
"""How long other ranks may take to end after rank 0."""


@dataclass(frozen=True)
class Train:
    """Train a policy; Ctrl-C saves a checkpoint and prints how to go on.

    Example: robotrl train quad12_walk_ppo --out runs/walk
    """

    config: tyro.conf.Positional[str] = ""
    """A run's TOML: a path, or the name of a shipped one. Not with --resume."""
    env: str | None = None
    """Task or environment instead of the TOML's `env`: robotrl/TASK, or gym:NAME."""
    out: Path | None = None
    """Folder of the run; by default runs/<config>-<seed>, or runs/<config>-<task>-<seed> with --env."""
    seed: int | None = None
    """Instead of the TOML's."""
    seconds: float | None = None
    """Wall clock to train for, instead of the TOML's."""
    steps: int | None = None
    """Environment steps to train for, instead of the TOML's; for a TOML that counts steps."""
    init_from: Path | None = None
    """Start from what the run in this folder has learned, or from a policy file, not from nothing."""
    resume: Path | None = None
    """Go on with the run in this folder, for `seconds` or `steps` in all."""
    json: bool = False
    """Print the final scores as JSON and nothing else."""

    def run(self) -> int:
        """Train, evaluate, write the scores."""
        from robotrl.cli.eval import print_scores, score_run
        from robotrl.cli.runfile import SCORES
        from robotrl.learn.group import launched

        folder, finished = self.train(quiet=self.json)
        place = launched()
        if place is not None and place.rank > 0:
            return 0
        if not finished:
            print(f"stopped; go on with: robotrl train --resume {folder}")
            return 0
        scores = score_run(folder)
        (folder / SCORES).write_text(json.dumps(scores, indent=2) + "\n")
        print_scores(scores, title=str(folder), as_json=self.json)
        return 0

    def train(self, quiet: bool) -> tuple[Path, bool]:
        """Train without evaluating; returns the run's folder and whether its budget was used up.

        Under `torchrun` this process is one rank of those that it started; otherwise it starts the
        others itself, as many as `[sim] processes` says.
        """
        from robotrl.cli.outputs import alone_in
        from robotrl.learn.group import launched

        folder, text = self._plan()
        resume, place = self.resume is not None, launched()
        if place is not None:
            return folder, self._launched(place, folder, text, quiet)
        with alone_in(folder):
            self._check_new(folder)
            _write(folder, text)
            with Ranks(folder, resume) as group:
                return folder, _lead(folder, group, resume, quiet)

    def _launched(self, place: Place, folder: Path, text: str, quiet: bool) -> bool:
        """Train as one rank of those that `torchrun` started; all see the same folder."""
        import torch

        from robotrl.cli.gymfile import parse_training
        from robotrl.cli.outputs import alone_in
        from robotrl.learn.group import Group

        sim = parse_training(text, folder).config.sim
        if sim.device == "cuda":
            torch.cuda.set_device(place.local_rank)
        resume = self.resume is not None
        if place.rank > 0:
            group = Group(place.rank, place.size, device=sim.device)
            group.wait()
            _follow(folder, group, resume)
            return True
        with alone_in(folder):  # before it joins the others, who would wait for it
            self._check_new(folder)
            group = Group(0, place.size, device=sim.device)
            _write(folder, text)
            group.wait()
            return _lead(folder, group, resume, quiet)

    def _plan(self) -> tuple[Path, str]:
        """Refuse what is wrong, without writing anything; returns the run's folder and its TOML."""
        from robotrl.cli.outputs import check_folder
        from robotrl.cli.runfile import CONFIG
        from robotrl.learn.checkpoint import newest_checkpoint
        from robotrl.spec.records import read_text
        from robotrl.spec.shipped import find_shipped

        if bool(self.config) == bool(self.resume):
            raise BadInputError("needs either a configuration or --resume", key="train")
        if self.resume:
            self._check_kept()
            config = self.resume / CONFIG
            if not config.is_file():
                raise BadInputError("holds no run to resume", file=self.resume)
            newest_checkpoint(self.resume)
            return self.resume, self._checked(read_text(config), config)[0]
        file = find_shipped("configs", self.config)
        text, seed = self._checked(_initialised(read_text(file), self.init_from), file)
        folder = self.out or Path("runs") / self._name(file, seed)
        self._check_new(folder)
        check_folder(folder)
        _check_free(folder / CONFIG, file, text)
        return folder, text

    def _check_new(self, folder: Path) -> None:
        """Refuse to begin a run over another one."""
        from robotrl.learn.checkpoint import FOLDER

        if not self.resume and (folder / FOLDER).exists():
            raise BadInputError("already holds a run", file=folder, allowed="a new --out, or --resume")

    def _check_kept(self) -> None:
        """Refuse options that would make a resumed run another one."""
        for option in ("env", "out", "seed", "init_from"):
            if (value := getattr(self, option)) is not None:
                raise BadInputError(
                    "cannot be changed with --resume",
                    key="--" + option.replace("_", "-"),
                    value=str(value),
                    allowed="a new run",
                )

    def _name(self, file: Path, seed: int) -> str:
        """Folder of a run that was given none."""
        if self.env is None:
            return f"{file.stem}-{seed}"
        task = re.sub(r"[^\w.-]+", "-", re.sub(r"^(robotrl/|gym:)", "", self.env))
        return f"{file.stem}-{task}-{seed}"

    def _checked(self, text: str, file: Path) -> tuple[str, int]:
        """Put the options into the TOML, refuse a bad one before anything is written; returns its seed."""
        from robotrl.cli.finetune import check_start
        from robotrl.cli.gymfile import parse_training
        from robotrl.cli.training import check_launched, check_target
        from robotrl.learn.group import launched

        text = _override(text, file, seed=self.seed, seconds=self.seconds, steps=self.steps)
        source = file
        if self.env is not None:
            text, source = _with_env(text, self.env, file), Path(f"{file} with --env {self.env!r}")
        job = parse_training(text, source)
        check_target(job, source)
        job.config.sim.check_machine(source)
        if (place := launched()) is not None:
            check_launched(job, place.size, source)
        if not self.resume:
            check_start(job, source)
        return text, job.config.seed


def _with_env(text: str, env: str, file: Path) -> str:
    """Replace the top-level `env` of a TOML that came from `file`.

    Raises:
        BadInputError: it has none.
    """
    top, tables = _parted(text)
    line, value = f"env = {json.dumps(env)}", r"""("[^"\n]*"|'[^'\n]*')"""
    top, found = re.subn(rf"(?m)^env[ \t]*=[ \t]*{value}", lambda _: line, top)
    if not found:
        raise BadInputError(
            "has no such key to replace", file=file, key="env", value=env, allowed="a TOML that names one"
        )
    return top + tables


def _parted(text: str) -> tuple[str, str]:
    """Top-level keys of a TOML, and what begins with its first table: equal names there mean other things."""
    start = re.search(r"(?m)^[ \t]*\[", text)
    first = start.start() if start else len(text)
    return text[:first], text[first:]


def _initialised(text: str, run: Path | None) -> str:
    """Put the run to start from into a TOML: into its `[init]` table if it has one."""
    if run is None:
        return text
    line = f"run = {json.dumps(str(run))}"
    there, found = re.subn(
        r"(?m)^\[init\][^\n]*\n(run = [^\n]*\n)?", lambda _: f"[init]\n{line}\n", text, count=1
    )
    return there if found else f"{text.rstrip()}\n\n[init]\n{line}\n"


def _check_free(config: Path, source: Path, text: str) -> None:
    """Refuse to overwrite a configuration, unless it is the source or says the same.

    Raises:
        BadInputError: it is that of something else.
    """
    if config.exists() and not config.samefile(source) and config.read_bytes() != text.encode():
        raise BadInputError(
            f"holds the {config.name} of something else",
            file=config.parent,
            key="--out",
            allowed="an empty or new folder",
        )


def _write(folder: Path, text: str) -> None:
    """Give the run's folder its own copy of the configuration."""
    from robotrl.cli.runfile import CONFIG

    (folder / CONFIG).write_text(text, encoding="utf-8")


def _override(text: str, file: Path, **values: float | None) -> str:
    """Replace top-level `key = number` lines of a TOML that came from `file`, comments kept.

    Raises:
        BadInputError: it has no such line.
    """
    top, tables = _parted(text)
    for key, value in values.items():
        if value is None:
            continue
        top, found = re.subn(rf"(?m)^{key}[ \t]*=[ \t]*[-+\w.]+", f"{key} = {value}", top, count=1)
        if not found:
            raise BadInputError("has no such key to replace", file=file, key=key, value=value)
    return top + tables


class Ranks:
    """Starts ranks 1 and up of a run as processes; this process is to be rank 0.

    As a context manager it gives rank 0's group.
    """

    def __init__(self, folder: Path, resume: bool) -> None:
        from robotrl.cli.gymfile import read_training
        from robotrl.cli.runfile import CONFIG

        self._folder, self._resume = folder, resume
        self._size = read_training(folder / CONFIG).config.sim.processes

    def __enter__(self) -> Group:
        import torch.multiprocessing

        from robotrl.learn.group import Group

        self._scratch = tempfile.TemporaryDirectory()
        meeting = Path(self._scratch.name) / "rendezvous"
        context = torch.multiprocessing.get_context("spawn")
        self._others = [
            context.Process(
                target=_rank, args=(self._folder, rank, self._size, meeting, self._resume), daemon=True
            )
            for rank in range(1, self._size)
        ]
        for process in self._others:
            process.start()
        try:
            self._group = Group(0, self._size, meeting, ended=self._ended)
        except GroupError:
            self._stop(0)
            self._scratch.cleanup()
            raise
        return self._group

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop(0 if kind else PATIENCE_S)
        if kind:
            self._group.abandon()
        self._scratch.cleanup()

    def _ended(self) -> bool:
        return any(process.exitcode is not None for process in self._others)

    def _stop(self, patience_s: float) -> None:
        for process in self._others:
            process.join(timeout=patience_s)
            process.kill()
            process.join()


def _rank(folder: Path, rank: int, size: int, meeting: Path, resume: bool) -> None:
    """A further rank, in a process of its own."""
    from robotrl.learn.group import Group

    _follow(folder, Group(rank, size, meeting), resume)


def _follow(folder: Path, group: Group, resume: bool) -> None:
    """Do what rank 0 tells; Ctrl-C and ranks that are lost are rank 0's to handle.

    What goes wrong here is printed: where rank 0 is fine, all that it sees is a rank that has ended.
    """
    from robotrl.cli.training import Worker

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(GroupError):
        try:
            Worker(folder, group, resume).follow()
            group.leave()
        except (BadInputError, DivergedError) as error:
            print(f"robotrl: rank {group.rank}: {error}", file=sys.stderr)


def _lead(folder: Path, group: Group, resume: bool, quiet: bool) -> bool:
    """Rank 0; returns whether the run is finished."""
    from robotrl.cli.training import Worker, explained, lead

    worker = Worker(folder, group, resume)
    if worker.taken_over and not quiet:
        print(f"starts from {worker.taken_over}")
    try:
        return lead(worker, quiet)
    except DivergedError as error:
        _print_statistics(error)
        raise explained(error, folder) from error


def _print_statistics(error: DivergedError) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(name for row in error.statistics.values() for name in row))
    table = Table("batch", *columns, title="what it diverged on", title_justify="left")
    for name, row in error.statistics.items():
        table.add_row(name, *(f"{row[column]:.4g}" if column in row else "" for column in columns))
    Console(stderr=True).print(table)
