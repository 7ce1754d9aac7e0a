"""PPO's gradient written out in numpy, for small plain tanh networks on a CPU.

There a torch call costs several times its arithmetic, and automatic differentiation makes about a
hundred of them a minibatch. Actor and critic, alike but for their heads, share each product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from robotrl.learn.actor_critic import LOG_SQRT_2PI, ActorCritic
from robotrl.learn.flat import Flat
from robotrl.learn.plain import is_plain

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
    return is_plain(model.actor.net) and is_plain(model.critic) and not model.privileged_size


class HandGradient:
    """Writes a minibatch's gradient where the flat gradient lies.

    Two threads with half of the samples each were measured no quicker, even with 1,024 samples.
    """

    def __init__(self, model: ActorCritic, flat: Flat, min_std: float) -> None:
        """Find the parameters: the actor's layers, the critic's, log_std, one after the other."""
        layers = [part for part in model.actor.net.children() if isinstance(part, nn.Linear)]
        self._widths = [layers[0].in_features, *(layer.out_features for layer in layers)]
        self._min_std = min_std
        self._value = _Parts(flat.vector.detach(), self._widths)
        self._slope = _Parts(flat.gradient, self._widths)
        nets = (sum(p.numel() for p in net.parameters()) for net in (model.actor.net, model.critic))
        self._split = np.split(flat.gradient.numpy(), np.cumsum(list(nets)))
        self._rooms: dict[int, _Room] = {}
        """By the number of samples, of which a run has one or two."""

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
        count, o, n = len(rows), self._widths[0], self._widths[-1]
        if count not in self._rooms:
            self._rooms[count] = _Room(count, self._widths, rows.dtype)
        room = self._rooms[count]
        x, action, mean_old = rows[:, :o], rows[:, o : o + n], rows[:, o + n : o + 2 * n]
        log_prob, advantage, target = rows[:, -3:].T
        mean, value = self._forward(x, room)
        log_std = self._value.log_std
        std = np.maximum(np.exp(log_std), self._min_std)
        scaled = (action - mean) / std
        squared = scaled * scaled
        log_density = -0.5 * (squared @ room.across) - (float(np.log(std).sum()) + LOG_SQRT_2PI * n)
        ratio = np.exp(log_density - log_prob)
        gain = ratio * advantage
        held = advantage * np.minimum(np.maximum(ratio, 1 - weights.clip), 1 + weights.clip)
        push = gain * (gain <= held) / count
        moved, error = mean - mean_old, value - target
        shrunk, spread = (std_old / std) ** 2, room.ones @ (moved * moved) / (count * std * std)
        d_mean = -push[:, None] * scaled
        if weights.beta:
            d_mean += (weights.beta / count) * moved / std
        d_mean /= std
        d_log_std = push.sum() - push @ squared - weights.entropy + weights.beta * (1 - shrunk - spread)
        self._slope.log_std[:] = d_log_std * (log_std > math.log(self._min_std))
        self._backward(x, room, d_mean, error[:, None] * error.dtype.type(2 * weights.value / count))
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

    def _forward(self, x: Array, room: _Room) -> tuple[Array, Array]:
        """Fill the hidden layers; returns mean actions (N, n) and values (N,)."""
        below = x
        for (weight, bias), out in zip(self._value.layers, room.hidden, strict=True):
            np.matmul(below, weight.swapaxes(1, 2), out=out)
            np.add(out, bias[:, None], out=out)
            below = np.tanh(out, out=out)
        (actor, actor_bias), (critic, critic_bias) = self._value.heads
        mean, value = below[0] @ actor.T, below[1] @ critic[0]
        mean += actor_bias
        value += critic_bias
        return mean, value

    def _backward(self, x: Array, room: _Room, d_mean: Array, d_value: Array) -> None:
        d_hidden = room.slopes[-1]
        for i, slope in enumerate((d_mean, d_value)):
            (weight, _), (d_weight, d_bias) = self._value.heads[i], self._slope.heads[i]
            np.matmul(slope.T, room.hidden[-1][i], out=d_weight)
            np.matmul(room.ones, slope, out=d_bias)
            np.matmul(slope, weight, out=d_hidden[i])
        for i in range(len(room.hidden) - 1, -1, -1):
            h, d_hidden, bent = room.hidden[i], room.slopes[i], room.bent[i]
            np.multiply(h, h, out=bent)
            np.multiply(bent, d_hidden, out=bent)
            np.subtract(d_hidden, bent, out=d_hidden)
            d_weight, d_bias = self._slope.layers[i]
            np.matmul(d_hidden.swapaxes(1, 2), room.hidden[i - 1] if i else x, out=d_weight)
            np.matmul(room.ones, d_hidden, out=d_bias)
            if i:
                np.matmul(d_hidden, self._value.layers[i][0], out=room.slopes[i - 1])


class _Room:
    """Arrays that a minibatch of N samples is worked on in; sums over samples are products with ones.

    Attributes:
        hidden: layers of actor and critic, each (2, N, width).
        slopes: of the loss by each of them.
        bent: what their tanh takes off.
        ones: (N,)
        across: (n,) ones.
    """

    def __init__(self, count: int, widths: list[int], dtype: np.dtype[Any]) -> None:
        shapes = [(2, count, width) for width in widths[1:-1]]
        self.hidden, self.slopes, self.bent = ([np.empty(s, dtype) for s in shapes] for _ in range(3))
        self.ones, self.across = np.ones(count, dtype), np.ones(widths[-1], dtype)


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
