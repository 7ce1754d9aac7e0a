"""TD3: twin critics, delayed policy updates, smoothed targets (Fujimoto et al. 2018, arXiv 1802.09477)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from robotrl.learn.deterministic import DeterministicActor, DeterministicParams
from robotrl.learn.flat import Adam
from robotrl.learn.group import Group
from robotrl.learn.hindsight import Goals
from robotrl.learn.networks import Actor
from robotrl.learn.off_policy import Count, OffPolicy
from robotrl.learn.off_policy_by_hand import climb
from robotrl.learn.replay import Batch
from robotrl.learn.target_critics import TargetCritics
from robotrl.spec.records import Between


@dataclass(frozen=True, kw_only=True)
class Td3Params(DeterministicParams):
    """The `[td3]` table of a run; deviations are of actions in [-1, 1]."""

    policy_delay: Count = 2
    """Critic updates per update of the actor and the targets."""
    target_std: Annotated[float, Between(0)] = 0.2
    """Of the noise on the target actor's actions."""
    target_clip: Annotated[float, Between(0)] = 0.5
    """Largest such noise."""


class Td3(OffPolicy):
    """Actor, twin critics, the targets of both, and their update."""

    params: Td3Params

    def __init__(
        self,
        params: Td3Params,
        observation: int,
        privileged: int,
        low: Sequence[float],
        high: Sequence[float],
        group: Group | None = None,
        device: torch.device | str | None = None,
        goals: Goals | None = None,
    ) -> None:
        """Build an untrained learner; see `OffPolicy`. The device is torch's by default."""
        with torch.device(device or torch.get_default_device()):
            super().__init__(params, observation, privileged, low, high, group, goals)
            self.policy = DeterministicActor(params, observation, self.action_size)
            self.critics = TargetCritics(2, params, observation + privileged, self.action_size)
        self.actor = Actor(self.actor_norm, nn.Sequential(self.policy.net, self.span))
        self._hand = climb(self.policy.net[0], self.critics.hand, observation)

    def explore(self, x: Tensor, noise: Tensor) -> Tensor:
        """Add noise to the actor's action (algorithm 1)."""
        return self.policy.noisy(x, noise, self.params.exploration_std)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Critics towards the clipped backup; with delay, the policy up a critic and targets after both."""
        critic_loss = self.critics.step(batch, self.target(batch, self.noise(len(batch.reward))), self.group)
        if self.updates_done % self.params.policy_delay == 0:
            if self._hand:
                self._hand.deterministic(batch.observation, self.params.action_l2)
            else:
                self.policy.adam.differentiate(self.actor_loss(batch.observation))
            self.policy.step(self.group)
            self.critics.follow()
            self.policy.follow()
        return {"critic_loss": critic_loss}

    @torch.no_grad()
    def target(self, batch: Batch, noise: Tensor) -> Tensor:
        """Reward + gamma min_i Q_i(s', pi'(s') + clipped noise) (eqs. 14, 15)."""
        p = self.params
        smoothing = (p.target_std * noise).clamp(-p.target_clip, p.target_clip)
        action = self.policy.following(batch.following[:, : self.observation_size]) + smoothing
        return self.critics.backup(batch, action.clamp(-1, 1))

    def actor_loss(self, x: Tensor) -> Tensor:
        """Mean of -Q_1(s, pi(s)), the policy gradient of the first critic, and of large actions."""
        action = self.policy.net(x[:, : self.observation_size])
        loss = -self.critics.online.value(x, action, only_first=True).mean()
        l2 = self.params.action_l2
        return loss + l2 * action.square().mean() if l2 else loss

    def parts(self) -> dict[str, nn.Module]:
        """Networks and normalisers."""
        return {
            "norm": self.norm,
            "actor": self.actor,
            "target_policy": self.policy.target,
            "critics": self.critics.online,
            "targets": self.critics.target,
        }

    def optimizers(self) -> dict[str, Adam]:
        """Of actor and critics."""
        return {"actor_adam": self.policy.adam, "critic_adam": self.critics.adam}
