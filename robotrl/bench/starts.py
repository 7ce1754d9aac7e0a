"""How the episodes of a goal task begin that are run outside of training, and what counts as success."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robotrl.sim.goal import GoalEnv
from robotrl.spec.state import Floats


@dataclass(frozen=True)
class Starts:
    """How N episodes begin."""

    qpos: Floats
    """(N, nq)"""
    qvel: Floats
    """(N, nv)"""
    goal: Floats
    """(N, g)"""

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.goal)


def first_starts(envs: Sequence[GoalEnv], episodes: int) -> Starts:
    """How the episodes begin that have just begun in the worlds of `envs`, one after the other."""

    def rows(part: Callable[[GoalEnv], Tensor]) -> Floats:
        found: Floats = torch.cat([part(env) for env in envs])[:episodes].double().numpy()
        return found

    return Starts(rows(lambda e: e.worlds.qpos), rows(lambda e: e.worlds.qvel), rows(lambda e: e.goal))


def succeeds(env: GoalEnv, qpos: Floats, qvel: Floats, goal: Floats) -> bool:
    """Whether a state (nq,), (nv,) achieves a goal (g,); `env` has one world, which is put there."""
    env.place(torch.arange(1), *(torch.from_numpy(values)[None] for values in (qpos, qvel, goal)))
    _, achieved, desired = env.layout.split(env.observation)
    return bool(env.task.is_success(achieved, desired))
