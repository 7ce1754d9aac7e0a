"""Feetech's FT-SCS protocol of STS and SCS servos, both sides of the wire: encoders, parsers, replies.

Source: Feetech, "Communication Protocol User Manual" (191218). A packet is
``FF FF | ID | LEN | INST | params | SUM`` with LEN = params + 2 and SUM = inverted 8-bit sum of
ID..params; a status has ERR in the place of INST. So nothing but the id tells a status packet from an
instruction: on a line that echoes, the host has to take its own bytes off before it parses.

The checksum finds every flipped bit and every changed byte, but one in 256 pieces of noise that look
like a packet. Registers, with the byte order of each series, are in `sts` and `scs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import lru_cache

import numpy as np

from robotrl.drivers.framing import FrameFinder, Framing
from robotrl.drivers.registers import Bytes2D
from robotrl.drivers.replies import Replies
from robotrl.errors import ProtocolError

HEADER = b"\xff\xff"
BROADCAST_ID = 0xFE
MAX_ID = 0xFD
OVERHEAD = 6
"""Bytes of an instruction or status packet without parameters."""
MAX_SIZE = 250
"""Longest packet, as in Feetech's own SDK."""

_PREAMBLE = 4  # header, ID, LEN
_MIN_LENGTH = 2  # INST or ERR, and SUM


class Code(IntEnum):
    """The instruction byte."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


class HardwareError(IntFlag):
    """Bits of a status packet's error byte, and of the registers Status, Unloading and LED Alarm.

    They tell of the servo's state; that an instruction was refused is not told.
    """

    VOLTAGE = 0x01
    ENCODER = 0x02
    OVERHEATING = 0x04
    OVERCURRENT = 0x08
    OVERLOAD = 0x20


@dataclass(frozen=True, slots=True)
class InstructionPacket:
    """What the host sends."""

    id: int
    code: int
    params: bytes = b""

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return _frame(self.id, self.code, self.params)


@dataclass(frozen=True, slots=True)
class StatusPacket:
    """What a servo answers; `error` holds `HardwareError` bits."""

    id: int
    error: int
    params: bytes = b""

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return _frame(self.id, self.error, self.params)


def checksum(body: bytes) -> int:
    """Return the inverted sum of ID..params."""
    return ~sum(body) & 0xFF


def _frame(id_: int, code: int, params: bytes) -> bytes:
    if not 0 <= id_ <= BROADCAST_ID:
        raise ProtocolError(f"id {id_} does not exist; ids are 0 to {MAX_ID} and {BROADCAST_ID}")
    size = OVERHEAD + len(params)
    if size > MAX_SIZE:
        raise ProtocolError(f"a packet of {size} bytes is longer than {MAX_SIZE}")
    body = bytes((id_, len(params) + 2, code)) + params
    return HEADER + body + bytes((checksum(body),))


def ping(id_: int) -> bytes:
    """Ask one servo whether it is there."""
    return InstructionPacket(id_, Code.PING).encode()


def read(id_: int, address: int, size: int) -> bytes:
    """Ask one servo for `size` bytes from `address`."""
    return InstructionPacket(id_, Code.READ, bytes((address, size))).encode()


def write(id_: int, address: int, data: bytes) -> bytes:
    """Write `data` to one servo."""
    return InstructionPacket(id_, Code.WRITE, bytes((address,)) + data).encode()


def reg_write(id_: int, address: int, data: bytes) -> bytes:
    """Let one servo keep a write until `action`."""
    return InstructionPacket(id_, Code.REG_WRITE, bytes((address,)) + data).encode()


def action(id_: int = BROADCAST_ID) -> bytes:
    """Carry out the writes that were kept, on all servos at once unless one is named."""
    return InstructionPacket(id_, Code.ACTION).encode()


def sync_read(address: int, size: int, ids: Sequence[int]) -> bytes:
    """Ask several STS servos for the same bytes; each answers by a status packet, in this order.

    SCS servos do not know this instruction and stay silent.
    """
    return InstructionPacket(BROADCAST_ID, Code.SYNC_READ, bytes((address, size, *ids))).encode()


def sync_write(address: int, ids: Sequence[int], data: Bytes2D) -> bytes:
    """Write to several servos at once; nobody answers.

    Args:
        address: first byte.
        ids: servos, one per row of `data`.
        data: (len(ids), size) bytes.
    """
    rows = np.empty((len(ids), 1 + data.shape[1]), np.uint8)
    rows[:, 0] = ids
    rows[:, 1:] = data
    params = bytes((address, data.shape[1])) + rows.tobytes()
    return InstructionPacket(BROADCAST_ID, Code.SYNC_WRITE, params).encode()


def split_read(params: bytes) -> tuple[int, int, bytes]:
    """Return address, size and the ids of a read (no ids) or sync read.

    Raises:
        ProtocolError: fewer than two bytes.
    """
    if len(params) < 2:  # noqa: PLR2004 - address and size
        raise ProtocolError(f"needs address and size, got {len(params)} bytes")
    return params[0], params[1], params[2:]


def split_write(params: bytes) -> tuple[int, bytes]:
    """Return address and data of a write or reg write.

    Raises:
        ProtocolError: fewer than two bytes.
    """
    if len(params) < 2:  # noqa: PLR2004 - an address and at least one byte
        raise ProtocolError(f"needs address and data, got {len(params)} bytes")
    return params[0], params[1:]


def split_sync_write(params: bytes) -> tuple[int, bytes, Bytes2D]:
    """Return address, ids and (len(ids), size) bytes of a sync write.

    Raises:
        ProtocolError: the last entry is not whole.
    """
    address, size, rest = split_read(params)
    if len(rest) % (1 + size):
        raise ProtocolError(f"a sync write of {size} bytes has {1 + size} for each servo, got {len(rest)}")
    rows = np.frombuffer(rest, np.uint8).reshape(-1, 1 + size)
    return address, rows[:, 0].tobytes(), rows[:, 1:]


def _measure(buffer: bytes | bytearray) -> int:
    if len(buffer) < _PREAMBLE:
        return _PREAMBLE
    size = _PREAMBLE + buffer[3]
    known = buffer[2] <= BROADCAST_ID and buffer[3] >= _MIN_LENGTH
    return size if known and size <= MAX_SIZE else 0


def _intact(frame: bytes) -> bool:
    return checksum(frame[2:-1]) == frame[-1]


FRAMING = Framing(HEADER, _measure, _intact)


class InstructionParser:
    """The servos' side: turns a stream of bytes into instructions; see `FrameFinder`."""

    def __init__(self) -> None:
        self._frames = FrameFinder(FRAMING)

    def reset(self) -> None:
        """Forget a started frame, as a servo does when the line has been idle."""
        self._frames.reset()

    def feed(self, data: bytes) -> list[InstructionPacket]:
        """Return the instructions completed by `data`, in order."""
        return [InstructionPacket(f[2], f[4], f[5:-1]) for f in self._frames.feed(data)]


class StatusParser:
    """The host's side: turns a stream of bytes into answers; see `FrameFinder`."""

    def __init__(self) -> None:
        self._frames = FrameFinder(FRAMING)

    def feed(self, data: bytes) -> list[StatusPacket]:
        """Return the answers completed by `data`, in order."""
        return _statuses(self._frames.feed(data))

    def flush(self) -> list[StatusPacket]:
        """Return the answers behind one whose announced rest will not come."""
        return _statuses(self._frames.flush())


def _statuses(frames: Sequence[bytes]) -> list[StatusPacket]:
    return [StatusPacket(f[2], f[4], f[5:-1]) for f in frames if f[2] != BROADCAST_ID]


def decode_sync_reply(data: bytes, ids: Sequence[int], size: int) -> Replies:
    """Return the answers to a sync read among `data`, which is all that has come since.

    As a rule they end it whole and in order, and are decoded together. Otherwise each servo's answer
    is looked for by its id and size wherever it begins: noise that passes for a packet hides nothing.

    Args:
        data: received bytes, without the echo of the request.
        ids: the servos asked.
        size: bytes asked of each. Answers of another size count as none.
    """
    count, length = len(ids), OVERHEAD + size
    rows = np.frombuffer(data[-count * length :], np.uint8)
    if rows.size == count * length:
        rows = rows.reshape(count, length)
        sums = ~rows[:, 2:-1].sum(axis=1, dtype=np.uint8)
        as_expected = rows[:, :_PREAMBLE].tobytes() == _heads(tuple(ids), size)
        if as_expected and sums.tobytes() == rows[:, -1].tobytes():
            return Replies(rows[:, 5:-1], rows[:, 4], np.ones(count, np.bool_))
    replies = Replies.none_of(count, size)
    for row, id_ in enumerate(ids):
        frame = _find(data, id_, size)
        if frame is not None:
            replies.put(row, frame[4], frame[5:-1])
    return replies


@lru_cache(maxsize=64)
def _heads(ids: tuple[int, ...], size: int) -> bytes:
    """Return what the answers of these servos begin with."""
    return b"".join(HEADER + bytes((id_, size + 2)) for id_ in ids)


def _find(data: bytes, id_: int, size: int) -> bytes | None:
    """Return the first intact answer of one servo with so many bytes of data."""
    head = HEADER + bytes((id_, size + 2))
    at = data.find(head)
    while at >= 0:
        frame = data[at : at + OVERHEAD + size]
        if len(frame) == OVERHEAD + size and _intact(frame):
            return frame
        at = data.find(head, at + 1)
    return None
