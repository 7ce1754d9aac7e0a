"""Evaluates small plain tanh networks in numpy: torch's tanh takes eight times as long on a CPU.

Both round differently in the last digit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def is_plain(net: nn.Module) -> bool:
    """Whether it consists of linear layers with a tanh between any two, on a CPU."""
    parts = list(net.children())
    kinds = [nn.Linear, *[nn.Tanh, nn.Linear] * (len(parts) // 2)]
    return [type(part) for part in parts] == kinds and next(net.parameters()).device.type == "cpu"


class Evaluated:
    """A network without its gradient; to be called where torch takes none."""

    def __init__(self, net: nn.Module) -> None:
        """Look at a network, whose parameters may lie elsewhere later."""
        self._net = net
        self._first = next(net.parameters()) if is_plain(net) else None
        self._at = 0
        self._layers: list[tuple[NDArray[Any], NDArray[Any]]] = []

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        if self._first is None:
            result: Tensor = self._net(x)
            return result
        if self._first.data_ptr() != self._at:
            self._look()
        out = x.numpy().reshape(x.shape[:-1].numel(), x.shape[-1])
        for i, (weight, bias) in enumerate(self._layers):
            out = (np.tanh(out, out=out) if i else out) @ weight
            out += bias
        return torch.from_numpy(out).view(*x.shape[:-1], out.shape[1])

    def _look(self) -> None:
        """Share the parameters where they lie now."""
        layers = [part for part in self._net.children() if isinstance(part, nn.Linear)]
        self._layers = [(p.weight.detach().numpy().T, p.bias.detach().numpy()) for p in layers]
        self._at = next(self._net.parameters()).data_ptr()
