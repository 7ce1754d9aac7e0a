"""SAC: maximum-entropy actor-critic with a learned temperature (Haarnoja et al. 2018, arXiv 1812.05905)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robotrl.errors import ConfigError
from robotrl.learn.flat import Adam
from robotrl.learn.group import Group
from robotrl.learn.hindsight import Goals
from robotrl.learn.networks import Actor, plain_mlp
from robotrl.learn.off_policy import OffPolicy, OffPolicyParams, Positive
from robotrl.learn.off_policy_by_hand import climb
from robotrl.learn.replay import Batch
from robotrl.learn.squashed import SquashedPolicy
from robotrl.learn.target_critics import ADAM_EPS, TargetCritics


@dataclass(frozen=True, kw_only=True)
class SacParams(OffPolicyParams):
    """The `[sac]` table of a run."""

    target_entropy: float = -1.0
    """Nats per action component, of actions in [-1, 1]."""
    temperature: Positive = 1.0
    """At the start."""

    def check(self, key: str, worlds: int, processes: int, file: Path) -> None:
        """Refuse bounds of targets that entropy is part of, besides what `OffPolicyParams` refuses.

        Raises:
            ConfigError: one of these.
        """
        super().check(key, worlds, processes, file)
        if self.hindsight and self.hindsight.clip_targets:
            raise ConfigError(
                "returns of this algorithm contain entropy, which has no such bounds",
                file=file,
                key=f"{key}.hindsight.clip_targets",
                value=True,
                allowed="false",
            )


class Sac(OffPolicy):
    """Actor, twin critics, temperature and their update."""

    params: SacParams

    def __init__(
        self,
        params: SacParams,
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
            trunk = plain_mlp(observation, params.hidden, 2 * self.action_size, gain=0.1)
            self.policy = SquashedPolicy(trunk, self.span)
            self.critics = TargetCritics(2, params, observation + privileged, self.action_size)
            self.log_temperature = nn.Parameter(torch.tensor(math.log(params.temperature)))
        self.actor = Actor(self.actor_norm, self.policy)
        self._adam = Adam([*trunk.parameters(), self.log_temperature], params.lr, ADAM_EPS)
        self._hand = climb(trunk, self.critics.hand, observation)
        self._target_entropy = params.target_entropy * self.action_size

    def explore(self, x: Tensor, noise: Tensor) -> Tensor:
        """Sample the policy."""
        return self.policy.sample(x, noise)[0]

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Critics towards the soft Bellman backup, the policy up the critics, targets after them."""
        noise = self.noise(2 * len(batch.reward)).chunk(2)
        critic_loss = self.critics.step(batch, self.target(batch, noise[0]), self.group)
        if self._hand:
            loss, log_prob = self._hand.soft(
                batch.observation, noise[1], self.log_temperature, self._target_entropy
            )
        else:
            loss, log_prob = self.actor_loss(batch.observation, noise[1])
            self._adam.differentiate(loss)
        self.group.mean_(self._adam.flat.gradient)
        self._adam.step()
        self.critics.follow()
        return {
            "critic_loss": critic_loss,
            "actor_loss": loss.detach(),
            "entropy": -log_prob.mean(),
            "temperature": self.log_temperature.detach().exp(),
        }

    @torch.no_grad()
    def target(self, batch: Batch, noise: Tensor) -> Tensor:
        """Reward + gamma (min_i Q_i(s', a') - alpha log pi(a' | s')), a' from the policy (eqs. 2, 3, 5)."""
        action, log_prob = self.policy.sample(batch.following[:, : self.observation_size], noise)
        return self.critics.backup(batch, action, -self.log_temperature.exp() * log_prob)

    def actor_loss(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of alpha log pi - min_i Q_i (eq. 7), plus the temperature's loss (eq. 18).

        Returns:
            The loss, and the log densities (N,) that it was computed from, detached.
        """
        action, log_prob = self.policy.sample(x[:, : self.observation_size], noise)
        value = self.critics.online.value(x, action).amin(0)
        fixed = log_prob.detach()
        surplus = -fixed.mean() - self._target_entropy
        temperature = self.log_temperature.detach().exp()
        return (temperature * log_prob - value).mean() + self.log_temperature * surplus, fixed

    def parts(self) -> dict[str, nn.Module]:
        """Networks, normalisers and temperature."""
        return {
            "norm": self.norm,
            "actor": self.actor,
            "critics": self.critics.online,
            "targets": self.critics.target,
            "temperature": nn.ParameterDict({"log": self.log_temperature}),
        }

    def optimizers(self) -> dict[str, Adam]:
        """Of actor with temperature, and of the critics."""
        return {"actor_adam": self._adam, "critic_adam": self.critics.adam}
