"""A2C: advantage actor-critic (Mnih et al. 2016), all worlds in step: one RMSprop step a short rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from robotrl.learn.actor_critic import (
    OnPolicyParams,
    Positive,
    Share,
    explained_variance,
    log_density,
    standardized,
)
from robotrl.learn.collect import OnPolicy
from robotrl.learn.flat import Flat, clip_norm_
from robotrl.learn.group import Group
from robotrl.learn.networks import Reflection
from robotrl.learn.rollout import Past, Rollout
from robotrl.spec.records import Between


@dataclass(frozen=True, kw_only=True)
class A2cParams(OnPolicyParams):
    """The `[a2c]` table of a run; `gae_lambda = 1` gives the paper's returns of up to `steps` steps."""

    lr: Positive
    schedule: Literal["linear", "fixed"] = "fixed"
    """Whether the learning rate falls to zero over the budget."""
    rms_decay: Share = 0.99
    rms_epsilon: Positive = 1e-5
    entropy: Annotated[float, Between(0)] = 0.0
    value_weight: Positive = 0.5
    grad_norm: Positive = 0.5
    standardize: bool = False
    """Divide advantages by their standard deviation."""


@dataclass(frozen=True)
class Batch:
    """N samples; with a memory (B, T) instead of (N,)."""

    x: Tensor
    """(N, obs + p) normalised."""
    action: Tensor
    advantage: Tensor
    """(N,)"""
    target: Tensor
    """(N,) of the value."""
    past: Past | None = None
    """What sequences begin with."""


class A2c(OnPolicy):
    """The learner; all of it on one device."""

    def __init__(
        self,
        params: A2cParams,
        observation: Reflection,
        privileged: Reflection,
        action: Reflection,
        group: Group | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(params, observation, privileged, action, group, device)
        self.params, self._lr = params, params.lr
        nets = self.actor.net, self.model.critic
        self._flat = Flat([*(p for net in nets for p in net.parameters()), self.model.log_std])
        self._squares = torch.zeros_like(self._flat.vector)

    def update(self, rollout: Rollout) -> dict[str, float]:
        """One step on the whole rollout (paper, algorithm S3)."""
        p = self.params
        value, advantage = self.estimate(rollout)
        target = advantage + value
        weight = standardized(advantage, self.group, p.center_advantages) if p.standardize else advantage
        self._flat.gradient.zero_()
        loss = self.loss(self.batch(rollout, weight, target))
        loss.backward()  # type: ignore[no-untyped-call]
        self.group.mean_(self._flat.gradient)
        clip_norm_(p.grad_norm, self._flat.gradient)
        self._step()
        return {
            "learning_rate": self._lr,
            "action_std": float(self.model.std().mean().detach()),
            "explained_variance": explained_variance(value, target),
        }

    def batch(self, rollout: Rollout, weight: Tensor, target: Tensor) -> Batch:
        """Lay a rollout out with the weights and targets (T, B) of its samples."""
        columns = self.model.normalized(rollout), rollout.action, weight, target
        x, action, weight, target = (rollout.batch(column) for column in columns)
        return Batch(x, action, weight, target, rollout.past)

    def loss(self, batch: Batch) -> Tensor:
        """Policy gradient, value regression and entropy together (paper, section 4)."""
        p, std = self.params, self.model.std()
        log_prob = log_density(batch.action, self.model.mean(batch.x, batch.past), std)
        value_error = (self.model.values(batch.x, batch.past)[..., 0] - batch.target).square().mean()
        policy = (log_prob * batch.advantage).mean()
        return p.value_weight * value_error - policy - p.entropy * std.log().sum()

    def anneal(self, share: float) -> None:
        """Let the learning rate fall to zero over the budget, where the schedule says so."""
        if self.params.schedule == "linear":
            self._lr = self.params.lr * max(1.0 - share, 0.0)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that defines the learner, for a checkpoint."""
        rate = torch.tensor(self._lr, dtype=torch.float64)
        return super().state() | {"rms.squares": self._squares, "rms.lr": rate}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        super().load_state(tensors)
        self._squares.copy_(tensors["rms.squares"])
        self._lr = float(tensors["rms.lr"])

    def _step(self) -> None:
        """RMSprop with statistics shared by all worlds (paper, eq. 8 and 9)."""
        p, gradient = self.params, self._flat.gradient
        self._squares.lerp_(gradient.square(), 1 - p.rms_decay)
        self._flat.vector.addcdiv_(gradient, self._squares.sqrt().add_(p.rms_epsilon), value=-self._lr)
