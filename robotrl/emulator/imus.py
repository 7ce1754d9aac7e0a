"""Firmware of the WT901: frames at its rate, quantised and noisy, and the configuration commands.

Source of protocol and defaults: WitMotion, "WT901 Datasheet v20-0702" section 5 and "WIT Standard
Communication Protocol". Time is always an argument.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np
from numpy.typing import NDArray

from robotrl.drivers import imu as codec
from robotrl.drivers.imu import Kind, Register
from robotrl.emulator.plant import ImuTruth
from robotrl.spec.robot import ImuSpec

Floats = NDArray[np.float64]

GYRO_NOISE_RAD_S = math.radians(0.1)
"""Per sample: "total RMS noise" of the MPU-9250 inside, 0.1 deg/s, from its data sheet."""
GYRO_BIAS_RAD_S = math.radians(0.3)
"""Standard deviation of the bias left after the sensor's own calibration. Assumption."""
ACCEL_NOISE_M_S2 = 0.008 * 9.81
"""Per sample: "total RMS noise" of the MPU-9250, 8 mg, from its data sheet."""
ACCEL_BIAS_M_S2 = 0.02 * 9.81
"""Standard deviation. Assumption."""
TILT_BIAS_RAD = math.radians(0.3)
"""Constant error of the fused orientation, standard deviation per axis. Assumption."""
TILT_NOISE_RAD = math.radians(0.05)
"""Noise of the fused orientation: the data sheet's static accuracy in roll and pitch."""

UNLOCK_S = 10.0
"""Commands must follow the unlock within this time."""
_UNLOCK = 0x69
_UNLOCK_KEY = 0xB588
_COMMAND_SIZE = 5
_COMMAND_START = b"\xff\xaa"
_SAVE, _FACTORY, _RESTART = 0x0000, 0x0001, 0x00FF
_FACTORY_CONTENT = 0x001E  # acceleration, angular velocity, angle, magnetic field
_FACTORY_SETTINGS: dict[int, int] = {
    Register.CONTENT: _FACTORY_CONTENT,
    Register.RATE: codec.RATE_CODES[10],
    Register.BAUD: codec.BAUD_CODES[9600],
}
_RATES_HZ = {code: rate for rate, code in codec.RATE_CODES.items()}
_BAUDS_BD = {code: baud for baud, code in codec.BAUD_CODES.items()}
_SENT = (Kind.ACCEL, Kind.GYRO, Kind.ANGLE, Kind.QUATERNION)


class Wt901:
    """One sensor, set up as robot.toml says and saved, mounted on the trunk at the `imu` site.

    Frames of the magnetometer, of time, ports, pressure and position are not emulated: their bits in
    the content register are kept and nothing is sent for them. Codes of rates and baud rates beyond
    those in robot.toml's choice are ignored.

    Args:
        spec: rate, baud rate, mounting.
        rng: for the biases, drawn once, and the noise.
    """

    def __init__(self, spec: ImuSpec, rng: np.random.Generator) -> None:
        self._mount = np.array(spec.mount_quat) / np.linalg.norm(spec.mount_quat)
        self._rng = rng
        self._gyro_bias = rng.normal(0.0, GYRO_BIAS_RAD_S, 3)
        self._accel_bias = rng.normal(0.0, ACCEL_BIAS_M_S2, 3)
        self._tilt_bias = rng.normal(0.0, TILT_BIAS_RAD, 3)
        self._settings: dict[int, int] = {
            Register.CONTENT: codec.CONTENT,
            Register.RATE: codec.RATE_CODES[spec.rate_hz],
            Register.BAUD: codec.BAUD_CODES[spec.baud_bd],
        }
        self._saved = dict(self._settings)
        self._unlocked_until_s = -math.inf
        self._buffer = b""
        self.next_sample_s = 0.0
        """When the next frames are due."""

    @property
    def baud_bd(self) -> int:
        """Speed of its line now."""
        return _BAUDS_BD[self._settings[Register.BAUD]]

    @property
    def rate_hz(self) -> int:
        """Samples per second now."""
        return _RATES_HZ[self._settings[Register.RATE]]

    def sample(self, time_s: float, truth: ImuTruth) -> list[bytes]:
        """Measure; return the frames of the configured content, in the order they are sent."""
        self.next_sample_s = time_s + 1.0 / self.rate_hz
        measured = self._measure(truth)
        content = self._settings[Register.CONTENT]
        return [codec.encode(kind, measured[kind]) for kind in _SENT if content & 1 << (kind - 0x50)]

    def _measure(self, truth: ImuTruth) -> dict[Kind, Floats]:
        """The truth in the sensor's axes, with bias and noise."""
        noise = self._rng.normal(size=(3, 3))
        to_sensor = codec.conjugate(self._mount)
        gyro = _rotated(truth.gyro_rad_s, to_sensor) + self._gyro_bias + GYRO_NOISE_RAD_S * noise[0]
        accel = _rotated(truth.accel_m_s2, to_sensor) + self._accel_bias + ACCEL_NOISE_M_S2 * noise[1]
        error = _small_rotation(self._tilt_bias + TILT_NOISE_RAD * noise[2])
        quat = _product(_product(truth.quat, self._mount), error)
        return {Kind.ACCEL: accel, Kind.GYRO: gyro, Kind.ANGLE: _angles(quat), Kind.QUATERNION: quat}

    def receive(self, data: bytes, time_s: float) -> None:
        """Take bytes of the host's; carry out the commands that they complete."""
        self._buffer += data
        while (start := self._buffer.find(_COMMAND_START)) >= 0:
            command = self._buffer[start : start + _COMMAND_SIZE]
            if len(command) < _COMMAND_SIZE:
                return
            self._buffer = self._buffer[start + _COMMAND_SIZE :]
            self._obey(command[2], int.from_bytes(command[3:], "little"), time_s)
        self._buffer = self._buffer[-1:]

    def _obey(self, register: int, value: int, time_s: float) -> None:
        if register == _UNLOCK:
            self._unlocked_until_s = time_s + UNLOCK_S if value == _UNLOCK_KEY else -math.inf
        elif time_s > self._unlocked_until_s:
            return
        elif register == Register.SAVE:
            self._save_or_restart(value)
        elif _allowed(register, value):
            self._settings[register] = value

    def _save_or_restart(self, value: int) -> None:
        if value == _SAVE:
            self._saved = dict(self._settings)
        elif value == _RESTART:
            self._settings = dict(self._saved)
        elif value == _FACTORY:
            self._settings = dict(_FACTORY_SETTINGS)
            self._saved = dict(_FACTORY_SETTINGS)


def _allowed(register: int, value: int) -> bool:
    """Whether a register exists here and takes the value."""
    if register == Register.RATE:
        return value in _RATES_HZ
    if register == Register.BAUD:
        return value in _BAUDS_BD
    return register in set(Register)


def _rotated(vector: Floats, quat: Floats) -> Floats:
    result = np.empty(3)
    mujoco.mju_rotVecQuat(result, vector, quat)
    return result


def _product(first: Floats, second: Floats) -> Floats:
    result = np.empty(4)
    mujoco.mju_mulQuat(result, first, second)
    return result


def _small_rotation(vector_rad: Floats) -> Floats:
    """Unit quaternion of a rotation vector of a few degrees at most."""
    x, y, z = vector_rad / 2
    return np.array([1.0, x, y, z]) / math.sqrt(1.0 + x * x + y * y + z * z)


def _angles(quat: Floats) -> Floats:
    """Roll, pitch, yaw of a unit quaternion w x y z, rad; yaw about z first."""
    w, x, y, z = quat
    roll = math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = math.asin(max(-1.0, min(1.0, 2 * (w * y - z * x))))
    yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return np.array([roll, pitch, yaw])
