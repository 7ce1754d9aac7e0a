"""Laws of the senses that a robot may lack: what it has is watched, what it has not is not asked for."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from robotrl.spec.gate import Level
from robotrl.spec.robot import EstimatorSpec, RobotSpec
from robotrl.spec.state import Floats
from tests.laws.rig import TICK_S, Gate, robot_with

STALE_S = 0.1
NO_IMU: dict[str, Any] = {
    "imu_quat": np.full(4, math.nan),
    "imu_gyro_rad_s": np.full(3, math.nan),
    "imu_accel_m_s2": np.full(3, math.nan),
    "imu_age_s": math.inf,
}


def blind() -> RobotSpec:
    """A robot without an IMU."""
    robot = robot_with(3, tilt_rad=None, imu_stale_s=None, on_fall=None)
    return dataclasses.replace(robot, imu=None)


def estimating() -> RobotSpec:
    """The same with an estimator."""
    limits = dataclasses.replace(blind().limits, estimator_stale_s=STALE_S)
    return dataclasses.replace(
        blind(), limits=limits, estimator=EstimatorSpec("/dev/null", 921600, 100, ("finger",), ("tip",))
    )


def told(angle_rad: float = 0.3) -> dict[str, Floats]:
    return {"passive_joint_pos": np.array([angle_rad]), "point_pos": np.zeros(3)}


def test_without_an_imu_nothing_is_asked_of_one() -> None:
    gate = Gate(blind())
    for _ in range(5):
        assert gate.tick(**NO_IMU).level is Level.NONE


def test_without_an_imu_the_joints_are_watched_as_ever() -> None:
    gate = Gate(blind())
    gate.settle()
    assert gate.tick(joint_age_s=np.full(3, 1.0), **NO_IMU).causes == {"limits.joint_stale_s"}


def test_without_an_estimator_no_estimate_is_asked_for() -> None:
    gate = Gate(blind())
    assert gate.tick(estimate={"point_pos": np.array([math.nan])}, **NO_IMU).level is Level.NONE


@pytest.mark.parametrize(
    ("age_s", "lost"),
    [
        (0.0, False),
        (STALE_S, False),
        (STALE_S + 1e-9, True),
        (-1e-9, True),
        (math.inf, True),
        (math.nan, True),
    ],
)
def test_an_estimate_is_fresh_or_lost(age_s: float, lost: bool) -> None:
    gate = Gate(estimating())
    verdict = gate.tick(estimate=told(), estimate_age_s=age_s, **NO_IMU)
    assert (verdict.causes == {"limits.estimator_stale_s"}) is lost
    assert (verdict.level is Level.HOLD) is lost


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_an_estimate_that_is_no_number_is_lost(odd: float) -> None:
    gate = Gate(estimating())
    assert gate.tick(estimate=told(odd), estimate_age_s=0.0, **NO_IMU).causes == {"estimate"}


def test_an_estimate_ages_while_the_state_waits() -> None:
    gate = Gate(estimating())
    stamp_s = gate.now_s + TICK_S - 0.02
    assert gate.tick(stamp_s=stamp_s, estimate=told(), estimate_age_s=STALE_S - 0.02, **NO_IMU).level == 0
    stamp_s = gate.now_s + TICK_S - 0.02
    verdict = gate.tick(stamp_s=stamp_s, estimate=told(), estimate_age_s=STALE_S - 0.019, **NO_IMU)
    assert verdict.causes == {"limits.estimator_stale_s"}
