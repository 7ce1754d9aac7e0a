"""Time to limp, judged from the truth log of an emulated robot."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robotrl.bench.stall import judge
from robotrl.errors import DeviceError

STAMP_S = np.array([5.0 + 0.01 * k for k in range(8)])


@pytest.mark.parametrize(
    ("first_off", "last_off", "limp_s", "stays"),
    [
        ((3, 9), (3, 9), 0.005, True),
        ((5, 9), (6, 9), 0.035, True),  # the last servo counts
        ((4, 6), (3, 9), 0.015, False),  # stiff again
        ((9, 9), (3, 9), math.inf, False),
    ],
)
def test_a_robot_is_limp_when_its_last_servo_is(
    first_off: tuple[int, int], last_off: tuple[int, int], limp_s: float, stays: bool
) -> None:
    enabled = np.ones((8, 2), bool)
    enabled[slice(*first_off), 0] = False
    enabled[slice(*last_off), 1] = False
    found_s, found_stays = judge(STAMP_S, enabled, 5.025)
    assert found_s == pytest.approx(limp_s)
    assert found_stays is stays


def test_a_robot_that_was_limp_before_tells_nothing() -> None:
    enabled = np.ones((8, 2), bool)
    enabled[2, 1] = False
    with pytest.raises(DeviceError, match="limp before"):
        judge(STAMP_S, enabled, 5.025)
