"""The natural policy gradient (Kakade 2001): steps of fixed size along F^-1 g."""

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
from robotrl.learn.natural import PolicyBatch, divergence, natural_gradient, policy_parameters
from robotrl.learn.networks import Reflection
from robotrl.learn.rollout import Rollout
from robotrl.spec.records import Between


@dataclass(frozen=True, kw_only=True)
class NpgParams(BaselineParams):
    """The `[npg]` table of a run."""

    step_size: Positive = 0.1
    """Factor of the natural gradient."""
    damping: Annotated[float, Between(0)] = 0.1
    """Added to the diagonal of the Fisher matrix."""
    cg_iterations: Count = 10


class Npg(OnPolicy):
    """The learner; all of it on one device."""

    def __init__(
        self,
        params: NpgParams,
        observation: Reflection,
        privileged: Reflection,
        action: Reflection,
        group: Group | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(params, observation, privileged, action, group, device)
        self.params, self._left = params, 1.0
        self._policy = Flat(policy_parameters(self.model))
        self._baseline = Baseline(params, self.model, self.group)

    def update(self, rollout: Rollout) -> dict[str, float]:
        """One step of the policy (paper, eq. 3), then the critic's regression."""
        p = self.params
        value, advantage = self.estimate(rollout)
        target = advantage + value
        batch = PolicyBatch.of(self.model, rollout, advantage, self.group, p.center_advantages)
        direction, _ = natural_gradient(self.model, batch, p.damping, p.cg_iterations, self.group)
        self._policy.vector.add_(direction, alpha=p.step_size * self._left)
        with torch.no_grad():
            kl = float(self.group.mean_(divergence(self.model, batch)))
        return {
            "kl": kl,
            "value_error": self._baseline.fit(batch.x, rollout.batch(target), batch.past),
            "action_std": float(self.model.std().mean().detach()),
            "explained_variance": explained_variance(value, target),
        }

    def anneal(self, share: float) -> None:
        """Let the step sizes of actor and critic fall to zero over the budget, where the schedule says so."""
        if self.params.schedule == "linear":
            self._left = max(1.0 - share, 0.0)
            self._baseline.anneal(self._left)

    def _adams(self) -> dict[str, Adam]:
        return {"adam": self._baseline.adam}

    def state(self) -> dict[str, Tensor]:
        """Every tensor that defines the learner, for a checkpoint."""
        return super().state() | {"left": torch.tensor(self._left, dtype=torch.float64)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        super().load_state(tensors)
        self._left = float(tensors["left"])
