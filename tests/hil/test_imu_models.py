"""The whole robot with each IMU: it opens, holds, and says within how many ticks that its IMU is not well."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest

from robotrl.emulator.faults import FaultScript, LineFault, Window
from robotrl.spec.robot import RobotSpec
from tests.emulator.host import quad12
from tests.hil.on_emulated_time import emulated_robot
from tests.hil.timelines import follows, run_until_strike, shifted, watch

MODELS = ("wt901", "bno08x", "vn100", "gx5")
TICKS, AFTER = 6, 4


@cache
def robot_with(model: str) -> RobotSpec:
    robot = quad12()
    assert robot.imu is not None
    imu = dataclasses.replace(robot.imu, model=model, rate_hz=100)  # type: ignore[arg-type]
    return dataclasses.replace(robot, imu=imu)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", ["imu_silence", "imu_freeze", "imu_nan", "cut"])
def test_an_imu_that_says_nothing_new_is_old_at_once_and_holds_the_robot(model: str, fault: str) -> None:
    robot = robot_with(model)
    record = LineFault("imu", 0.0, 1.0) if fault == "cut" else Window(0.0, 1.0)
    script = shifted({fault: (record,)}, 0, TICKS, 1.0 / robot.control.rate_hz)
    with emulated_robot(robot, script) as emulated:
        run_until_strike(emulated)
        seen = watch(emulated, TICKS + AFTER)
        assert set(seen) == {"old imu", "HOLD limits.imu_stale_s"}
        old, hold = seen["old imu"], seen["HOLD limits.imu_stale_s"]
        assert old[0] <= 1
        assert hold[0] == old[0] + 2  # 50 ms
        assert old[1] <= TICKS
        emulated.rearm()
        assert follows(emulated)


@pytest.mark.parametrize("model", ["wt901", "bno08x", "vn100"])
def test_an_imu_upside_down_is_a_fall_within_two_ticks(model: str) -> None:
    robot = robot_with(model)
    script = shifted({"imu_upside_down": (Window(0.0, 1.0),)}, 0, TICKS, 1.0 / robot.control.rate_hz)
    with emulated_robot(robot, script) as emulated:
        run_until_strike(emulated)
        seen = watch(emulated, TICKS)
        assert seen["DAMP limits.tilt_rad"][0] <= 1


@pytest.mark.parametrize("model", MODELS)
def test_a_healthy_robot_with_any_imu_reports_nothing(model: str) -> None:
    with emulated_robot(robot_with(model), FaultScript()) as emulated:
        run_until_strike(emulated)
        assert watch(emulated, 50) == {}
