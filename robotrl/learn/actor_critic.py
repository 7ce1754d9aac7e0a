"""What all on-policy learners share: a Gaussian actor, a critic that may see more, their statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from robotrl.errors import ConfigError
from robotrl.learn.group import Group
from robotrl.learn.networks import (
    HIDDEN_GAIN,
    Activation,
    Actor,
    Reflection,
    Unmirrored,
    mirror_mlp,
    plain_mlp,
)
from robotrl.learn.normalize import RunningNorm
from robotrl.learn.plain import Evaluated
from robotrl.learn.playing import Playing
from robotrl.learn.recurrent import (
    MemoryParams,
    Recurrent,
    RecurrentActor,
    mirror_recurrent,
    plain_recurrent,
)
from robotrl.learn.rollout import Past, Rollout, gae
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
    hidden_gain: Positive = HIDDEN_GAIN
    """Scale of both networks' hidden layers at the start; with 1 most of what tanh sees is where it bends
    little."""
    scale_reward: bool = False
    """Divide rewards by the standard deviation of the discounted return."""
    center_advantages: bool = True
    """Shift advantages to zero mean before they are divided by their standard deviation."""
    memory: MemoryParams | None = None
    """Let actor and critic remember; whole worlds are shuffled then, not samples."""

    def check(self, worlds: int, file: Path) -> None:
        """Refuse what cannot be collected or learned from.

        Args:
            worlds: of all processes together.
            file: where the table stands, for the error.

        Raises:
            ConfigError: there is no hidden layer, or a minibatch is larger than the rollout; with a
                memory: it is smaller than a world.
        """
        if not self.hidden:
            raise ConfigError(
                "has no layer", file=file, key=self.key("hidden"), value=[], allowed="one width or more"
            )

    def check_even(self, file: Path | None = None) -> None:
        """Refuse networks that no reflection could swap the halves of; `file` is for the error.

        Raises:
            ConfigError: an odd width.
        """
        if self.memory and self.memory.width % 2:
            raise ConfigError(
                "must be even where the task has a reflection",
                file=file,
                key=self.key("memory.width"),
                value=self.memory.width,
                allowed="an even width",
            )
        if any(width % 2 for width in self.hidden):
            raise ConfigError(
                "must be even where the task has a reflection",
                file=file,
                key=self.key("hidden"),
                value=list(self.hidden),
                allowed="even widths",
            )

    def key(self, name: str) -> str:
        """Dotted key of a field in a run's TOML."""
        return f"{type(self).__name__.removesuffix('Params').lower()}.{name}"

    def refuse_parts(self, parts: float, name: str, worlds: int, file: Path) -> None:
        """Raise `ConfigError` where a field splits worlds that are learned from as a whole."""
        if self.memory and parts > worlds:
            raise ConfigError(
                "splits worlds, which a memory needs whole",
                file=file,
                key=self.key(name),
                value=getattr(self, name),
                allowed=f"at most {worlds} minibatches",
            )

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
    are plain. Where they have a memory, each has its own (as rsl_rl's): what the value depends on is
    not what the action does, and only the critic's knows what only it sees.

    Attributes:
        actor: (B, obs) -> (B, n) mean action, normaliser included.
        critic: (..., obs + p) normalised -> (..., 1); see `values`.
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
        memory, kind = params.memory, (params.activation, params.hidden_gain)
        if all(isinstance(part, Unmirrored) for part in (observation, privileged, action)):
            plain = partial(plain_recurrent, memory) if memory else plain_mlp
            sizes = self.observation_size, params.hidden, self.action_size
            actor = plain(*sizes, params.actor_gain, *kind)
            self.critic = plain(len(source), params.hidden, 1, 1.0, *kind)
        else:
            params.check_even()
            mirror = partial(mirror_recurrent, memory) if memory else mirror_mlp
            ends = (observation.source, observation.sign), params.hidden, (action.source, action.sign)
            actor = mirror(*ends, params.actor_gain, *kind)
            even = (source, sign), params.hidden, ((0,), (1.0,))
            self.critic = mirror(*even, 1.0, *kind)
        norm = RunningNorm(self.observation_size)
        self.actor = RecurrentActor(norm, actor) if isinstance(actor, Recurrent) else Actor(norm, actor)
        self._act, self._judge = Evaluated(self.actor.net), Evaluated(self.critic)
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

    def mean(self, critic_x: Tensor, past: Past | None = None) -> Tensor:
        """Mean actions (..., n) of normalised critic observations (..., obs + p); `past` of sequences."""
        x = critic_x[..., : self.observation_size]  # both norms agree on these
        return self._run(self.actor.net, x, past)[0]

    def values(self, critic_x: Tensor, past: Past | None = None) -> Tensor:
        """Values (..., 1) of normalised critic observations (..., obs + p); `past` of sequences."""
        return self._run(self.critic, critic_x, past)[0]

    def _run(self, net: nn.Module, x: Tensor, past: Past | None) -> tuple[Tensor, Tensor]:
        """Outputs of either network, and with a memory that after each step (B, T, m)."""
        if past is None:
            return net(x), x[..., :0]
        actors = self.actor.memory_size
        own = past.memory[:, :actors] if net is self.actor.net else past.memory[:, actors:]
        return net(x, own, past.fresh)  # type: ignore[no-any-return]

    def forgotten(self, worlds: int) -> Tensor | None:
        """Memory (B, m) of actor and critic where episodes begin; `None` where they have none."""
        if not isinstance(self.critic, Recurrent):
            return None
        return self.log_std.new_zeros(worlds, self.actor.memory_size + self.critic.memory_size)

    def playing(self, memory: Tensor | None) -> Playing | None:
        """Return the actor in the worlds of a memory (B, m) of both; `None` where there is none."""
        return None if memory is None else Playing(self.actor, memory[:, : self.actor.memory_size])

    @torch.no_grad()
    def act(self, observation: Tensor, playing: Playing | None = None) -> tuple[Tensor, Tensor]:
        """Sample actions (B, n) for observations (B, obs); returns them and their means."""
        mean = self._act(self.actor.norm(observation)) if playing is None else playing(observation)
        return mean + self.std() * torch.randn_like(mean), mean

    @torch.no_grad()
    def value(self, observation: Tensor, privileged: Tensor, memory: Tensor | None = None) -> Tensor:
        """Values (...) of critic observations (..., obs), (..., p); `memory` (..., m) is the critic's."""
        x = self.critic_norm(torch.cat((observation, privileged), dim=-1))
        if memory is not None and isinstance(self.critic, Recurrent):
            return self.critic.step(x, memory)[0][..., 0]
        return self._judge(x)[..., 0]

    @torch.no_grad()
    def estimate(self, rollout: Rollout, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
        """Values and advantages, both (T, B), of a rollout.

        An episode that time alone cut off is worth gamma * V(its last observation) more than it
        earned (Pardo et al. 2018, "Time Limits in Reinforcement Learning", section 4).
        """
        reward, late = rollout.reward, rollout.timeouts
        value, after = self._recalled(rollout)
        if len(late.place):
            known = after.flatten(0, 1)[late.place] if after is not None else None
            bonus = gamma * self.value(late.observation, late.privileged, known)
            reward = reward.flatten().index_add(0, late.place, bonus).view_as(reward)
        last = self.value(*rollout.last, _kept(after[-1], rollout) if after is not None else None)
        return value, gae(reward, rollout.ended, value, last, gamma, lam)

    def _recalled(self, rollout: Rollout) -> tuple[Tensor, Tensor | None]:
        """Values (T, B) of a rollout, and what the critic remembers after each step (T, B, m)."""
        past = rollout.past
        if past is None:
            return self.value(rollout.observation, rollout.privileged), None
        value, after = self._run(self.critic, rollout.batch(self.normalized(rollout)), past)
        return value[..., 0].T, after.transpose(0, 1)

    @torch.no_grad()
    def remembered(self, rollout: Rollout) -> Tensor | None:
        """What the present networks remember (B, m) after a rollout; `None` where they have no memory."""
        past = rollout.past
        if past is None:
            return None
        x = rollout.batch(self.normalized(rollout))
        seen = x[..., : self.observation_size]
        both = self._run(self.actor.net, seen, past)[1][:, -1], self._run(self.critic, x, past)[1][:, -1]
        return _kept(torch.cat(both, dim=-1), rollout)

    def normalized(self, rollout: Rollout) -> Tensor:
        """Normalised critic observations (T, B, obs + p) of a rollout."""
        x: Tensor = self.critic_norm(torch.cat((rollout.observation, rollout.privileged), dim=-1))
        return x

    def merge_statistics(self, rollout: Rollout, group: Group) -> None:
        """Take a rollout's observations, of all ranks, into the running statistics."""
        observed = torch.cat((rollout.observation, rollout.privileged), dim=-1)
        self.critic_norm.update(observed.flatten(0, 1), self._source, self._sign, group)
        self.actor.norm.copy_from(self.critic_norm)


def _kept(memory: Tensor, rollout: Rollout) -> Tensor:
    """What is left of memories (B, m) after the last step: nothing where the episode ended with it."""
    return memory.masked_fill(rollout.ended[-1][:, None].bool(), 0.0)


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
