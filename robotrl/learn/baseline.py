"""The critic fitted by regression, apart from the actor: the baseline of VPG, NPG and TRPO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from robotrl.learn.actor_critic import ActorCritic, Count, OnPolicyParams, Positive
from robotrl.learn.flat import Adam
from robotrl.learn.group import Group
from robotrl.learn.rollout import Past


@dataclass(frozen=True, kw_only=True)
class BaselineParams(OnPolicyParams):
    """What the tables of algorithms with a fitted critic have in common."""

    critic_lr: Positive = 1e-3
    critic_epochs: Count = 20
    """Passes over each rollout."""
    critic_minibatches: Count = 1
    schedule: Literal["linear", "fixed"] = "fixed"
    """Whether step sizes fall to zero over the budget."""

    def check(self, worlds: int, file: Path) -> None:
        """Refuse what cannot be collected or learned from; see `OnPolicyParams.check`."""
        super().check(worlds, file)
        self.refuse_above(self.steps * worlds, "critic_minibatches", file)
        self.refuse_parts(self.critic_minibatches, "critic_minibatches", worlds, file)


class Baseline:
    """Regresses values on their targets with Adam."""

    def __init__(self, params: BaselineParams, model: ActorCritic, group: Group) -> None:
        self._params, self._model, self._group = params, model, group
        self.adam = Adam(model.critic.parameters(), params.critic_lr)

    def anneal(self, left: float) -> None:
        """Set the learning rate to this share of the first one."""
        self.adam.lr = self._params.critic_lr * left

    def fit(self, x: Tensor, target: Tensor, past: Past | None) -> float:
        """Fit to targets (N,) of normalised critic observations (N, obs + p); the mean squared error.

        With a memory, sequences (B, T, ...) are fitted, and minibatches are of worlds.
        """
        errors = []
        for _ in range(self._params.critic_epochs):
            order = torch.randperm(len(x), device=x.device)
            for ids in order.chunk(self._params.critic_minibatches):
                self.adam.flat.gradient.zero_()
                error = self.error(x[ids], target[ids], past and past.of(ids))
                error.backward()  # type: ignore[no-untyped-call]
                self._group.mean_(self.adam.flat.gradient)
                self.adam.step()
                errors.append(error.detach())
        return float(torch.stack(errors).mean())

    def error(self, x: Tensor, target: Tensor, past: Past | None = None) -> Tensor:
        """Mean squared error of the values of x (N, obs + p) from targets (N,)."""
        return (self._model.values(x, past)[..., 0] - target).square().mean()
