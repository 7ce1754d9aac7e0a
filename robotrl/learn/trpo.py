"""TRPO (Schulman et al. 2015): the largest natural gradient step that keeps a bound on the KL divergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from robotrl.learn.actor_critic import Count, Positive, explained_variance
from robotrl.learn.baseline import Baseline, BaselineParams
from robotrl.learn.collect import OnPolicy
from robotrl.learn.flat import Adam, Flat
from robotrl.learn.group import Group
from robotrl.learn.natural import (
    Fisher,
    PolicyBatch,
    divergence,
    natural_gradient,
    policy_parameters,
    surrogate,
)
from robotrl.learn.networks import Reflection
from robotrl.learn.rollout import Rollout
from robotrl.spec.records import Between


@dataclass(frozen=True, kw_only=True)
class TrpoParams(BaselineParams):
    """The `[trpo]` table of a run."""

    kl_limit: Positive = 0.01
    """Bound on the mean KL divergence of each step."""
    damping: Annotated[float, Between(0)] = 0.1
    """Added to the diagonal of the Fisher matrix."""
    cg_iterations: Count = 10
    backtracks: Count = 10
    """Step lengths that are tried, the longest first."""
    shrink: Annotated[float, Between(0.01, 0.99)] = 0.8
    """Each length as a share of the one before."""


class Trpo(OnPolicy):
    """The learner; all of it on one device."""

    def __init__(
        self,
        params: TrpoParams,
        observation: Reflection,
        privileged: Reflection,
        action: Reflection,
        group: Group | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(params, observation, privileged, action, group, device)
        self.params = params
        self._policy = Flat(policy_parameters(self.model))
        self._baseline = Baseline(params, self.model, self.group)

    def update(self, rollout: Rollout) -> dict[str, float]:
        """One step of the policy, then the critic's regression (paper, section 6 and appendix C)."""
        p = self.params
        value, advantage = self.estimate(rollout)
        target = advantage + value
        batch = PolicyBatch.of(self.model, rollout, advantage, self.group, p.center_advantages)
        direction, fisher = natural_gradient(self.model, batch, p.damping, p.cg_iterations, self.group)
        figures = self._search(batch, self.longest(direction, fisher))
        return {
            **figures,
            "value_error": self._baseline.fit(batch.x, rollout.batch(target), batch.past),
            "action_std": float(self.model.std().mean().detach()),
            "explained_variance": explained_variance(value, target),
        }

    def anneal(self, share: float) -> None:
        """Let the critic's learning rate fall to zero over the budget, where the schedule says so."""
        if self.params.schedule == "linear":
            self._baseline.anneal(max(1.0 - share, 0.0))

    def _adams(self) -> dict[str, Adam]:
        return {"adam": self._baseline.adam}

    def longest(self, direction: Tensor, fisher: Fisher) -> Tensor:
        """Scale a step so that the KL divergence, to second order, is at its limit (paper, appendix C)."""
        curvature = direction @ fisher(direction)
        return direction * (2 * self.params.kl_limit / curvature.clamp_min(1e-12)).sqrt()

    @torch.no_grad()
    def _search(self, batch: PolicyBatch, step: Tensor) -> dict[str, float]:
        """Take the longest of ever shorter steps that keeps the bound and improves; else none."""
        start, share = self._policy.vector.clone(), 1.0
        before = float(self._measured(batch)[0])
        for _ in range(self.params.backtracks):
            torch.add(start, step, alpha=share, out=self._policy.vector)
            now, kl = self._measured(batch).tolist()
            if now > before and kl <= self.params.kl_limit:
                return {"kl": kl, "surrogate": now - before, "step_share": share}
            share *= self.params.shrink
        self._policy.vector.copy_(start)
        return {"kl": 0.0, "surrogate": 0.0, "step_share": 0.0}

    def _measured(self, batch: PolicyBatch) -> Tensor:
        """Surrogate and KL divergence of the present policy over all ranks (2,)."""
        both = torch.stack((surrogate(self.model, batch), divergence(self.model, batch)))
        return self.group.mean_(both)
