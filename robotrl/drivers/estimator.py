"""The estimator's protocol: its packets both ways, and the reader that keeps the newest estimate.

The protocol is robotrl's own. A packet is ``E5 7A COUNT SEQUENCE``, COUNT float32 values (little endian,
SI units, channel after channel as `EstimatorSpec` orders them) and the CRC-16 of all bytes before it
(little endian, `robotrl.drivers.crc`). SEQUENCE grows by one from packet to packet and wraps after 255: a
packet that repeats it is the last one again and no news. The device sends by itself, at its own rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from robotrl.drivers.crc import crc16
from robotrl.drivers.framing import FrameFinder, Framing
from robotrl.drivers.port import Port
from robotrl.errors import PortError, ProtocolError
from robotrl.spec.lines import ESTIMATE_OVERHEAD_BYTES, ESTIMATE_VALUE_BYTES
from robotrl.spec.robot import EstimatorSpec
from robotrl.spec.state import Floats

HEADER = b"\xe5\x7a"
OVERHEAD = ESTIMATE_OVERHEAD_BYTES
"""Bytes beside the values: header, count, sequence number and CRC."""
MOST_VALUES = 255


@dataclass(frozen=True)
class Packet:
    """One packet.

    Attributes:
        sequence: its number, 0 to 255.
        values: (COUNT,) as float32 carries them.
    """

    sequence: int
    values: Floats


def encode(sequence: int, values: Floats) -> bytes:
    """Return the bytes of a packet.

    Raises:
        ProtocolError: more values than a packet holds, or no such number.
    """
    if len(values) > MOST_VALUES or not 0 <= sequence <= 255:  # noqa: PLR2004 - one byte each
        raise ProtocolError(f"no packet holds {len(values)} values under number {sequence}")
    body = HEADER + bytes((len(values), sequence)) + np.asarray(values, "<f4").tobytes()
    return body + crc16(body).to_bytes(2, "little")


class PacketParser:
    """Turns a stream of bytes into packets; see `FrameFinder`."""

    def __init__(self) -> None:
        self._frames = FrameFinder(FRAMING)

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets completed by `data`, in order."""
        return [
            Packet(frame[3], np.frombuffer(frame[4:-2], "<f4").astype(np.float64))
            for frame in self._frames.feed(data)
        ]


def _measure(buffer: bytes | bytearray) -> int:
    return OVERHEAD + ESTIMATE_VALUE_BYTES * buffer[2] if len(buffer) > len(HEADER) else OVERHEAD


def _intact(frame: bytes) -> bool:
    return crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little")


FRAMING = Framing(HEADER, _measure, _intact, conclusive=True)


class Estimator:
    """Keeps the newest estimate of every channel.

    Args:
        port: where the packets come from.
        spec: what they hold; packets with another number of values are passed over.

    Attributes:
        size: number of values in a packet.
        channels: name -> values, NaN before the first packet.
        stamp_s: time of the poll that brought them; -inf before the first.
        odd_count: values in the last packet that was passed over; None if there was none.
    """

    def __init__(self, port: Port, spec: EstimatorSpec) -> None:
        self._port = port
        self._shapes = spec.channels
        self.size = sum(math.prod(shape) for shape in self._shapes.values())
        self._parser = PacketParser()
        self._sequence = -1
        self.stamp_s = -math.inf
        self.odd_count: int | None = None
        self.channels: Mapping[str, Floats] = self._split(np.full(self.size, np.nan))

    @property
    def complete(self) -> bool:
        """Whether there is an estimate."""
        return self._sequence >= 0

    def poll(self, now_s: float) -> None:
        """Take in everything that has arrived, stamped `now_s`; a port that has gone brings nothing."""
        try:
            data = self._port.drain()
        except PortError:
            return
        for packet in self._parser.feed(data):
            if len(packet.values) != self.size:
                self.odd_count = len(packet.values)
            elif packet.sequence != self._sequence:
                self._sequence, self.stamp_s = packet.sequence, now_s
                self.channels = self._split(packet.values)

    def _split(self, values: Floats) -> Mapping[str, Floats]:
        ends = np.cumsum([math.prod(shape) for shape in self._shapes.values()])
        parts = zip(self._shapes.items(), np.split(values, ends[:-1]), strict=True)
        return {name: part.reshape(shape) for (name, shape), part in parts}
