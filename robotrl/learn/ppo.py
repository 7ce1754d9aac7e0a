"""PPO with a clipped surrogate and adaptive-KL learning rate (Schulman et al. 2017), asymmetric critic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from robotrl.learn.group import Group
from robotrl.learn.networks import Actor, Reflection, Unmirrored, mirror_mlp, plain_mlp
from robotrl.learn.normalize import RunningNorm
from robotrl.learn.rollout import Rollout, gae
from robotrl.spec.records import Between

Positive = Annotated[float, Between(1e-12)]
Count = Annotated[int, Between(1)]

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class PpoParams:
    """The `[ppo]` table of a run."""

    steps: Count
    """Control steps per world and iteration."""
    epochs: Count
    minibatches: Count
    gamma: Annotated[float, Between(0, 1)]
    gae_lambda: Annotated[float, Between(0, 1)]
    clip: Positive
    kl_target: Positive
    """The learning rate is divided by 1.5 above twice this, multiplied below half of it."""
    lr: Positive
    lr_min: Positive
    lr_max: Positive
    entropy: Annotated[float, Between(0)]
    value_weight: Positive
    grad_norm: Positive
    init_std: Positive
    min_std: Positive
    hidden: tuple[int, ...]
    """Widths of the hidden layers of actor and critic, each even where the task has a reflection."""


@dataclass(frozen=True)
class Minibatch:
    """N samples; every tensor is (N, width)."""

    critic_x: Tensor
    """Normalised critic observation, the actor's first."""
    action: Tensor
    mean: Tensor
    """Mean action of the policy that collected."""
    log_prob: Tensor
    """Log density of the action under that policy."""
    advantage: Tensor
    target: Tensor
    """Value target."""


class Ppo:
    """Actor, critic and their update, all on the device that is torch's default when it is built.

    Both networks are exactly equivariant under the reflections; where all are `Unmirrored`, both
    are plain.
    """

    def __init__(
        self,
        params: PpoParams,
        observation: Reflection,
        privileged: Reflection,
        action: Reflection,
        group: Group | None = None,
    ) -> None:
        self.params, self.group = params, group or Group()
        both = (
            tuple(observation.source) + tuple(i + len(observation.source) for i in privileged.source),
            tuple(observation.sign) + tuple(privileged.sign),
        )
        obs, out = (observation.source, observation.sign), (action.source, action.sign)
        self._mirror = torch.tensor(both[0]), torch.tensor(both[1])
        self._obs_size = len(observation.source)
        if all(isinstance(part, Unmirrored) for part in (observation, privileged, action)):
            actor = plain_mlp(self._obs_size, params.hidden, len(out[0]), gain=0.1)
            self.critic = plain_mlp(len(both[0]), params.hidden, 1, gain=1.0)
        else:
            actor = mirror_mlp(obs, params.hidden, out, gain=0.1)
            self.critic = mirror_mlp(both, params.hidden, ((0,), (1.0,)), gain=1.0)
        self.actor = Actor(RunningNorm(self._obs_size), actor)
        self.critic_norm = RunningNorm(len(both[0]))
        # A reflection may exchange action components, so exchanged ones share their deviation.
        self._std_of = torch.tensor([min(i, j) for i, j in enumerate(action.source)])
        self.log_std = nn.Parameter(torch.full((len(action.source),), math.log(params.init_std)))
        self.lr = params.lr
        self._optimizer = torch.optim.Adam(self.parameters(), lr=self.lr, eps=1e-5, fused=True)
        # All gradients are views of one vector (with room for the KL divergence behind them), so
        # that averaging over processes and clipping are one operation each.
        self._shared = torch.zeros(sum(p.numel() for p in self.parameters()) + 1)
        self._gradient = self._shared[:-1]
        sizes = [p.numel() for p in self.parameters()]
        for parameter, part in zip(self.parameters(), torch.split(self._gradient, sizes), strict=True):
            parameter.grad = part.view_as(parameter)

    def parameters(self) -> list[nn.Parameter]:
        """Everything that is optimised."""
        return [*self.actor.net.parameters(), *self.critic.parameters(), self.log_std]

    @torch.no_grad()
    def act(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Sample actions (B, n); returns them and their means."""
        mean = self.actor(observation)
        return mean + self._std() * torch.randn_like(mean), mean

    @torch.no_grad()
    def value(self, observation: Tensor, privileged: Tensor) -> Tensor:
        """Values (...) of critic observations (..., obs), (..., p)."""
        value: Tensor = self.critic(self.critic_norm(torch.cat((observation, privileged), dim=-1)))[..., 0]
        return value

    def update(self, rollout: Rollout, last_value: Tensor) -> dict[str, float]:
        """Improve actor and critic on one rollout, then merge it into the observation statistics."""
        p = self.params
        observed = torch.cat((rollout.observation, rollout.privileged), dim=-1)
        with torch.no_grad():
            critic_x = self.critic_norm(observed)
            value: Tensor = self.critic(critic_x)[..., 0]
        advantage = gae(rollout.reward, rollout.ended, value, last_value, p.gamma, p.gae_lambda)
        target = advantage + value
        first, second = self.group.mean_(torch.stack((advantage.mean(), advantage.square().mean())))
        advantage = (advantage - first) / ((second - first**2).sqrt() + 1e-8)
        std_old = self._std().detach()
        log_prob = log_density(rollout.action, rollout.mean, std_old)
        # One row per sample, so that a minibatch is gathered in one operation.
        columns = (
            critic_x,
            rollout.action,
            rollout.mean,
            log_prob[..., None],
            advantage[..., None],
            target[..., None],
        )
        samples = torch.cat(columns, dim=-1).flatten(0, 1)
        widths = [column.shape[-1] for column in columns]
        figures: list[dict[str, float]] = []
        for _ in range(p.epochs):
            for ids in torch.randperm(len(samples), device=samples.device).chunk(p.minibatches):
                batch = Minibatch(*torch.split(samples[ids], widths, dim=-1))
                figures.append(self._minibatch(batch, std_old))
        source, sign = self._mirror
        self.critic_norm.update(observed.flatten(0, 1), source, sign, self.group)
        self.actor.norm.copy_from(self.critic_norm)
        unexplained = (target - value).var() / target.var().clamp_min(1e-8)
        return {
            **{name: sum(f[name] for f in figures) / len(figures) for name in figures[0]},
            "learning_rate": self.lr,
            "action_std": float(self._std().mean().detach()),
            "explained_variance": 1.0 - float(unexplained),
        }

    def state(self) -> dict[str, Tensor]:
        """Every tensor that defines the learner, for a checkpoint."""
        modules = {"actor": self.actor, "critic_norm": self.critic_norm, "critic": self.critic}
        tensors = {f"{m}.{k}": v for m, module in modules.items() for k, v in module.state_dict().items()}
        tensors["log_std"] = self.log_std.detach()
        tensors["lr"] = torch.tensor(self.lr, dtype=torch.float64)
        for i, parameter in enumerate(self.parameters()):
            for name, value in self._optimizer.state[parameter].items():
                tensors[f"adam.{i}.{name}"] = value
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        for name, module in (
            ("actor", self.actor),
            ("critic_norm", self.critic_norm),
            ("critic", self.critic),
        ):
            prefix = name + "."
            module.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        with torch.no_grad():
            self.log_std.copy_(tensors["log_std"])
        self.lr = float(tensors["lr"])
        for i, parameter in enumerate(self.parameters()):
            prefix = f"adam.{i}."
            moments = {
                k[len(prefix) :]: v.to(parameter.device, copy=True)
                for k, v in tensors.items()
                if k.startswith(prefix)
            }
            if moments:
                self._optimizer.state[parameter] = moments
        self._set_lr(self.lr)

    def _std(self) -> Tensor:
        return self.log_std[self._std_of].exp().clamp_min(self.params.min_std)

    def _set_lr(self, lr: float) -> None:
        self.lr = min(max(lr, self.params.lr_min), self.params.lr_max)
        for group in self._optimizer.param_groups:
            group["lr"] = self.lr

    def _minibatch(self, batch: Minibatch, std_old: Tensor) -> dict[str, float]:
        p, std = self.params, self._std()
        mean = self.actor.net(batch.critic_x[:, : self._obs_size])  # both norms agree on these
        ratio = (log_density(batch.action, mean, std) - batch.log_prob[:, 0]).exp()
        advantage, clipped = batch.advantage[:, 0], ratio.clamp(1 - p.clip, 1 + p.clip)
        surrogate = torch.minimum(ratio * advantage, clipped * advantage).mean()
        value_error = (self.critic(batch.critic_x) - batch.target).square().mean()
        loss = p.value_weight * value_error - surrogate - p.entropy * std.log().sum()
        self._gradient.zero_()
        loss.backward()
        self._shared[-1] = kl_divergence(batch.mean, std_old, mean.detach(), std.detach())
        self.group.mean_(self._shared)
        kl = float(self._shared[-1])
        self._adapt_lr(kl)
        self._gradient.mul_((p.grad_norm / (self._gradient.norm() + 1e-6)).clamp_max(1.0))
        self._optimizer.step()
        return {"kl": kl, "surrogate": float(surrogate.detach()), "value_error": float(value_error.detach())}

    def _adapt_lr(self, kl: float) -> None:
        """Follow the KL divergence with the learning rate (the rule of rsl_rl)."""
        if kl > 2 * self.params.kl_target:
            self._set_lr(self.lr / 1.5)
        elif kl < self.params.kl_target / 2:
            self._set_lr(self.lr * 1.5)


def log_density(action: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log density of a diagonal Gaussian, summed over the last dimension."""
    scaled = (action - mean) / std
    return -0.5 * scaled.square().sum(-1) - std.log().sum() - LOG_SQRT_2PI * mean.shape[-1]


def kl_divergence(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    """Mean KL(p || q) of diagonal Gaussians over a batch (N, n)."""
    kl = (std_q / std_p).log() + (std_p**2 + (mean_p - mean_q) ** 2) / (2 * std_q**2) - 0.5
    return kl.sum(-1).mean()
