"""All reward terms of a task evaluated together: few large operations instead of many small ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

from robotrl.tasks.task import RewardTerm, Task

S = TypeVar("S")

SHAPES = ("sum", "squares", "gaussian")


class Rewards(Generic[S]):
    """The terms of a task, in the order of their shapes.

    Attributes:
        names: of the terms.
        weights: (terms,)
    """

    def __init__(self, terms: Mapping[str, RewardTerm[S]], device: torch.device) -> None:
        self.names = tuple(sorted(terms, key=lambda name: SHAPES.index(terms[name].shape)))
        self.weights = torch.tensor([terms[name].weight for name in self.names], device=device)
        self._values = [terms[name].value for name in self.names]
        self._sums = sum(term.shape == "sum" for term in terms.values())
        self._gaussians = sum(term.shape == "gaussian" for term in terms.values())
        self._sum: Tensor | None = None

    def __call__(self, record: S) -> Tensor:
        """Unweighted values (terms, B)."""
        parts = [value(record) for value in self._values]
        if self._sum is None:
            self._sum = _block_sums(parts)
            self._first_square = sum(part.shape[1] for part in parts[: self._sums])
        components = torch.cat(parts, dim=-1)
        components[:, self._first_square :].square_()
        values = self._sum @ components.T
        if self._gaussians:
            values[-self._gaussians :].neg_().exp_()
        return values

    def earned(self, values: Tensor, failed: Tensor, task: Task[S], period_s: float) -> Tensor:
        """Rewards (B,) of one step: the weighted sum, not below the task's floor, or what a failure gives.

        Args:
            values: (terms, B) unweighted.
            failed: (B,) bool.
            task: the task.
            period_s: length of the step.
        """
        raw = (self.weights @ values).clamp_min(task.reward_floor) * period_s
        return torch.where(failed, task.failure_reward, raw)


def _block_sums(parts: list[Tensor]) -> Tensor:
    """Matrix (parts, all their columns) that sums each part's own columns."""
    widths = torch.tensor([part.shape[1] for part in parts], device=parts[0].device)
    each = torch.eye(len(parts), dtype=parts[0].dtype, device=parts[0].device)
    return each.repeat_interleave(widths, dim=1)
