"""PPO (Schulman et al. 2017): clipped surrogate or KL penalty, fixed, annealed or KL-led learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from robotrl.errors import ConfigError
from robotrl.learn.actor_critic import (
    Count,
    OnPolicyParams,
    Positive,
    explained_variance,
    kl_divergence,
    log_density,
    standardized,
)
from robotrl.learn.by_hand import HandGradient, Weights, can_go_by_hand
from robotrl.learn.collect import OnPolicy
from robotrl.learn.flat import Adam, clip_norm_
from robotrl.learn.group import Group
from robotrl.learn.networks import Reflection
from robotrl.learn.rollout import Past, Rollout
from robotrl.spec.records import Between

PENALISED = "adaptive_kl", "fixed_kl"


@dataclass(frozen=True, kw_only=True)
class PpoParams(OnPolicyParams):
    """The `[ppo]` table of a run."""

    epochs: Count
    minibatches: Annotated[int, Between(0)] = 0
    """Number of minibatches per epoch; this or `minibatch`."""
    minibatch: Annotated[int, Between(0)] = 0
    """Samples in a minibatch, of all processes together."""
    surrogate: Literal["clip", "adaptive_kl", "fixed_kl", "none"] = "clip"
    """What keeps the policy near the one that collected (paper, section 6.1)."""
    clip: Positive = 0.2
    beta: Positive = 1.0
    """Weight of the KL penalty; the first one if it is adaptive."""
    schedule: Literal["adaptive", "linear", "fixed"] = "adaptive"
    """Of the learning rate: led by the KL divergence, falling to zero over the budget, or neither."""
    kl_target: Positive = 0.01
    """Adaptive schedule: the rate is divided by 1.5 above twice this, multiplied below half of it.

    Adaptive penalty: `beta` is doubled above 1.5 times this and halved below a 1.5th of it.
    """
    lr: Positive
    lr_min: Positive = 1e-5
    lr_max: Positive = 1e-2
    entropy: Annotated[float, Between(0)] = 0.0
    value_weight: Positive
    grad_norm: Positive
    clip_apart: bool = False
    """Clip the gradients of actor and critic each at `grad_norm`, instead of both together."""
    recompute_advantages: bool = False
    """Estimate advantages anew before each epoch (Andrychowicz et al. 2021, section 3.5)."""

    def check(self, worlds: int, file: Path) -> None:
        """Refuse what cannot be collected or learned from; see `OnPolicyParams.check`."""
        super().check(worlds, file)
        if bool(self.minibatches) == bool(self.minibatch):
            given = "both" if self.minibatch else "neither"
            raise ConfigError(
                f"{given} of minibatches and minibatch is given",
                file=file,
                key=self.key("minibatches"),
                allowed="exactly one of both",
            )
        for name in ("minibatches", "minibatch"):
            self.refuse_above(self.steps * worlds, name, file)
        self.refuse_parts(self.minibatches, "minibatches", worlds, file)
        if self.minibatch:
            self.refuse_parts(self.steps * worlds / self.minibatch, "minibatch", worlds, file)


@dataclass(frozen=True)
class Minibatch:
    """N samples; every tensor is (N, width), or (B, T, width) where whole worlds are remembered."""

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


@dataclass(frozen=True)
class Loss:
    """A minibatch's loss; only `total` is to be differentiated."""

    total: Tensor
    surrogate: Tensor
    value_error: Tensor
    mean: Tensor
    """Mean actions (N, n) of the present policy."""


class Ppo(OnPolicy):
    """The learner; all of it on one device."""

    def __init__(
        self,
        params: PpoParams,
        observation: Reflection,
        privileged: Reflection,
        action: Reflection,
        group: Group | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(params, observation, privileged, action, group, device)
        self.params, self.beta = params, params.beta
        parts = list(self.actor.net.parameters()), list(self.model.critic.parameters()), [self.model.log_std]
        by_hand = can_go_by_hand(self.model)
        self._adam = Adam((p for part in parts for p in part), params.lr, whole=by_hand)
        self._hand = HandGradient(self.model, self._adam.flat, params.min_std) if by_hand else None
        self._parts = [sum(p.numel() for p in part) for part in parts]
        sizes = self.model.observation_size + self.model.privileged_size, self.model.action_size
        self._widths = [*sizes, sizes[1], 1, 1, 1]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is optimised, in the order of `gradient`."""
        return self._adam.flat.parameters

    @property
    def gradient(self) -> Tensor:
        """Of the last minibatch: the actor's network, the critic's, log_std, in one vector."""
        return self._adam.flat.gradient

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Several epochs of minibatch steps on the surrogate (paper, algorithm 1)."""
        p, std_old = self.params, self.model.std().detach()
        samples, past = self._samples(rollout, std_old), rollout.past
        parts = self._minibatches(rollout.reward.numel())
        figures: list[dict[str, float]] = []
        for epoch in range(p.epochs):
            if epoch == 0 or p.recompute_advantages:
                value, advantage = self.estimate(rollout)
                target = advantage + value
                scaled = standardized(advantage, self.group, p.center_advantages)
                samples[..., -2], samples[..., -1] = rollout.batch(scaled), rollout.batch(target)
            order = torch.randperm(len(samples), device=samples.device)
            shuffled = samples.index_select(0, order)  # copies whole rows, unlike samples[order]
            for rows, ids in zip(shuffled.chunk(parts), order.chunk(parts), strict=True):
                figures.append(self._minibatch(rows, std_old, past and past.of(ids)))
        means = {name: sum(f[name] for f in figures) / len(figures) for name in figures[0]}
        if p.surrogate == "adaptive_kl":
            self.adapt_beta(self._divergence(samples, std_old, past))
            means["beta"] = self.beta
        return {
            **means,
            "learning_rate": self._adam.lr,
            "action_std": float(self.model.std().mean().detach()),
            "explained_variance": explained_variance(value, target),
        }

    def optimizers(self) -> dict[str, Adam]:
        """The one that moves actor and critic."""
        return self._adams()

    def _adams(self) -> dict[str, Adam]:
        return {"adam": self._adam}

    def anneal(self, share: float) -> None:
        """Let the learning rate fall to zero over the budget, where the schedule says so."""
        if self.params.schedule == "linear":
            self._adam.lr = self.params.lr * max(1.0 - share, 0.0)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that defines the learner, for a checkpoint."""
        return super().state() | {"beta": torch.tensor(self.beta, dtype=torch.float64)}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        super().load_state(tensors)
        self.beta = float(tensors["beta"])

    def loss(self, batch: Minibatch, std_old: Tensor, past: Past | None = None) -> Loss:
        """What a minibatch step descends (paper, eq. 7 to 9)."""
        p, std, mean = self.params, self.model.std(), self.model.mean(batch.critic_x, past)
        ratio = (log_density(batch.action, mean, std) - batch.log_prob[..., 0]).exp()
        gain = ratio * batch.advantage[..., 0]
        if p.surrogate == "clip":
            gain = torch.minimum(gain, ratio.clamp(1 - p.clip, 1 + p.clip) * batch.advantage[..., 0])
        surrogate = gain.mean()
        value_error = (self.model.values(batch.critic_x, past) - batch.target).square().mean()
        total = p.value_weight * value_error - surrogate - p.entropy * std.log().sum()
        if p.surrogate in PENALISED:
            total = total + self.beta * kl_divergence(batch.mean, std_old, mean, std)
        return Loss(total, surrogate.detach(), value_error.detach(), mean.detach())

    def minibatch(self, rows: Tensor) -> Minibatch:
        """Name the columns of samples (N, ...)."""
        return Minibatch(*torch.split(rows, self._widths, dim=-1))

    def differentiate(self, rows: Tensor, std_old: Tensor, past: Past | None = None) -> dict[str, float]:
        """Put the gradient of the loss on samples (N, ...) into `gradient`; returns figures."""
        p = self.params
        if self._hand:
            clip = p.clip if p.surrogate == "clip" else math.inf
            beta = self.beta if p.surrogate in PENALISED else 0.0
            weights = Weights(clip, p.value_weight, p.entropy, beta)
            kl, surrogate, error = self._hand(rows.numpy(), std_old.numpy(), weights)
            return {"kl": kl, "surrogate": surrogate, "value_error": error}
        batch = self.minibatch(rows)
        self.gradient.zero_()
        loss = self.loss(batch, std_old, past)
        loss.total.backward()  # type: ignore[no-untyped-call]
        distance = kl_divergence(batch.mean, std_old, loss.mean, self.model.std().detach())
        figures = {"kl": distance, "surrogate": loss.surrogate, "value_error": loss.value_error}
        return {name: float(value) for name, value in figures.items()}

    def _samples(self, rollout: Rollout, std_old: Tensor) -> Tensor:
        """One row (T * B, ...) per sample, or world (B, T, ...), so that shuffling is one operation.

        The columns are those of `Minibatch`; advantage and target, the last, are filled in later.
        """
        log_prob = log_density(rollout.action, rollout.mean, std_old)[..., None]
        later = torch.empty_like(log_prob)
        columns = self.model.normalized(rollout), rollout.action, rollout.mean, log_prob, later, later
        return rollout.batch(torch.cat(columns, dim=-1))

    @torch.no_grad()
    def _divergence(self, samples: Tensor, std_old: Tensor, past: Past | None) -> float:
        """KL divergence of the present policy from the one that collected, over all samples."""
        batch = self.minibatch(samples)
        now = self.model.mean(batch.critic_x, past), self.model.std()
        return float(self.group.mean_(kl_divergence(batch.mean, std_old, *now)))

    def _minibatches(self, samples: int) -> int:
        if self.params.minibatches:
            return self.params.minibatches
        return max(1, round(samples * self.group.size / self.params.minibatch))

    def _minibatch(self, rows: Tensor, std_old: Tensor, past: Past | None) -> dict[str, float]:
        """One step; returns figures."""
        figures, shared = self.differentiate(rows, std_old, past), self._adam.flat.shared
        shared[-1] = figures["kl"]
        figures["kl"] = float(self.group.mean_(shared)[-1])
        if self.params.schedule == "adaptive":
            self._adapt_lr(figures["kl"])
        self.clip()
        self._adam.step()
        return figures

    def clip(self) -> None:
        """Shorten the gradient as the parameters say."""
        limit = self.params.grad_norm
        if self._hand:
            self._hand.clip(limit, self.params.clip_apart)
        elif self.params.clip_apart:
            actor, critic, deviation = torch.split(self.gradient, self._parts)
            clip_norm_(limit, actor, deviation)
            clip_norm_(limit, critic)
        else:
            clip_norm_(limit, self.gradient)

    def _adapt_lr(self, kl: float) -> None:
        """Follow the KL divergence with the learning rate (the rule of rsl_rl)."""
        p, lr = self.params, self._adam.lr
        if kl > 2 * p.kl_target:
            lr /= 1.5
        elif kl < p.kl_target / 2:
            lr *= 1.5
        self._adam.lr = min(max(lr, p.lr_min), p.lr_max)

    def adapt_beta(self, kl: float) -> None:
        """Follow the KL divergence of an iteration with the penalty (paper, section 4)."""
        if kl > 1.5 * self.params.kl_target:
            self.beta *= 2
        elif kl < self.params.kl_target / 1.5:
            self.beta /= 2
