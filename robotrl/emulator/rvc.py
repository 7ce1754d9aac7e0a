"""The BNO08x in UART-RVC mode as a device: a frame each hundredth of a second, and no commands."""

from __future__ import annotations

import math

import numpy as np

from robotrl.drivers import bno08x as codec
from robotrl.drivers.bno08x import ACCELERATION, ANGLE, RvcSample
from robotrl.emulator.imu_sensor import EmulatedImu, Figures, Floats, Measured, angles
from robotrl.spec.robot import ImuSpec

_FIGURES = Figures(
    gyro_noise_rad_s=0.0,
    gyro_bias_rad_s=0.0,
    accel_noise_m_s2=0.02,
    accel_bias_m_s2=0.1,
    tilt_noise_rad=math.radians(0.005),
    tilt_bias_rad=math.radians(0.5),
)
"""It sends no angular velocity. Assumptions: the data sheet gives 0.35 m/s^2 and 1.5 to 2 degrees as typical
errors; the fused angles are smooth to half a count."""

_LOWEST, _HIGHEST = -(2**15), 2**15 - 1


class Bno08x(EmulatedImu):
    """One sensor.

    Args:
        spec: mounting; rate and baud rate are fixed.
        rng: for the biases, drawn once, and the noise.
    """

    def __init__(self, spec: ImuSpec, rng: np.random.Generator) -> None:
        super().__init__(spec, rng, _FIGURES)
        self._index = -1

    @property
    def baud_bd(self) -> int:
        """Speed of its line."""
        return codec.BAUD_BD

    @property
    def rate_hz(self) -> int:
        """Frames per second."""
        return codec.RATE_HZ

    def receive(self, data: bytes, time_s: float) -> list[bytes]:
        """Take no notice."""
        del data, time_s
        return []

    def _frames(self, measured: Measured) -> list[bytes]:
        self._index = (self._index + 1) % 256
        roll, pitch, yaw = _in_range(angles(measured.quat), ANGLE, measured.quat)
        x, y, z = _in_range(measured.accel_m_s2, ACCELERATION, measured.accel_m_s2)
        return [codec.encode(RvcSample(self._index, (yaw, pitch, roll), (x, y, z)))]


def _in_range(values: Floats, unit: float, source: Floats) -> list[float]:
    """Return the values as int16 can hold them; the most negative counts where their source is no number."""
    if np.isnan(source).any():
        return [_LOWEST * unit] * len(values)
    return np.clip(values, _LOWEST * unit, _HIGHEST * unit).tolist()  # type: ignore[no-any-return]
