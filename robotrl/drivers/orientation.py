"""Orientation of an IMU that only measures angular velocity and acceleration.

Source: Mahony, Hamel, Pflimlin, "Nonlinear Complementary Filters on the Special Orthogonal Group", IEEE
Transactions on Automatic Control 53(5), 2008: the explicit complementary filter with bias correction, eq.
(32), fed by gravity alone. With k_P and without k_I its angle to the vertical obeys
``tan(angle / 2) ~ exp(-k_P t)``. The heading is what the gyroscope integrates to, and drifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robotrl.drivers.imu import multiply
from robotrl.spec.state import Floats

STANDARD_GRAVITY_M_S2 = 9.80665

_UP = np.array([0.0, 0.0, 1.0])
_PARALLEL = 1e-9
"""Sine below which two directions are the same, or opposite."""


@dataclass(frozen=True, slots=True)
class Gains:
    """What the filter trusts.

    Attributes:
        proportional_hz: k_P: how fast gravity turns the estimate.
        integral_hz2: k_I: how fast gravity finds the gyroscope's bias.
        gravity_tolerance: accelerations whose size differs from 1 g by a larger share are motion, and
            ignored.
        bias_limit_rad_s: no larger bias is believed, about any axis.
    """

    proportional_hz: float = 1.0
    integral_hz2: float = 0.1
    gravity_tolerance: float = 0.1
    bias_limit_rad_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Attitude:
    """The filter's memory.

    Attributes:
        quat: (4,) world <- sensor, w x y z, the world's z axis up.
        bias_rad_s: (3,) of the gyroscope.
    """

    quat: Floats
    bias_rad_s: Floats


def at_rest(accel_m_s2: Floats) -> Attitude:
    """Return the attitude of a sensor at rest that measures a specific force; its heading is zero.

    Args:
        accel_m_s2: (3,) along the sensor's axes, not zero.
    """
    up = accel_m_s2 / np.linalg.norm(accel_m_s2)
    axis, cosine = np.cross(up, _UP), float(up @ _UP)
    if np.linalg.norm(axis) < _PARALLEL:
        quat = np.array([1.0, 0.0, 0.0, 0.0]) if cosine > 0 else np.array([0.0, 1.0, 0.0, 0.0])
        return Attitude(quat, np.zeros(3))
    quat = np.array([1.0 + cosine, *axis])
    return Attitude(quat / np.linalg.norm(quat), np.zeros(3))


def advance(
    attitude: Attitude, gyro_rad_s: Floats, accel_m_s2: Floats, dt_s: float, gains: Gains = Gains()
) -> Attitude:
    """Return the attitude after one sample.

    Args:
        attitude: before it.
        gyro_rad_s: (3,) angular velocity along the sensor's axes.
        accel_m_s2: (3,) specific force along them: +g along z at rest and level.
        dt_s: since the last sample.
        gains: what is trusted.
    """
    predicted = multiply(attitude.quat, _exponential((gyro_rad_s - attitude.bias_rad_s) * dt_s))
    error = _tilt_error(
        predicted, accel_m_s2, gains
    )  # after the turn, as the acceleration was measured there
    quat = multiply(predicted, _exponential(gains.proportional_hz * error * dt_s))
    bias = attitude.bias_rad_s - gains.integral_hz2 * error * dt_s
    limit = gains.bias_limit_rad_s
    return Attitude(quat / np.linalg.norm(quat), np.minimum(np.maximum(bias, -limit), limit))


def _tilt_error(quat: Floats, accel_m_s2: Floats, gains: Gains) -> Floats:
    """Axis in the sensor's frame, times the sine, of the turn that makes measured and expected up one."""
    size = float(np.linalg.norm(accel_m_s2))
    if not abs(size / STANDARD_GRAVITY_M_S2 - 1.0) <= gains.gravity_tolerance:
        return np.zeros(3)
    measured, expected = accel_m_s2 / size, _up_in_sensor(quat)
    error: Floats = np.cross(measured, expected)
    if measured @ expected < 0 and np.linalg.norm(error) < _PARALLEL:  # upside down: any way round will do
        error = np.cross(measured, np.eye(3)[np.argmin(abs(measured))])
    return error


def _up_in_sensor(quat: Floats) -> Floats:
    """(3,) the world's z axis along the sensor's: the last row of the rotation matrix."""
    w, x, y, z = quat.tolist()
    return np.array([2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z])


def _exponential(turn_rad: Floats) -> Floats:
    """(4,) quaternion of a turn about a fixed axis."""
    angle = float(np.linalg.norm(turn_rad))
    return np.array([np.cos(angle / 2), *(0.5 * np.sinc(angle / (2 * np.pi)) * turn_rad)])
