"""The BNO08x in UART-RVC mode as an IMU: its angular velocity is that between two orientations.

The mode has no gyro output and no commands; two pins of the chip select it. One count of angle in one
hundredth of a second is 0.017 rad/s: so coarse is the angular velocity, and half a frame late.
"""

from __future__ import annotations

import math

import numpy as np

from robotrl.drivers.bno08x import RATE_HZ, RvcParser, RvcSample
from robotrl.drivers.imu import ImuReader, Sample, conjugate, multiply
from robotrl.drivers.port import Port
from robotrl.spec.robot import ImuSpec
from robotrl.spec.state import Floats

_INDICES = 256
_LONGEST_GAP = 10
"""Frames between two orientations from which no angular velocity is made any more."""
_HALF_TURN_RAD = math.pi + 1e-3
"""Angles beyond it are none; pitch goes half as far."""


class Bno08x(ImuReader):
    """A BNO08x that sends 100 frames a second.

    Args:
        port: where the bytes come from.
        imu: mounting.
    """

    def __init__(self, port: Port, imu: ImuSpec) -> None:
        super().__init__(port, imu)
        self._parser = RvcParser()
        self._before: tuple[RvcSample, Floats] | None = None

    def configure(self) -> None:
        """Do nothing: there is nothing to set."""

    def _newest(self, data: bytes) -> Sample:
        sample = Sample()
        for frame in self._parser.feed(data):
            quat = orientation(frame)
            gyro = None if self._before is None else _turn_rate(*self._before, frame, quat)
            # What hangs would seem to stand still: the rate of the last real turn is kept instead.
            if self._before is None or not _same(self._before[0], frame):
                sample = Sample(quat, gyro, np.array(frame.accel_m_s2))
            self._before = frame, quat
        return sample


def orientation(frame: RvcSample) -> Floats:
    """Return (4,) w x y z of a frame, world <- sensor; NaN where its angles are none."""
    yaw, pitch, roll = frame.yaw_pitch_roll_rad
    if max(abs(yaw), 2 * abs(pitch), abs(roll)) > _HALF_TURN_RAD:
        return np.full(4, np.nan)
    about_z = np.array([math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)])
    about_y = np.array([math.cos(pitch / 2), 0.0, math.sin(pitch / 2), 0.0])
    about_x = np.array([math.cos(roll / 2), math.sin(roll / 2), 0.0, 0.0])
    return multiply(multiply(about_z, about_y), about_x)


def _turn_rate(before: RvcSample, quat_before: Floats, now: RvcSample, quat: Floats) -> Floats | None:
    """(3,) mean angular velocity between two frames in the sensor's axes; None where too many are missing."""
    gap = (now.index - before.index) % _INDICES
    if not 0 < gap <= _LONGEST_GAP:
        return None
    turn = multiply(conjugate(quat_before), quat)
    length = float(np.linalg.norm(turn[1:]))
    angle = 2 * math.atan2(length, abs(float(turn[0])))
    towards = math.copysign(angle / length, float(turn[0])) if length > 0 else 0.0
    rate: Floats = towards * turn[1:] * RATE_HZ / gap
    return rate


def _same(before: RvcSample, now: RvcSample) -> bool:
    return (before.yaw_pitch_roll_rad, before.accel_m_s2) == (now.yaw_pitch_roll_rad, now.accel_m_s2)
