"""What hindsight costs: drawing, relabelling and normalising a batch as a share of the update it is for.

Both are measured in CPU time of this process, in alternating rounds, so that other work on the machine
disturbs neither. The memory is full, of episodes that wander: what they hold costs nothing more or less.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robotrl.cli.gymfile import GymJob, read_gym_job
from robotrl.learn.heap import keep_freed_memory
from robotrl.learn.off_policy import OffPolicy
from robotrl.sim.gym import GymTransition
from robotrl.spec.shipped import find_shipped

CONFIGS = ("fetch_push", "hand_block_rotate_z")
BATCH, ROUNDS, UPDATES = 2048, 15, 8
STEP = 0.02
"""Standard deviation of what changes of an observation from step to step."""


@dataclass(frozen=True)
class Cost:
    """Of one update of a run's learner with another batch size; shares are medians and ends over rounds."""

    config: str
    batch: int
    remembered: int
    sample_ms: float
    update_ms: float
    share: float
    share_lowest: float
    share_highest: float


def bench_hindsight(report: Callable[[str], None]) -> dict[str, list[dict[str, Any]]]:
    """Measure the learners of `CONFIGS`.

    Args:
        report: told what is being measured.

    Returns:
        `hindsight`: records of `Cost`.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    costs = []
    for name in CONFIGS:
        report(f"{name}, batches of {BATCH}")
        costs.append(asdict(_cost(name, full_learner(name, BATCH))))
    return {"hindsight": costs}


def full_learner(config: str, batch: int, remembered: int | None = None) -> OffPolicy:
    """Build the learner of a shipped run with a full memory, which has never been updated.

    Args:
        config: of a run with hindsight.
        batch: size instead of the run's.
        remembered: environment steps to remember instead of the run's.
    """
    job = read_gym_job(find_shipped("configs", config))
    params, worlds = job.config.algorithm_params, job.config.sim.worlds
    remembered = remembered or params.replay
    steps = remembered // worlds
    filling = replace(params, batch=batch, replay=remembered, steps=steps, start=2 * remembered)
    job = replace(job, config=replace(job.config, **{job.config.algorithm: filling}))
    learner = job.learner()
    assert isinstance(learner, OffPolicy), "hindsight is for off-policy learners"
    learner.iterate(Wandering(job, worlds))
    return learner


def _cost(config: str, learner: OffPolicy) -> Cost:
    rounds = [_round(learner) for _ in range(ROUNDS + 1)][1:]  # the first one allocates
    shares = [sampling / updating for sampling, updating in rounds]
    return Cost(
        config=config,
        batch=learner.params.batch,
        remembered=learner.params.replay,
        sample_ms=1e3 * statistics.median(sampling for sampling, _ in rounds),
        update_ms=1e3 * statistics.median(updating for _, updating in rounds),
        share=statistics.median(shares),
        share_lowest=min(shares),
        share_highest=max(shares),
    )


def _round(learner: OffPolicy) -> tuple[float, float]:
    """CPU seconds of an update's sample, and of the update."""
    began = time.process_time()
    batches = learner.sample(UPDATES)
    drawn = time.process_time()
    for batch in batches:
        learner.updates_done += 1
        learner.update(batch)
    return (drawn - began) / UPDATES, (time.process_time() - drawn) / UPDATES


class Wandering:
    """Worlds of a job's task, as wide and with as long episodes, whose observations wander."""

    def __init__(self, job: GymJob, worlds: int) -> None:
        assert job.goals is not None, "hindsight is for tasks with goals"
        self.num, self._goals = worlds, job.goals
        self.observation = torch.randn((worlds, job.observation_size))
        self.privileged = torch.zeros((worlds, 0))
        self._steps, self._every = 0, torch.arange(worlds)

    def step(self, action: Tensor) -> GymTransition:
        """Wander on; all episodes end at once, and nobody asks for their returns."""
        self._steps += 1
        goals, last = self._goals, self.observation + STEP * torch.randn_like(self.observation)
        last[:, goals.desired] = self.observation[:, goals.desired]
        ended = self._steps % goals.episode_steps == 0
        self.observation = torch.randn_like(last) if ended else last
        ids = self._every if ended else self._every[:0]
        truncated = torch.full((self.num,), ended)
        reward = goals.reward(last[:, goals.achieved], last[:, goals.desired])
        terminated = torch.zeros_like(truncated)
        nothing = torch.zeros(len(ids))
        final = ids, last[ids], self.privileged[ids], nothing, nothing
        return GymTransition(reward, terminated, truncated, *final)

    def take_statistics(self) -> dict[str, float]:
        """Tell nothing."""
        return {}
