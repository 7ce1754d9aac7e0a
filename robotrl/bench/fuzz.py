"""Every parser under random and damaged bytes: nothing but our errors, no hang, no intact packet lost.

A stream is noise, packets, damaged packets and merged ones, in chunks as a port would deliver them.
What the incremental parser finds is compared with a plain scan of the whole stream. No stream can make
a parser hang, as every turn of its loops drops a byte (see `FrameFinder`).
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from robotrl.drivers import bno08x, estimator, imu, microstrain, vectornav
from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import dynamixel_group as group
from robotrl.drivers import feetech as ft
from robotrl.drivers.framing import FrameFinder, Framing
from robotrl.errors import ProtocolError, VerificationError

STREAMS_BY_COMMAND = 1_000_000
SEED = 1
REPORTS = 20
"""Lines of progress."""

_IDS = (11, 12, 13)
_READ_SIZE = 8

Random = random.Random


@dataclass(frozen=True)
class Subject:
    """One protocol.

    Attributes:
        name: of the protocol.
        framing: what its parser looks for.
        draw: a random packet.
        decode: what the library makes of received bytes; must raise nothing.
        execute: what a device takes from one packet; may raise `ProtocolError`.
    """

    name: str
    framing: Framing
    draw: Callable[[Random], bytes]
    decode: Callable[[bytes], object]
    execute: Callable[[bytes], object] = len


@dataclass
class Tally:
    """What happened to one protocol's streams."""

    streams: int = 0
    stream_bytes: int = 0
    frames: int = 0
    refused: int = 0
    intact: int = 0
    hidden: int = 0
    """Intact packets that begin inside other bytes with a right checksum."""


@dataclass
class Stream:
    """Bytes, and where in them an intact packet begins: start -> packet."""

    data: bytearray = field(default_factory=bytearray)
    intact: dict[int, bytes] = field(default_factory=dict)


def fuzz(streams: int, seed: int, report: Callable[[str], None]) -> dict[str, object]:
    """Let every parser loose on random streams, in turn.

    Args:
        streams: how many in all.
        seed: of the first stream; stream k is drawn from ``seed + k`` alone.
        report: told how far it is.

    Returns:
        Streams, bytes, seconds of CPU time, and a record per protocol: frames found, intact packets
        sent, and `hidden`, those that begin inside noise whose checksum happens to be right.

    Raises:
        VerificationError: a parser lost, invented or reordered a packet; names the stream.
    """
    started = time.process_time()
    tallies = [Tally() for _ in SUBJECTS]
    for k in range(streams):
        subject, tally = SUBJECTS[k % len(SUBJECTS)], tallies[k % len(SUBJECTS)]
        try:
            _attack(subject, tally, random.Random(seed + k))
        except VerificationError as error:
            raise VerificationError(f"{subject.name}, stream of seed {seed + k}: {error}") from error
        if (k + 1) % max(1, streams // REPORTS) == 0:
            report(f"{k + 1:,} of {streams:,} streams")
    return {
        "streams": streams,
        "bytes": sum(tally.stream_bytes for tally in tallies),
        "cpu_s": time.process_time() - started,
        "protocols": [
            {"protocol": subject.name, **vars(tally)}
            for subject, tally in zip(SUBJECTS, tallies, strict=True)
        ],
    }


def _attack(subject: Subject, tally: Tally, rng: Random) -> None:
    stream = _stream(subject, rng)
    data = bytes(stream.data)
    frames = _incremental(subject.framing, data, rng)
    places = scan(subject.framing, data)
    if frames != [data[start:end] for start, end in places]:
        raise VerificationError("the parser does not find what a scan of the whole stream finds")
    starts = {start for start, _ in places}
    hidden = [at for at in stream.intact if at not in starts]
    for at in hidden:
        if not any(start < at < end for start, end in places):
            raise VerificationError(f"the intact packet at byte {at} is lost")
    subject.decode(data)
    tally.streams += 1
    tally.stream_bytes += len(data)
    tally.frames += len(frames)
    tally.refused += sum(_refused(subject, frame) for frame in frames)
    tally.intact += len(stream.intact)
    tally.hidden += len(hidden)


def _refused(subject: Subject, frame: bytes) -> bool:
    try:
        subject.execute(frame)
    except ProtocolError:
        return True
    return False


def _incremental(framing: Framing, data: bytes, rng: Random) -> list[bytes]:
    """Feed in chunks, then flush, as a driver does."""
    finder = FrameFinder(framing)
    frames: list[bytes] = []
    at = 0
    while at < len(data):
        size = rng.choice((1, 3, 16, 64))
        frames += finder.feed(data[at : at + size])
        at += size
    return frames + finder.flush()


def scan(framing: Framing, data: bytes) -> list[tuple[int, int]]:
    """Return start and end of the frames in `data`: at each byte, take a frame or go on to the next."""
    places, at = [], 0
    while at < len(data):
        size = framing.measure(data[at:]) if data.startswith(framing.start, at) else 0
        if 0 < size <= len(data) - at and framing.intact(data[at : at + size]):
            places.append((at, at + size))
            at += size
        else:
            at += 1
    return places


def _stream(subject: Subject, rng: Random) -> Stream:
    """Some pieces of every kind; the last is an intact packet, which must be found after all that."""
    stream = Stream()
    for kind in [*rng.choices((_noise, _lookalike, _damaged, _whole), k=rng.randrange(2, 6)), _whole]:
        piece = kind(subject, rng)
        if kind is _whole:
            stream.intact[len(stream.data)] = piece
        stream.data += piece
    return stream


def _noise(_subject: Subject, rng: Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 40))


def _lookalike(subject: Subject, rng: Random) -> bytes:
    """Noise after the start of a packet."""
    return subject.framing.start + rng.randbytes(rng.randrange(24))


def _whole(subject: Subject, rng: Random) -> bytes:
    return subject.draw(rng)


def _damaged(subject: Subject, rng: Random) -> bytes:
    """A packet cut, with flipped bits, with bytes lost or put in, or run into by another."""
    packet = bytearray(subject.draw(rng))
    at = rng.randrange(len(packet))
    how = rng.randrange(5)
    if how == 0:
        del packet[at:]
    elif how == 1:
        for _ in range(rng.randrange(1, 4)):
            packet[rng.randrange(len(packet))] ^= 1 << rng.randrange(8)
    elif how == 2:  # noqa: PLR2004 - the third of five ways
        del packet[at : at + rng.randrange(1, 4)]
    elif how == 3:  # noqa: PLR2004
        packet[at:at] = rng.randbytes(rng.randrange(1, 4))
    else:
        packet[at:] = subject.draw(rng)[rng.randrange(4) :]
    return bytes(packet)


# What is attacked ---------------------------------------------------------------------------


def _tricky(rng: Random, most: int) -> bytes:
    """Data full of bytes that begin packets."""
    return bytes(rng.choices((0xFF, 0xFD, 0x00, 0x55, 0xAA, rng.randrange(256)), k=rng.randrange(most)))


def _draw_dynamixel(rng: Random) -> bytes:
    id_, data = rng.choice(_IDS), _tricky(rng, 20)
    if rng.random() < 0.5:  # noqa: PLR2004 - as many answers as instructions
        return dxl.StatusPacket(id_, rng.randrange(256), data).encode()
    return dxl.InstructionPacket(rng.choice((id_, 254)), rng.choice(tuple(dxl.Code)), data).encode()


def _draw_fast(rng: Random) -> bytes:
    replies = [dxl.StatusPacket(id_, rng.choice((0, 0x80, 7)), rng.randbytes(_READ_SIZE)) for id_ in _IDS]
    return dxl.encode_fast_reply(replies)


def _draw_feetech(rng: Random) -> bytes:
    id_, data = rng.choice(_IDS), _tricky(rng, 20)
    return ft.InstructionPacket(rng.choice((id_, 254)), rng.randrange(256), data).encode()


def _draw_witmotion(rng: Random) -> bytes:
    return imu.encode_frame(rng.choice(tuple(imu.Kind)), struct.unpack("<4h", rng.randbytes(8)))


def _draw_rvc(rng: Random) -> bytes:
    values = [rng.uniform(-3, 3) for _ in range(6)]
    return bno08x.encode(
        bno08x.RvcSample(
            rng.randrange(256), (values[0], values[1], values[2]), (values[3], values[4], values[5])
        )
    )


def _draw_vectornav(rng: Random) -> bytes:
    kinds = {
        vectornav.Field.QUATERNION_XYZW: 4,
        vectornav.Field.ANGULAR_RATE_RAD_S: 3,
        vectornav.Field.ACCEL_M_S2: 3,
    }
    chosen = rng.sample(tuple(kinds), rng.randrange(1, 4))
    return vectornav.encode({kind: tuple(rng.uniform(-9, 9) for _ in range(kinds[kind])) for kind in chosen})


def _draw_microstrain(rng: Random) -> bytes:
    fields = [microstrain.Field(rng.randrange(256), _tricky(rng, 14)) for _ in range(rng.randrange(1, 4))]
    return microstrain.Packet(microstrain.IMU_DATA, tuple(fields)).encode()


def _draw_estimator(rng: Random) -> bytes:
    values = np.array([rng.uniform(-9, 9) for _ in range(rng.randrange(30))])
    return estimator.encode(rng.randrange(256), values)


def _execute_dynamixel(frame: bytes) -> object:
    (packet,) = dxl.PacketParser().feed(frame)
    if not isinstance(packet, dxl.InstructionPacket):
        return packet
    takers: dict[int, Callable[[bytes], object]] = {
        dxl.Code.READ: dxl.split_span,
        dxl.Code.SYNC_READ: dxl.split_span,
        dxl.Code.WRITE: dxl.split_write,
        dxl.Code.SYNC_WRITE: group.split_sync_write,
        dxl.Code.BULK_READ: group.split_bulk_read,
        dxl.Code.BULK_WRITE: group.split_bulk_write,
    }
    return takers.get(packet.code, len)(packet.params)


def _execute_feetech(frame: bytes) -> object:
    (packet,) = ft.InstructionParser().feed(frame)
    takers: dict[int, Callable[[bytes], object]] = {
        ft.Code.READ: ft.split_read,
        ft.Code.SYNC_READ: ft.split_read,
        ft.Code.WRITE: ft.split_write,
        ft.Code.SYNC_WRITE: ft.split_sync_write,
    }
    return takers.get(packet.code, len)(packet.params)


SUBJECTS: Sequence[Subject] = (
    Subject(
        "dynamixel",
        dxl.FRAMING,
        _draw_dynamixel,
        lambda data: group.decode_sync_reply(data, _IDS, _READ_SIZE),
        _execute_dynamixel,
    ),
    Subject(
        "dynamixel fast",
        dxl.FRAMING,
        _draw_fast,
        lambda data: group.decode_fast_sync_reply(data, _IDS, _READ_SIZE),
    ),
    Subject(
        "feetech",
        ft.FRAMING,
        _draw_feetech,
        lambda data: ft.decode_sync_reply(data, _IDS, _READ_SIZE),
        _execute_feetech,
    ),
    Subject("witmotion", imu.FRAMING, _draw_witmotion, imu.FrameParser().feed),
    Subject("bno08x rvc", bno08x.FRAMING, _draw_rvc, bno08x.RvcParser().feed),
    Subject("vectornav", vectornav.FRAMING, _draw_vectornav, vectornav.MessageParser().feed),
    Subject(
        "microstrain",
        microstrain.FRAMING,
        _draw_microstrain,
        lambda data: [microstrain.measurements(p) for p in microstrain.PacketParser().feed(data)],
    ),
    Subject("estimator", estimator.FRAMING, _draw_estimator, estimator.PacketParser().feed),
)
