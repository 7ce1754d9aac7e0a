"""A policy in the environment of Gymnasium or Gymnasium-Robotics that its task was taken from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from robotrl.bench.controls import score_file
from robotrl.bench.episodes import SUCCESS, score_actor, success_shares, totals, trained_actor, trained_job
from robotrl.bench.originals import Original, make_classic, make_original
from robotrl.cli.gymfile import OURS, GymJob
from robotrl.cli.runfile import config_of
from robotrl.cli.simulated import OBSERVATION, simulated_name
from robotrl.errors import BadInputError
from robotrl.learn.networks import Actor
from robotrl.learn.playing import Playing
from robotrl.runtime.policy import Policy
from robotrl.sim.boxed import UnitBox
from robotrl.sim.goal import GOAL_PARTS

FIRST_SEED = 1_000_000
"""Of the episodes; the next one has the next seed."""
RATIO, TRAINING = "return_ratio", "training_"
"""What counts in the original environment over the same in training; prefix of the latter."""


class Controller(Protocol):
    """What an episode needs of a policy."""

    def reset(self) -> None:
        """Begin an episode."""

    def step(self, channels: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float64]:
        """Return controls (nu,) for an observation."""


class NetworkController:
    """A trained network as a `Controller`, its actions mapped as in training."""

    def __init__(self, actor: Actor, box: UnitBox) -> None:
        self._playing, self._box = Playing(actor, torch.zeros((1, actor.memory_size))), box

    def reset(self) -> None:
        """Begin an episode."""
        self._playing.forget(torch.arange(1))

    def step(self, channels: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float64]:
        """Return controls (nu,) for an observation."""
        observation = torch.from_numpy(channels[OBSERVATION].astype(np.float32))
        return self._box(self._playing(observation[None]))[0].double().numpy()


class Episode(NamedTuple):
    """What came of one."""

    total: float
    """Sum of its rewards."""
    length: int
    success_last: bool
    """Whether its last step was a success, where the task has goals; never elsewhere."""
    success_any: bool


def evaluate_original(place: Path, episodes: int) -> dict[str, float]:
    """Score a policy in the original environment, without exploration noise.

    Args:
        place: a run's folder, whose newest network counts, or a policy file.
        episodes: how many, each from a seed of its own.

    Returns:
        As `robotrl.bench.episodes.evaluate_episodes`, less the figures of each seed.

    Raises:
        BadInputError: no task of Gymnasium or Gymnasium-Robotics was trained, or the latter is not installed.
    """
    job = _job(place)
    env = _original(job)
    controller = _controller(job, place)
    rows = [original_episode(env, controller, FIRST_SEED + i) for i in range(episodes)]
    returns, lengths, *successes = torch.tensor(rows, dtype=torch.float64).unbind(-1)
    shares = success_shares(torch.stack(successes).bool()) if job.goals else {}
    return {**totals(returns, lengths), **shares}


def evaluate_beside_training(place: Path, episodes: int, threads: int = 2) -> dict[str, float]:
    """Score a policy in the original environment and in the worlds of training.

    Args:
        place: as `evaluate_original`.
        episodes: likewise.
        threads: of the physics of training.

    Returns:
        As `evaluate_original`; what counts of it in training too, prefixed with `TRAINING`: the mean return,
        or the share of successes at the last step where the task has goals; and the `RATIO` of the two
        where both are positive, since other returns have no meaningful one.

    Raises:
        BadInputError: as `evaluate_original`.
        PolicyError: as `robotrl.bench.controls.ControlDriver`.
    """
    job = _job(place)
    scores, counts = evaluate_original(place, episodes), SUCCESS[0] if job.goals else "return_mean"
    trained = _in_training(job, place, threads)[counts]
    ratio = {RATIO: scores[counts] / trained} if min(scores[counts], trained) > 0 else {}
    return {**scores, TRAINING + counts: trained, **ratio}


def _in_training(job: GymJob, place: Path, threads: int) -> dict[str, float]:
    if place.is_dir():
        return score_actor(job, trained_actor(job, place), threads)
    return score_file(job, place, threads)


def original_episode(env: Original, controller: Controller, seed: int) -> Episode:
    """Run one episode.

    Args:
        env: the original environment.
        controller: acts in it.
        seed: of the start.
    """
    seen, _ = env.reset(seed=seed)
    controller.reset()
    total, length, success, reached, over = 0.0, 0, False, False, False
    while not over:
        action = controller.step({OBSERVATION: row_of(seen)}).astype(np.float32)  # as their spaces say
        seen, reward, terminated, truncated, info = env.step(action)
        success, over = bool(info.get("is_success", False)), terminated or truncated
        total, length, reached = total + float(reward), length + 1, reached or success
    return Episode(total, length, success, reached)


def row_of(seen: Any) -> NDArray[np.float32]:  # noqa: ANN401 - an array, or a dictionary of them
    """Return an observation as policies read it: of a task with goals its `GOAL_PARTS` in a row."""
    if isinstance(seen, Mapping):
        return np.concatenate([seen[part] for part in GOAL_PARTS], dtype=np.float32)
    row: NDArray[np.float32] = np.asarray(seen, dtype=np.float32)
    return row


def _job(place: Path) -> GymJob:
    job = trained_job(place)
    if isinstance(job, GymJob) and job.config.env.startswith(OURS):
        return job
    raise BadInputError(
        "has no original environment",
        file=config_of(place) if place.is_dir() else place,
        allowed="what was trained on a Fetch, Hand or classic task",
    )


def _original(job: GymJob) -> Original:
    make = make_original if job.goals else make_classic
    return make(job.config.env.removeprefix(OURS), **job.config.options)


def _controller(job: GymJob, place: Path) -> Controller:
    """The file itself where it gives the task's controls, otherwise its network, or the run's."""
    if place.is_dir() or not simulated_name(job):
        return NetworkController(trained_actor(job, place), job.evaluation_env(1, 1, threads=1).box)
    return Policy.load(place)
