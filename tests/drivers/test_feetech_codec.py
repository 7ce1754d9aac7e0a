"""Feetech's protocol: the manual's vectors, round trips, and what the parsers do with damaged bytes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from robotrl.drivers import feetech as ft
from robotrl.drivers import scs, sts
from robotrl.drivers.feetech import (
    Code,
    HardwareError,
    InstructionPacket,
    InstructionParser,
    StatusPacket,
    StatusParser,
    decode_sync_reply,
)
from robotrl.errors import ProtocolError

IDS = (1, 2, 9, 6)
SIZE = 6
TRICKY = (0xFF, 0xFE, 0x01, 0x02, 0x08)


def tricky(rng: random.Random, size: int) -> bytes:
    """Bytes full of headers, ids and sizes."""
    return bytes(rng.choices(TRICKY, k=size))


def params(frame: bytes) -> bytes:
    (packet,) = InstructionParser().feed(frame)
    return packet.params


GOAL = sts.GOAL_POSITION.encode(2048) + sts.GOAL_TIME.encode(0) + sts.GOAL_VELOCITY.encode(1000)


@pytest.mark.parametrize(
    ("ours", "manual"),
    [
        (ft.ping(1), "FF FF 01 02 01 FB"),
        (StatusPacket(1, 0).encode(), "FF FF 01 02 00 FC"),
        (ft.read(1, 56, 2), "FF FF 01 04 02 38 02 BE"),
        (StatusPacket(1, 0, sts.PRESENT_POSITION.encode(1304)).encode(), "FF FF 01 04 00 18 05 DD"),
        (ft.write(254, 5, b"\x01"), "FF FF FE 04 03 05 01 F4"),
        (ft.write(254, 55, b"\x00"), "FF FF FE 04 03 37 00 C3"),
        (ft.write(1, 5, b"\x02"), "FF FF 01 04 03 05 02 F0"),
        (ft.write(1, 42, GOAL), "FF FF 01 09 03 2A 00 08 00 00 E8 03 D5"),
        (
            ft.write(1, 41, b"\x32" + sts.GOAL_POSITION.encode(1000) + b"\0\0" + b"\xe8\x03"),
            "FF FF 01 0A 03 29 32 E8 03 00 00 E8 03 C0",
        ),
        (ft.reg_write(1, 42, GOAL), "FF FF 01 09 04 2A 00 08 00 00 E8 03 D4"),
        (ft.action(), "FF FF FE 02 05 FA"),
        (ft.sync_read(56, 8, (1, 2)), "FF FF FE 06 82 38 08 01 02 36"),
        (
            ft.sync_write(42, (1, 2, 3, 4), np.tile(np.frombuffer(GOAL, np.uint8), (4, 1))),
            "FF FF FE 20 83 2A 06 01 00 08 00 00 E8 03 02 00 08 00 00 E8 03"
            "03 00 08 00 00 E8 03 04 00 08 00 00 E8 03 58",
        ),
    ],
)
def test_packets_are_those_of_the_manual(ours: bytes, manual: str) -> None:
    assert ours == bytes.fromhex(manual)


def test_words_are_low_byte_first_on_sts_and_high_byte_first_on_scs() -> None:
    assert ft.write(1, 42, sts.GOAL_POSITION.encode(0x0301)) == bytes.fromhex("FF FF 01 05 03 2A 01 03 C8")
    assert ft.write(1, 42, scs.GOAL_POSITION.encode(0x0301)) == bytes.fromhex("FF FF 01 05 03 2A 03 01 C8")


@pytest.mark.parametrize("id_", [-1, 255])
def test_ids_that_do_not_exist_are_not_encoded(id_: int) -> None:
    with pytest.raises(ProtocolError, match="does not exist"):
        ft.ping(id_)


def test_a_packet_longer_than_servos_take_is_not_encoded() -> None:
    assert len(ft.write(1, 0, bytes(243))) == ft.MAX_SIZE
    with pytest.raises(ProtocolError, match="longer than 250"):
        ft.write(1, 0, bytes(244))


def test_every_instruction_comes_back_from_the_wire() -> None:
    rng = random.Random(1)
    for _ in range(500):
        id_, address, size = rng.randrange(254), rng.randrange(256), rng.randrange(1, 30)
        data, ids = tricky(rng, size), rng.sample(range(254), rng.randrange(1, 6))
        rows = np.frombuffer(tricky(rng, size * len(ids)), np.uint8).reshape(len(ids), size)
        assert InstructionParser().feed(ft.ping(id_)) == [InstructionPacket(id_, Code.PING)]
        assert InstructionParser().feed(ft.action(id_)) == [InstructionPacket(id_, Code.ACTION)]
        assert ft.split_read(params(ft.read(id_, address, size))) == (address, size, b"")
        assert ft.split_read(params(ft.sync_read(address, size, ids))) == (address, size, bytes(ids))
        assert ft.split_write(params(ft.write(id_, address, data))) == (address, data)
        assert ft.split_write(params(ft.reg_write(id_, address, data))) == (address, data)
        at, found, written = ft.split_sync_write(params(ft.sync_write(address, ids, rows)))
        assert (at, list(found)) == (address, ids)
        assert (written == rows).all()


def test_every_status_comes_back_from_the_wire_cut_anywhere() -> None:
    rng = random.Random(2)
    sent = [
        StatusPacket(rng.randrange(254), rng.randrange(64), tricky(rng, rng.randrange(20)))
        for _ in range(300)
    ]
    stream = b"".join(packet.encode() for packet in sent)
    for step in (1, 2, 5, 64):
        parser = StatusParser()
        chunks = [stream[at : at + step] for at in range(0, len(stream), step)]
        assert [packet for chunk in chunks for packet in parser.feed(chunk)] == sent


def test_the_error_byte_names_what_is_wrong() -> None:
    (status,) = StatusParser().feed(bytes.fromhex("FF FF 01 02 24 D8"))
    assert HardwareError(status.error) == HardwareError.OVERHEATING | HardwareError.OVERLOAD


def test_a_broadcast_is_no_answer() -> None:
    assert StatusParser().feed(ft.sync_read(56, 8, (1, 2)) + ft.action()) == []


@pytest.mark.parametrize("frame", [ft.ping(1), ft.write(1, 42, GOAL), StatusPacket(3, 0, bytes(8)).encode()])
def test_every_single_bit_flip_is_rejected(frame: bytes) -> None:
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        parser = StatusParser()
        assert parser.feed(bytes(damaged)) + parser.flush() == []


def test_a_header_after_another_ff_is_found() -> None:
    assert StatusParser().feed(b"\xff" + StatusPacket(9, 0).encode()) == [StatusPacket(9, 0)]


def test_a_size_that_was_not_sent_hides_nothing_after_a_flush() -> None:
    parser = StatusParser()
    assert parser.feed(b"\xff\xff\x01\x50" + StatusPacket(2, 0).encode()) == []
    assert parser.flush() == [StatusPacket(2, 0)]


# Sync replies as arrays ---------------------------------------------------------------------


def test_sync_replies_are_decoded_whatever_their_order_and_surroundings() -> None:
    rng = random.Random(3)
    for _ in range(200):
        sent = [StatusPacket(id_, rng.choice((0, 0x20)), rng.randbytes(SIZE)) for id_ in IDS]
        frames = [packet.encode() for packet in sent]
        noisy = [bytes((0xFF, rng.randrange(250), 0x09)) + frame for frame in rng.sample(frames, len(frames))]
        for data in (b"".join(frames), b"\x00" + b"".join(frames), b"".join(noisy) + b"\xff\xff"):
            found = decode_sync_reply(data, IDS, SIZE)
            assert found.fresh.all()
            assert found.error.tolist() == [packet.error for packet in sent]
            assert [row.tobytes() for row in found.data] == [packet.params for packet in sent]


def test_a_flipped_bit_in_a_sync_reply_costs_at_most_its_servo() -> None:
    sent = [StatusPacket(id_, 0, bytes(range(id_, id_ + SIZE))) for id_ in IDS]
    frames = [packet.encode() for packet in sent]
    for row in range(len(IDS)):
        for bit in range(8 * len(frames[row])):
            damaged = bytearray(frames[row])
            damaged[bit // 8] ^= 1 << bit % 8
            found = decode_sync_reply(b"".join([*frames[:row], damaged, *frames[row + 1 :]]), IDS, SIZE)
            assert found.fresh.tolist() == [k != row for k in range(len(IDS))]
            assert not found.data[row].any()


def test_noise_that_passes_for_a_packet_hides_no_answer() -> None:
    """The lookalike of servo 77 reaches into the answer of servo 1, and its checksum is right."""
    answers = b"".join(StatusPacket(id_, 0, bytes(SIZE)).encode() for id_ in IDS)
    body = bytes((77, 7, 0)) + answers[:4]
    lookalike = b"\xff\xff" + body[:3]
    assert answers[4] == 0
    filler = next(
        bytes((b,)) for b in range(256) if ft.checksum(bytes((77, 7, 0, b)) + answers[:4]) == answers[4]
    )
    data = lookalike + filler + answers
    assert StatusParser().feed(data)[0].id == 77
    assert decode_sync_reply(data, IDS, SIZE).fresh.all()


def test_answers_of_another_size_are_no_answers() -> None:
    late = b"".join(StatusPacket(id_, 0, bytes(SIZE + 1)).encode() for id_ in IDS)
    assert not decode_sync_reply(late, IDS, SIZE).fresh.any()
