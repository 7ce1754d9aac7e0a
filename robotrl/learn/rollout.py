"""On-policy rollout storage with generalised advantage estimation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Rollout:
    """T steps of B worlds; every tensor is (T, B, ...) unless it says otherwise."""

    observation: Tensor
    privileged: Tensor
    action: Tensor
    mean: Tensor
    """Mean of the distribution that the action was drawn from."""
    reward: Tensor
    ended: Tensor
    """1 where an episode ended in this step, for whatever reason."""
    last: tuple[Tensor, Tensor]
    """Observation (B, obs) and privileged observation (B, p) after the last step."""
    timeouts: Timeouts
    memory: Tensor | None = None
    """(B, m) of actor and critic before the first step; `None` where they have none."""

    @property
    def past(self) -> Past | None:
        """What its sequences begin with; `None` where nothing is remembered."""
        if self.memory is None:
            return None
        fresh = torch.cat((torch.zeros_like(self.ended[:1]), self.ended[:-1]))
        return Past(self.memory, fresh.bool().transpose(0, 1)[..., None])

    def batch(self, values: Tensor) -> Tensor:
        """Turn values (T, B, ...) into samples (T * B, ...), or with a memory into worlds (B, T, ...)."""
        return values.flatten(0, 1) if self.memory is None else values.transpose(0, 1)

    @staticmethod
    def empty(steps: int, worlds: int, observation: int, privileged: int, action: int) -> Rollout:
        """Allocate storage."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros((steps, worlds, *shape))

        shapes = (zeros(observation), zeros(privileged), zeros(action), zeros(action))
        last = torch.zeros(worlds, observation), torch.zeros(worlds, privileged)
        none = Timeouts(torch.zeros(0, dtype=torch.long), last[0][:0], last[1][:0])
        return Rollout(*shapes, zeros(), zeros(), last, none)


@dataclass(frozen=True)
class Timeouts:
    """Episodes that were cut off by time alone: what would have followed has to be estimated."""

    place: Tensor
    """(k,) t * B + world of the last step."""
    observation: Tensor
    """(k, obs) that the episode ended with, before the reset."""
    privileged: Tensor
    """(k, p)"""


@dataclass(frozen=True)
class Past:
    """What sequences of B worlds begin with."""

    memory: Tensor
    """(B, m) of actor and critic before the first step; 0 where an episode begins."""
    fresh: Tensor
    """(B, T, 1) bool, where an episode begins at a later step."""

    def of(self, worlds: Tensor) -> Past:
        """Those of some worlds."""
        return Past(self.memory[worlds], self.fresh[worlds])


def gae(reward: Tensor, ended: Tensor, value: Tensor, last_value: Tensor, gamma: float, lam: float) -> Tensor:
    """Advantages (T, B) by generalised advantage estimation (Schulman et al. 2016, eq. 16).

    Args:
        reward: (T, B); at time-outs it already contains gamma * V(terminal observation).
        ended: (T, B) 1 where an episode ended.
        value: (T, B) values of the observations acted on.
        last_value: (B,) value of the observation after the last step.
        gamma: discount.
        lam: GAE's lambda.
    """
    alive = 1.0 - ended
    next_value = torch.cat((value[1:], last_value[None]))
    delta = (reward + gamma * next_value * alive - value).unbind()
    decay = (gamma * lam * alive).unbind()
    running, backwards = torch.zeros_like(last_value), []
    for t in range(len(delta) - 1, -1, -1):
        running = delta[t] + decay[t] * running
        backwards.append(running)
    return torch.stack(backwards[::-1])
