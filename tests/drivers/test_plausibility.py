"""Which answers a servo can have given: the law that stands in for a checksum that is only a sum."""

from __future__ import annotations

import numpy as np
import pytest

from robotrl.drivers.plausibility import Plausibility
from tests.feetech_robot import feetech_robot

SERVO = next(iter(feetech_robot().servo.values()))
TICK_S = 0.02
ALL = np.ones(2, np.bool_)
STILL = np.zeros(2)


def judge(judged: Plausibility, tick: float, *position_rad: float) -> list[bool]:
    """Let two servos say where they are."""
    believed: list[bool] = judged.judge(tick * TICK_S, np.array(position_rad), STILL, ALL).tolist()
    return believed


def started() -> Plausibility:
    """Two servos that were at 0 and 1 rad."""
    judged = Plausibility([SERVO, SERVO])
    assert judge(judged, 0, 0.0, 1.0) == [True, True]
    return judged


def test_the_fastest_motion_of_the_motor_is_believed() -> None:
    judged = started()
    for tick in range(1, 20):
        turned = SERVO.no_load_speed_rad_s * tick * TICK_S
        assert judge(judged, tick, turned, 1.0 - turned) == [True, True]


def test_a_single_jump_is_not_believed_and_the_others_are_not_concerned() -> None:
    judged = started()
    assert judge(judged, 1, 2.0, 1.0) == [False, True]
    assert judge(judged, 2, 0.0, 1.0) == [True, True]
    assert judge(judged, 3, 2.0, 1.0) == [False, True]


def test_a_jump_that_is_seen_twice_is_believed() -> None:
    judged = started()
    assert judge(judged, 1, 2.0, 1.0) == [False, True]
    assert judge(judged, 2, 2.01, 1.0) == [True, True]


def test_after_a_silence_a_servo_may_be_further_away() -> None:
    judged = started()
    nobody = np.zeros(2, np.bool_)
    assert not judged.judge(TICK_S, np.zeros(2), STILL, nobody).any()
    assert judge(judged, 20, 2.0, 1.0) == [True, True]


@pytest.mark.parametrize("sign", [-1, 1])
def test_no_motor_is_twice_as_fast_as_without_load(sign: int) -> None:
    judged = started()
    speed = sign * SERVO.no_load_speed_rad_s * np.array([1.9, 2.1])
    assert judged.judge(TICK_S, np.array([0.0, 1.0]), speed, ALL).tolist() == [True, False]


def test_the_reads_that_wait_for_the_imu_have_no_time_and_are_believed() -> None:
    judged = Plausibility([SERVO, SERVO])
    assert judged.judge(-np.inf, np.zeros(2), STILL, ALL).all()
    assert judged.judge(-np.inf, np.ones(2), STILL, ALL).all()
    assert judge(judged, 0, 1.5, 1.0) == [True, True]
