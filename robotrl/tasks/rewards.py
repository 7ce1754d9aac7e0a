"""Small shapes that reward terms are made of."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian(error: Tensor, width: float) -> Tensor:
    """exp(-|error|^2 / width) over the last dimension: 1 at zero error."""
    return torch.exp(-error.square().sum(-1) / width)


def squared(x: Tensor) -> Tensor:
    """Sum of squares over the last dimension."""
    return x.square().sum(-1)
