"""Aggregates that few seeds can carry: the interquartile mean and its stratified bootstrap interval.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
sections 4.1 and 4.3, and its library rliable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES, SEED = 10_000, 0
CONFIDENCE = 0.95


def interquartile_mean(scores: ArrayLike) -> Any:  # noqa: ANN401 - a number, or an array of them
    """Mean (...) of scores (..., n) without the lowest and the highest quarter, rounded down, of each row."""
    ordered = np.sort(np.asarray(scores, dtype=np.float64), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(-1)


def bootstrap_interval(strata: Sequence[ArrayLike]) -> tuple[float, float]:
    """Return the 95 % percentile interval of the interquartile mean of all scores together.

    Args:
        strata: the scores of each task (n_k,); seeds are drawn anew within each task.
    """
    generator = np.random.default_rng(SEED)
    drawn = np.concatenate([_resampled(np.asarray(scores), generator) for scores in strata], axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(interquartile_mean(drawn), (tail, 1 - tail))
    return float(low), float(high)


def _resampled(scores: NDArray[Any], generator: np.random.Generator) -> NDArray[Any]:
    """Draw (RESAMPLES, n) of scores (n,) with replacement."""
    return scores[generator.integers(len(scores), size=(RESAMPLES, len(scores)))]
