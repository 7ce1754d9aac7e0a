"""The histogram of a run's phases, as `robotrl run` prints it."""

from __future__ import annotations

import pytest

from robotrl.cli.run import bars
from robotrl.runtime.tally import Durations

FIRST_S, LAST_S = 1.5e-6, 0.9
"""In the first octave above 1 us, 2^-20 s, and in the last one below 1 s."""


def drawn(*durations_s: float) -> str:
    """The bars of some durations."""
    durations = Durations()
    for duration_s in durations_s:
        durations.add(duration_s)
    return bars(durations.times().octaves)


@pytest.mark.parametrize(
    ("duration_s", "place"), [(FIRST_S, 0), (3e-6, 1), (1.1e-3, 10), (LAST_S, 19), (1e-8, None), (5.0, None)]
)
def test_each_octave_has_its_place(duration_s: float, place: int | None) -> None:
    row = [" "] * 20
    if place is not None:
        row[place] = "▁"
    assert drawn(duration_s) == "".join(row)


def test_a_step_is_ten_times_as_often() -> None:
    assert drawn(*[FIRST_S] * 9, *[LAST_S] * 10) == "▁" + " " * 18 + "▂"
    assert bars([(2.0**-10, 10**k) for k in (3,)])[9] == "▄"
    assert bars([(2.0**-10, 10**12)])[9] == "█"
