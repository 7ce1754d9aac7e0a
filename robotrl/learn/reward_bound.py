"""Scaling of rewards so that discounted returns fit the bounded support of a distributional critic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robotrl.learn.group import Group


class RewardBound(nn.Module):
    """Divide rewards by max(std of discounted returns, largest of them / value_max).

    Returns run per world and start again with its episode. The largest one is over the whole run,
    so that no return leaves the support (FlashSAC, arXiv 2604.04539; SimbaV2, Lee et al. 2025).
    """

    running: Tensor
    largest: Tensor
    moments: Tensor
    count: Tensor

    def __init__(self, gamma: float, value_max: float) -> None:
        super().__init__()
        self._gamma, self._value_max = gamma, value_max
        self.register_buffer("running", torch.zeros(0))
        self.register_buffer("largest", torch.zeros(()))
        self.register_buffer("moments", torch.zeros(2))
        self.register_buffer("count", torch.zeros(()))

    def update(self, reward: Tensor, ended: Tensor, group: Group) -> None:
        """Merge one step's rewards (B,) and ends (B,) bool of all ranks."""
        self.running = reward + self._gamma * (self.running if len(self.running) else 0.0)
        self.count += 1
        now = group.mean_(torch.stack((self.running.mean(), self.running.square().mean())))
        self.moments.lerp_(now, 1 / self.count)
        self.largest = group.max_(torch.maximum(self.largest, self.running.abs().amax()))
        self.running = self.running * ~ended

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore a `state_dict`, whose returns are those of as many worlds as it was saved with."""
        self.running = torch.empty_like(tensors["running"], device=self.moments.device)
        self.load_state_dict(tensors)

    def begin_anew(self) -> None:
        """Let returns start again in every world."""
        self.running = self.running.new_zeros(0)

    def scale(self, reward: Tensor) -> Tensor:
        """Scale rewards (N,)."""
        std = (self.moments[1] - self.moments[0].square()).clamp_min(0.0).sqrt()
        return reward / torch.maximum(std, self.largest / self._value_max).clamp_min(1e-8)
