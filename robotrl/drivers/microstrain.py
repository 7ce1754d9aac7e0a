"""MicroStrain's MIP packets, both ways, and the inertial fields inside them.

Source: MicroStrain, "3DM-GX5-25 Data Communications Protocol". A packet is
``75 65 | SET | LEN | fields | SUM1 SUM2`` with LEN = bytes of all fields, a field being
``SIZE | DESCRIPTOR | data`` with SIZE = data + 2. Values are big-endian; the two sums are a Fletcher
checksum over everything before them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from types import MappingProxyType

from robotrl.drivers.framing import FrameFinder, Framing
from robotrl.errors import ProtocolError

IMU_DATA = 0x80
"""Descriptor set of what the inertial sensor measures."""
STANDARD_GRAVITY_M_S2 = 9.80665
"""One unit of `Measurement.ACCEL_G`."""

_START = b"\x75\x65"
_HEAD = 4
_SUMS = 2
_FIELD_HEAD = 2
_MAX_BYTE = 255


class Measurement(IntEnum):
    """Field descriptors of `IMU_DATA`. Body axes are x forward, y right, z down."""

    ACCEL_G = 0x04
    GYRO_RAD_S = 0x05
    MAGNETOMETER_GAUSS = 0x06
    DELTA_THETA_RAD = 0x07
    DELTA_VELOCITY_G_S = 0x08
    ORIENTATION_MATRIX = 0x09
    """Nine numbers by rows: body <- world (north, east, down)."""
    QUATERNION_WXYZ = 0x0A
    """``v_body = Q^-1 v_world Q``."""
    EULER_RAD = 0x0C
    """Roll, pitch, yaw."""


_LAYOUT: Mapping[int, struct.Struct] = MappingProxyType(
    {
        **{int(measurement): struct.Struct(">3f") for measurement in Measurement},
        int(Measurement.ORIENTATION_MATRIX): struct.Struct(">9f"),
        int(Measurement.QUATERNION_WXYZ): struct.Struct(">4f"),
    }
)


@dataclass(frozen=True, slots=True)
class Field:
    """One piece of data."""

    descriptor: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Packet:
    """Commands, replies or data of one descriptor set."""

    descriptor_set: int
    fields: tuple[Field, ...]

    def encode(self) -> bytes:
        """Return the packet's bytes.

        Raises:
            ProtocolError: the fields are longer than one packet can be.
        """
        size = sum(_FIELD_HEAD + len(f.data) for f in self.fields)
        if size > _MAX_BYTE:
            raise ProtocolError(f"the fields of one packet have {_MAX_BYTE} bytes at most, not {size}")
        payload = b"".join(bytes((_FIELD_HEAD + len(f.data), f.descriptor)) + f.data for f in self.fields)
        body = _START + bytes((self.descriptor_set, len(payload))) + payload
        return body + fletcher(body)


def fletcher(data: bytes) -> bytes:
    """Return the two checksum bytes."""
    return bytes((sum(data) & 0xFF, sum(accumulate(data)) & 0xFF))


def imu_packet(measured: Mapping[Measurement, Sequence[float]]) -> Packet:
    """Return a packet of measurements, in the units of `Measurement`."""
    fields = (Field(kind, _LAYOUT[kind].pack(*values)) for kind, values in measured.items())
    return Packet(IMU_DATA, tuple(fields))


def measurements(packet: Packet) -> dict[Measurement, tuple[float, ...]]:
    """Return what a data packet holds; fields that are no `Measurement` are passed over."""
    if packet.descriptor_set != IMU_DATA:
        return {}
    return {
        Measurement(f.descriptor): _LAYOUT[f.descriptor].unpack(f.data)
        for f in packet.fields
        if f.descriptor in _LAYOUT and len(f.data) == _LAYOUT[f.descriptor].size
    }


def decode(frame: bytes) -> Packet:
    """Return the packet of an intact frame."""
    fields, at = [], _HEAD
    while at < len(frame) - _SUMS:
        fields.append(Field(frame[at + 1], frame[at + _FIELD_HEAD : at + frame[at]]))
        at += frame[at]
    return Packet(frame[2], tuple(fields))


def _measure(buffer: bytes | bytearray) -> int:
    return _HEAD + buffer[3] + _SUMS if len(buffer) >= _HEAD else _HEAD


def _intact(frame: bytes) -> bool:
    return fletcher(frame[:-_SUMS]) == frame[-_SUMS:] and _fields_fill(frame)


def _fields_fill(frame: bytes) -> bool:
    """Whether the sizes of the fields add up to the payload, so that they can be taken apart."""
    at, end = _HEAD, len(frame) - _SUMS
    while at < end and frame[at] >= _FIELD_HEAD:
        at += frame[at]
    return at == end


FRAMING = Framing(_START, _measure, _intact, conclusive=True)


class PacketParser:
    """Turns a stream of bytes into packets; see `FrameFinder`."""

    def __init__(self) -> None:
        self._frames = FrameFinder(FRAMING)

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets completed by `data`, in order."""
        return [decode(frame) for frame in self._frames.feed(data)]
