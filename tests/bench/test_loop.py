"""The bench of the loop counts what it says, and its wire waits are those of the port."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from robotrl.bench.loop import MeteredClock, RelativeClock, Wire, bench_loop, looped_robot
from robotrl.errors import BadInputError
from robotrl.runtime.clock import FakeClock, Pacer, Wake

PERIOD_S = 0.0625
"""A power of two, so that sums are exact."""
LATE_S = PERIOD_S / 8


class LateClock(FakeClock):
    """A clock that oversleeps."""

    def sleep_until(self, deadline_s: float) -> None:
        """Wake up late."""
        super().sleep_until(deadline_s)
        self.advance(LATE_S)


class Work:
    """The work of a loop's ticks: half a period, of which a quarter of a period for the wire."""

    def __init__(self) -> None:
        self.clock = LateClock(100.0)
        self.waited_s = 0.0
        self.longer = {20: 1.0, 40: 3.5}
        """Tick -> periods that it takes longer."""

    def run(self, metered: MeteredClock, ticks: int = 100) -> list[Wake]:
        """Tick."""
        pacer = Pacer(metered, PERIOD_S)
        wakes = [pacer.wait()]
        for tick in range(ticks):
            self.clock.advance(PERIOD_S * (0.5 + self.longer.get(tick, 0.0)))
            self.waited_s += PERIOD_S / 4
            wakes.append(pacer.wait())
        return wakes


def test_a_loop_with_deadlines_has_lateness_and_no_drift() -> None:
    work = Work()
    metered = MeteredClock(work.clock, lambda: work.waited_s)
    wakes = work.run(metered)
    ticks = metered.ticks(0.0, 1e9)
    figures = ticks.figures(PERIOD_S)
    late_us, period_us = 1e6 * LATE_S, 1e6 * PERIOD_S
    assert figures["rate_hz"] == 16.0
    assert figures["ticks"] == 100
    assert abs(figures["drift_s"]) <= PERIOD_S
    assert figures["lateness_us"]["p50"] == pytest.approx(late_us)
    assert figures["software_us"]["p50"] == pytest.approx(period_us / 4)
    assert figures["tick_us"]["p50"] == pytest.approx(period_us / 2)
    assert figures["tick_us"]["max"] == pytest.approx(4 * period_us)
    assert figures["missed"] == sum(wake.overrun + wake.skipped for wake in wakes) == 3 + 3


def test_ticks_without_a_stall_miss_nothing_and_do_not_drift() -> None:
    work = Work()
    work.longer = {}
    metered = MeteredClock(work.clock, lambda: work.waited_s)
    work.run(metered, 1000)
    figures = metered.ticks(0.0, 1e9).figures(PERIOD_S)
    assert (figures["missed"], figures["drift_s"], figures["ticks"]) == (0, 0.0, 1000)


def test_a_loop_that_sleeps_relatively_drifts_by_each_oversleeping() -> None:
    work = Work()
    work.longer = {}
    relative = RelativeClock(work.clock, lambda: work.waited_s, PERIOD_S)
    work.run(relative, 100)
    figures = relative.ticks(0.0, 1e9).relative_figures(PERIOD_S)
    assert figures["drift_s"] == pytest.approx(99 * LATE_S)
    assert figures["missed"] == 0
    assert "lateness_us" not in figures


def test_only_ticks_of_the_window_count() -> None:
    work = Work()
    metered = MeteredClock(work.clock, lambda: work.waited_s)
    work.run(metered)
    some = metered.ticks(100.0 + 5 * PERIOD_S, 100.0 + 10 * PERIOD_S)
    np.testing.assert_allclose(some.deadline_s, 100.0 + PERIOD_S * np.arange(5, 10))
    assert some.figures(PERIOD_S)["missed"] == 0


def test_the_wire_counts_the_waiting_for_bytes_and_nothing_else() -> None:
    master, slave = os.openpty()
    wire = Wire()
    port = wire.open(os.ttyname(slave), 115200)
    try:
        port.drain()
        assert wire.waited_s == 0.0
        started_s = time.perf_counter()
        assert port.read(time.monotonic() + 0.02) == b""
        assert 0.019 <= wire.waited_s <= time.perf_counter() - started_s
        before_s = wire.waited_s
        threading.Timer(0.02, os.write, (master, b"answer")).start()
        assert port.read(time.monotonic() + 5.0)
        assert wire.waited_s > before_s
    finally:
        port.close()
        os.close(master)
        os.close(slave)


def test_the_looped_robot_has_the_policys_rate_and_a_faster_loop() -> None:
    robot = looped_robot(500.0)
    assert (robot.control.rate_hz, robot.control.ticks_per_step) == (50.0, 10)
    assert robot.policy_hash == looped_robot(200.0).policy_hash


def test_no_time_is_refused() -> None:
    with pytest.raises(BadInputError, match="--seconds"):
        bench_loop(0.0, print)
