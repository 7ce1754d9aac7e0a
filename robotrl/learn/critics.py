"""Critics of off-policy learning: several Q-networks as one batched product, plain or modern.

The modern critic puts together what ablations show to matter: a residual network with normalised
layers (Lee et al. 2025, "SimBa", section 4) and a categorical distribution of returns instead of
their mean (Bellemare et al. 2017, "A Distributional Perspective on Reinforcement Learning"). The
bounded support takes rewards that are scaled to it (`robotrl.learn.off_policy`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from robotrl.spec.records import Between


@dataclass(frozen=True, kw_only=True)
class Modern:
    """The `modern` table of an off-policy algorithm: a normalised, residual, distributional critic."""

    width: Annotated[int, Between(1)] = 128
    """Of the residual stream; each block is four times as wide inside."""
    blocks: Annotated[int, Between(1)] = 1
    bins: Annotated[int, Between(2)] = 101
    """Values that a return can have, equally spaced."""
    value_max: Annotated[float, Between(1e-6)] = 5.0
    """Largest scaled return; the smallest is its negative. Rewards are scaled to fit."""
    noise_repeat: Annotated[int, Between(1)] = 16
    """Exploration noise is held for k steps with a probability like 1/k^2, at most for this many."""


class BatchedLinear(nn.Module):
    """E linear layers side by side, initialised as `nn.Linear` is; a single input takes the first."""

    def __init__(self, count: int, width_in: int, width_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width_in)
        self.weight = nn.Parameter(torch.empty(count, width_in, width_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, 1, width_out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(E, N, in) -> (E, N, out), or (1, N, in) -> (1, N, out)."""
        if len(x) == 1:  # a batch of one product would run on one thread
            return torch.addmm(self.bias[0], x[0], self.weight[0])[None]
        if self.weight.shape[2] == 1:  # a batched product with one column is slow
            return (x * self.weight.transpose(1, 2)).sum(-1, keepdim=True) + self.bias
        return torch.baddbmm(self.bias, x, self.weight)


class Residual(nn.Module):
    """x + W2 relu(W1 normalised(x)), E times side by side."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.wide = BatchedLinear(count, width, 4 * width)
        self.narrow = BatchedLinear(count, 4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(E, N, width) -> (E, N, width)."""
        added: Tensor = self.narrow(self.wide(layer_norm(x)).relu())
        return x + added


class LayerNorm(nn.Module):
    """`layer_norm` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return layer_norm(x)


def layer_norm(x: Tensor) -> Tensor:
    """Zero mean and unit variance over the last dimension; the layer that follows does the scaling."""
    return functional.layer_norm(x, x.shape[-1:])


def mlp_critics(count: int, inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Build E multilayer perceptrons."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise((inputs, *hidden)):
        layers += [BatchedLinear(count, width_in, width_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, BatchedLinear(count, hidden[-1], outputs))


def residual_critics(count: int, inputs: int, modern: Modern) -> nn.Sequential:
    """Build E networks of a linear layer, residual blocks, and a normalised head."""
    blocks = [Residual(count, modern.width) for _ in range(modern.blocks)]
    first = BatchedLinear(count, inputs, modern.width)
    return nn.Sequential(first, *blocks, LayerNorm(), BatchedLinear(count, modern.width, modern.bins))


class Returns(Protocol):
    """What the outputs of critics say about returns."""

    def value(self, out: Tensor) -> Tensor:
        """Mean return (E, N) of outputs (E, N, k)."""

    def target(
        self,
        out: Tensor,
        reward: Tensor,
        discount: Tensor,
        bonus: Tensor | float,
        lowest: Tensor | None = None,
    ) -> Tensor:
        """What to learn for reward + discount * (bonus + the return that the lowest critic expects).

        Args:
            out: (E, N, k) of the target critics after the step.
            reward: (N,)
            discount: (N,)
            bonus: (N,) for example SAC's entropy.
            lowest: (N,) bound of returns, whose other bound is 0; None: there are none.
        """

    def loss(self, out: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Distance to the target: mean over samples with weights (N,), summed over critics."""

    def surprise(self, out: Tensor, target: Tensor) -> Tensor:
        """How far off the critics were at each sample (N,), zero where they were right; their mean."""


class MeanReturns:
    """One output, the mean; clipped double Q-learning (Fujimoto et al. 2018, eq. 10)."""

    outputs = 1

    def value(self, out: Tensor) -> Tensor:
        """(E, N, 1) -> (E, N)."""
        return out[..., 0]

    def target(
        self,
        out: Tensor,
        reward: Tensor,
        discount: Tensor,
        bonus: Tensor | float,
        lowest: Tensor | None = None,
    ) -> Tensor:
        """Target (N,)."""
        target = torch.addcmul(reward, discount, out[..., 0].amin(0) + bonus)
        return target if lowest is None else target.clamp(lowest, torch.zeros_like(lowest))

    def loss(self, out: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Half the mean squared error."""
        squared = (out[..., 0] - target).square()
        return 0.5 * (squared if weight is None else squared * weight).mean(1).sum()

    def surprise(self, out: Tensor, target: Tensor) -> Tensor:
        """Absolute temporal difference error (Schaul et al. 2016, section 3.3)."""
        return (out[..., 0] - target).abs().mean(0)


class CategoricalReturns(nn.Module):
    """Logits of equally spaced returns (Bellemare et al. 2017, algorithm 1)."""

    atoms: Tensor

    def __init__(self, bins: int, value_max: float) -> None:
        super().__init__()
        self.outputs, self._max = bins, value_max
        self._gap = 2 * value_max / (bins - 1)
        self.register_buffer("atoms", torch.linspace(-value_max, value_max, bins))

    def value(self, out: Tensor) -> Tensor:
        """(E, N, bins) -> (E, N)."""
        return out.softmax(-1) @ self.atoms

    def target(
        self,
        out: Tensor,
        reward: Tensor,
        discount: Tensor,
        bonus: Tensor | float,
        lowest: Tensor | None = None,
    ) -> Tensor:
        """Target (N, bins): the lowest critic's distribution, moved and projected back onto the atoms."""
        probability = out.softmax(-1)
        least = (probability @ self.atoms).argmin(0)
        chosen = probability[least, torch.arange(len(least), device=out.device)]
        start = (reward + discount * bonus)[:, None]
        at = start + discount[:, None] * self.atoms
        if lowest is not None:
            at = at.clamp(lowest[:, None], torch.zeros_like(lowest)[:, None])
        return self.project(chosen, at)

    def project(self, probability: Tensor, at: Tensor) -> Tensor:
        """Share the probability (N, m) of returns `at` (N, m) between their neighbouring atoms (N, bins)."""
        place = (at.clamp(-self._max, self._max) + self._max) / self._gap
        lower = place.floor().clamp_max(self.outputs - 2)
        upper_share = place - lower
        target, index = place.new_zeros((len(place), self.outputs)), lower.long()
        target.scatter_add_(1, index, probability * (1 - upper_share))
        return target.scatter_add_(1, index + 1, probability * upper_share)

    def loss(self, out: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Cross entropy."""
        entropy = -(out.log_softmax(-1) * target).sum(-1)
        return (entropy if weight is None else entropy * weight).mean(1).sum()

    def surprise(self, out: Tensor, target: Tensor) -> Tensor:
        """KL divergence from the target: the part of the loss that can vanish (Hessel et al. 2018, p. 3)."""
        return (torch.xlogy(target, target) - out.log_softmax(-1) * target).sum(-1).mean(0).clamp_min(0)


class Critics(nn.Module):
    """E critics of an observation and an action."""

    def __init__(
        self, count: int, observation: int, action: int, hidden: Sequence[int], modern: Modern | None
    ) -> None:
        """Build them.

        Args:
            count: E.
            observation: width of what the critics see.
            action: width of an action.
            hidden: widths of the hidden layers of plain critics.
            modern: their shape, if they are to be modern ones.
        """
        super().__init__()
        inputs = observation + action
        self.returns: Returns
        if modern:
            self.net = residual_critics(count, inputs, modern)
            self.returns = CategoricalReturns(modern.bins, modern.value_max)
        else:
            self.net = mlp_critics(count, inputs, hidden, MeanReturns.outputs)
            self.returns = MeanReturns()
        self._count = count

    def forward(self, x: Tensor, action: Tensor, only_first: bool = False) -> Tensor:
        """Outputs (E, N, k), or (1, N, k), for observations (N, x) and actions (N, n) in [-1, 1]."""
        both = torch.cat((x, action), dim=-1)
        out: Tensor = self.net(both.expand(1 if only_first else self._count, -1, -1))
        return out

    def value(self, x: Tensor, action: Tensor, only_first: bool = False) -> Tensor:
        """Mean returns (E, N), or (1, N)."""
        return self.returns.value(self(x, action, only_first))
