"""Twenty seconds of the soak on emulated time: no stall, no leak, no file lost; and its own counting."""

from __future__ import annotations

import numpy as np
import pytest

from robotrl.bench.soak import RATE_HZ, Tally, bench_soak, damage, emulated, open_files, soak, soaked_robot
from robotrl.drivers.body import SerialBody
from robotrl.emulator.faults import FaultScript
from robotrl.errors import BadInputError
from robotrl.runtime.clock import RealClock
from robotrl.spec.state import RobotState
from tests.hil.on_emulated_time import emulated_robot

SECONDS = 20


def test_twenty_seconds_with_damaged_packets_neither_stall_nor_leak() -> None:
    robot = soaked_robot()
    with emulated_robot(robot, damage(robot)) as emulated_one:
        figures = soak(robot, emulated_one.body, emulated_one.time, round(SECONDS * RATE_HZ))
        assert emulated_one.machine.buses["legs"].torque_enabled.all()
    assert figures["ticks"] == SECONDS * RATE_HZ
    assert figures["stalls_over_2_periods"] == 0
    assert figures["hardware_errors"] == 0
    assert 0 < figures["unheard_share"] < 0.01  # most of what was damaged is had by a retry
    assert figures["oldest_measurement_ms"] <= 2 * 1000 / RATE_HZ
    assert figures["resident_end_mib"] - figures["resident_start_mib"] < 2.0
    assert figures["files_end"] == figures["files_start"]


def state(age_s: float, error: int = 0) -> RobotState:
    """A measurement of two joints of which one is old."""
    nan = np.full(2, np.nan)
    ages = np.array([0.0, age_s])
    errors = np.array([0, error])
    return RobotState(0.0, nan, nan, nan, nan, nan, errors, ages, nan, nan, nan, 0.0)


def test_the_tally_counts_what_it_says() -> None:
    tally = Tally(0.005, 2)
    for tick_s in (0.001, 0.004, 0.006, 0.0099, 0.0101, 0.5):
        tally.add(state(0.005 if tick_s > 0.007 else 0.0, error=tick_s > 0.4), tick_s)
    figures = tally.figures()
    assert figures["ticks"] == 6
    assert figures["missed_deadlines"] == 4
    assert figures["stalls_over_2_periods"] == 2
    assert figures["unheard_share"] == 3 / 12
    assert figures["oldest_measurement_ms"] == 5.0
    assert figures["hardware_errors"] == 1
    assert figures["tick_max_ms"] == 500.0
    assert 6.0 <= figures["tick_p50_ms"] <= 6.1


def test_the_wall_clock_version_has_a_robot_that_ends_with_it() -> None:
    robot = soaked_robot()
    files = open_files()
    with emulated(robot, FaultScript()) as (_, ports):
        body = SerialBody(robot, ports)
        body.open()
        assert (body.read(RealClock().now_s()).joint_age_s < 1e9).all()
        body.close()
    assert open_files() == files


def test_no_time_is_refused() -> None:
    with pytest.raises(BadInputError, match="--minutes"):
        bench_soak(0.0, print)
