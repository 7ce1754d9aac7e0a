"""Laws of the tally: quantiles to 1/32 of any durations, in memory that does not grow."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from robotrl.runtime.tally import Durations
from robotrl.spec.state import Floats


def counted(durations_s: Floats) -> Durations:
    """All of them."""
    durations = Durations()
    for duration_s in durations_s.tolist():
        durations.add(duration_s)
    return durations


@pytest.mark.parametrize("scale_s", [1e-7, 3e-5, 1.7e-3, 0.9, 1000.0])
def test_quantiles_are_those_of_the_durations_rounded_up_by_a_32nd(scale_s: float) -> None:
    durations_s = np.random.default_rng(1).lognormal(np.log(scale_s), 1.0, 5000)
    times = counted(durations_s).times()
    for share, found_s in ((50, times.p50_s), (99, times.p99_s)):
        exact_s = np.percentile(durations_s, share, method="inverted_cdf")
        assert exact_s <= found_s <= exact_s * (1 + 1 / 32) + 2e-9
    assert times.max_s == durations_s.max()


def test_octaves_hold_every_duration_between_half_their_end_and_their_end() -> None:
    durations_s = np.random.default_rng(2).lognormal(np.log(2e-4), 1.5, 5000)
    octaves = counted(durations_s).times().octaves
    assert sum(ticks for _, ticks in octaves) == durations_s.size
    assert [end_s for end_s, _ in octaves] == sorted(end_s for end_s, _ in octaves)
    for end_s, ticks in octaves:
        inside = np.count_nonzero((durations_s >= end_s / 2) & (durations_s < end_s))
        assert abs(ticks - inside) <= 1, "a nanosecond may carry one over"


@pytest.mark.parametrize("duration_s", [0.0, 1e-12, 1e-9, 0.5, 1.0, 2.0, 1e5, 1e9])
def test_one_duration_is_every_quantile_whatever_it_is(duration_s: float) -> None:
    times = counted(np.array([duration_s])).times()
    assert times.max_s == duration_s
    assert times.p50_s == times.p99_s == min(duration_s, times.p50_s)
    assert duration_s > 1e5 or times.p50_s == duration_s


def test_memory_does_not_grow() -> None:
    durations = counted(np.linspace(1e-6, 1e-2, 100))
    before = sys.getsizeof(durations._bins)
    for k in range(20_000):
        durations.add(1e-6 * (k % 9000))
    assert sys.getsizeof(durations._bins) == before
    assert sum(durations._bins) == 20_100
