"""How well a policy does in a Gymnasium task or environment: returns and lengths of whole episodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robotrl.learn.loop import Stepped
from robotrl.learn.networks import Actor
from robotrl.learn.playing import play

if TYPE_CHECKING:
    from robotrl.cli.gymfile import GymJob
    from robotrl.sim.boxed import UnitActions

SEEDS, WORLDS = (101, 102, 103, 104), 8
"""Each seed starts its own worlds, of which the first episode counts."""
FIGURES = ("return_mean", "return_std", "return_min", "length_mean")
"""What is told over all episodes."""
LONGEST = 10_000
"""Steps after which an episode is cut in an environment without a time limit of its own."""


def evaluate_episodes(folder: Path, threads: int = 2) -> dict[str, float]:
    """Score a run's newest network without exploration noise.

    Returns:
        Over all episodes `return_mean`, `return_std`, `return_min` and `length_mean` (steps), the number of
        `episodes`, and of each seed the mean `seed<S>_return`.
    """
    from robotrl.cli.gymfile import read_gym_job
    from robotrl.cli.runfile import config_of, load_actor

    job = read_gym_job(config_of(folder))
    return score_actor(job, load_actor(job.learner(), job.owner, folder)[0], threads)


def score_actor(job: GymJob, actor: Actor, threads: int) -> dict[str, float]:
    """Score a policy that maps observations (B, obs) to unit actions (B, n); as `evaluate_episodes`."""
    returns, lengths = [], []
    for seed in SEEDS:
        env = job.evaluation_env(WORLDS, seed, threads)
        done = first_episodes(env, play(env, actor))
        returns.append(done[0])
        lengths.append(done[1])
    every = torch.cat(returns)
    return {
        "return_mean": float(every.mean()),
        "return_std": float(every.std()),
        "return_min": float(every.min()),
        "length_mean": float(torch.cat(lengths).mean()),
        "episodes": float(len(every)),
        **{f"seed{seed}_return": float(own.mean()) for seed, own in zip(SEEDS, returns, strict=True)},
    }


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
