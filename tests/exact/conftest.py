"""Exact answers are compared in float64, from the same random numbers in each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    """Closed forms deserve more than float32."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
