"""Running mean and variance of observations, frozen at evaluation and exported with the policy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robotrl.learn.group import Group


class RunningNorm(nn.Module):
    """Shift and scale each observation component by its running statistics.

    Statistics are merged batch by batch (Chan, Golub, LeVeque 1983). They are those of the
    observations and their reflections together, so that a mirror-equivariant network behind the
    norm stays equivariant.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int, clip: float = 10.0, std_floor: float = 1e-2) -> None:
        super().__init__()
        self.clip, self.std_floor = clip, std_floor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised observation (B, size)."""
        scale = self.var.sqrt().clamp_min(self.std_floor)
        return ((x - self.mean) / scale).clamp(-self.clip, self.clip)

    @torch.no_grad()
    def update(self, x: Tensor, source: Tensor, sign: Tensor, group: Group) -> None:
        """Merge the batches (N, size) of all ranks, each with its reflection (source, sign)."""
        moments = group.mean_(torch.stack((x.mean(0), x.square().mean(0))))
        mean = (moments[0] + sign * moments[0][source]) / 2
        var = (moments[1] + moments[1][source]) / 2 - mean**2
        total = self.count + x.shape[0] * group.size
        share = (x.shape[0] * group.size / total).to(x.dtype)
        delta = mean - self.mean
        self.var.copy_(self.var * (1 - share) + var * share + delta**2 * share * (1 - share))
        self.mean += delta * share
        self.count.copy_(total)

    @torch.no_grad()
    def copy_from(self, other: RunningNorm) -> None:
        """Take over the leading statistics of a norm that covers more components."""
        size = len(self.mean)
        self.mean.copy_(other.mean[:size])
        self.var.copy_(other.var[:size])
        self.count.copy_(other.count)
