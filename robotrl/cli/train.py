"""`robotrl train`: one TOML in, one run folder out; live progress, resumable."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from robotrl.errors import BadInputError

CHECKPOINT_EVERY_S = 30.0


@dataclass(frozen=True)
class Train:
    """Train a policy; Ctrl-C saves a checkpoint and prints how to go on.

    Example: robotrl train quad12_walk_ppo --out runs/walk
    """

    config: tyro.conf.Positional[str] = ""
    """A run's TOML: a path, or the name of a shipped one. Not with --resume."""
    out: Path | None = None
    """Folder of the run; by default runs/<config>-<seed>."""
    seed: int | None = None
    """Instead of the TOML's."""
    seconds: float | None = None
    """Wall clock to train for, instead of the TOML's."""
    steps: int | None = None
    """Environment steps to train for, instead of the TOML's; for a TOML that counts steps."""
    resume: Path | None = None
    """Go on with the run in this folder, for `seconds` or `steps` in all."""
    json: bool = False
    """Print the final scores as JSON and nothing else."""

    def run(self) -> int:
        """Train, evaluate, write the scores."""
        from robotrl.cli.eval import print_scores, score_run
        from robotrl.cli.runfile import SCORES

        folder, finished = self.train(quiet=self.json)
        if not finished:
            print(f"stopped; go on with: robotrl train --resume {folder}")
            return 0
        scores = score_run(folder)
        (folder / SCORES).write_text(json.dumps(scores, indent=2) + "\n")
        print_scores(scores, title=str(folder), as_json=self.json)
        return 0

    def train(self, quiet: bool) -> tuple[Path, bool]:
        """Train without evaluating; returns the run's folder and whether its time was used up."""
        folder = self._prepare()
        resume = self.resume is not None
        with tempfile.TemporaryDirectory() as scratch, Ranks(folder, Path(scratch), resume) as size:
            return folder, _lead(folder, size, Path(scratch), resume, quiet)

    def _prepare(self) -> Path:
        """Make the run's folder with its own copy of the configuration, or find the one to resume."""
        from robotrl.cli.runfile import CHECKPOINT, CONFIG
        from robotrl.spec.records import read_text
        from robotrl.spec.shipped import find_shipped

        if bool(self.config) == bool(self.resume):
            raise BadInputError("needs either a configuration or --resume", key="train")
        if self.resume:
            config = self.resume / CONFIG
            text = config.read_text() if config.is_file() else ""
            if not text or not (self.resume / CHECKPOINT).is_file():
                raise BadInputError("holds no run to resume", file=self.resume)
            config.write_text(self._checked(text, config)[0])
            return self.resume
        file = find_shipped("configs", self.config)
        text, seed = self._checked(read_text(file), file)
        folder = self.out or Path("runs") / f"{file.stem}-{seed}"
        if (folder / CHECKPOINT).exists():
            raise BadInputError("already holds a run", file=folder, allowed="a new --out, or --resume")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(text)
        return folder

    def _checked(self, text: str, file: Path) -> tuple[str, int]:
        """Put the options into the TOML, refuse a bad one before anything is written; returns its seed."""
        from robotrl.cli.gymfile import parse_training

        seed = None if self.resume else self.seed
        text = _override(text, file, seed=seed, seconds=self.seconds, steps=self.steps)
        return text, parse_training(text, file).config.seed


def _override(text: str, file: Path, **values: float | None) -> str:
    """Replace top-level `key = number` lines of a TOML that came from `file`, comments kept.

    Raises:
        BadInputError: it has no such line.
    """
    for key, value in values.items():
        if value is None:
            continue
        text, found = re.subn(rf"(?m)^{key} = [-+\d.e_]+", f"{key} = {value}", text, count=1)
        if not found:
            raise BadInputError("has no such key to replace", file=file, key=key, value=value)
    return text


class Ranks:
    """Starts ranks 1 and up of a run as processes; this process is to be rank 0.

    As a context manager it gives the number of ranks.
    """

    def __init__(self, folder: Path, scratch: Path, resume: bool) -> None:
        import torch.multiprocessing

        from robotrl.cli.gymfile import read_training
        from robotrl.cli.runfile import CONFIG

        self.size = read_training(folder / CONFIG).config.sim.processes
        context = torch.multiprocessing.get_context("spawn")
        self._others = [
            context.Process(target=_rank, args=(folder, rank, self.size, scratch, resume), daemon=True)
            for rank in range(1, self.size)
        ]

    def __enter__(self) -> int:
        for process in self._others:
            process.start()
        return self.size

    def __exit__(self, *_: object) -> None:
        for process in self._others:
            process.join(timeout=5)
            process.kill()


def _rank(folder: Path, rank: int, size: int, scratch: Path, resume: bool) -> None:
    """A further rank: iterate for as long as rank 0 does. Ctrl-C is rank 0's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    learner = Learner(folder, rank, size, scratch, resume)
    while learner.group.agree(False):
        next(learner.iterations)
    learner.group.leave()


def _lead(folder: Path, size: int, scratch: Path, resume: bool, quiet: bool) -> bool:
    """Rank 0: log, save, and decide when to stop."""
    from robotrl.cli.runfile import CHECKPOINT
    from robotrl.learn.checkpoint import Progress, load_checkpoint, save_checkpoint
    from robotrl.learn.logs import RunLog

    began = load_checkpoint(folder / CHECKPOINT)[1] if resume else Progress(0, 0, 0.0)
    interrupted = _Interrupt()
    learner = Learner(folder, 0, size, scratch, resume)
    group, iterations, budget = learner.group, learner.iterations, learner.job.budget
    start, saved = time.perf_counter() - began.seconds, time.perf_counter()
    progress = began
    with RunLog(folder, quiet) as log, interrupted:
        while not interrupted.happened and budget.share(progress) < 1:
            group.agree(True)
            done = next(iterations)
            progress = Progress(done.index + 1, done.steps, time.perf_counter() - start)
            log.write(done, progress.seconds, budget.share(progress))
            if time.perf_counter() - saved > CHECKPOINT_EVERY_S:
                save_checkpoint(folder / CHECKPOINT, learner.ppo.state(), progress)
                saved = time.perf_counter()
        group.agree(False)
        save_checkpoint(folder / CHECKPOINT, learner.ppo.state(), progress)
    group.leave()
    return not interrupted.happened


class Learner:
    """One rank: its learner, its worlds and the generator that joins them."""

    def __init__(self, folder: Path, rank: int, size: int, scratch: Path, resume: bool) -> None:
        import torch

        from robotrl.cli.gymfile import read_training
        from robotrl.cli.runfile import BROKEN, CONFIG, load_learner
        from robotrl.learn.checkpoint import Progress
        from robotrl.learn.group import Group
        from robotrl.learn.loop import train_ppo
        from robotrl.sim.quarantine import Quarantine

        torch.set_num_threads(1)
        self.job = read_training(folder / CONFIG)
        config = self.job.config
        self.group = Group(rank, size, scratch / "rendezvous")
        torch.manual_seed(config.seed)  # the same network on every rank
        with torch.device(config.sim.device):
            self.ppo = self.job.ppo(self.group)
        progress = load_learner(self.ppo, folder)[1] if resume else Progress(0, 0, 0.0)
        seed = config.seed * 1000 + rank + progress.iteration * size
        torch.manual_seed(seed)
        quarantine = Quarantine(folder / BROKEN)
        self.env = self.job.env(config.sim.worlds // size, seed, threads=1, quarantine=quarantine)
        self.iterations = train_ppo(self.env, self.ppo, progress.iteration, progress.steps)


class _Interrupt(contextlib.AbstractContextManager["_Interrupt"]):
    """Turns the first Ctrl-C into a flag, so that an iteration is finished and saved."""

    def __init__(self) -> None:
        self.happened = False

    def __enter__(self) -> _Interrupt:
        self._before = signal.signal(signal.SIGINT, self._set)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _set(self, *_: object) -> None:
        self.happened = True
