"""Before the first tick: wait until every joint and every sensor of the robot have answered."""

from __future__ import annotations

import math

from robotrl.errors import DeviceError
from robotrl.runtime.clock import Clock, Pacer
from robotrl.runtime.parts import Body
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import RobotState

SENSING_TIMEOUT_S = 2.0
"""How long the first complete measurement may take after the body is open."""


def await_sensing(robot: RobotSpec, body: Body, clock: Clock, pacer: Pacer) -> None:
    """Read until there is something to judge.

    Args:
        robot: what `body` is.
        body: open.
        clock: of the time-out.
        pacer: when to read.

    Raises:
        DeviceError: no complete measurement within `SENSING_TIMEOUT_S`; names what is silent.
    """
    give_up_s = clock.now_s() + SENSING_TIMEOUT_S
    while silent := _silent(robot, body.read(clock.now_s())):
        if clock.now_s() >= give_up_s:
            raise DeviceError(f"no measurement within {SENSING_TIMEOUT_S} s from {', '.join(silent)}")
        pacer.wait()


def _silent(robot: RobotSpec, state: RobotState) -> list[str]:
    ages = zip(robot.joint_names, state.joint_age_s, strict=True)
    silent = [f"joint {name}" for name, age_s in ages if math.isinf(age_s)]
    if robot.imu and math.isinf(state.imu_age_s):
        silent.append("the IMU")
    if robot.estimator and math.isinf(state.estimate_age_s):
        silent.append("the estimator")
    return silent
