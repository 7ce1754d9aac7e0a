"""The VN-100 as a device: its first binary output, and the commands that set it up.

Source: VectorNav, VN-100 user manual; noise from its data sheet. Other registers and outputs are not
emulated and answered as not known.
"""

from __future__ import annotations

import math

import numpy as np

from robotrl.drivers import vectornav as codec
from robotrl.drivers.vectornav import Field
from robotrl.drivers.vn100 import ASCII_OUTPUT, BINARY_OUTPUT, IMU_RATE_HZ, MEASURED, Z_UP, ascii_command
from robotrl.emulator.imu_sensor import EmulatedImu, Figures, Floats, Measured
from robotrl.spec.robot import ImuSpec

_BANDWIDTH_HZ = 100
"""Assumption: half of a usual rate, for the noise densities."""
_G = 9.80665

_FIGURES = Figures(
    gyro_noise_rad_s=math.radians(0.0035) * math.sqrt(_BANDWIDTH_HZ),
    gyro_bias_rad_s=math.radians(10.0) / 3600,
    accel_noise_m_s2=0.14e-3 * _G * math.sqrt(_BANDWIDTH_HZ),
    accel_bias_m_s2=0.04e-3 * _G,
    tilt_noise_rad=math.radians(0.02),
    tilt_bias_rad=math.radians(0.5),
)
"""Densities 0.0035 deg/s/sqrt(Hz) and 0.14 mg/sqrt(Hz), in-run biases 10 deg/h and 0.04 mg, 0.5 degrees of
pitch and roll. The orientation's noise is an assumption."""

_BAD_CHECKSUM, _NO_COMMAND, _BAD_PARAMETER, _NO_REGISTER = 3, 4, 7, 8
"""Codes of `VNERR`."""
_LONGEST_COMMAND = 128


class Vn100(EmulatedImu):
    """One sensor, set up as robot.toml says and saved.

    Args:
        spec: rate, baud rate, mounting.
        rng: for the biases, drawn once, and the noise.
    """

    def __init__(self, spec: ImuSpec, rng: np.random.Generator) -> None:
        super().__init__(spec, rng, _FIGURES)
        self._baud_bd: int = spec.baud_bd
        self._divisor = IMU_RATE_HZ // spec.rate_hz
        self._sent: tuple[Field, ...] = MEASURED
        self._buffer = b""

    @property
    def baud_bd(self) -> int:
        """Speed of its line."""
        return self._baud_bd

    @property
    def rate_hz(self) -> int:
        """Messages per second now, whole ones."""
        return IMU_RATE_HZ // self._divisor

    def receive(self, data: bytes, time_s: float) -> list[bytes]:
        """Take bytes of the host's, carry out the commands that they complete, and answer each."""
        del time_s
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self._buffer = self._buffer[-_LONGEST_COMMAND:]
        return [
            ascii_command(self._answer(line[line.rfind(b"$") :].strip())) for line in lines if b"$" in line
        ]

    def _answer(self, line: bytes) -> str:
        body = line[1:].partition(b"*")[0].decode("ascii", "replace")
        if not body.isascii() or ascii_command(body).strip() != line:
            return f"VNERR,{_BAD_CHECKSUM:02d}"
        command, *parameters = body.split(",")
        if command == "VNWNV":
            return body
        error = self._write(parameters) if command == "VNWRG" else _NO_COMMAND
        return f"VNERR,{error:02d}" if error else body

    def _write(self, parameters: list[str]) -> int:
        """Write a register; return the error, 0 if there is none."""
        register, *values = parameters or [""]
        if register == f"{ASCII_OUTPUT:02d}":
            return 0 if values == ["0"] else _BAD_PARAMETER  # ASCII output is not emulated
        if register != str(BINARY_OUTPUT):
            return _NO_REGISTER
        try:
            port, divisor = int(values[0]), int(values[1])
            groups, fields = int(values[2], 16), int(values[3], 16)
        except (ValueError, IndexError):
            return _BAD_PARAMETER
        sent = tuple(field for field in Field if fields & 1 << field)
        if port not in (0, 1, 2, 3) or divisor < 1 or groups != 1 or not set(sent) <= set(MEASURED):
            return _BAD_PARAMETER
        self._divisor, self._sent = divisor, sent if port & 1 else ()
        return 0

    def _frames(self, measured: Measured) -> list[bytes]:
        w, x, y, z = measured.quat
        values: dict[Field, Floats] = {
            Field.QUATERNION_XYZW: np.array([x, -y, -z, w]),
            Field.ANGULAR_RATE_RAD_S: Z_UP * measured.gyro_rad_s,
            Field.ACCEL_M_S2: Z_UP * measured.accel_m_s2,
        }
        return (
            [codec.encode({field: tuple(values[field].tolist()) for field in self._sent})]
            if self._sent
            else []
        )
