"""Firmware of the WT901: frames at its rate, quantised and noisy, and the configuration commands.

Source of protocol and defaults: WitMotion, "WT901 Datasheet v20-0702" section 5 and "WIT Standard
Communication Protocol". Time is always an argument.
"""

from __future__ import annotations

import math

import numpy as np

from robotrl.drivers import imu as codec
from robotrl.drivers.imu import Kind, Register
from robotrl.emulator.imu_sensor import EmulatedImu, Figures, Floats, Measured, angles
from robotrl.spec.robot import ImuSpec

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


_FIGURES = Figures(
    gyro_noise_rad_s=GYRO_NOISE_RAD_S,
    gyro_bias_rad_s=GYRO_BIAS_RAD_S,
    accel_noise_m_s2=ACCEL_NOISE_M_S2,
    accel_bias_m_s2=ACCEL_BIAS_M_S2,
    tilt_noise_rad=TILT_NOISE_RAD,
    tilt_bias_rad=TILT_BIAS_RAD,
)


class Wt901(EmulatedImu):
    """One sensor, set up as robot.toml says and saved.

    Frames of the magnetometer, of time, ports, pressure and position are not emulated: their bits in
    the content register are kept and nothing is sent for them. Codes of rates and baud rates beyond
    those in robot.toml's choice are ignored.

    Args:
        spec: rate, baud rate, mounting.
        rng: for the biases, drawn once, and the noise.
    """

    def __init__(self, spec: ImuSpec, rng: np.random.Generator) -> None:
        super().__init__(spec, rng, _FIGURES)
        self._settings: dict[int, int] = {
            Register.CONTENT: codec.CONTENT,
            Register.RATE: codec.RATE_CODES[spec.rate_hz],
            Register.BAUD: codec.BAUD_CODES[spec.baud_bd],
        }
        self._saved = dict(self._settings)
        self._unlocked_until_s = -math.inf
        self._buffer = b""

    @property
    def baud_bd(self) -> int:
        """Speed of its line now."""
        return _BAUDS_BD[self._settings[Register.BAUD]]

    @property
    def rate_hz(self) -> int:
        """Samples per second now."""
        return _RATES_HZ[self._settings[Register.RATE]]

    def _frames(self, measured: Measured) -> list[bytes]:
        values: dict[Kind, Floats] = {
            Kind.ACCEL: measured.accel_m_s2,
            Kind.GYRO: measured.gyro_rad_s,
            Kind.ANGLE: angles(measured.quat),
            Kind.QUATERNION: measured.quat,
        }
        content = self._settings[Register.CONTENT]
        return [
            codec.encode(kind, np.nan_to_num(values[kind], nan=-math.inf))
            for kind in _SENT
            if content & 1 << (kind - 0x50)
        ]

    def receive(self, data: bytes, time_s: float) -> list[bytes]:
        """Take bytes of the host's; carry out the commands that they complete. None is answered."""
        self._buffer += data
        while (start := self._buffer.find(_COMMAND_START)) >= 0:
            command = self._buffer[start : start + _COMMAND_SIZE]
            if len(command) < _COMMAND_SIZE:
                return []
            self._buffer = self._buffer[start + _COMMAND_SIZE :]
            self._obey(command[2], int.from_bytes(command[3:], "little"), time_s)
        self._buffer = self._buffer[-1:]
        return []

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
