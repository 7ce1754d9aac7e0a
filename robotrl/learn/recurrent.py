"""Networks with memory: a GRU or LSTM before an MLP, mirror-equivariant where the task has a reflection.

Sequences are (B, T, ...), the world first, so that worlds are shuffled as samples are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from robotrl.learn.networks import (
    HIDDEN_GAIN,
    Activation,
    Actor,
    MirrorLift,
    MirrorLinear,
    mirror_head,
    plain_mlp,
)
from robotrl.spec.records import Between

FORGET_BIAS = 1.0
"""Of an LSTM at the start, so that it remembers (Jozefowicz et al. 2015, section 5)."""


@dataclass(frozen=True, kw_only=True)
class MemoryParams:
    """The `memory` table of an on-policy algorithm: actor and critic each get one of their own."""

    kind: Literal["gru", "lstm"]
    width: Annotated[int, Between(1)]
    """Values that the rest of the network sees; even where the task has a reflection."""


@dataclass(frozen=True)
class Cell:
    """How a memory moves on by one step."""

    gates: int
    parts: int
    """Vectors of the memory's width that are carried; the first is what is seen of it."""
    advance: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Of input and of memory (B, halves, gates, u), and memory (B, parts, halves, u): the next one."""


def gru(entered: Tensor, recalled: Tensor, memory: Tensor) -> Tensor:
    """Gates reset, update, new (Cho et al. 2014; the reset after the product, as cuDNN and torch)."""
    reset, update = torch.sigmoid(entered[..., :2, :] + recalled[..., :2, :]).unbind(-2)
    new = torch.tanh(entered[..., 2, :] + reset * recalled[..., 2, :])
    return (new + update * (memory[:, 0] - new))[:, None]


def lstm(entered: Tensor, recalled: Tensor, memory: Tensor) -> Tensor:
    """Gates input, forget, cell, output (Hochreiter & Schmidhuber 1997; Gers et al. 2000)."""
    enter, keep, new, show = (entered + recalled).unbind(-2)
    cell = torch.sigmoid(keep) * memory[:, 1] + torch.sigmoid(enter) * torch.tanh(new)
    return torch.stack((torch.sigmoid(show) * torch.tanh(cell), cell), dim=1)


CELLS: Mapping[str, Cell] = MappingProxyType({"gru": Cell(3, 1, gru), "lstm": Cell(4, 2, lstm)})
"""By `MemoryParams.kind`."""


class Recurrent(nn.Module):
    """A cell, and a head on what is seen of its memory.

    The memory of a mirrored cell is a pair that the reflection swaps: its gates come from layers that
    commute with the swap, and what follows acts on each number alone, so the cell commutes as well.

    Attributes:
        memory_size: of the vector m that is carried; all of it is zero where an episode begins.
    """

    def __init__(
        self,
        params: MemoryParams,
        enter: nn.Linear | MirrorLift,
        recall: nn.Linear | MirrorLinear,
        head: nn.Module,
    ) -> None:
        """Join the parts.

        Args:
            params: kind and width.
            enter: input -> gates, as many values as the width for each.
            recall: what is seen of the memory -> gates.
            head: what is seen of the memory -> output.
        """
        super().__init__()
        self.enter, self.recall, self.head = enter, recall, head
        self._cell, self._width = CELLS[params.kind], params.width
        self._halves = 2 if isinstance(recall, MirrorLinear) else 1
        self.memory_size = self._cell.parts * params.width
        with torch.no_grad():
            for layer in (enter, recall):
                for gate in layer.weight.chunk(self._cell.gates):
                    nn.init.orthogonal_(gate)
            if params.kind == "lstm":
                enter.bias.chunk(self._cell.gates)[1].fill_(FORGET_BIAS)

    def forward(self, x: Tensor, memory: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
        """Run sequences.

        Args:
            x: (B, T, in).
            memory: (B, m) before the first step.
            fresh: (B, T, 1) bool, where an episode begins, so that nothing is remembered.

        Returns:
            Outputs (B, T, out), and the memory after each step (B, T, m).
        """
        weights, memories = self._recalling(), []
        for entered, empty in zip(self.enter(x).unbind(1), fresh.unbind(1), strict=True):
            memory = self._advance(entered, memory.masked_fill(empty, 0.0), *weights)
            memories.append(memory)
        after = torch.stack(memories, dim=1)
        return self.head(after[..., : self._width]), after

    def step(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Output (B, out) and next memory (B, m) for one input (B, in)."""
        memory = self._advance(self.enter(x), memory, *self._recalling())
        return self.head(memory[:, : self._width]), memory

    def _recalling(self) -> tuple[Tensor, Tensor]:
        """Put the matrix of `recall` together once for all steps."""
        if isinstance(self.recall, MirrorLinear):
            return self.recall.whole()
        return self.recall.weight, self.recall.bias

    def _advance(self, entered: Tensor, memory: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        cell = self._cell
        recalled = functional.linear(memory[:, : self._width], weight, bias)
        gates = -1, self._halves, cell.gates, self._width // self._halves
        parts = -1, cell.parts, self._halves, self._width // self._halves
        return cell.advance(entered.reshape(gates), recalled.view(gates), memory.view(parts)).flatten(1)


def plain_recurrent(
    params: MemoryParams,
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    gain: float,
    activation: Activation = "relu",
    hidden_gain: float = HIDDEN_GAIN,
) -> Recurrent:
    """Build a network with memory and without any symmetry; arguments as of `plain_mlp`."""
    gates = CELLS[params.kind].gates * params.width
    layers = nn.Linear(inputs, gates), nn.Linear(params.width, gates)
    for layer in layers:
        nn.init.zeros_(layer.bias)
    head = plain_mlp(params.width, hidden, outputs, gain, activation, hidden_gain)
    return Recurrent(params, *layers, head)


def mirror_recurrent(
    params: MemoryParams,
    observation: tuple[Sequence[int], Sequence[float]],
    hidden: Sequence[int],
    output: tuple[Sequence[int], Sequence[float]],
    gain: float,
    activation: Activation = "relu",
    hidden_gain: float = HIDDEN_GAIN,
) -> Recurrent:
    """Build a network with memory whose outputs reflect with its inputs; arguments as of `mirror_mlp`."""
    pairs = CELLS[params.kind].gates * params.width // 2
    layers = MirrorLift(*observation, pairs), MirrorLinear(params.width // 2, pairs)
    head = mirror_head((params.width, *hidden), output, gain, activation, hidden_gain)
    return Recurrent(params, *layers, head)


class RecurrentActor(Actor):
    """Observation and memory -> mean action and next memory, normaliser included."""

    net: Recurrent

    @property
    def memory_size(self) -> int:
        """Values that are carried from step to step."""
        return self.net.memory_size

    def step(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, obs), (B, m) -> (B, n), (B, m)."""
        return self.net.step(self.norm(observation), memory)
