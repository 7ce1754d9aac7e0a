"""Prioritised replay: what surprises the critics is drawn often (Schaul et al. 2016, arXiv 1511.05952)."""

from __future__ import annotations

import torch
from torch import Tensor

FAN = 64
"""Children of a node: a wide tree is shallow, and each level costs some calls however many samples."""
SURPRISE_MIN = 1e-6
"""Added to every surprise, so that no step is lost for good (epsilon of section 3.3)."""


class SumTree:
    """Weights of leaves, with the sums that tell which leaf a share of the total falls on.

    Sums are made anew from their children whenever one of these changes, so errors do not add up.
    """

    def __init__(self, leaves: int, device: torch.device) -> None:
        self._levels: list[Tensor] = []
        while not self._levels or len(self._levels[-1]) > 1:
            leaves = -(-leaves // FAN)
            self._levels.append(torch.zeros((leaves, FAN), dtype=torch.float64, device=device))

    @property
    def total(self) -> Tensor:
        """Sum () of all weights."""
        return self._levels[-1].sum()

    @property
    def nbytes(self) -> int:
        """Memory that it occupies."""
        return sum(level.nbytes for level in self._levels)

    def weight(self, leaf: Tensor) -> Tensor:
        """Weights (N,) of leaves (N,)."""
        return self._levels[0].view(-1)[leaf]

    def put(self, leaf: Tensor, weight: Tensor) -> None:
        """Give leaves (N,) new weights (N,); one that is named twice gets the larger."""
        self._levels[0].view(-1).scatter_reduce_(0, leaf, weight, "amax", include_self=False)
        for below, above in zip(self._levels[:-1], self._levels[1:], strict=True):
            leaf = leaf // FAN
            above.view(-1)[leaf] = below[leaf].sum(1)

    def find(self, share: Tensor) -> Tensor:
        """Leaves (N,) on which shares (N,) in [0, 1) of the total fall; never one without weight."""
        node = torch.zeros(len(share), dtype=torch.long, device=share.device)
        left = share * self.total
        for level in reversed(self._levels):
            sums = level[node].cumsum(1)
            # Rounding must not lead past the last child that has any weight.
            left = torch.minimum(left, sums[:, -1] * (1 - 1e-12))
            child = (sums <= left[:, None]).sum(1)
            before = sums.gather(1, (child - 1).clamp_min(0)[:, None])[:, 0]
            left = left - torch.where(child > 0, before, 0.0)
            node = node * FAN + child
        return node

    def state(self) -> dict[str, Tensor]:
        """Every level, leaves first."""
        return {str(i): level for i, level in enumerate(self._levels)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` of a tree returned; of another size, only the leaves that both have."""
        saved = tensors["0"]
        if saved.shape != self._levels[0].shape:
            leaf = torch.arange(min(saved.numel(), self._levels[0].numel()), device=self._levels[0].device)
            self.put(leaf, saved.to(leaf.device).view(-1)[: len(leaf)])
            return
        for i, level in enumerate(self._levels):
            level.copy_(tensors[str(i)])


class Priorities:
    """Which steps of a `Replay` to draw: proportionally to surprise^alpha (section 3.3, algorithm 1)."""

    def __init__(
        self, rows: int, worlds: int, n_step: int, alpha: float, beta: float, generator: torch.Generator
    ) -> None:
        """Start with nothing to draw.

        Args:
            rows: of the memory, `Replay.rows`.
            worlds: number B of worlds, whose steps lie side by side.
            n_step: a step can be drawn when this many steps from it on are stored.
            alpha: exponent of the surprise; 0 would be uniform.
            beta: exponent of the importance weights; 1 undoes the bias fully.
            generator: what is drawn with; its device is the memory's.
        """
        self._rows, self._worlds, self._n_step = rows, worlds, n_step
        self._alpha, self._beta, self._generator = alpha, beta, generator
        self._tree = SumTree(rows, generator.device)
        self._largest = torch.ones((), dtype=torch.float64, device=generator.device)
        self._ids = torch.arange(worlds, device=generator.device)

    @property
    def nbytes(self) -> int:
        """Memory that it occupies."""
        return self._tree.nbytes

    def added(self, steps: int) -> None:
        """Follow the memory once it holds its `steps`-th step of every world.

        The step whose n-th one this is can be drawn from now on, as likely as the likeliest so far;
        the oldest one is about to be overwritten.
        """
        self._tree.put(self._row(steps), self._largest.new_zeros(self._worlds))
        if steps >= self._n_step:
            self._tree.put(self._row(steps - self._n_step), self._largest.expand(self._worlds))

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw rows (N,) where transitions start; their importance weights (N,), the largest 1."""
        device = self._generator.device
        share = torch.rand(count, generator=self._generator, dtype=torch.float64, device=device)
        row = self._tree.find(share)
        # (N P)^-beta over its largest (section 3.4): the number N and the total cancel.
        weight = self._tree.weight(row).pow(-self._beta)
        return row, (weight / weight.max()).to(torch.get_default_dtype())

    def update(self, row: Tensor, surprise: Tensor) -> None:
        """Note how far off the critics were (N,) at rows (N,) that were drawn."""
        weight = (surprise.double() + SURPRISE_MIN).pow(self._alpha)
        self._tree.put(row, weight)
        self._largest = torch.maximum(self._largest, weight.max())

    def state(self) -> dict[str, Tensor]:
        """Every tensor that defines it."""
        return self._tree.state() | {"largest": self._largest}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned; of another size, that of a memory that was not full."""
        self._tree.load_state(tensors)
        self._largest = tensors["largest"].to(self._largest.device, copy=True)

    def _row(self, step: int) -> Tensor:
        return (self._ids + step * self._worlds) % self._rows
