"""Protocol 2.0: the manual's vectors, round trips, and what the parser does with damaged bytes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers.crc import crc16
from robotrl.drivers.dynamixel import (
    Code,
    InstructionPacket,
    Packet,
    PacketParser,
    StatusPacket,
    decode_fast_reply,
    encode_fast_reply,
)
from robotrl.errors import ProtocolError

PING = bytes.fromhex("FF FF FD 00 01 03 00 01 19 4E")
PING_STATUS = bytes.fromhex("FF FF FD 00 01 07 00 55 00 06 04 26 65 5D")
READ = bytes.fromhex("FF FF FD 00 01 07 00 02 84 00 04 00 1D 15")
READ_STATUS = bytes.fromhex("FF FF FD 00 01 08 00 55 00 A6 00 00 00 8C C0")
WRITE = bytes.fromhex("FF FF FD 00 01 09 00 03 74 00 00 02 00 00 CA 89")
VECTORS = [PING, PING_STATUS, READ, READ_STATUS, WRITE]


def parse(data: bytes) -> list[Packet]:
    return PacketParser().feed(data)


def random_packets(count: int) -> list[Packet]:
    """Packets whose parameters are full of header bytes, so that stuffing happens often."""
    rng = random.Random(7)
    packets: list[Packet] = []
    for _ in range(count):
        params = bytes(rng.choices([0xFF, 0xFD, 0x00, rng.randrange(256)], [8, 5, 2, 3], k=rng.randrange(40)))
        id_ = rng.randrange(253)
        if rng.random() < 0.5:
            packets.append(InstructionPacket(id_, rng.choice([1, 2, 3, 8, 0x82, 0x83, 0x8A]), params))
        else:
            packets.append(StatusPacket(id_, rng.randrange(256), params))
    return packets


def test_encoders_reproduce_the_manuals_instructions() -> None:
    assert dxl.ping(1) == PING
    assert dxl.read(1, 132, 4) == READ
    assert dxl.write(1, 116, (512).to_bytes(4, "little")) == WRITE
    assert StatusPacket(1, 0, b"\x06\x04\x26").encode() == PING_STATUS
    assert StatusPacket(1, 0, b"\xa6\x00\x00\x00").encode() == READ_STATUS


def test_the_parser_reads_the_manuals_packets() -> None:
    assert parse(b"".join(VECTORS)) == [
        InstructionPacket(1, Code.PING),
        StatusPacket(1, 0, b"\x06\x04\x26"),
        InstructionPacket(1, Code.READ, b"\x84\x00\x04\x00"),
        StatusPacket(1, 0, b"\xa6\x00\x00\x00"),
        InstructionPacket(1, Code.WRITE, b"\x74\x00\x00\x02\x00\x00"),
    ]


def test_sync_write_lays_out_address_size_and_one_row_per_servo() -> None:
    rows = np.array([[150, 0, 0, 0], [170, 0, 0, 0]], np.uint8)
    packet = parse(dxl.sync_write(116, [1, 2], rows))[0]
    assert packet == InstructionPacket(
        0xFE, Code.SYNC_WRITE, bytes.fromhex("74 00 04 00 01 96 00 00 00 02 AA 00 00 00")
    )


def test_sync_reads_differ_only_in_the_instruction() -> None:
    params = bytes.fromhex("84 00 04 00 01 02")
    assert parse(dxl.sync_read(132, 4, [1, 2])) == [InstructionPacket(0xFE, Code.SYNC_READ, params)]
    fast = parse(dxl.sync_read(132, 4, [1, 2], fast=True))
    assert fast == [InstructionPacket(0xFE, Code.FAST_SYNC_READ, params)]


def test_the_error_byte_splits_into_alert_and_fault() -> None:
    status = StatusPacket(3, 0x87)
    assert status.alert
    assert status.fault == dxl.Fault.ACCESS
    assert not StatusPacket(3, 0x07).alert


@pytest.mark.parametrize("id_", [-1, 253, 255])
def test_ids_that_do_not_exist_are_not_encoded(id_: int) -> None:
    with pytest.raises(ProtocolError, match="does not exist"):
        dxl.ping(id_)


def test_every_packet_survives_the_wire() -> None:
    packets = random_packets(2000)
    wire = [packet.encode() for packet in packets]
    assert any(b"\xff\xff\xfd\xfd" in frame for frame in wire)
    assert parse(b"".join(wire)) == packets


def test_a_stuffed_packet_holds_its_header_only_once() -> None:
    for packet in random_packets(500):
        assert dxl.HEADER not in packet.encode()[1:-2]


def test_the_stream_may_be_cut_anywhere() -> None:
    packets = random_packets(60)
    stream = b"".join(packet.encode() for packet in packets)
    for step in (1, 2, 3, 7, 11, 64):
        parser = PacketParser()
        chunks = [stream[i : i + step] for i in range(0, len(stream), step)]
        assert [p for chunk in chunks for p in parser.feed(chunk)] == packets


@pytest.mark.parametrize("frame", [*VECTORS, dxl.sync_read(126, 21, range(11, 23), fast=True)])
def test_every_single_bit_flip_is_rejected(frame: bytes) -> None:
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        assert parse(bytes(damaged)) == []


def test_packets_are_found_between_noise() -> None:
    rng = random.Random(3)
    packets = random_packets(200)
    stream = b""
    for packet in packets:
        stream += bytes(rng.choices([0xFF, 0xFD, 0x00, 0x55], k=rng.randrange(9))) + packet.encode()
    found = parse(stream + bytes(dxl.MAX_LENGTH + 7))
    assert found == packets


def test_a_frame_that_breaks_off_does_not_swallow_the_next() -> None:
    for cut in range(1, len(READ_STATUS)):
        assert StatusPacket(1, 0, b"\x06\x04\x26") in parse(READ_STATUS[:cut] + PING_STATUS + bytes(20))


def test_a_length_that_cannot_be_is_not_waited_for() -> None:
    assert parse(dxl.HEADER + b"\x01\xff\xff" + PING_STATUS) == [StatusPacket(1, 0, b"\x06\x04\x26")]


def test_reset_forgets_a_started_frame() -> None:
    parser = PacketParser()
    parser.feed(READ[:9])
    parser.reset()
    assert parser.feed(PING) == [InstructionPacket(1, Code.PING)]


# Fast sync read -----------------------------------------------------------------------------

REPLIES = [StatusPacket(id_, 0, bytes([id_, 0xFF, 0xFF, 0xFD])) for id_ in (3, 7, 4)]


def test_a_fast_reply_is_one_frame_whose_blocks_have_running_crcs() -> None:
    frame = encode_fast_reply(REPLIES)
    assert frame[:8] == bytes.fromhex("FF FF FD 00 FE 19 00 55")
    assert len(frame) == 8 + 3 * (4 + 4)
    for end in (16, 24, 32):
        assert crc16(frame[: end - 2]) == int.from_bytes(frame[end - 2 : end], "little")
    assert decode_fast_reply(frame, 3, 4) == REPLIES


def test_the_parser_takes_a_fast_reply_as_one_unstuffed_frame() -> None:
    frame = encode_fast_reply(REPLIES)
    packet, after = parse(frame + PING_STATUS)
    assert packet == StatusPacket(dxl.BROADCAST_ID, 0, frame[9:-2])
    assert after == StatusPacket(1, 0, b"\x06\x04\x26")


def test_a_fast_reply_is_found_between_echo_and_noise() -> None:
    data = dxl.sync_read(126, 4, [3, 7, 4], fast=True) + b"\xff\xff\xfd\x00\xfe" + encode_fast_reply(REPLIES)
    assert decode_fast_reply(data, 3, 4) == REPLIES


def test_a_broken_fast_reply_keeps_its_whole_blocks() -> None:
    frame = encode_fast_reply(REPLIES)
    for cut in range(len(frame)):
        assert decode_fast_reply(frame[:cut], 3, 4) == REPLIES[: max(0, cut - 8) // 8]


def test_a_flipped_bit_costs_its_block_and_those_after_it() -> None:
    frame = encode_fast_reply(REPLIES)
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        assert decode_fast_reply(bytes(damaged), 3, 4) == REPLIES[: max(0, bit // 8 - 8) // 8]


def test_a_fast_reply_of_another_request_is_passed_over() -> None:
    old = encode_fast_reply([StatusPacket(id_, 0, bytes(5)) for id_ in (3, 7, 4)])
    assert decode_fast_reply(old, 3, 4) == []
    assert decode_fast_reply(old + encode_fast_reply(REPLIES), 3, 4) == REPLIES
