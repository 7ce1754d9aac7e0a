"""Reward terms: small shapes that they are made of, and all terms of a task evaluated together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

from robotrl.tasks.task import RewardTerm

S = TypeVar("S")


def gaussian(error: Tensor, width: Tensor) -> Tensor:
    """exp(-sum(error^2 / width)) over the last dimension: 1 at zero error; `width` is per component."""
    return torch.exp(-(error.square() / width).sum(-1))


class Rewards(Generic[S]):
    """All terms of a task, with one square and one sum for all that are squared.

    Attributes:
        names: of the terms, those that are squared last.
        weights: (terms,)
    """

    def __init__(self, terms: Mapping[str, RewardTerm[S]], device: torch.device) -> None:
        self._plain = [term.value for term in terms.values() if not term.squared]
        self._squared = [term.value for term in terms.values() if term.squared]
        self.names = tuple(sorted(terms, key=lambda name: terms[name].squared))
        self.weights = torch.tensor([terms[name].weight for name in self.names], device=device)
        self._sum: Tensor | None = None

    def __call__(self, record: S) -> Tensor:
        """Unweighted values (terms, B)."""
        values = [torch.stack([value(record) for value in self._plain])] if self._plain else []
        if self._squared:
            parts = [value(record) for value in self._squared]
            if self._sum is None:
                widths = torch.tensor([part.shape[1] for part in parts], device=parts[0].device)
                each = torch.eye(len(parts), dtype=parts[0].dtype, device=parts[0].device)
                self._sum = each.repeat_interleave(widths, dim=1)
            values.append(self._sum @ torch.cat(parts, dim=-1).square().T)
        return torch.cat(values)
