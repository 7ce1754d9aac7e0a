"""What all on-policy learners share: a Gaussian actor, a critic that may see more, their statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from robotrl.errors import ConfigError
from robotrl.learn.group import Group
from robotrl.learn.networks import Activation, Actor, Reflection, Unmirrored, mirror_mlp, plain_mlp
from robotrl.learn.normalize import RunningNorm
from robotrl.learn.rollout import Rollout, gae
from robotrl.spec.records import Between

Positive = Annotated[float, Between(1e-12)]
Count = Annotated[int, Between(1)]
Share = Annotated[float, Between(0, 1)]

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True, kw_only=True)
class OnPolicyParams:
    """What the tables of all on-policy algorithms have in common."""

    steps: Count
    """Control steps per world and iteration."""
    gamma: Annotated[float, Between(1e-12, 1)]
    gae_lambda: Share
    init_std: Positive
    """Standard deviation of the actions at the start."""
    hidden: tuple[Count, ...]
    """Widths of the hidden layers of actor and critic, each even where the task has a reflection."""
    min_std: Positive = 1e-3
    activation: Activation = "relu"
    actor_gain: Positive = 0.1
    """Scale of the actor's last layer at the start; small means first actions near zero."""
    scale_reward: bool = False
    """Divide rewards by the standard deviation of the discounted return."""
    center_advantages: bool = True
    """Shift advantages to zero mean before they are divided by their standard deviation."""

    def check(self, worlds: int, file: Path) -> None:
        """Refuse what cannot be collected or learned from.

        Args:
            worlds: of all processes together.
            file: where the table stands, for the error.

        Raises:
            ConfigError: there is no hidden layer, or a minibatch is larger than the rollout.
        """
        if not self.hidden:
            raise ConfigError(
                "has no layer", file=file, key=self.key("hidden"), value=[], allowed="one width or more"
            )

    def key(self, name: str) -> str:
        """Dotted key of a field in a run's TOML."""
        return f"{type(self).__name__.removesuffix('Params').lower()}.{name}"

    def refuse_above(self, samples: int, name: str, file: Path) -> None:
        """Raise `ConfigError` where a field is more than the samples of a rollout."""
        if (value := getattr(self, name)) > samples:
            raise ConfigError(
                "is more than the samples of a rollout",
                file=file,
                key=self.key(name),
                value=value,
                allowed=f"up to {samples}",
            )


class ActorCritic(nn.Module):
    """Gaussian actor with a state-independent deviation, and critic.

    Both networks are exactly equivariant under the reflections; where all are `Unmirrored`, both
    are plain.

    Attributes:
        actor: (B, obs) -> (B, n) mean action, normaliser included.
        critic: (..., obs + p) normalised -> (..., 1).
        critic_norm: statistics of observation and privileged observation; the actor's are its first.
        log_std: (n,) before reflections share it and `min_std` bounds it.
    """

    _source: Tensor
    _sign: Tensor
    _std_of: Tensor

    def __init__(
        self, params: OnPolicyParams, observation: Reflection, privileged: Reflection, action: Reflection
    ) -> None:
        super().__init__()
        self._min_std = params.min_std
        source = tuple(observation.source) + tuple(i + len(observation.source) for i in privileged.source)
        sign = tuple(observation.sign) + tuple(privileged.sign)
        self.observation_size, self.privileged_size = len(observation.source), len(privileged.source)
        self.action_size = len(action.source)
        if all(isinstance(part, Unmirrored) for part in (observation, privileged, action)):
            sizes, kind = (self.observation_size, params.hidden, self.action_size), params.activation
            actor = plain_mlp(*sizes, params.actor_gain, kind)
            self.critic = plain_mlp(len(source), params.hidden, 1, 1.0, kind)
        else:
            _check_even(params)
            ends = (observation.source, observation.sign), params.hidden, (action.source, action.sign)
            actor = mirror_mlp(*ends, params.actor_gain, params.activation)
            even = (source, sign), params.hidden, ((0,), (1.0,))
            self.critic = mirror_mlp(*even, 1.0, params.activation)
        self.actor = Actor(RunningNorm(self.observation_size), actor)
        self.critic_norm = RunningNorm(len(source))
        self.log_std = nn.Parameter(torch.full((self.action_size,), math.log(params.init_std)))
        # A reflection may exchange action components, so exchanged ones share their deviation.
        std_of = [min(i, j) for i, j in enumerate(action.source)]
        self.register_buffer("_std_of", torch.tensor(std_of), persistent=False)
        self.register_buffer("_source", torch.tensor(source), persistent=False)
        self.register_buffer("_sign", torch.tensor(sign), persistent=False)

    def std(self) -> Tensor:
        """Standard deviation (n,) of the actions."""
        return self.log_std[self._std_of].exp().clamp_min(self._min_std)

    def mean(self, critic_x: Tensor) -> Tensor:
        """Mean actions (..., n) of normalised critic observations (..., obs + p)."""
        mean: Tensor = self.actor.net(critic_x[..., : self.observation_size])  # both norms agree on these
        return mean

    @torch.no_grad()
    def act(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Sample actions (B, n) for observations (B, obs); returns them and their means."""
        mean = self.actor(observation)
        return mean + self.std() * torch.randn_like(mean), mean

    @torch.no_grad()
    def value(self, observation: Tensor, privileged: Tensor) -> Tensor:
        """Values (...) of critic observations (..., obs), (..., p)."""
        value: Tensor = self.critic(self.critic_norm(torch.cat((observation, privileged), dim=-1)))[..., 0]
        return value

    @torch.no_grad()
    def estimate(self, rollout: Rollout, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
        """Values and advantages, both (T, B), of a rollout.

        An episode that time alone cut off is worth gamma * V(its last observation) more than it
        earned (Pardo et al. 2018, "Time Limits in Reinforcement Learning", section 4).
        """
        reward, late = rollout.reward, rollout.timeouts
        if len(late.place):
            bonus = gamma * self.value(late.observation, late.privileged)
            reward = reward.flatten().index_add(0, late.place, bonus).view_as(reward)
        value = self.value(rollout.observation, rollout.privileged)
        advantage = gae(reward, rollout.ended, value, self.value(*rollout.last), gamma, lam)
        return value, advantage

    def normalized(self, rollout: Rollout) -> Tensor:
        """Normalised critic observations (T, B, obs + p) of a rollout."""
        x: Tensor = self.critic_norm(torch.cat((rollout.observation, rollout.privileged), dim=-1))
        return x

    def merge_statistics(self, rollout: Rollout, group: Group) -> None:
        """Take a rollout's observations, of all ranks, into the running statistics."""
        observed = torch.cat((rollout.observation, rollout.privileged), dim=-1)
        self.critic_norm.update(observed.flatten(0, 1), self._source, self._sign, group)
        self.actor.norm.copy_from(self.critic_norm)


def _check_even(params: OnPolicyParams) -> None:
    if any(width % 2 for width in params.hidden):
        raise ConfigError(
            "must be even where the task has a reflection",
            key=params.key("hidden"),
            value=list(params.hidden),
            allowed="even widths",
        )


def standardized(advantage: Tensor, group: Group, center: bool) -> Tensor:
    """Divide advantages by their standard deviation over all ranks, and shift them to zero mean if asked."""
    first, second = group.mean_(torch.stack((advantage.mean(), advantage.square().mean())))
    scaled: Tensor = (advantage - first * center) / ((second - first**2).clamp_min(0.0).sqrt() + 1e-8)
    return scaled


def log_density(action: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log density of a diagonal Gaussian, summed over the last dimension."""
    scaled = (action - mean) / std
    return -0.5 * scaled.square().sum(-1) - std.log().sum() - LOG_SQRT_2PI * mean.shape[-1]


def kl_divergence(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    """Mean KL(p || q) of diagonal Gaussians over a batch (N, n)."""
    kl = (std_q / std_p).log() + (std_p**2 + (mean_p - mean_q) ** 2) / (2 * std_q**2) - 0.5
    return kl.sum(-1).mean()


def explained_variance(value: Tensor, target: Tensor) -> float:
    """1 where values say everything about their targets, 0 where nothing."""
    return 1.0 - float((target - value).var() / target.var().clamp_min(1e-8))
