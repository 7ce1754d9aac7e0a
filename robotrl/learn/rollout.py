"""On-policy rollout storage with generalised advantage estimation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Rollout:
    """T steps of B worlds; every tensor is (T, B, ...)."""

    observation: Tensor
    privileged: Tensor
    action: Tensor
    mean: Tensor
    """Mean of the distribution that the action was drawn from."""
    reward: Tensor
    ended: Tensor
    """1 where an episode ended in this step, for whatever reason."""

    @staticmethod
    def empty(steps: int, worlds: int, observation: int, privileged: int, action: int) -> Rollout:
        """Allocate storage."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros((steps, worlds, *shape))

        shapes = (zeros(observation), zeros(privileged), zeros(action), zeros(action))
        return Rollout(*shapes, zeros(), zeros())


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
    advantage = torch.zeros_like(reward)
    running = torch.zeros_like(last_value)
    next_value = last_value
    for t in range(len(reward) - 1, -1, -1):
        alive = 1.0 - ended[t]
        delta = reward[t] + gamma * next_value * alive - value[t]
        running = delta + gamma * lam * alive * running
        advantage[t] = running
        next_value = value[t]
    return advantage
