"""Training speed against its ceiling: raw `Batch.step` of the same model, states, substeps and threads.

Raw stepping and training alternate in one process group, so that both see the same machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import mujoco.batch
import numpy as np

from robotrl.learn.collect import OnPolicy
from robotrl.sim.boxed import UnitActions
from robotrl.sim.direct import DirectEnv
from robotrl.sim.env import Env
from robotrl.sim.model import position_model
from robotrl.sim.worlds import Worlds

if TYPE_CHECKING:
    from robotrl.cli.runfile import Job
    from robotrl.cli.training import Worker

ROUNDS, ROUND_S = 5, 4.0


def bench_training(folder: Path) -> dict[str, float]:
    """Resume the run in `folder` for a few rounds and measure.

    Returns:
        Medians over rounds of `raw_steps_per_s`, `train_steps_per_s` and `ratio`, and the shares
        of training's wall clock that rank 0 spends in physics, environment, inference and update.
    """
    from robotrl.cli.runfile import config_of, read_job
    from robotrl.cli.train import Ranks
    from robotrl.cli.training import Worker

    job = read_job(config_of(folder))
    with Ranks(folder, resume=True) as group:
        worker = Worker(folder, group, resume=True)
        try:
            return _rounds(worker, job, group.size)
        finally:
            worker.stop()


def _rounds(worker: Worker, job: Job, size: int) -> dict[str, float]:
    timers = Timers(worker)
    raw, train, ratios = [], [], []
    with timers:
        train_for(worker, 2 * ROUND_S)  # warm-up
        timers.reset()
        for _ in range(ROUNDS):
            raw.append(_raw(worker, job, size))
            train.append(train_for(worker, ROUND_S))
            ratios.append(train[-1] / raw[-1])
    return {
        "raw_steps_per_s": statistics.median(raw),
        "train_steps_per_s": statistics.median(train),
        "ratio": statistics.median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        **timers.shares(),
    }


def train_for(worker: Worker, seconds: float) -> float:
    """Train for a while; environment steps per second over all ranks."""
    started, before = time.perf_counter(), worker.progress.steps
    while time.perf_counter() - started < seconds:
        worker.iterate(share=0.0)
    return (worker.progress.steps - before) / (time.perf_counter() - started)


def _raw(worker: Worker, job: Job, size: int) -> float:
    """Step as many worlds, on as many threads, from training's present states; steps per second."""
    worlds = _worlds(worker)
    model = position_model(job.robot, job.config.sim.timestep_s)
    batch = mujoco.batch.Batch(model, nsim=worlds.num * size, nthread=size)
    batch.bind("qpos")[:] = np.tile(worlds.qpos.numpy(), (size, 1))
    batch.bind("qvel")[:] = np.tile(worlds.qvel.numpy(), (size, 1))
    substeps = round(1.0 / (job.robot.control.rate_hz * model.opt.timestep))
    control, noise = batch.bind("ctrl"), np.random.default_rng(0)
    targets = [
        job.robot.default_rad + 0.15 * noise.standard_normal((worlds.num * size, model.nu)) for _ in range(8)
    ]
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < ROUND_S / 2:
        control[:] = targets[steps // len(control) % len(targets)]
        batch.step(nstep=substeps)
        steps += len(control)
    return steps / (time.perf_counter() - started)


def _worlds(worker: Worker) -> Worlds:
    env = worker.env.inner if isinstance(worker.env, UnitActions) else worker.env
    assert isinstance(env, Env | DirectEnv), "not somebody else's environment"
    return env.worlds


class Timers:
    """Adds up the wall clock inside the learner's parts, by wrapping their methods while measuring."""

    def __init__(self, worker: Worker) -> None:
        learner = worker.learner
        assert isinstance(learner, OnPolicy), "only these collect first and update then"
        self._parts: list[tuple[Any, str, str]] = [
            (_worlds(worker), "step", "physics"),
            (worker.env, "step", "environment"),
            (learner.model, "act", "inference"),
            (learner, "update", "update"),
        ]
        self._spent_s: dict[str, float] = {}
        self._patches = ExitStack()
        self.reset()

    def __enter__(self) -> None:
        for owner, method, part in self._parts:
            self._patches.enter_context(mock.patch.object(owner, method, self._timed(owner, method, part)))

    def __exit__(self, *_: object) -> None:
        self._patches.close()

    def reset(self) -> None:
        """Forget what was measured."""
        self._spent_s = {part: 0.0 for _, _, part in self._parts}

    def shares(self) -> dict[str, float]:
        """Share of each part; physics is taken out of the environment's."""
        spent = dict(self._spent_s)
        spent["environment"] -= spent["physics"]
        total = sum(spent.values())
        return {f"share_{part}": value / total for part, value in spent.items()}

    def _timed(self, owner: object, method: str, part: str) -> Callable[..., Any]:
        inner = getattr(owner, method)

        def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            started = time.perf_counter()
            result = inner(*arguments, **named)
            self._spent_s[part] += time.perf_counter() - started
            return result

        return call
