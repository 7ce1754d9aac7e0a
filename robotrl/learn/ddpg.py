"""DDPG: one critic, one deterministic actor, and their targets (Lillicrap et al. 2016, arXiv 1509.02971)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robotrl.learn.deterministic import DeterministicActor, DeterministicParams
from robotrl.learn.flat import Adam
from robotrl.learn.group import Group
from robotrl.learn.hindsight import Goals
from robotrl.learn.networks import Actor
from robotrl.learn.off_policy import OffPolicy
from robotrl.learn.off_policy_by_hand import climb
from robotrl.learn.replay import Batch
from robotrl.learn.target_critics import TargetCritics


@dataclass(frozen=True, kw_only=True)
class DdpgParams(DeterministicParams):
    """The `[ddpg]` table of a run."""


class Ddpg(OffPolicy):
    """Actor, critic, the targets of both, and their update."""

    params: DdpgParams

    def __init__(
        self,
        params: DdpgParams,
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
            self.critics = TargetCritics(1, params, observation + privileged, self.action_size)
        self.actor = Actor(self.actor_norm, nn.Sequential(self.policy.net, self.span))
        self._hand = climb(self.policy.net[0], self.critics.hand, observation)

    def explore(self, x: Tensor, noise: Tensor) -> Tensor:
        """Add noise to the actor's action (eq. 7)."""
        return self.policy.noisy(x, noise, self.params.exploration_std)

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Critic towards the backup, actor up the critic, targets after both (algorithm 1)."""
        critic_loss = self.critics.step(batch, self.target(batch), self.group)
        if self._hand:
            loss = self._hand.deterministic(batch.observation, self.params.action_l2)
        else:
            loss = self.actor_loss(batch.observation)
            self.policy.adam.differentiate(loss)
        self.policy.step(self.group)
        self.critics.follow()
        self.policy.follow()
        return {"critic_loss": critic_loss, "actor_loss": loss.detach()}

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """Reward + gamma Q'(s', pi'(s')) (eq. 5)."""
        return self.critics.backup(batch, self.policy.following(batch.following[:, : self.observation_size]))

    def actor_loss(self, x: Tensor) -> Tensor:
        """Mean of -Q(s, pi(s)) (eq. 6), and of large actions."""
        action = self.policy.net(x[:, : self.observation_size])
        loss = -self.critics.online.value(x, action).mean()
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
        """Of actor and critic."""
        return {"actor_adam": self.policy.adam, "critic_adam": self.critics.adam}
