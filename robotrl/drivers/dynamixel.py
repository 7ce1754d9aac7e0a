"""DYNAMIXEL Protocol 2.0, both sides of the wire: pure encoders, and one incremental parser.

Source: ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0". A packet is
``FF FF FD 00 | ID | LEN_L LEN_H | INST | params | CRC_L CRC_H`` with LEN = bytes after itself. Inside
INST..params every ``FF FF FD`` is sent as ``FF FF FD FD`` (byte stuffing), LEN and CRC counted after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
from numpy.typing import NDArray

from robotrl.errors import ProtocolError

Bytes2D = NDArray[np.uint8]
"""(servos, bytes of a register or block)."""

HEADER = b"\xff\xff\xfd\x00"
BROADCAST_ID = 0xFE
MAX_ID = 0xFC
OVERHEAD = 10
"""Bytes of an instruction packet without parameters."""
STATUS_OVERHEAD = 11
"""Bytes of a status packet without parameters."""
FAST_HEADER = 8
"""Bytes before the first block of a fast sync read's reply."""
FAST_BLOCK_OVERHEAD = 4
"""ERR, ID and CRC around the data of one servo in a fast sync read's reply."""
MAX_LENGTH = 1024
"""Longest LEN believed: more than 30 servos x 25 bytes, and short enough to resynchronise soon."""

_PREAMBLE = 7  # header, ID, LEN
_MIN_LENGTH = 3  # INST and CRC


class Code(IntEnum):
    """The instruction byte."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REBOOT = 0x08
    STATUS = 0x55
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    FAST_SYNC_READ = 0x8A


class Fault(IntEnum):
    """Why a servo refused an instruction: low seven bits of a status packet's error byte."""

    NONE = 0
    RESULT_FAIL = 1
    INSTRUCTION = 2
    CRC = 3
    DATA_RANGE = 4
    DATA_LENGTH = 5
    DATA_LIMIT = 6
    ACCESS = 7


class ErrorBit(IntFlag):
    """High bit of the error byte: Hardware Error Status (70) is not zero."""

    ALERT = 0x80


@dataclass(frozen=True, slots=True)
class InstructionPacket:
    """What the host sends."""

    id: int
    code: int
    params: bytes = b""

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return _frame(self.id, bytes((self.code,)) + self.params)


@dataclass(frozen=True, slots=True)
class StatusPacket:
    """What a servo answers; `id` 0xFE is the reply to a fast sync read, `params` then raw blocks."""

    id: int
    error: int
    params: bytes = b""

    @property
    def alert(self) -> bool:
        """Whether the servo reports a hardware error."""
        return bool(self.error & ErrorBit.ALERT)

    @property
    def fault(self) -> int:
        """The refusal, as in `Fault`; 0 when the instruction was carried out."""
        return self.error & ~ErrorBit.ALERT

    def encode(self) -> bytes:
        """Return the packet's bytes."""
        return _frame(self.id, bytes((Code.STATUS, self.error)) + self.params)


Packet = InstructionPacket | StatusPacket


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (0x8005 if crc & 0x8000 else 0)
        table.append(crc & 0xFFFF)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc16(data: bytes, crc: int = 0) -> int:
    """Return the CRC-16 (polynomial 0x8005, not reflected) of `data`, continuing from `crc`."""
    table = _CRC_TABLE
    for byte in data:
        crc = ((crc << 8) & 0xFF00) ^ table[(crc >> 8) ^ byte]
    return crc


def stuff(body: bytes) -> bytes:
    """Make INST..params free of the header sequence."""
    return body.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")


def unstuff(body: bytes) -> bytes:
    """Undo `stuff`."""
    return body.replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")


def _frame(id_: int, body: bytes) -> bytes:
    """Wrap INST..params with header, length, stuffing and CRC."""
    if not (0 <= id_ <= MAX_ID or id_ == BROADCAST_ID):
        raise ProtocolError(f"id {id_} does not exist; ids are 0 to {MAX_ID} and {BROADCAST_ID}")
    return _close(id_, stuff(body))


def _close(id_: int, body: bytes) -> bytes:
    """Add header, length and CRC to a body that needs no stuffing or has it."""
    length = len(body) + 2
    if length > MAX_LENGTH:
        raise ProtocolError(f"a packet of length {length} is longer than {MAX_LENGTH}")
    packet = HEADER + bytes((id_, length & 0xFF, length >> 8)) + body
    return packet + crc16(packet).to_bytes(2, "little")


def ping(id_: int) -> bytes:
    """Ask one servo (or all, by `BROADCAST_ID`) for its model number and firmware."""
    return InstructionPacket(id_, Code.PING).encode()


def read(id_: int, address: int, size: int) -> bytes:
    """Ask one servo for `size` bytes from `address`."""
    return InstructionPacket(id_, Code.READ, _span(address, size)).encode()


def write(id_: int, address: int, data: bytes) -> bytes:
    """Write `data` to one servo."""
    return InstructionPacket(id_, Code.WRITE, address.to_bytes(2, "little") + data).encode()


def reboot(id_: int) -> bytes:
    """Restart one servo: torque goes off and RAM to its initial values."""
    return InstructionPacket(id_, Code.REBOOT).encode()


def sync_read(address: int, size: int, ids: Sequence[int], *, fast: bool = False) -> bytes:
    """Ask several servos for the same bytes: one status packet each, or one frame in all when `fast`."""
    code = Code.FAST_SYNC_READ if fast else Code.SYNC_READ
    return InstructionPacket(BROADCAST_ID, code, _span(address, size) + bytes(ids)).encode()


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
    params = _span(address, data.shape[1]) + rows.tobytes()
    return InstructionPacket(BROADCAST_ID, Code.SYNC_WRITE, params).encode()


def _span(address: int, size: int) -> bytes:
    return address.to_bytes(2, "little") + size.to_bytes(2, "little")


def split_span(params: bytes) -> tuple[int, int, bytes]:
    """Return address, size and the rest of the parameters of a read or sync instruction.

    Raises:
        ProtocolError: fewer than four bytes.
    """
    if len(params) < 4:  # noqa: PLR2004 - address and size
        raise ProtocolError(f"needs address and size, got {len(params)} bytes")
    return int.from_bytes(params[:2], "little"), int.from_bytes(params[2:4], "little"), params[4:]


def fast_header(count: int, size: int) -> bytes:
    """Return the eight bytes that open the reply of `count` servos with `size` bytes each."""
    length = 1 + count * (FAST_BLOCK_OVERHEAD + size)
    return HEADER + bytes((BROADCAST_ID, length & 0xFF, length >> 8, Code.STATUS))


def encode_fast_reply(replies: Sequence[StatusPacket]) -> bytes:
    """Return the one frame that answers a fast sync read, not stuffed.

    Every block ``ERR ID DATA CRC`` is sent by its own servo; the CRC runs over everything from the
    header on, so the last one is also the frame's.
    """
    frame = fast_header(len(replies), len(replies[0].params))
    crc = crc16(frame)
    for reply in replies:
        block = bytes((reply.error, reply.id)) + reply.params
        crc = crc16(block, crc)
        tail = crc.to_bytes(2, "little")
        crc = crc16(tail, crc)
        frame += block + tail
    return frame


def decode_fast_reply(data: bytes, count: int, size: int) -> list[StatusPacket]:
    """Find the reply of `count` servos with `size` bytes each in `data` and return its leading blocks.

    A frame that breaks off, or is corrupt from some block on, still yields the blocks before: each
    CRC covers all bytes before it. Frames of other lengths, echoes and noise are passed over.
    """
    header = fast_header(count, size)
    best: list[StatusPacket] = []
    start = data.find(header)
    while start >= 0 and len(best) < count:
        blocks = _fast_blocks(data[start:], count, size)
        best = max(best, blocks, key=len)
        start = data.find(header, start + 1)
    return best


def _fast_blocks(frame: bytes, count: int, size: int) -> list[StatusPacket]:
    blocks: list[StatusPacket] = []
    crc = crc16(frame[:FAST_HEADER])
    for k in range(count):
        at = FAST_HEADER + k * (FAST_BLOCK_OVERHEAD + size)
        body, tail = frame[at : at + 2 + size], frame[at + 2 + size : at + FAST_BLOCK_OVERHEAD + size]
        crc = crc16(body, crc)
        if len(tail) < 2 or crc != int.from_bytes(tail, "little"):  # noqa: PLR2004 - a CRC's bytes
            break
        crc = crc16(tail, crc)
        blocks.append(StatusPacket(body[1], body[0], body[2:]))
    return blocks


class PacketParser:
    """Turns a stream of bytes into packets, whatever surrounds them.

    Noise, echoes, broken frames and frames inside broken frames are dealt with the same way: a
    candidate header whose length or CRC is wrong costs one byte, and the search goes on after it.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def reset(self) -> None:
        """Forget a started frame, as a servo does when the line has been idle."""
        self._buffer.clear()

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets completed by `data`, in order."""
        self._buffer += data
        packets: list[Packet] = []
        while (frame := self._next_frame()) is not None:
            packets.append(_packet(frame))
        return packets

    def _next_frame(self) -> bytes | None:
        """Cut the next valid frame off the buffer; None when more bytes are needed."""
        buffer = self._buffer
        while (start := buffer.find(HEADER)) >= 0:
            del buffer[:start]
            if len(buffer) < _PREAMBLE:
                return None
            total = _PREAMBLE + int.from_bytes(buffer[5:7], "little")
            if _plausible(buffer[4], total - _PREAMBLE):
                if len(buffer) < total:
                    return None
                frame = bytes(buffer[:total])
                if crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little"):
                    del buffer[:total]
                    return frame
            del buffer[0]
        del buffer[: max(0, len(buffer) - len(HEADER) + 1)]  # may end in the start of a header
        return None


def _plausible(id_: int, length: int) -> bool:
    return _MIN_LENGTH <= length <= MAX_LENGTH and (id_ <= MAX_ID or id_ == BROADCAST_ID)


def _packet(frame: bytes) -> Packet:
    """Decode a frame whose CRC is right."""
    id_, body = frame[4], frame[_PREAMBLE:-2]
    if body[0] != Code.STATUS:
        body = unstuff(body)
        return InstructionPacket(id_, body[0], body[1:])
    if id_ != BROADCAST_ID:  # a fast reply is not stuffed
        body = unstuff(body)
    return StatusPacket(id_, body[1] if len(body) > 1 else 0, body[2:])
