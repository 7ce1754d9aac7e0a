"""Laws of pacing: no drift, overruns counted, no burst after a stall."""

from __future__ import annotations

import dataclasses
import time

import pytest

from robotrl.runtime.clock import FakeClock, Pacer, RealClock, Wake, with_patient_buses
from tests.laws.rig import QUAD12

PERIOD_S = 0.0625
"""A power of two, so that sums are exact."""


class LateClock(FakeClock):
    """A clock that oversleeps."""

    def sleep_until(self, deadline_s: float) -> None:
        """Wake a quarter of a period late."""
        super().sleep_until(deadline_s)
        self.advance(PERIOD_S / 4)


def test_ticks_on_time_are_on_the_grid_for_ever() -> None:
    clock = FakeClock(3.0)
    pacer = Pacer(clock, PERIOD_S)
    for k in range(1, 1000):
        clock.advance(PERIOD_S * (k % 7) / 8)
        assert pacer.wait() == Wake(0.0, False, 0)
        assert clock.now_s() == 3.0 + k * PERIOD_S


def test_oversleeping_is_reported_and_does_not_add_up() -> None:
    clock = LateClock(3.0)
    pacer = Pacer(clock, PERIOD_S)
    for k in range(1, 1000):
        assert pacer.wait() == Wake(PERIOD_S / 4, False, 0)
        assert clock.now_s() == 3.0 + (k + 0.25) * PERIOD_S


@pytest.mark.parametrize(
    ("work", "late", "overrun", "skipped"),
    [
        (0.0, 0.0, False, 0),
        (0.5, 0.0, False, 0),
        (1.0, 0.0, False, 0),
        (1.25, 0.25, True, 0),
        (1.75, 0.75, True, 0),
        (2.0, 0.0, True, 1),
        (2.5, 0.5, True, 1),
        (9.25, 0.25, True, 8),
    ],
)
def test_work_beyond_the_deadline_is_an_overrun_and_whole_periods_are_skipped(
    work: float, late: float, overrun: bool, skipped: int
) -> None:
    clock = FakeClock()
    pacer = Pacer(clock, PERIOD_S)
    clock.advance(work * PERIOD_S)
    assert pacer.wait() == Wake(late * PERIOD_S, overrun, skipped)
    clock.advance(PERIOD_S / 8)
    assert pacer.wait() == Wake(0.0, False, 0), "a stall is followed by one tick and not by a burst"
    assert clock.now_s() == (2 + skipped) * PERIOD_S


def test_every_deadline_has_a_tick_or_is_counted_as_skipped() -> None:
    clock = FakeClock()
    pacer = Pacer(clock, PERIOD_S)
    wakes = []
    for k in range(500):
        clock.advance(PERIOD_S * (k * 37 % 64) / 16)
        wakes.append(pacer.wait())
    deadlines = (clock.now_s() - wakes[-1].late_s) / PERIOD_S
    assert len(wakes) + sum(w.skipped for w in wakes) == deadlines


def test_the_real_clock_does_not_wake_early() -> None:
    clock = RealClock()
    before_s = time.monotonic()
    assert before_s <= clock.now_s()
    clock.sleep_until(before_s + 0.01)
    assert time.monotonic() >= before_s + 0.01
    clock.sleep_until(before_s)


def test_patience_changes_the_reply_time_out_alone() -> None:
    patient = with_patient_buses(QUAD12)
    assert patient.bus["legs"].reply_timeout_s > 10 * QUAD12.bus["legs"].reply_timeout_s
    restored = {
        name: dataclasses.replace(patient.bus[name], reply_timeout_s=bus.reply_timeout_s)
        for name, bus in QUAD12.bus.items()
    }
    assert dataclasses.replace(patient, bus=restored) == QUAD12
