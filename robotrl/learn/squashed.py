"""The tanh-squashed Gaussian of SAC: actions in (-1, 1) with their exact log density."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class SquashedPolicy(nn.Module):
    """Observation (N, x) -> tanh of the mean (N, n), which is what is evaluated and exported.

    Source: Haarnoja et al. 2018, "Soft Actor-Critic", appendix C.
    """

    def __init__(self, trunk: nn.Module, span: Span) -> None:
        """Wrap a network (N, x) -> (N, 2 n): means and log standard deviations before the tanh."""
        super().__init__()
        self.trunk, self.span = trunk, span

    def forward(self, x: Tensor) -> Tensor:
        """(N, x) -> squashed mean (N, n), in the environment's units."""
        action: Tensor = self.span(self.trunk(x).chunk(2, dim=-1)[0].tanh())
        return action

    def sample(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (N, n) in (-1, 1) and their log densities (N,), from standard normal noise (N, n)."""
        mean, log_std = self.trunk(x).chunk(2, dim=-1)
        return squash(mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX), noise)


class Span(nn.Module):
    """Unit actions (..., n) -> the environment's: -1 and 1 become the ends of a box."""

    middle: Tensor
    reach: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.register_buffer("middle", (low + high) / 2)
        self.register_buffer("reach", (high - low) / 2)

    def forward(self, unit: Tensor) -> Tensor:
        """(..., n) -> (..., n)."""
        return torch.addcmul(self.middle, unit, self.reach)


def squash(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Reparameterised actions tanh(mean + std * noise) (N, n) and their log densities (N,)."""
    before = torch.addcmul(mean, log_std.exp(), noise)
    density = -0.5 * noise.square() - log_std - log_slope(before)
    return before.tanh(), density.sum(-1) - LOG_SQRT_2PI * mean.shape[-1]


def log_slope(before: Tensor) -> Tensor:
    """log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)), exact also where tanh(u) rounds to one."""
    return 2 * (math.log(2) - before - functional.softplus(-2 * before))
