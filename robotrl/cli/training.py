"""What runs in each process of a training run: worlds, learner, and the orders that keep them in step."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from robotrl.cli.algorithms import EVALUATION
from robotrl.cli.finetune import hold, take_over
from robotrl.cli.gymfile import AnyJob, GymJob, read_training
from robotrl.cli.runfile import BROKEN, CONFIG, check_tensors
from robotrl.errors import CheckpointError, ConfigError, DivergedError
from robotrl.learn.checkpoint import Checkpoint, Owner, Progress, newest_checkpoint, save_checkpoint
from robotrl.learn.heap import keep_freed_memory
from robotrl.learn.logs import RunLog
from robotrl.learn.loop import Annealed, train
from robotrl.sim.quarantine import Quarantine
from robotrl.sim.saving import joined

if TYPE_CHECKING:
    from robotrl.learn.group import Group
    from robotrl.learn.loop import Iteration
    from robotrl.learn.networks import Actor

CHECKPOINT_EVERY_S = 30.0
"""Where the TOML does not say after how many steps."""

STOP, ITERATE, SAVE = 0.0, 1.0, 2.0
"""What rank 0 tells the others to do next."""


class Worker:
    """One process: its learner, its worlds and the generator that joins them.

    On the CPU native worlds, everything that is random included, go on from a checkpoint bit for bit.
    Other people's environments and worlds on a GPU start anew, the learner does not.

    Attributes:
        job: the run.
        group: the processes of the run.
        learner: the algorithm.
        env: this process's worlds.
        progress: of the run.
        taken_over: a sentence about what the learner started from; empty if from nothing.
    """

    def __init__(self, folder: Path, group: Group, resume: bool) -> None:
        """Build everything, the same network on every rank, and load the newest checkpoint if asked.

        Raises:
            CheckpointError: there is none, or it is of another task, network or number of processes.
        """
        torch.set_num_threads(1)
        keep_freed_memory()
        self.folder, self.group, self.taken_over = folder, group, ""
        self.job = read_training(folder / CONFIG)
        config, rank, size = self.job.config, group.rank, group.size
        checkpoint = newest_checkpoint(folder) if resume else None
        if checkpoint:
            checkpoint.check(self._owner())
        self.progress = checkpoint.progress if checkpoint else Progress(0, 0, 0.0)
        torch.manual_seed(config.seed)
        self.learner = self.job.learner(group, config.sim.device)
        if config.init:
            hold(self.learner, config.init, folder / CONFIG)
            if not checkpoint:
                self.taken_over = take_over(self.learner, config.init, self.job)
        seed = config.seed * 1000 + rank + self.progress.iteration * size
        torch.manual_seed(seed)
        sim, quarantine = config.sim, Quarantine(folder / BROKEN)
        self.env = self.job.env(sim.worlds // size, seed, sim.threads, quarantine)
        if checkpoint:
            self._load(checkpoint)
        self._saved = self.progress.iteration if checkpoint else -1
        self._iterations = train(self.env, self.learner, self.progress.iteration, self.progress.steps)

    def follow(self) -> None:
        """Do what rank 0 tells, until it stops."""
        while (order := self.group.tell(STOP, 0.0))[0] != STOP:
            if order[0] == SAVE:
                self._save(order[1])
            else:
                self._iterate(order[1])

    def iterate(self, share: float) -> Iteration:
        """Rank 0: let all ranks train for one iteration.

        Args:
            share: of the budget that is used up.
        """
        self.group.tell(ITERATE, share)
        return self._iterate(share)

    def save(self, seconds: float) -> None:
        """Rank 0: let all ranks write a checkpoint, after so many seconds, unless it is there."""
        if self._saved != self.progress.iteration:
            self.group.tell(SAVE, seconds)
            self._save(seconds)
            self._saved = self.progress.iteration

    def stop(self) -> None:
        """Rank 0: let the others finish, and leave the group."""
        self.group.tell(STOP, 0.0)
        self.group.leave()

    def _iterate(self, share: float) -> Iteration:
        if isinstance(self.learner, Annealed):
            self.learner.anneal(share)
        done = next(self._iterations)
        self.progress = Progress(done.index + 1, done.steps, self.progress.seconds)
        return done

    def _save(self, seconds: float) -> None:
        self.progress = Progress(self.progress.iteration, self.progress.steps, seconds)
        generators = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available() and self.job.config.sim.device == "cuda":
            generators["cuda"] = torch.cuda.get_rng_state()
        tensors = joined(
            actor=self.learner.actor.state_dict(),
            learner=self.learner.state(),
            env=self.env.state(),
            generator=generators,
        )
        save_checkpoint(self.folder, tensors, self.progress, self._owner(), self.group)

    def _owner(self) -> Owner:
        worlds = self.job.config.sim.worlds
        return {**self.job.owner, "processes": self.group.size, "worlds": worlds}

    def _load(self, checkpoint: Checkpoint) -> None:
        rank, folder = self.group.rank, checkpoint.folder
        check_tensors(self.learner.actor.state_dict(), checkpoint.tensors(rank, "actor"), folder, "actor")
        try:
            self.learner.load_state(checkpoint.tensors(rank, "learner"))
            worlds = checkpoint.tensors(rank, "env")
            self.env.load_state(worlds)
        except (CheckpointError, KeyError, RuntimeError) as error:  # torch's own, of other tensors
            reason = " ".join(str(error).split())
            raise CheckpointError(f"does not fit this run ({reason})", file=folder) from error
        if not (worlds and self.env.state()):
            self.learner.begin_anew()
        generators = checkpoint.tensors(rank, "generator")
        torch.set_rng_state(generators["cpu"])
        if "cuda" in generators:
            torch.cuda.set_rng_state(generators["cuda"])


def lead(worker: Worker, quiet: bool) -> bool:
    """Rank 0: log, evaluate, save, and decide when to stop; returns whether the run is finished.

    Raises:
        DivergedError: the numbers are not finite any more; the last good checkpoint stays.
    """
    config, began = worker.job.config, worker.progress
    start = time.perf_counter() - began.seconds
    pace = _Pace(config.checkpoint_every)
    with RunLog(worker.folder, quiet, began.iteration, began.steps) as log, _Interrupt() as interrupt:
        worker.save(began.seconds)
        reached, seconds = False, began.seconds
        while not (reached or interrupt.happened or _share(worker, seconds) >= 1):
            before = worker.progress.steps
            done = worker.iterate(_share(worker, seconds))
            seconds = time.perf_counter() - start
            if passed(config.evaluate_every, before, done.steps):
                scores = evaluation(worker.job, worker.learner.actor, _evaluation_threads(worker))
                done.figures.update({EVALUATION + name: value for name, value in scores.items()})
            reached = config.target is not None and config.target.reached(done.figures)
            log.write(done, seconds, _share(worker, seconds))
            if pace.due(before, done.steps):
                worker.save(seconds)
        worker.save(seconds)
    worker.stop()
    return not interrupt.happened


def _evaluation_threads(worker: Worker) -> int:
    """As many as physics has while it trains; all there are while a GPU would wait."""
    from robotrl.sim.gym import usable_cores

    sim = worker.job.config.sim
    return worker.group.size * sim.threads if sim.device == "cpu" else usable_cores()


def evaluation(job: AnyJob, actor: Actor, threads: int) -> dict[str, float]:
    """Score a policy as `robotrl eval` does, a robot's on randomised robots only."""
    from robotrl.bench.episodes import score_actor
    from robotrl.bench.evaluate import score_randomized

    return (
        score_actor(job, actor, threads) if isinstance(job, GymJob) else score_randomized(job, actor, threads)
    )


def check_target(job: AnyJob, file: Path) -> None:
    """Refuse a target that no evaluation tells of.

    Raises:
        ConfigError: there is no such figure.
    """
    from robotrl.bench.episodes import FIGURES, SUCCESS
    from robotrl.bench.evaluate import MEANING

    target, known = job.config.target, tuple(MEANING)
    if isinstance(job, GymJob):
        known = FIGURES + SUCCESS if job.goals else FIGURES
    if target and target.figure not in known:
        raise ConfigError(
            "is no figure of an evaluation",
            file=file,
            key="target.figure",
            value=target.figure,
            allowed=known,
        )


def check_launched(job: AnyJob, size: int, file: Path) -> None:
    """Refuse what does not divide among the processes that `torchrun` started, whatever `[sim]` says.

    Raises:
        ConfigError: worlds or a batch.
    """
    worlds = job.config.sim.worlds
    if worlds % size:
        raise ConfigError(
            "processes cannot share the worlds evenly",
            file=file,
            key="torchrun",
            value=size,
            allowed=f"a divisor of {worlds}",
        )
    goals = job.goals if isinstance(job, GymJob) else None
    job.config.check(worlds, size, file, goals.episode_steps if goals else 0)


def passed(every: int, before: int, now: int) -> bool:
    """Whether a multiple of `every` steps lies after step `before`, and not after `now`; never of 0."""
    return every > 0 and now // every > before // every


class _Pace:
    """When to save: every so many steps, or else after a while."""

    def __init__(self, every_steps: int) -> None:
        self._every, self._saved = every_steps, time.perf_counter()

    def due(self, before: int, now: int) -> bool:
        if self._every:
            return passed(self._every, before, now)
        late = time.perf_counter() - self._saved > CHECKPOINT_EVERY_S
        if late:
            self._saved = time.perf_counter()
        return late


def _share(worker: Worker, seconds: float) -> float:
    """How much of the budget is used up after so many seconds."""
    now = worker.progress
    return worker.job.config.budget.share(Progress(now.iteration, now.steps, seconds))


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


def explained(error: DivergedError, folder: Path) -> DivergedError:
    """Say what is left of a run that diverged, and how to go on with it."""
    left = newest_checkpoint(folder)
    way = f"kept is {left.folder}; lower the learning rate in {folder / CONFIG} and --resume {folder}"
    return DivergedError(f"{error}; {way}", error.statistics)
