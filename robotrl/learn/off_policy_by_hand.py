"""Gradients of off-policy losses written out, for plain networks on a CPU: no automatic differentiation.

There a third of an update with automatic derivatives is not arithmetic. Besides its overhead, what
is saved are products that nobody asks for (slopes of observations, or of a critic's weights while
the actor learns; a critic where it is not the lowest), copies, and slow shapes (a product with few
columns is quick only as its transpose). The losses themselves are defined in the algorithms' files.

Hidden layers, nearly all of the arithmetic, can be in bfloat16, what they see being rounded so too.
Parameters, moments, and last layers, whose outputs are actions and returns, keep their own precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robotrl.learn.critics import BatchedLinear, Critics
from robotrl.learn.squashed import LOG_STD_MAX, LOG_STD_MIN, squash


def quick_bfloat16(wanted: bool, device: torch.device) -> torch.dtype | None:
    """Return bfloat16 if it is wanted and this processor has instructions for its products, or None.

    Without them such products take many times longer; a torch that cannot tell has none for us.
    """
    if not wanted or device.type != "cpu":
        return None
    found: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if found.get("avx512_bf16") or found.get("amx_bf16") else None


class HandActor:
    """A perceptron of `nn.Linear` and `nn.ReLU`; see `HandCritics` for `dtype`."""

    def __init__(self, trunk: nn.Module, dtype: torch.dtype | None = None) -> None:
        self._layers = [layer for layer in trunk.children() if isinstance(layer, nn.Linear)]
        self._dtype = dtype or self._layers[0].weight.dtype

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Outputs (N, k) for (N, x), and every layer's input."""
        *hidden, last = self._layers
        seen = [x.to(self._dtype)]
        for layer in hidden:
            weight, bias = layer.weight.to(self._dtype), layer.bias.to(self._dtype)
            seen.append(torch.addmm(bias, seen[-1], weight.t()).relu_())
        return torch.addmm(last.bias[:, None], last.weight, seen[-1].to(last.weight).t()).t(), seen

    def backward(self, slope: Tensor, seen: list[Tensor]) -> None:
        """Replace the gradient by that of a loss with slope (N, k) at the outputs."""
        for layer, x in zip(reversed(self._layers), reversed(seen), strict=True):
            _multiply(slope.t(), x.to(slope), layer.weight.grad)
            torch.sum(slope, 0, dtype=layer.bias.dtype, out=layer.bias.grad)
            if x is not seen[0]:
                slope = _bend((slope @ layer.weight.to(slope)).to(self._dtype), x)


class HandCritics:
    """Plain critics with one output each.

    Attributes:
        dtype: of the hidden layers' products; the parameters' own if None is given.
    """

    def __init__(self, critics: Critics, dtype: torch.dtype | None = None) -> None:
        self._layers = [layer for layer in critics.net if isinstance(layer, BatchedLinear)]
        self.dtype = dtype or self._layers[0].weight.dtype

    def forward(self, x: Tensor, action: Tensor, count: int | None = None) -> tuple[Tensor, list[Tensor]]:
        """Outputs (E, N, 1) of the first `count` critics, or all, and every layer's input (E, N, in)."""
        *hidden, last = self._layers
        weight, bias = last.weight[:count], last.bias[:count]
        seen = [torch.cat((x, action), dim=-1).to(self.dtype).expand(len(weight), -1, -1)]
        for layer in hidden:
            own = layer.bias[:count].to(self.dtype), layer.weight[:count].to(self.dtype)
            seen.append(_affine(own[0], seen[-1], own[1]).relu_())
        out = x.new_empty((*seen[-1].shape[:2], 1))
        for e, h in enumerate(seen[-1].to(out)):
            torch.addmv(bias[e, 0], h, weight[e, :, 0], out=out[e, :, 0])
        return out, seen

    def backward(self, slope: Tensor, seen: list[Tensor]) -> None:
        """Replace the gradient by that of a loss with slope (E, N, 1) at the outputs."""
        for layer, x in zip(reversed(self._layers), reversed(seen), strict=True):
            _product(x.to(slope).transpose(1, 2), slope, layer.weight.grad)
            torch.sum(slope, 1, keepdim=True, dtype=layer.bias.dtype, out=layer.bias.grad)
            if x is not seen[0]:
                slope = _bend(_through(slope, layer.weight.to(slope)).to(self.dtype), x)

    def to_actions(self, slope: Tensor, seen: list[Tensor], size: int) -> Tensor:
        """Slope (N, n) of the actions; a critic works on those samples alone that have a slope through it."""
        total = slope.new_zeros((slope.shape[1], size))
        first, *others = self._layers
        for e, column in enumerate(slope):
            rows = column[:, 0].nonzero()[:, 0]
            every = len(rows) == len(column)
            down = column if every else column[rows]
            for layer, x in zip(reversed(others), reversed(seen), strict=False):
                weight, h = layer.weight[e].t().to(down), x[e] if every else x[e][rows]
                down = _bend((down * weight if len(weight) == 1 else down @ weight).to(self.dtype), h)
            total.index_add_(0, rows, (first.weight[e, -size:].to(down) @ down.t()).t().to(total))
        return total


@torch.no_grad()
def regress(
    critics: HandCritics, x: Tensor, action: Tensor, target: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Gradient of `MeanReturns.loss` with targets (N,) and weights (N,); returns the loss and (E, N, 1)."""
    out, seen = critics.forward(x, action)
    error = out - target[:, None]
    slope = (error if weight is None else error * weight[:, None]) / len(x)
    critics.backward(slope, seen)
    return 0.5 * (slope * error).sum(), out


@dataclass(frozen=True)
class Climb:
    """An actor that climbs critics, and where what it sees ends in what they see."""

    actor: HandActor
    critics: HandCritics
    observation: int

    @torch.no_grad()
    def deterministic(self, x: Tensor, action_l2: float = 0.0) -> Tensor:
        """Gradient of the loss of `Td3.actor_loss`, actions tanh(net(s)); returns the loss."""
        out, seen = self.actor.forward(x[:, : self.observation])
        action = out.tanh()
        value, inner = self.critics.forward(x, action, count=1)
        slope = self.critics.to_actions(torch.full_like(value, -1 / len(x)), inner, action.shape[1])
        loss = -value.mean()
        if action_l2:
            slope = slope.add(action, alpha=2 * action_l2 / action.numel())
            loss = loss + action_l2 * action.square().mean()
        self.actor.backward(slope * (1 - action * action), seen)
        return loss

    @torch.no_grad()
    def soft(
        self, x: Tensor, noise: Tensor, log_temperature: nn.Parameter, target_entropy: float
    ) -> tuple[Tensor, Tensor]:
        """Gradient of the loss of `Sac.actor_loss`; returns that loss and the log densities (N,)."""
        out, seen = self.actor.forward(x[:, : self.observation])
        mean, raw = out.chunk(2, dim=-1)
        log_std = raw.clamp(LOG_STD_MIN, LOG_STD_MAX)
        action, log_prob = squash(mean, log_std, noise)
        values, inner = self.critics.forward(x, action)
        value, lowest = values.min(0, keepdim=True)
        slope = torch.zeros_like(values).scatter_(0, lowest, -1 / len(x))
        d_action = self.critics.to_actions(slope, inner, action.shape[1])
        # The slope of log(1 - tanh(u)^2) at u is -2 tanh(u); that of tanh(u) is 1 - tanh(u)^2.
        temperature = log_temperature.exp()
        weight = temperature / len(x)
        d_mean = torch.addcmul(d_action, action, 2 * weight - action * d_action)
        d_log_std = (d_mean * log_std.exp() * noise - weight) * (log_std == raw)
        self.actor.backward(torch.cat((d_mean, d_log_std), dim=-1), seen)
        entropy = -log_prob.mean()
        log_temperature.grad.copy_(entropy - target_entropy)  # type: ignore[union-attr]
        loss = log_temperature * (entropy - target_entropy) - temperature * entropy - value.mean()
        return loss, log_prob


def climb(trunk: nn.Module, critics: HandCritics | None, observation: int) -> Climb | None:
    """Return the climb of an actor whose network is `trunk`, where there are critics to climb by hand."""
    return Climb(HandActor(trunk, critics.dtype), critics, observation) if critics else None


def _bend(slope: Tensor, h: Tensor) -> Tensor:
    """Slope before a relu with result h, written over that behind it."""
    bent: Tensor = torch.ops.aten.threshold_backward.grad_input(slope, h, 0, grad_input=slope)
    return bent


def _affine(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    if len(weight) == 1:  # a batch of one product would run on one thread
        return torch.addmm(bias[0], x[0], weight[0])[None]
    return torch.baddbmm(bias, x, weight)


def _through(slope: Tensor, weight: Tensor) -> Tensor:
    """Slope (E, N, in) before a layer, from that behind it (E, N, out)."""
    if weight.shape[2] == 1:
        return slope * weight.transpose(1, 2)
    return (slope[0] @ weight[0].t())[None] if len(weight) == 1 else slope @ weight.transpose(1, 2)


def _product(a: Tensor, b: Tensor, out: Tensor | None) -> None:
    """Write a (E, i, N) times b (E, N, o) to `out`, of its own precision."""
    if b.shape[2] == 1:
        assert out is not None, "the gradient is a view of the flat one"
        for e, column in enumerate(b):
            torch.mv(a[e], column[:, 0], out=out[e, :, 0])
    elif len(a) == 1:
        _multiply(a[0], b[0], None if out is None else out[0])
    else:
        _multiply(a, b, out)


def _multiply(a: Tensor, b: Tensor, out: Tensor | None) -> None:
    """Write a product, or a batch of them, to `out`, of its own precision."""
    assert out is not None, "the gradient is a view of the flat one"
    if a.dtype == out.dtype:
        torch.matmul(a, b, out=out)
    else:
        out.copy_(a @ b)
