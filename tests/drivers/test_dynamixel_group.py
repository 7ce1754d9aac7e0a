"""Protocol 2.0 for many servos: the manual's vectors, round trips, and replies decoded as arrays."""

from __future__ import annotations

import random

import numpy as np
import pytest

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import dynamixel_group as group
from robotrl.drivers.crc import LONGEST, crc16, crc16_rows
from robotrl.drivers.dynamixel import Code, InstructionPacket, Reset, StatusPacket
from robotrl.drivers.dynamixel_group import Span, Write, decode_fast_sync_reply, decode_sync_reply
from robotrl.drivers.replies import Replies
from robotrl.errors import ProtocolError

IDS = (11, 12, 30, 7)
SIZE = 5
TRICKY = (0xFF, 0xFD, 0x00, 0x55, 0xFE)


def tricky(rng: random.Random, size: int) -> bytes:
    """Bytes full of header sequences."""
    return bytes(rng.choices(TRICKY, k=size))


def params(frame: bytes) -> bytes:
    (packet,) = dxl.PacketParser().feed(frame)
    assert isinstance(packet, InstructionPacket)
    return packet.params


@pytest.mark.parametrize(
    ("ours", "manual"),
    [
        (dxl.ping(254), "FF FF FD 00 FE 03 00 01 31 42"),
        (dxl.reg_write(1, 104, b"\xc8\0\0\0"), "FF FF FD 00 01 09 00 04 68 00 C8 00 00 00 AE 8E"),
        (dxl.action(1), "FF FF FD 00 01 03 00 05 02 CE"),
        (
            dxl.factory_reset(1, Reset.EXCEPT_ID, erase_settings=True),
            "FF FF FD 00 01 04 00 06 01 A1 E6",
        ),
        (dxl.reboot(1), "FF FF FD 00 01 03 00 08 2F 4E"),
        (dxl.clear(1), "FF FF FD 00 01 08 00 10 01 44 58 4C 22 B1 DC"),
        (dxl.sync_read(132, 4, (1, 2)), "FF FF FD 00 FE 09 00 82 84 00 04 00 01 02 CE FA"),
        (
            dxl.sync_write(116, (1, 2), np.array([[150, 0, 0, 0], [170, 0, 0, 0]], np.uint8)),
            "FF FF FD 00 FE 11 00 83 74 00 04 00 01 96 00 00 00 02 AA 00 00 00 82 87",
        ),
        (
            group.bulk_read((Span(1, 144, 2), Span(2, 146, 1))),
            "FF FF FD 00 FE 0D 00 92 01 90 00 02 00 02 92 00 01 00 1A 05",
        ),
        (
            group.bulk_write((Write(1, 32, b"\xa0\0"), Write(2, 31, b"\x50"))),
            "FF FF FD 00 FE 10 00 93 01 20 00 02 00 A0 00 02 1F 00 01 00 50 B7 68",
        ),
        (StatusPacket(1, 0).encode(), "FF FF FD 00 01 04 00 55 00 A1 0C"),
        (StatusPacket(2, 0, b"\x1f\x08\0\0").encode(), "FF FF FD 00 02 08 00 55 00 1F 08 00 00 BA BE"),
        (StatusPacket(2, 0, b"\x24").encode(), "FF FF FD 00 02 05 00 55 00 24 8B A9"),
    ],
)
def test_packets_are_those_of_the_manual(ours: bytes, manual: str) -> None:
    assert ours == bytes.fromhex(manual)


def test_a_factory_reset_needs_the_flag_and_never_goes_to_all_ids() -> None:
    with pytest.raises(ProtocolError, match="erase_settings"):
        dxl.factory_reset(1, Reset.EXCEPT_ID)
    with pytest.raises(ProtocolError, match="broadcast"):
        dxl.factory_reset(dxl.BROADCAST_ID, Reset.ALL, erase_settings=True)
    assert params(dxl.factory_reset(1, Reset.ALL, erase_settings=True)) == b"\xff"


def test_what_goes_to_one_servo_comes_back_from_the_wire() -> None:
    rng = random.Random(1)
    for _ in range(500):
        id_, address, size = rng.randrange(253), rng.choice((0xFFFF, 0xFDFF, 132)), rng.randrange(1, 40)
        data = tricky(rng, size)
        for frame, code in ((dxl.write, Code.WRITE), (dxl.reg_write, Code.REG_WRITE)):
            (packet,) = dxl.PacketParser().feed(frame(id_, address, data))
            assert isinstance(packet, InstructionPacket)
            assert (packet.id, packet.code) == (id_, code)
            assert dxl.split_write(packet.params) == (address, data)
        assert dxl.split_span(params(dxl.read(id_, address, size))) == (address, size, b"")


def test_what_goes_to_many_servos_comes_back_from_the_wire() -> None:
    rng = random.Random(2)
    for _ in range(300):
        ids = rng.sample(range(253), rng.randrange(1, 13))
        size = rng.randrange(1, 9)
        spans = [Span(id_, rng.randrange(65536), rng.randrange(65536)) for id_ in ids]
        writes = [Write(id_, rng.choice((0xFFFF, 116)), tricky(rng, rng.randrange(9))) for id_ in ids]
        rows = np.frombuffer(tricky(rng, len(ids) * size), np.uint8).reshape(len(ids), size)
        assert group.split_bulk_read(params(group.bulk_read(spans))) == spans
        assert group.split_bulk_write(params(group.bulk_write(writes))) == writes
        address, found, data = group.split_sync_write(params(dxl.sync_write(0xFDFF, ids, rows)))
        assert (address, list(found)) == (0xFDFF, ids)
        assert (data == rows).all()


def test_a_bulk_instruction_names_each_servo_once() -> None:
    with pytest.raises(ProtocolError, match="servo 3 is named twice"):
        group.bulk_read((Span(3, 0, 1), Span(3, 2, 1)))
    with pytest.raises(ProtocolError, match="servo 3 is named twice"):
        group.bulk_write((Write(3, 0, b"\0"), Write(3, 2, b"\0")))


@pytest.mark.parametrize(
    ("split", "whole"),
    [
        (group.split_bulk_read, params(group.bulk_read((Span(1, 2, 3),)))),
        (group.split_bulk_write, params(group.bulk_write((Write(1, 2, b"abc"),)))),
        (group.split_sync_write, params(dxl.sync_write(1, (2,), np.ones((1, 3), np.uint8)))),
        (dxl.split_span, params(dxl.read(1, 2, 3))),
        (dxl.split_write, params(dxl.write(1, 2, b"a"))),
    ],
)
def test_parameters_that_break_off_are_refused(split: object, whole: bytes) -> None:
    assert callable(split)
    split(whole)
    with pytest.raises(ProtocolError):
        split(whole[:-1])


def test_crcs_by_rows_are_crcs() -> None:
    rng = np.random.default_rng(3)
    for length in (1, 2, 30, 300, LONGEST):
        rows = rng.integers(0, 256, (5, length), np.uint8)
        assert crc16_rows(rows).tolist() == [crc16(row.tobytes()) for row in rows]


def replies(rng: random.Random, *, plain: bool = True) -> list[StatusPacket]:
    """One answer of each servo; plain ones need no stuffing."""
    return [
        StatusPacket(
            id_, rng.choice((0, 0x80)), rng.randbytes(SIZE - 1) + b"\0" if plain else tricky(rng, SIZE)
        )
        for id_ in IDS
    ]


def assert_holds(found: Replies, sent: list[StatusPacket], fresh: list[bool]) -> None:
    assert found.fresh.tolist() == fresh
    for row, (packet, here) in enumerate(zip(sent, fresh, strict=True)):
        assert found.data[row].tobytes() == (packet.params if here else bytes(SIZE))
        assert found.error[row] == (packet.error if here else 0)


ALL, NONE = [True] * len(IDS), [False] * len(IDS)


@pytest.mark.parametrize("plain", [True, False])
def test_sync_replies_are_decoded_whatever_their_order_and_surroundings(plain: bool) -> None:
    rng = random.Random(5)
    for _ in range(200):
        sent = replies(rng, plain=plain)
        frames = [packet.encode() for packet in sent]
        echo = dxl.sync_read(126, SIZE, IDS)
        assert_holds(decode_sync_reply(b"".join(frames), IDS, SIZE), sent, ALL)
        assert_holds(decode_sync_reply(echo + b"".join(frames), IDS, SIZE), sent, ALL)
        mixed = [tricky(rng, 3) + frame for frame in rng.sample(frames, len(frames))]
        assert_holds(decode_sync_reply(b"".join(mixed), IDS, SIZE), sent, ALL)


def test_a_flipped_bit_in_a_sync_reply_costs_at_most_its_servo() -> None:
    rng = random.Random(6)
    sent = replies(rng)
    frames = [packet.encode() for packet in sent]
    for row in range(len(IDS)):
        for bit in range(8 * len(frames[row])):
            damaged = bytearray(frames[row])
            damaged[bit // 8] ^= 1 << bit % 8
            data = b"".join([*frames[:row], bytes(damaged), *frames[row + 1 :]])
            assert_holds(decode_sync_reply(data, IDS, SIZE), sent, [k != row for k in range(len(IDS))])


def test_refusals_and_answers_of_another_size_are_no_answers() -> None:
    sent = [StatusPacket(id_, 0, bytes(SIZE)) for id_ in IDS]
    refused = [StatusPacket(IDS[0], 0x07), *sent[1:]]
    data = b"".join(p.encode() for p in refused)
    assert_holds(decode_sync_reply(data, IDS, SIZE), sent, [False, True, True, True])
    late = b"".join(StatusPacket(id_, 0, bytes(SIZE + 1)).encode() for id_ in IDS)
    assert_holds(decode_sync_reply(late, IDS, SIZE), sent, NONE)
    full = [StatusPacket(id_, 0x05, bytes(SIZE)) for id_ in IDS]
    assert_holds(decode_sync_reply(b"".join(p.encode() for p in full), IDS, SIZE), sent, NONE)
    assert_holds(decode_fast_sync_reply(dxl.encode_fast_reply(full), IDS, SIZE), sent, NONE)


def test_a_late_answer_that_stuffing_makes_as_long_is_no_answer() -> None:
    data = bytes.fromhex("FF FF FD 07")
    late = b"".join(StatusPacket(id_, 0, data).encode() for id_ in IDS)
    assert len(late) == len(IDS) * (dxl.STATUS_OVERHEAD + SIZE)
    assert not decode_sync_reply(late, IDS, SIZE).fresh.any()
    assert decode_sync_reply(late, IDS, SIZE - 1).fresh.all()


def test_a_fast_sync_reply_is_decoded_and_its_sound_beginning_saved() -> None:
    rng = random.Random(7)
    for _ in range(50):
        sent = replies(rng, plain=False)
        frame = dxl.encode_fast_reply(sent)
        echo = dxl.sync_read(126, SIZE, IDS, fast=True)
        assert_holds(decode_fast_sync_reply(echo + frame + b"\xff", IDS, SIZE), sent, ALL)
        at = rng.randrange(len(frame))
        damaged = frame[:at] + bytes((frame[at] ^ 0x10,)) + frame[at + 1 :]
        whole = max(0, at - dxl.FAST_HEADER) // (dxl.FAST_BLOCK_OVERHEAD + SIZE)
        fresh = [k < whole for k in range(len(IDS))]
        assert_holds(decode_fast_sync_reply(damaged, IDS, SIZE), sent, fresh)
        assert_holds(decode_fast_sync_reply(frame[:at], IDS, SIZE), sent, fresh)


def test_a_fast_sync_reply_of_other_servos_is_no_answer() -> None:
    sent = replies(random.Random(8))
    assert_holds(decode_fast_sync_reply(dxl.encode_fast_reply(sent), IDS[::-1], SIZE), sent, NONE)
