"""The BNO08x's UART-RVC output ("robot vacuum cleaner"): heading, tilt and acceleration, both ways.

Source: CEVA, BNO080/85 data sheet, "UART-RVC protocol": 100 frames a second at 115200 baud of
``AA AA INDEX`` + six int16 (yaw, pitch, roll, x, y, z) + three reserved bytes + 8-bit sum of what lies
between. There is no angular velocity.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from robotrl.drivers.framing import FrameFinder, Framing

BAUD_BD = 115200
RATE_HZ = 100
FRAME_SIZE = 19
ANGLE = math.radians(0.01)
"""Radians of one count."""
ACCELERATION = 9.80665e-3
"""m/s^2 of one count, a thousandth of g."""

_START = b"\xaa\xaa"
_LAYOUT = struct.Struct("<B6h3x")


@dataclass(frozen=True, slots=True)
class RvcSample:
    """One frame.

    Attributes:
        index: counts frames, 0 to 255 and again.
        yaw_pitch_roll_rad: rotations about z, y and x; yaw counts from where the sensor started.
        accel_m_s2: specific force, x y z, gravity included.
    """

    index: int
    yaw_pitch_roll_rad: tuple[float, float, float]
    accel_m_s2: tuple[float, float, float]


def encode(sample: RvcSample) -> bytes:
    """Return the sample's frame, rounded to counts; `struct.error` where a value does not fit."""
    angles = (round(angle / ANGLE) for angle in sample.yaw_pitch_roll_rad)
    forces = (round(force / ACCELERATION) for force in sample.accel_m_s2)
    body = _LAYOUT.pack(sample.index, *angles, *forces)
    return _START + body + bytes((sum(body) & 0xFF,))


def decode(frame: bytes) -> RvcSample:
    """Return the sample of an intact frame."""
    index, yaw, pitch, roll, x, y, z = _LAYOUT.unpack(frame[2:-1])
    return RvcSample(
        index,
        (yaw * ANGLE, pitch * ANGLE, roll * ANGLE),
        (x * ACCELERATION, y * ACCELERATION, z * ACCELERATION),
    )


def _measure(_buffer: bytes | bytearray) -> int:
    return FRAME_SIZE


def _intact(frame: bytes) -> bool:
    return sum(frame[2:-1]) & 0xFF == frame[-1]


FRAMING = Framing(_START, _measure, _intact)


class RvcParser:
    """Turns a stream of bytes into samples; see `FrameFinder`."""

    def __init__(self) -> None:
        self._frames = FrameFinder(FRAMING)

    def feed(self, data: bytes) -> list[RvcSample]:
        """Return the samples completed by `data`, in order."""
        return [decode(frame) for frame in self._frames.feed(data)]
