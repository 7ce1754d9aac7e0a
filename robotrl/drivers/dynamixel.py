"""DYNAMIXEL Protocol 2.0, both sides of the wire: pure encoders, and one incremental parser.

Source: ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0". A packet is
``FF FF FD 00 | ID | LEN_L LEN_H | INST | params | CRC_L CRC_H`` with LEN = bytes after itself. Inside
INST..params every ``FF FF FD`` is sent as ``FF FF FD FD`` (byte stuffing), LEN and CRC counted after it.
Bulk instructions and replies of many servos as arrays are in `dynamixel_group`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np

from robotrl.drivers.crc import crc16
from robotrl.drivers.framing import FrameFinder, Framing
from robotrl.drivers.registers import Bytes2D
from robotrl.errors import ProtocolError

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
CLEAR_TURNS = b"\x01\x44\x58\x4c\x22"
"""Parameters of a clear: what is cleared, and a word that nobody sends by accident."""
MAX_LENGTH = 1024
"""Longest LEN believed: more than 30 servos x 25 bytes, and short enough to resynchronise soon."""

_PREAMBLE = 7  # header, ID, LEN
_MIN_LENGTH = 3  # INST and CRC


class Code(IntEnum):
    """The instruction byte."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    FACTORY_RESET = 0x06
    REBOOT = 0x08
    CLEAR = 0x10
    STATUS = 0x55
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    FAST_SYNC_READ = 0x8A
    BULK_READ = 0x92
    BULK_WRITE = 0x93


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


class Reset(IntEnum):
    """What a factory reset returns to its initial value."""

    EXCEPT_ID = 0x01
    EXCEPT_ID_AND_BAUD_RATE = 0x02
    ALL = 0xFF


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


def reg_write(id_: int, address: int, data: bytes) -> bytes:
    """Let one servo keep a write until `action`."""
    return InstructionPacket(id_, Code.REG_WRITE, address.to_bytes(2, "little") + data).encode()


def action(id_: int = BROADCAST_ID) -> bytes:
    """Carry out the writes that were kept, on all servos at once unless one is named."""
    return InstructionPacket(id_, Code.ACTION).encode()


def reboot(id_: int) -> bytes:
    """Restart one servo: torque goes off and RAM to its initial values."""
    return InstructionPacket(id_, Code.REBOOT).encode()


def clear(id_: int) -> bytes:
    """Bring Present Position into one turn again, by whole turns; refused while the servo moves."""
    return InstructionPacket(id_, Code.CLEAR, CLEAR_TURNS).encode()


def factory_reset(id_: int, reset: Reset, *, erase_settings: bool = False) -> bytes:
    """Return a servo's EEPROM to what it was ex works.

    Args:
        id_: the servo.
        reset: what is lost. With `Reset.ALL` the servo answers as id 1 at 57600 baud afterwards.
        erase_settings: must be given as True: limits, offsets and gains are gone for good.

    Raises:
        ProtocolError: without `erase_settings`, or all of all servos, which servos refuse (firmware 42).
    """
    if not erase_settings:
        raise ProtocolError(f"factory reset of servo {id_}: its settings are lost; needs erase_settings=True")
    if id_ == BROADCAST_ID and reset is Reset.ALL:
        raise ProtocolError("servos refuse a broadcast factory reset of everything: all would have id 1")
    return InstructionPacket(id_, Code.FACTORY_RESET, bytes((reset,))).encode()


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


def split_write(params: bytes) -> tuple[int, bytes]:
    """Return address and data of a write or reg write.

    Raises:
        ProtocolError: fewer than three bytes.
    """
    if len(params) < 3:  # noqa: PLR2004 - an address and at least one byte
        raise ProtocolError(f"needs address and data, got {len(params)} bytes")
    return int.from_bytes(params[:2], "little"), params[2:]


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
    """Turns a stream of bytes into packets, whatever surrounds them; see `FrameFinder`."""

    def __init__(self) -> None:
        self._frames = FrameFinder(FRAMING)

    def reset(self) -> None:
        """Forget a started frame, as a servo does when the line has been idle."""
        self._frames.reset()

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets completed by `data`, in order."""
        return [_packet(frame) for frame in self._frames.feed(data)]

    def flush(self) -> list[Packet]:
        """Return the packets behind one whose announced rest will not come."""
        return [_packet(frame) for frame in self._frames.flush()]


def _measure(buffer: bytes | bytearray) -> int:
    if len(buffer) < _PREAMBLE:
        return _PREAMBLE
    length = buffer[5] | buffer[6] << 8
    known = buffer[4] <= MAX_ID or buffer[4] == BROADCAST_ID
    return _PREAMBLE + length if known and _MIN_LENGTH <= length <= MAX_LENGTH else 0


def _intact(frame: bytes) -> bool:
    return crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little")


FRAMING = Framing(HEADER, _measure, _intact)


def _packet(frame: bytes) -> Packet:
    """Decode a frame whose CRC is right."""
    id_, body = frame[4], frame[_PREAMBLE:-2]
    if body[0] != Code.STATUS:
        body = unstuff(body)
        return InstructionPacket(id_, body[0], body[1:])
    if id_ != BROADCAST_ID:  # a fast reply is not stuffed
        body = unstuff(body)
    return StatusPacket(id_, body[1] if len(body) > 1 else 0, body[2:])
