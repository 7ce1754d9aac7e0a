"""The training loop as a generator: one iteration per yield; whoever consumes it logs and saves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from robotrl.learn.ppo import Ppo
from robotrl.learn.rollout import Rollout


class Stepped(Protocol):
    """What one environment step returns to the learner."""

    @property
    def reward(self) -> Tensor:
        """Reward (B,)."""

    @property
    def terminated(self) -> Tensor:
        """(B,) bool."""

    @property
    def truncated(self) -> Tensor:
        """(B,) bool."""

    @property
    def final_ids(self) -> Tensor:
        """(k,) worlds that were reset in this step."""

    @property
    def final_observation(self) -> Tensor:
        """(k, obs) before the reset."""

    @property
    def final_privileged(self) -> Tensor:
        """(k, p) before the reset."""


class VectorEnv(Protocol):
    """What a learner needs of B worlds that reset themselves."""

    num: int

    @property
    def observation(self) -> Tensor:
        """What the next action is computed from (B, obs)."""

    @property
    def privileged(self) -> Tensor:
        """What only the critic sees besides (B, p)."""

    def step(self, action: Tensor) -> Stepped:
        """Apply actions (B, n)."""

    def take_statistics(self) -> dict[str, float]:
        """Means since the last call."""


@dataclass(frozen=True)
class Iteration:
    """What one iteration did."""

    index: int
    steps: int
    """Environment steps since the run began."""
    seconds: float
    """Wall clock of this iteration."""
    figures: dict[str, float]


def train_ppo(env: VectorEnv, ppo: Ppo, first: int, steps_done: int) -> Iterator[Iteration]:
    """Collect and update for ever.

    Args:
        env: the worlds.
        ppo: the learner.
        first: index of the first iteration (above 0 after a resume).
        steps_done: environment steps before it.
    """
    p = ppo.params
    widths = env.observation.shape[1], env.privileged.shape[1], len(ppo.log_std)
    with torch.device(env.observation.device):
        rollout = Rollout.empty(p.steps, env.num, *widths)
    index = first
    while True:
        started = time.perf_counter()
        collect(env, ppo, rollout)
        last_value = ppo.value(env.observation, env.privileged)
        collected = time.perf_counter()
        figures = ppo.update(rollout, last_value)
        seconds = time.perf_counter() - started
        steps = p.steps * env.num * ppo.group.size
        steps_done += steps
        figures |= env.take_statistics()
        figures["steps_per_s"] = steps / seconds
        figures["update_share"] = (started + seconds - collected) / seconds
        yield Iteration(index, steps_done, seconds, figures)
        index += 1


def collect(env: VectorEnv, ppo: Ppo, rollout: Rollout) -> None:
    """Fill a rollout; at time-outs the reward is completed by gamma * V(terminal observation)."""
    timeouts: list[tuple[int, Tensor, Tensor, Tensor]] = []
    for t in range(len(rollout.reward)):
        rollout.observation[t], rollout.privileged[t] = env.observation, env.privileged
        action, mean = ppo.act(env.observation)
        stepped = env.step(action)
        rollout.action[t], rollout.mean[t] = action, mean
        rollout.reward[t] = stepped.reward
        rollout.ended[t] = (stepped.terminated | stepped.truncated).float()
        late = stepped.truncated[stepped.final_ids]
        if late.any():
            timeouts.append(
                (t, stepped.final_ids[late], stepped.final_observation[late], stepped.final_privileged[late])
            )
    if timeouts:
        values = ppo.value(torch.cat([x[2] for x in timeouts]), torch.cat([x[3] for x in timeouts]))
        for (t, ids, _, _), value in zip(
            timeouts, torch.split(values, [len(x[1]) for x in timeouts]), strict=True
        ):
            rollout.reward[t, ids] += ppo.params.gamma * value
