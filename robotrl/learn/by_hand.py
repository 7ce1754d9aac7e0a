"""PPO's gradient written out in numpy, for small plain tanh networks on a CPU.

There a torch call costs several times its arithmetic, and automatic differentiation makes about a
hundred of them a minibatch. Actor and critic, alike but for their heads, share each product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from robotrl.learn.actor_critic import LOG_SQRT_2PI, ActorCritic
from robotrl.learn.flat import Flat

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """What the loss is made of; as in `robotrl.learn.ppo.Ppo.loss`."""

    clip: float
    """Infinite where the surrogate is not clipped."""
    value: float
    entropy: float
    beta: float
    """Of the KL divergence from the policy that collected; 0 is none."""


def can_go_by_hand(model: ActorCritic) -> bool:
    """Whether both networks are plain tanh ones on a CPU, and actor and critic see the same."""
    parts = *model.actor.net.children(), *model.critic.children()
    plain = all(isinstance(part, nn.Linear | nn.Tanh) for part in parts)
    return plain and model.log_std.device.type == "cpu" and not model.privileged_size


class HandGradient:
    """Writes a minibatch's gradient where the flat gradient lies."""

    def __init__(self, model: ActorCritic, flat: Flat, min_std: float) -> None:
        """Find the parameters: the actor's layers, the critic's, log_std, one after the other."""
        layers = [part for part in model.actor.net.children() if isinstance(part, nn.Linear)]
        widths = [layers[0].in_features, *(layer.out_features for layer in layers)]
        self._sizes, self._min_std = (widths[0], widths[-1]), min_std
        self._value = _Parts(flat.vector.detach(), widths)
        self._slope = _Parts(flat.gradient, widths)
        nets = (sum(p.numel() for p in net.parameters()) for net in (model.actor.net, model.critic))
        self._split = np.split(flat.gradient.numpy(), np.cumsum(list(nets)))

    def __call__(self, rows: Array, std_old: Array, weights: Weights) -> tuple[float, float, float]:
        """Replace the gradient by that of the loss on samples.

        Args:
            rows: (N, ...) observation, action, mean action and log density of the policy that
                collected, advantage, value target.
            std_old: (n,) deviation of that policy.
            weights: of the loss's parts.

        Returns:
            Mean KL divergence, surrogate and squared value error.
        """
        count, (o, n) = len(rows), self._sizes
        x, action, mean_old = rows[:, :o], rows[:, o : o + n], rows[:, o + n : o + 2 * n]
        log_prob, advantage, target = rows[:, -3], rows[:, -2], rows[:, -1]
        hidden, mean, value = self._forward(x)
        log_std = self._value.log_std
        std = np.maximum(np.exp(log_std), self._min_std)
        scaled = (action - mean) / std
        squared = scaled * scaled
        log_density = -0.5 * squared.sum(1) - (float(np.log(std).sum()) + LOG_SQRT_2PI * n)
        ratio = np.exp(log_density - log_prob)
        gain = ratio * advantage
        held = advantage * np.minimum(np.maximum(ratio, 1 - weights.clip), 1 + weights.clip)
        push = gain * (gain <= held) / count
        moved, error = mean - mean_old, value - target
        shrunk, spread = (std_old / std) ** 2, (moved * moved).sum(0) / (count * std * std)
        d_mean = (-push[:, None] * scaled + (weights.beta / count) * moved / std) / std
        d_log_std = push @ (1 - squared) - weights.entropy + weights.beta * (1 - shrunk - spread)
        self._slope.log_std[:] = d_log_std * (log_std > np.log(self._min_std))
        d_value: Array = np.multiply(error[:, None], 2 * weights.value / count, dtype=error.dtype)
        self._backward(x, hidden, d_mean, d_value)
        kl = 0.5 * float((shrunk + spread - 1 - np.log(shrunk)).sum())
        return kl, float(np.minimum(gain, held).sum()) / count, float(error @ error) / count

    def clip(self, limit: float, apart: bool) -> None:
        """Shorten the gradient to `limit`; that of the critic apart from the rest if asked."""
        actor, critic, deviation = self._split
        for parts in ((actor, deviation), (critic,)) if apart else (self._split,):
            norm = math.sqrt(sum(float(part @ part) for part in parts))
            if norm > limit:
                for part in parts:
                    part *= limit / (norm + 1e-6)  # noqa: PLW2901 - in place

    def _forward(self, x: Array) -> tuple[list[Array], Array, Array]:
        """Hidden layers, each (2, N, width), mean actions (N, n) and values (N,)."""
        hidden: list[Array] = []
        for weight, bias in self._value.layers:
            out = np.matmul(hidden[-1] if hidden else x, weight.swapaxes(1, 2))
            out += bias[:, None]
            hidden.append(np.tanh(out, out=out))
        (actor, actor_bias), (critic, critic_bias) = self._value.heads
        mean, value = hidden[-1][0] @ actor.T, hidden[-1][1] @ critic[0]
        mean += actor_bias
        value += critic_bias
        return hidden, mean, value

    def _backward(self, x: Array, hidden: list[Array], d_mean: Array, d_value: Array) -> None:
        d_hidden = np.empty_like(hidden[-1])
        for i, slope in enumerate((d_mean, d_value)):
            (weight, _), (d_weight, d_bias) = self._value.heads[i], self._slope.heads[i]
            np.matmul(slope.T, hidden[-1][i], out=d_weight)
            slope.sum(0, out=d_bias)
            np.matmul(slope, weight, out=d_hidden[i])
        for i in range(len(hidden) - 1, -1, -1):
            h = hidden[i]
            d_hidden *= 1 - h * h
            d_weight, d_bias = self._slope.layers[i]
            np.matmul(d_hidden.swapaxes(1, 2), hidden[i - 1] if i else x, out=d_weight)
            d_hidden.sum(1, out=d_bias)
            if i:
                d_hidden = np.matmul(d_hidden, self._value.layers[i][0])


class _Parts:
    """Numpy's views of a flat vector: layers of actor and critic in pairs, heads, log_std."""

    def __init__(self, vector: Tensor, widths: list[int]) -> None:
        *hidden, head = pairwise(widths)
        apart = sum(i * o + o for i, o in (*hidden, head))
        at = 0
        self.layers: list[tuple[Array, Array]] = []
        for i, o in hidden:
            weight = vector.as_strided((2, o, i), (apart, i, 1), at).numpy()
            bias = vector.as_strided((2, o), (apart, 1), at + o * i).numpy()
            self.layers.append((weight, bias))
            at += o * i + o
        self.heads: list[tuple[Array, Array]] = []
        for start, o in ((at, head[1]), (apart + at, 1)):
            end = start + o * head[0]
            self.heads.append((vector[start:end].view(o, -1).numpy(), vector[end : end + o].numpy()))
        self.log_std: Array = vector[-head[1] :].numpy()
