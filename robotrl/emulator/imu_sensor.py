"""What every emulated IMU has in common: a measurement with bias and noise, its rate, and its faults."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import mujoco
import numpy as np
from numpy.typing import NDArray

from robotrl.drivers.imu import conjugate
from robotrl.emulator.plant import ImuTruth
from robotrl.emulator.sampling import next_sample_s
from robotrl.spec.robot import ImuSpec

Floats = NDArray[np.float64]

_HALF_TURN_ABOUT_X = np.array([0.0, 1.0, 0.0, 0.0])


@dataclass(frozen=True)
class Figures:
    """How wrong a sensor is: standard deviations of its noise per sample and of its constant biases."""

    gyro_noise_rad_s: float
    gyro_bias_rad_s: float
    accel_noise_m_s2: float
    accel_bias_m_s2: float
    tilt_noise_rad: float
    """Of the fused orientation, per axis."""
    tilt_bias_rad: float


@dataclass(frozen=True)
class Measured:
    """One measurement: world <- sensor quaternion w x y z, and vectors in the sensor's axes, SI."""

    quat: Floats
    gyro_rad_s: Floats
    accel_m_s2: Floats


_NO_NUMBERS = Measured(np.full(4, np.nan), np.full(3, np.nan), np.full(3, np.nan))


class EmulatedImu(ABC):
    """One sensor on the trunk at the `imu` site. Time is always an argument.

    Args:
        spec: rate, baud rate, mounting.
        rng: for the biases, drawn once, and the noise.
        figures: its errors.
    """

    def __init__(self, spec: ImuSpec, rng: np.random.Generator, figures: Figures) -> None:
        self._mount = np.array(spec.mount_quat) / np.linalg.norm(spec.mount_quat)
        self._rng = rng
        self._figures = figures
        self._gyro_bias = rng.normal(0.0, figures.gyro_bias_rad_s, 3)
        self._accel_bias = rng.normal(0.0, figures.accel_bias_m_s2, 3)
        self._tilt_bias = rng.normal(0.0, figures.tilt_bias_rad, 3)
        self._measured = _NO_NUMBERS
        self.next_sample_s = 0.0
        """When the next sample is due."""
        self.frozen = False
        """Whether it goes on sending its last measurement."""
        self.broken = False
        """Whether it sends no numbers."""
        self.upside_down = False
        """Whether it is turned by half a turn about the trunk's x axis."""

    @property
    @abstractmethod
    def baud_bd(self) -> int:
        """Speed of its line now."""

    @property
    @abstractmethod
    def rate_hz(self) -> int:
        """Samples per second now."""

    @abstractmethod
    def receive(self, data: bytes, time_s: float) -> list[bytes]:
        """Take bytes of the host's, carry out the commands that they complete, and return its answers."""

    @abstractmethod
    def _frames(self, measured: Measured) -> list[bytes]:
        """Return what it sends of a measurement; where the format has no NaN, the most negative counts."""

    def sample(self, time_s: float, truth: ImuTruth) -> list[bytes]:
        """Measure; return the frames in the order in which they are sent."""
        self.next_sample_s = next_sample_s(time_s, self.rate_hz)
        if not self.frozen:
            self._measured = self._measure(_turned_over(truth) if self.upside_down else truth)
        return self._frames(_NO_NUMBERS if self.broken else self._measured)

    def _measure(self, truth: ImuTruth) -> Measured:
        """The truth in the sensor's axes, with bias and noise."""
        figures = self._figures
        noise = self._rng.normal(size=(3, 3))
        to_sensor = conjugate(self._mount)
        gyro = rotated(truth.gyro_rad_s, to_sensor) + self._gyro_bias + figures.gyro_noise_rad_s * noise[0]
        accel = rotated(truth.accel_m_s2, to_sensor) + self._accel_bias + figures.accel_noise_m_s2 * noise[1]
        error = _small_rotation(self._tilt_bias + figures.tilt_noise_rad * noise[2])
        return Measured(product(product(truth.quat, self._mount), error), gyro, accel)


def _turned_over(truth: ImuTruth) -> ImuTruth:
    """Return what a perfect IMU measures whose axes are turned by half a turn about x."""
    return replace(
        truth,
        quat=product(truth.quat, _HALF_TURN_ABOUT_X),
        gyro_rad_s=rotated(truth.gyro_rad_s, _HALF_TURN_ABOUT_X),
        accel_m_s2=rotated(truth.accel_m_s2, _HALF_TURN_ABOUT_X),
    )


def rotated(vector: Floats, quat: Floats) -> Floats:
    """Return a vector turned by a unit quaternion."""
    result = np.empty(3)
    mujoco.mju_rotVecQuat(result, vector, quat)
    return result


def product(first: Floats, second: Floats) -> Floats:
    """Return the product of two quaternions."""
    result = np.empty(4)
    mujoco.mju_mulQuat(result, first, second)
    return result


def _small_rotation(vector_rad: Floats) -> Floats:
    """Unit quaternion of a rotation vector of a few degrees at most."""
    x, y, z = vector_rad / 2
    return np.array([1.0, x, y, z]) / math.sqrt(1.0 + x * x + y * y + z * z)


def angles(quat: Floats) -> Floats:
    """Roll, pitch, yaw of a unit quaternion w x y z, rad; yaw about z first."""
    w, x, y, z = quat
    roll = math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = math.asin(max(-1.0, min(1.0, 2 * (w * y - z * x))))
    yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return np.array([roll, pitch, yaw])
