"""Small shapes that reward terms are made of."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian(error: Tensor, width: Tensor) -> Tensor:
    """exp(-sum(error^2 / width)) over the last dimension: 1 at zero error; `width` is per component."""
    return torch.exp(-(error.square() / width).sum(-1))


def squared(x: Tensor) -> Tensor:
    """Sum of squares over the last dimension."""
    return x.square().sum(-1)
