"""Running statistics: of observations (frozen at evaluation, exported with the policy) and of returns."""

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
        # Rounding takes the variance of what hardly changes below zero.
        var = ((moments[1] + moments[1][source]) / 2 - mean**2).clamp_min(0.0)
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

    @torch.no_grad()
    def start_from(self, other: RunningNorm, remembered: int) -> None:
        """Take over the statistics of a norm that covers the leading components.

        Further components would hardly move any more against a large count, so that is cut to
        `remembered` where there are some.
        """
        size = len(other.mean)
        self.mean[:size].copy_(other.mean)
        self.var[:size].copy_(other.var)
        self.count.copy_(other.count.clamp(max=remembered) if len(self.mean) > size else other.count)


class RewardScale:
    """Divide rewards by the running standard deviation of discounted returns.

    Each world has its own discounted return, which starts again with its episode (Engstrom et al.
    2020, "Implementation Matters in Deep Policy Gradients", section 3). Rewards are not shifted:
    that would change which behaviour is the best one.
    """

    def __init__(self, gamma: float, clip: float = 10.0) -> None:
        self._gamma, self._clip = gamma, clip
        self._norm = RunningNorm(1)
        self._running = torch.zeros(0)

    @torch.no_grad()
    def __call__(self, reward: Tensor, ended: Tensor, group: Group) -> Tensor:
        """Merge the returns of a rollout (T, B) of all ranks, then scale its rewards (T, B)."""
        running = self._running if len(self._running) else torch.zeros_like(reward[0])
        returns = torch.empty_like(reward)
        for now, earned, end in zip(returns, reward, ended, strict=True):
            torch.add(earned, running, alpha=self._gamma, out=now)
            running = now * (1.0 - end)
        self._running = running
        identity = torch.zeros(1, dtype=torch.long, device=reward.device), reward.new_ones(1)
        self._norm.update(returns.reshape(-1, 1), *identity, group)
        return (reward / (self._norm.var + 1e-8).sqrt()).clamp(-self._clip, self._clip)

    def begin_anew(self) -> None:
        """Let returns start again in every world."""
        self._running = self._running.new_zeros(0)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that defines it; `running` belongs to this rank's worlds."""
        return {**self._norm.state_dict(), "running": self._running}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self._running = tensors["running"].to(self._norm.var.device, copy=True)
        self._norm.load_state_dict({k: v for k, v in tensors.items() if k != "running"})
