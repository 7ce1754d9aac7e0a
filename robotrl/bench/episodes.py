"""How well a policy does in a Gymnasium task or environment: returns and lengths of whole episodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robotrl.learn.loop import Stepped
from robotrl.learn.networks import Actor
from robotrl.learn.playing import on_cpu, play
from robotrl.sim.goal import GoalTransition

if TYPE_CHECKING:
    from robotrl.cli.gymfile import AnyJob, GymJob
    from robotrl.sim.boxed import UnitActions
    from robotrl.sim.build import Backend

SEEDS, WORLDS = (101, 102, 103, 104), 8
"""Each seed starts its own worlds, of which the first episode counts."""
GOAL_WORLDS = 50
"""Worlds of each seed of a task with goals: 200 episodes in all."""
FIGURES = ("return_mean", "return_std", "return_min", "length_mean")
"""What is told over all episodes."""
SUCCESS = ("success_last", "success_any")
"""What is told besides of a task with goals: shares of episodes with success at their last step, at any."""
LONGEST = 10_000
"""Steps after which an episode is cut in an environment without a time limit of its own."""


def evaluate_episodes(folder: Path, threads: int = 2, backend: Backend = "native") -> dict[str, float]:
    """Score a run's newest network without exploration noise.

    Args:
        folder: of the run.
        threads: of the physics; Warp has none.
        backend: that simulates, on the CPU, whatever it was trained on.

    Returns:
        Over all episodes `return_mean`, `return_std`, `return_min` and `length_mean` (steps), the number of
        `episodes`, and of each seed the mean `seed<S>_return`. Of a task with goals `success_last` and
        `success_any` too, the shares of episodes with success at their last step and at any step, each with
        the ends `_low` and `_high` of its 95 % interval.
    """
    from robotrl.cli.gymfile import read_gym_job
    from robotrl.cli.runfile import config_of, load_actor

    job = read_gym_job(config_of(folder))
    return score_actor(job, load_actor(job.learner(), job.owner, folder)[0], threads, backend)


def score_actor(job: GymJob, actor: Actor, threads: int, backend: Backend = "native") -> dict[str, float]:
    """Score a policy that maps observations (B, obs) to unit actions (B, n); as `evaluate_episodes`."""
    here = on_cpu(actor)
    return score_episodes(job, lambda env: play(env, here), threads, backend)


def score_episodes(
    job: GymJob,
    drive: Callable[[UnitActions], Callable[[], Stepped]],
    threads: int,
    backend: Backend = "native",
) -> dict[str, float]:
    """Score whatever moves the worlds on.

    Args:
        job: whose worlds to build.
        drive: worlds -> what moves every one of them on by one step.
        threads: as `evaluate_episodes`.
        backend: likewise.

    Returns:
        As `evaluate_episodes`.
    """
    returns, lengths, successes = [], [], []
    for seed in SEEDS:
        env = job.evaluation_env(GOAL_WORLDS if job.goals else WORLDS, seed, threads, backend)
        judged = _Judged(drive(env), env.num)
        done = first_episodes(env, judged)
        returns.append(done[0])
        lengths.append(done[1])
        successes.append(torch.stack((judged.last, judged.reached)))
    return {
        **totals(torch.cat(returns), torch.cat(lengths)),
        **{f"seed{seed}_return": float(own.mean()) for seed, own in zip(SEEDS, returns, strict=True)},
        **(success_shares(torch.cat(successes, dim=1)) if job.goals else {}),
    }


def trained_job(place: Path) -> AnyJob:
    """Return the job that trained a run, or a policy file."""
    from robotrl.cli.gymfile import parse_training, read_training
    from robotrl.cli.runfile import config_of
    from robotrl.spec.contract import read_policy_file

    if place.is_dir():
        return read_training(config_of(place))
    return parse_training(read_policy_file(place)[1].provenance.config, place)


def trained_actor(job: GymJob, place: Path) -> Actor:
    """Load the actor of the run's folder, or the policy file, that a job has trained."""
    from robotrl.cli.runfile import load_actor
    from robotrl.export.weights import read_actor
    from robotrl.spec.contract import read_policy_file

    learner = job.learner()
    if place.is_dir():
        return load_actor(learner, job.owner, place)[0]
    data, contract, _ = read_policy_file(place)
    live = learner.actor.state_dict()
    for name, value in read_actor(learner.actor, data, contract.normaliser_count, place).items():
        live[name].copy_(value)
    return learner.actor


def totals(returns: Tensor, lengths: Tensor) -> dict[str, float]:
    """Figures of episodes with these returns (N,) and lengths (N,)."""
    return {
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_min": float(returns.min()),
        "length_mean": float(lengths.mean()),
        "episodes": float(len(returns)),
    }


def success_shares(successes: Tensor) -> dict[str, float]:
    """Return shares of successes (figures, episodes) bool, named as in `SUCCESS`, with their intervals."""
    shares = {}
    for name, succeeded in zip(SUCCESS, successes, strict=True):
        count = int(succeeded.sum())
        shares[name] = count / len(succeeded)
        shares[f"{name}_low"], shares[f"{name}_high"] = wilson_interval(count, len(succeeded))
    return shares


def wilson_interval(successes: int, episodes: int) -> tuple[float, float]:
    """95 % interval of a chance of success (Wilson 1927, "Probable Inference", eq. 6)."""
    share, z2 = successes / episodes, NormalDist().inv_cdf(0.975) ** 2
    middle = (share + z2 / (2 * episodes)) / (1 + z2 / episodes)
    root = math.sqrt(share * (1 - share) / episodes + z2 / (4 * episodes**2))
    half = math.sqrt(z2) * root / (1 + z2 / episodes)
    low, high = min(middle - half, share), max(middle + half, share)  # which rounding could leave out
    return max(low, 0.0), min(high, 1.0)


class _Judged:
    """Moves worlds on and watches the success of their first episodes.

    Attributes:
        last: (B,) bool: at the last step so far.
        reached: (B,) bool: at any.
    """

    def __init__(self, tick: Callable[[], Stepped], worlds: int) -> None:
        self._tick = tick
        self.last, self.reached = torch.zeros((2, worlds), dtype=torch.bool)
        self._alive = torch.ones(worlds, dtype=torch.bool)

    def __call__(self) -> Stepped:
        """Move every world on by one step."""
        stepped = self._tick()
        if isinstance(stepped, GoalTransition):
            self.last = torch.where(self._alive, stepped.success, self.last)
            self.reached |= self._alive & stepped.success
            self._alive &= ~stepped.truncated
        return stepped


@torch.no_grad()
def first_episodes(env: UnitActions, tick: Callable[[], Stepped]) -> tuple[Tensor, Tensor]:
    """Run the first episode of each world of a fresh environment.

    Args:
        env: the environment.
        tick: moves every world of it on by one step.

    Returns:
        Returns (B,) and lengths (B,), in float64.
    """
    returns, lengths = torch.zeros((2, env.num), dtype=torch.float64)
    alive = torch.ones(env.num, dtype=torch.bool)
    while alive.any() and lengths.max() < LONGEST:
        stepped = tick()
        returns += stepped.reward.double() * alive
        lengths += alive
        alive &= ~(stepped.terminated | stepped.truncated)
    return returns, lengths
