"""REINFORCE with a learned baseline (Williams 1992; Sutton et al. 2000): one gradient step a rollout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robotrl.learn.actor_critic import Positive, explained_variance, log_density, standardized
from robotrl.learn.baseline import Baseline, BaselineParams
from robotrl.learn.collect import OnPolicy
from robotrl.learn.flat import Adam
from robotrl.learn.group import Group
from robotrl.learn.networks import Reflection
from robotrl.learn.rollout import Past, Rollout


@dataclass(frozen=True, kw_only=True)
class VpgParams(BaselineParams):
    """The `[vpg]` table of a run; `gae_lambda = 1` is the return less the baseline."""

    lr: Positive


class Vpg(OnPolicy):
    """The learner; all of it on one device."""

    def __init__(
        self,
        params: VpgParams,
        observation: Reflection,
        privileged: Reflection,
        action: Reflection,
        group: Group | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(params, observation, privileged, action, group, device)
        self.params = params
        self._adam = Adam([*self.actor.net.parameters(), self.model.log_std], params.lr)
        self._baseline = Baseline(params, self.model, self.group)

    def update(self, rollout: Rollout) -> dict[str, float]:
        """One step of the policy on the whole rollout, then the critic's regression."""
        value, advantage = self.estimate(rollout)
        target = advantage + value
        weight = standardized(advantage, self.group, self.params.center_advantages)
        x, past = rollout.batch(self.model.normalized(rollout)), rollout.past
        self._adam.flat.gradient.zero_()
        loss = self.loss(x, rollout.batch(rollout.action), rollout.batch(weight), past)
        loss.backward()  # type: ignore[no-untyped-call]
        self.group.mean_(self._adam.flat.gradient)
        self._adam.step()
        return {
            "value_error": self._baseline.fit(x, rollout.batch(target), past),
            "learning_rate": self._adam.lr,
            "action_std": float(self.model.std().mean().detach()),
            "explained_variance": explained_variance(value, target),
        }

    def loss(self, x: Tensor, action: Tensor, weight: Tensor, past: Past | None = None) -> Tensor:
        """Descending it is REINFORCE: minus the mean of log density times weight (N,) (Williams, eq. 4)."""
        return -(log_density(action, self.model.mean(x, past), self.model.std()) * weight).mean()

    def anneal(self, share: float) -> None:
        """Let both learning rates fall to zero over the budget, where the schedule says so."""
        if self.params.schedule == "linear":
            left = max(1.0 - share, 0.0)
            self._adam.lr = self.params.lr * left
            self._baseline.anneal(left)

    def optimizers(self) -> dict[str, Adam]:
        """Of policy and critic."""
        return self._adams()

    def _adams(self) -> dict[str, Adam]:
        return {"policy_adam": self._adam, "critic_adam": self._baseline.adam}
