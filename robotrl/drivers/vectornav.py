"""VectorNav's binary output, Common group, both ways.

Source: VectorNav, VN-100 user manual, "Binary Output Messages". A message is
``FA | GROUPS | FIELDS (2 bytes for each group) | payload | CRC`` with all values little-endian and the
CRC-16-CCITT (initial value 0, high byte first) over everything after ``FA``. The Common group holds all
that an inertial sensor measures; messages with other groups are passed over.
"""

from __future__ import annotations

import struct
from binascii import crc_hqx
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from robotrl.drivers.framing import FrameFinder, Framing

Values = Mapping["Field", tuple[float, ...]]
"""What a message holds, in the units and frames of `Field`."""

_START = b"\xfa"
_COMMON = 0x01
_HEAD = 4
"""Sync, groups, fields."""
_CRC = 2


class Field(IntEnum):
    """Bits of the Common group's field word, in the order of the payload.

    Body axes are x forward, y right, z down; the world is north, east, down.
    """

    TIME_STARTUP_NS = 0
    TIME_GPS_NS = 1
    TIME_SYNC_IN_NS = 2
    YAW_PITCH_ROLL_DEG = 3
    QUATERNION_XYZW = 4
    """Attitude to the world; the scalar comes last."""
    ANGULAR_RATE_RAD_S = 5
    POSITION_DEG_DEG_M = 6
    VELOCITY_M_S = 7
    ACCEL_M_S2 = 8
    """Specific force; (0, 0, -9.8) at rest and level."""
    UNCOMPENSATED_ACCEL_M_S2_RATE_RAD_S = 9
    MAGNETIC_GAUSS_TEMPERATURE_C_PRESSURE_KPA = 10
    DELTA_TIME_S_THETA_DEG_VELOCITY_M_S = 11
    INS_STATUS = 12
    SYNC_IN_COUNT = 13
    TIME_GPS_PPS_NS = 14


_LAYOUT: Mapping[Field, struct.Struct] = MappingProxyType(
    {
        field: struct.Struct("<" + layout)
        for field, layout in zip(
            Field,
            ("Q", "Q", "Q", "3f", "4f", "3f", "3d", "3f", "3f", "6f", "5f", "7f", "H", "I", "Q"),
            strict=True,
        )
    }
)


def encode(values: Values) -> bytes:
    """Return the message of some fields."""
    fields = sorted(values)
    word = sum(1 << field for field in fields)
    payload = b"".join(_LAYOUT[field].pack(*values[field]) for field in fields)
    body = bytes((_COMMON,)) + word.to_bytes(2, "little") + payload
    return _START + body + crc_hqx(body, 0).to_bytes(_CRC, "big")


def decode(frame: bytes) -> dict[Field, tuple[float, ...]]:
    """Return what an intact message holds."""
    values, at = {}, _HEAD
    for field in _fields(frame):
        layout = _LAYOUT[field]
        values[field] = layout.unpack_from(frame, at)
        at += layout.size
    return values


def _fields(frame: bytes | bytearray) -> list[Field]:
    word = frame[2] | frame[3] << 8
    return [field for field in Field if word & 1 << field]


def _measure(buffer: bytes | bytearray) -> int:
    if len(buffer) < _HEAD:
        return _HEAD
    fields = _fields(buffer)
    extended = buffer[3] & 0x80
    if buffer[1] != _COMMON or extended or not fields:
        return 0
    return _HEAD + sum(_LAYOUT[field].size for field in fields) + _CRC


def _intact(frame: bytes) -> bool:
    return crc_hqx(frame[1:], 0) == 0


FRAMING = Framing(_START, _measure, _intact, conclusive=True)


class MessageParser:
    """Turns a stream of bytes into messages; see `FrameFinder`."""

    def __init__(self) -> None:
        self._frames = FrameFinder(FRAMING)

    def feed(self, data: bytes) -> list[dict[Field, tuple[float, ...]]]:
        """Return what the messages completed by `data` hold, in order."""
        return [decode(frame) for frame in self._frames.feed(data)]
