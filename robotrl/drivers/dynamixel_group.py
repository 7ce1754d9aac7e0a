"""DYNAMIXEL Protocol 2.0 for many servos at once: bulk instructions, and their replies as arrays.

Source: ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0": Sync Read, Fast Sync Read, Bulk Read, Bulk Write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from robotrl.drivers.crc import crc16_rows
from robotrl.drivers.dynamixel import (
    BROADCAST_ID,
    FAST_BLOCK_OVERHEAD,
    FAST_HEADER,
    HEADER,
    STATUS_OVERHEAD,
    Code,
    ErrorBit,
    Fault,
    InstructionPacket,
    PacketParser,
    StatusPacket,
    decode_fast_reply,
    fast_header,
    split_span,
)
from robotrl.drivers.registers import Bytes2D
from robotrl.drivers.replies import Replies
from robotrl.errors import ProtocolError

_ERROR, _DATA = 8, 9
"""Places in a status packet."""
_SOUND = frozenset((0, int(ErrorBit.ALERT)))
_ENTRY = 5
"""Bytes of id, address and size in a bulk instruction."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of one servo."""

    id: int
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes for one servo."""

    id: int
    address: int
    data: bytes


def bulk_read(spans: Sequence[Span]) -> bytes:
    """Ask several servos, each for bytes of its own; every one answers by a status packet, in this order.

    Raises:
        ProtocolError: a servo is asked twice.
    """
    _refuse_twice([span.id for span in spans])
    params = b"".join(_entry(span.id, span.address, span.size) for span in spans)
    return InstructionPacket(BROADCAST_ID, Code.BULK_READ, params).encode()


def bulk_write(writes: Sequence[Write]) -> bytes:
    """Write to several servos, to each something of its own; nobody answers.

    Raises:
        ProtocolError: a servo is written to twice.
    """
    _refuse_twice([write.id for write in writes])
    params = b"".join(_entry(w.id, w.address, len(w.data)) + w.data for w in writes)
    return InstructionPacket(BROADCAST_ID, Code.BULK_WRITE, params).encode()


def _entry(id_: int, address: int, size: int) -> bytes:
    return bytes((id_,)) + address.to_bytes(2, "little") + size.to_bytes(2, "little")


def _refuse_twice(ids: Sequence[int]) -> None:
    twice = sorted({id_ for id_ in ids if ids.count(id_) > 1})
    if twice:
        raise ProtocolError(f"servo {twice[0]} is named twice in one bulk instruction")


def split_bulk_read(params: bytes) -> list[Span]:
    """Return what a bulk read asks for.

    Raises:
        ProtocolError: the last entry is not whole.
    """
    if len(params) % _ENTRY:
        raise ProtocolError(f"a bulk read has {_ENTRY} bytes for each servo, got {len(params)} in all")
    return [
        Span(params[at], *split_span(params[at + 1 : at + _ENTRY])[:2])
        for at in range(0, len(params), _ENTRY)
    ]


def split_bulk_write(params: bytes) -> list[Write]:
    """Return what a bulk write writes.

    Raises:
        ProtocolError: the last entry is not whole.
    """
    writes = []
    while params:
        address, size, rest = split_span(params[1:])
        if len(rest) < size:
            raise ProtocolError(f"servo {params[0]} is to get {size} bytes, {len(rest)} are there")
        writes.append(Write(params[0], address, rest[:size]))
        params = rest[size:]
    return writes


def split_sync_write(params: bytes) -> tuple[int, bytes, Bytes2D]:
    """Return address, ids and (len(ids), size) bytes of a sync write.

    Raises:
        ProtocolError: the last entry is not whole.
    """
    address, size, rest = split_span(params)
    if len(rest) % (1 + size):
        raise ProtocolError(f"a sync write of {size} bytes has {1 + size} for each servo, got {len(rest)}")
    rows = np.frombuffer(rest, np.uint8).reshape(-1, 1 + size)
    return address, rows[:, 0].tobytes(), rows[:, 1:]


def decode_sync_reply(data: bytes, ids: Sequence[int], size: int) -> Replies:
    """Return the answers to a sync read among `data`, which is all that has come since.

    As a rule they end it whole and in order, and are decoded together. Otherwise the parser finds
    what there is: answers in any order, between echo, noise and broken packets.

    Args:
        data: received bytes.
        ids: the servos asked.
        size: bytes asked of each. Answers of another size, and refusals, count as none.
    """
    count = len(ids)
    length = STATUS_OVERHEAD + size
    tail = data[-count * length :]
    # More header sequences than packets are stuffing: the answers have other sizes than it seems.
    if len(tail) == count * length and tail.count(HEADER[:3]) == count:
        rows = np.frombuffer(tail, np.uint8).reshape(count, length)
        error = rows[:, _ERROR]
        as_expected = rows[:, :_ERROR].tobytes() == _status_heads(tuple(ids), size) and _no_fault(error)
        if as_expected and _crcs_hold(rows):
            return Replies(rows[:, _DATA:-2], error, np.ones(count, np.bool_))
    return _gathered(_parsed(data), ids, size)


def decode_fast_sync_reply(data: bytes, ids: Sequence[int], size: int) -> Replies:
    """Return the answers to a fast sync read among `data`, which is all that has come since.

    Every CRC inside the frame covers all bytes before it, so the last one vouches for a whole frame.
    Of a broken one the sound beginning counts; see `decode_fast_reply`.

    Args:
        data: received bytes.
        ids: the servos asked.
        size: bytes asked of each. Refusals count as no answer.
    """
    count = len(ids)
    block = FAST_BLOCK_OVERHEAD + size
    at = data.find(fast_header(count, size))
    frame = np.frombuffer(data, np.uint8)[at : at + FAST_HEADER + count * block]
    if at >= 0 and len(frame) == FAST_HEADER + count * block and _crcs_hold(frame[np.newaxis]):
        rows = frame[FAST_HEADER:].reshape(count, block)
        error = rows[:, 0]
        if rows[:, 1].tobytes() == bytes(ids) and _no_fault(error):
            return Replies(rows[:, 2:-2], error, np.ones(count, np.bool_))
    blocks = decode_fast_reply(data, count, size)
    return _gathered([b for b, id_ in zip(blocks, ids, strict=False) if b.id == id_], ids, size)


@lru_cache(maxsize=64)
def _status_heads(ids: tuple[int, ...], size: int) -> bytes:
    """Return what the status packets of these servos begin with, up to their errors."""
    length = (size + 4).to_bytes(2, "little")
    return b"".join(HEADER + bytes((id_,)) + length + bytes((Code.STATUS,)) for id_ in ids)


def _no_fault(errors: NDArray[np.uint8]) -> bool:
    """Whether no servo refuses; an alert is no refusal."""
    return _SOUND.issuperset(errors.tobytes())


def _crcs_hold(rows: Bytes2D) -> bool:
    return crc16_rows(rows[:, :-2]).astype("<u2").tobytes() == rows[:, -2:].tobytes()


def _parsed(data: bytes) -> list[StatusPacket]:
    parser = PacketParser()
    return [p for p in parser.feed(data) + parser.flush() if isinstance(p, StatusPacket)]


def _gathered(packets: Sequence[StatusPacket], ids: Sequence[int], size: int) -> Replies:
    replies = Replies.none_of(len(ids), size)
    row_of = {id_: row for row, id_ in enumerate(ids)}
    for packet in packets:
        row = row_of.get(packet.id)
        if row is not None and packet.fault == Fault.NONE and len(packet.params) == size:
            replies.put(row, packet.error, packet.params)
    return replies
