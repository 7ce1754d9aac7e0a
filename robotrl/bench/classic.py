"""A classic task's policy file scored: in the worlds of training, and in Gymnasium's own environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from robotrl.bench.episodes import FIRST_SEED, score_actor, score_episodes, totals, trained_actor, trained_job
from robotrl.bench.originals import Original, make_classic
from robotrl.cli.gymfile import GymJob
from robotrl.cli.simulated import OBSERVATION, classic_name, simulated_task
from robotrl.errors import PolicyError
from robotrl.learn.networks import Actor
from robotrl.learn.playing import Playing
from robotrl.runtime.policy import Policy
from robotrl.sim.boxed import BoxTransition, UnitActions, UnitBox
from robotrl.spec.fit import incompatibilities

RATIO = "return_ratio"
"""Mean return in Gymnasium's environment over that in the worlds of training."""


class ControlDriver:
    """Drives every world of a classic task with a policy file of its own: observations to controls."""

    def __init__(self, job: GymJob, env: UnitActions, file: Path) -> None:
        """Open the file once for each world.

        Args:
            job: trained it, as the file says.
            env: worlds of the job's task.
            file: the policy.

        Raises:
            PolicyError: it is not intact, or the task here is another one than it was trained on.
        """
        self._env, self._policies = env, [Policy.load(file) for _ in range(env.num)]
        task = simulated_task(job, env)
        if problems := incompatibilities(self._policies[0].contract, task):
            raise PolicyError(f"does not fit {task.name}: {'; '.join(problems)}", file=file)

    def tick(self) -> BoxTransition:
        """Move every world on by one control step."""
        observed = self._env.observation.numpy()
        controls = [p.step({OBSERVATION: row}) for p, row in zip(self._policies, observed, strict=True)]
        stepped = self._env.inner.step(torch.from_numpy(np.stack(controls)))
        for i in stepped.final_ids.tolist():
            self._policies[i].reset()
        return stepped


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


def score_file(job: GymJob, file: Path, threads: int = 2) -> dict[str, float]:
    """Score a policy file in the worlds of training; as `robotrl.bench.episodes.evaluate_episodes`."""
    return score_episodes(job, lambda env: ControlDriver(job, env, file).tick, threads)


def evaluate_in_gymnasium(place: Path, episodes: int, threads: int = 2) -> dict[str, float]:
    """Score a classic task's policy in Gymnasium's own environment and in the worlds of training.

    Args:
        place: a policy file, which is what acts in both, or a run's folder, whose newest network does.
        episodes: how many there, each from a seed of its own.
        threads: of the physics of training.

    Returns:
        As `robotrl.bench.episodes.evaluate_original`, the mean return in training as
        `training_return_mean`, and the `return_ratio` of the two where both are positive; other returns
        have no meaningful ratio.

    Raises:
        PolicyError: as `ControlDriver`.
    """
    job = trained_job(place)
    assert isinstance(job, GymJob), "classic_name comes first"
    if place.is_dir():
        actor = trained_actor(job, place)
        controller: Controller = NetworkController(actor, job.evaluation_env(1, 1, threads=1).box)
        trained = score_actor(job, actor, threads)["return_mean"]
    else:
        controller = Policy.load(place)
        trained = score_file(job, place, threads)["return_mean"]
    env = make_classic(classic_name(job), **job.config.options)
    rows = [original_episode(env, controller, FIRST_SEED + i) for i in range(episodes)]
    scores = totals(*torch.tensor(rows, dtype=torch.float64).unbind(-1)) | {"training_return_mean": trained}
    there = scores["return_mean"]
    return scores | ({RATIO: there / trained} if min(there, trained) > 0 else {})


def original_episode(env: Original, controller: Controller, seed: int) -> tuple[float, int]:
    """Return and length of one episode.

    Args:
        env: Gymnasium's environment.
        controller: acts in it.
        seed: of the start.
    """
    observation, _ = env.reset(seed=seed)
    controller.reset()
    total, length, over = 0.0, 0, False
    while not over:
        action = controller.step({OBSERVATION: observation})
        observation, reward, terminated, truncated, _ = env.step(action)
        total, length, over = total + float(reward), length + 1, terminated or truncated
    return total, length
