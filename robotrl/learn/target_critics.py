"""Critics with slowly following targets, which all off-policy algorithms share."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from robotrl.learn.critics import Critics, Modern
from robotrl.learn.flat import Adam, Flat
from robotrl.learn.group import Group
from robotrl.learn.off_policy_by_hand import HandCritics, quick_bfloat16, regress
from robotrl.learn.replay import Batch

ADAM_EPS = 1e-8
"""Of all off-policy learners."""


class CriticParams(Protocol):
    """What the table of an algorithm says about critics; see `robotrl.learn.off_policy.OffPolicyParams`."""

    @property
    def hidden(self) -> Sequence[int]:
        """Widths of the hidden layers of plain ones."""

    @property
    def modern(self) -> Modern | None:
        """Their shape if they are modern."""

    @property
    def critic_lr(self) -> float:
        """Learning rate."""

    @property
    def tau(self) -> float:
        """How far the targets move with each update."""

    @property
    def bfloat16(self) -> bool:
        """Whether products of plain ones may be in bfloat16."""


class TargetCritics:
    """Critics, their slowly following targets, and their update.

    Attributes:
        online: the critics.
        target: follow them.
        adam: moves `online`.
        hand: `online` with gradients by hand, if they are plain and on a CPU.
        surprise: (N,) how far off `online` was at each sample of the last weighted batch.
    """

    def __init__(self, count: int, params: CriticParams, observation: int, action: int) -> None:
        """Build E = `count` critics of observations and actions of these widths."""
        self.online = Critics(count, observation, action, params.hidden, params.modern)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.adam = Adam(self.online.parameters(), params.critic_lr, ADAM_EPS)
        self._target_flat, self._tau = Flat(self.target.parameters()), params.tau
        device = self.adam.flat.vector.device
        by_hand, dtype = (
            params.modern is None and device.type == "cpu",
            quick_bfloat16(params.bfloat16, device),
        )
        self.hand = HandCritics(self.online, dtype) if by_hand else None
        self._target_hand = HandCritics(self.target, dtype) if by_hand else None
        self.surprise = torch.zeros(0)

    @torch.no_grad()
    def backup(self, batch: Batch, action: Tensor, bonus: Tensor | float = 0.0) -> Tensor:
        """What to learn from a batch whose next actions would be `action` (N, n)."""
        if self._target_hand:
            out = self._target_hand.forward(batch.following, action)[0]
        else:
            out = self.target(batch.following, action)
        return self.online.returns.target(out, batch.reward, batch.discount, bonus, batch.lowest)

    def step(self, batch: Batch, target: Tensor, group: Group) -> Tensor:
        """One gradient step towards the target; returns the loss."""
        x, returns = (batch.observation, batch.action), self.online.returns
        if self.hand:
            loss, out = regress(self.hand, *x, target, batch.weight)
        else:
            out = self.online(*x)
            loss = returns.loss(out, target, batch.weight)
            self.adam.differentiate(loss)
        if batch.weight is not None:
            self.surprise = returns.surprise(out.detach(), target)
        group.mean_(self.adam.flat.gradient)
        self.adam.step()
        return loss.detach()

    def follow(self) -> None:
        """Move the targets: target += tau (online - target)."""
        self._target_flat.vector.lerp_(self.adam.flat.vector, self._tau)
