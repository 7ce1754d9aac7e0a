"""Actor and critic networks: MLPs, exactly mirror-equivariant where the task has a reflection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from robotrl.learn.normalize import RunningNorm

Activation = Literal["relu", "tanh"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}
HIDDEN_GAIN = math.sqrt(2)
"""Scale of hidden layers at the start that keeps the variance behind a ReLU."""


class Reflection(Protocol):
    """A reflection of a vector: ``mirrored[i] = sign[i] * vector[source[i]]``."""

    @property
    def source(self) -> Sequence[int]:
        """Index that each component comes from."""

    @property
    def sign(self) -> Sequence[float]:
        """Factor of each component."""


@dataclass(frozen=True)
class Unmirrored:
    """The `Reflection` of a vector without any: every component stays what it is."""

    size: int

    @property
    def source(self) -> range:
        """Index that each component comes from: its own."""
        return range(self.size)

    @property
    def sign(self) -> tuple[float, ...]:
        """Factor of each component: one."""
        return (1.0,) * self.size


class MirrorLinear(nn.Module):
    """A linear layer between halves: reflecting the input swaps (or reflects) the output.

    The hidden representation is a pair (h, h') that the reflection swaps; a layer that commutes
    with the swap is the block matrix [[A, B], [B, A]] (weight sharing after Ravindran & Barto
    2001; van der Pol et al. 2020, "MDP Homomorphic Networks"). It costs as much as a plain layer
    of its full width.
    """

    def __init__(self, pairs_in: int, pairs_out: int, gain: float = HIDDEN_GAIN) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(pairs_out, 2 * pairs_in))
        self.bias = nn.Parameter(torch.zeros(pairs_out))
        nn.init.orthogonal_(self.weight, gain)

    def forward(self, h: Tensor) -> Tensor:
        """(B, 2 * pairs_in) -> (B, 2 * pairs_out)."""
        return functional.linear(h, *self.whole())

    def whole(self) -> tuple[Tensor, Tensor]:
        """Matrix (2 * pairs_out, 2 * pairs_in) and bias (2 * pairs_out,) that it multiplies by and adds."""
        swapped = self.weight.roll(self.weight.shape[1] // 2, dims=1)
        return torch.cat((self.weight, swapped)), torch.cat((self.bias, self.bias))


class MirrorLift(nn.Module):
    """First layer: (x, reflected x) through the same weights give the pair (h, h')."""

    source: Tensor
    sign: Tensor

    def __init__(
        self, source: Sequence[int], sign: Sequence[float], pairs_out: int, gain: float = HIDDEN_GAIN
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(pairs_out, len(source)))
        self.bias = nn.Parameter(torch.zeros(pairs_out))
        self.register_buffer("source", torch.tensor(source))
        self.register_buffer("sign", torch.tensor(sign))
        nn.init.orthogonal_(self.weight, gain)

    def forward(self, x: Tensor) -> Tensor:
        """(B, size) -> (B, 2 * pairs_out)."""
        # W (M x) = (W M) x with (W M)[:, source[i]] = W[:, i] * sign[i]; M is its own inverse.
        reflected = self.weight[:, self.source] * self.sign
        return functional.linear(x, torch.cat((self.weight, reflected)), torch.cat((self.bias, self.bias)))


class MirrorHead(nn.Module):
    """Last layer: y = C h + M (C h'), which reflects when its input is reflected."""

    source: Tensor
    sign: Tensor

    def __init__(self, pairs_in: int, source: Sequence[int], sign: Sequence[float], gain: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(len(source), pairs_in))
        self.bias = nn.Parameter(torch.zeros(len(source)))
        self.register_buffer("source", torch.tensor(source))
        self.register_buffer("sign", torch.tensor(sign))
        nn.init.orthogonal_(self.weight, gain)

    def forward(self, h: Tensor) -> Tensor:
        """(B, 2 * pairs_in) -> (B, size)."""
        reflected = self.weight[self.source] * self.sign[:, None]
        bias = (self.bias + self.bias[self.source] * self.sign) / 2
        return functional.linear(h, torch.cat((self.weight, reflected), dim=1), bias)


def mirror_mlp(
    observation: tuple[Sequence[int], Sequence[float]],
    hidden: Sequence[int],
    output: tuple[Sequence[int], Sequence[float]],
    gain: float,
    activation: Activation = "relu",
    hidden_gain: float = HIDDEN_GAIN,
) -> nn.Sequential:
    """Build an MLP with f(M x) = M' f(x) exactly; `hidden` are full widths, all even."""
    first = MirrorLift(*observation, hidden[0] // 2, hidden_gain), ACTIVATIONS[activation]()
    return nn.Sequential(*first, *mirror_head(hidden, output, gain, activation, hidden_gain))


def mirror_head(
    widths: Sequence[int],
    output: tuple[Sequence[int], Sequence[float]],
    gain: float,
    activation: Activation,
    hidden_gain: float,
) -> nn.Sequential:
    """Build the layers behind a pair of halves of width `widths[0]` that the reflection swaps."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [MirrorLinear(width_in // 2, width_out // 2, hidden_gain), ACTIVATIONS[activation]()]
    layers.append(MirrorHead(widths[-1] // 2, *output, gain))
    return nn.Sequential(*layers)


def plain_mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    gain: float,
    activation: Activation = "relu",
    hidden_gain: float = HIDDEN_GAIN,
) -> nn.Sequential:
    """Build an MLP without any symmetry, initialised as `mirror_mlp` is."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise((inputs, *hidden)):
        layers += [_linear(width_in, width_out, hidden_gain), ACTIVATIONS[activation]()]
    layers.append(_linear(hidden[-1], outputs, gain))
    return nn.Sequential(*layers)


def _linear(width_in: int, width_out: int, gain: float) -> nn.Linear:
    layer = nn.Linear(width_in, width_out)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class Actor(nn.Module):
    """Observation -> mean action, normaliser included: the part of the learner that is exported."""

    def __init__(self, norm: RunningNorm, net: nn.Module) -> None:
        super().__init__()
        self.norm, self.net = norm, net

    def forward(self, observation: Tensor) -> Tensor:
        """(B, obs) -> (B, n)."""
        action: Tensor = self.net(self.norm(observation))
        return action

    @property
    def memory_size(self) -> int:
        """Values that are carried from step to step: none."""
        return 0

    def step(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, obs), memory (B, m) -> mean action (B, n), next memory (B, m); it is zero at first."""
        return self(observation), memory
