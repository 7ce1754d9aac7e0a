"""Parity with ROBOTIS's own DynamixelSDK, driven over a port that only records."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import dynamixel_group as group
from robotrl.drivers.crc import crc16
from robotrl.drivers.dynamixel import Reset, StatusPacket, encode_fast_reply
from robotrl.drivers.dynamixel_group import Span, Write
from tests.drivers.sdk_port import RecordingPort

sdk: Any = import_module("dynamixel_sdk")  # untyped


def handler() -> Any:
    return sdk.PacketHandler(2.0)


STUFFED = bytes.fromhex("FF FF FD FF FF FD FD 00 FF FF FF FD")


def test_instructions_are_the_same_bytes() -> None:
    port = RecordingPort()
    handler().writeTxOnly(port, 7, 116, 4, list(b"\xff\xfd\xff\x00"))
    handler().writeTxOnly(port, 252, 64, 1, [1])
    handler().readTx(port, 7, 132, 4)
    assert port.sent == dxl.write(7, 116, b"\xff\xfd\xff\x00") + dxl.write(252, 64, b"\x01") + dxl.read(
        7, 132, 4
    )


def test_stuffing_is_the_same() -> None:
    """Of the SDK's stuffing function alone: its txPacket (4.1.0) drops the result and sends bare bytes."""
    body = bytes((3,)) + STUFFED
    stuffed = handler().addStuffing([*dxl.HEADER, 1, len(body) + 2, 0, *body, 0, 0])
    assert bytes(stuffed[7:-2]) == dxl.stuff(body) != body


def test_ping_and_reboot_are_the_same_bytes() -> None:
    port = RecordingPort()
    handler().ping(port, 11)
    handler().reboot(port, 11)
    assert port.sent == dxl.ping(11) + dxl.reboot(11)


def test_every_other_instruction_is_the_same_bytes() -> None:
    port = RecordingPort()
    data = bytes.fromhex("C8 00 FF FD")
    handler().regWriteTxOnly(port, 3, 104, 4, list(data))
    handler().action(port, 3)
    handler().action(port, 254)
    handler().clearMultiTurn(port, 3)
    handler().factoryReset(port, 3, 0x02)
    assert port.sent == dxl.reg_write(3, 104, data) + dxl.action(3) + dxl.action() + dxl.clear(
        3
    ) + dxl.factory_reset(3, Reset.EXCEPT_ID_AND_BAUD_RATE, erase_settings=True)


def test_bulk_reads_are_the_same_bytes() -> None:
    port = RecordingPort()
    asked = sdk.GroupBulkRead(port, handler())
    spans = [Span(7, 144, 2), Span(2, 146, 1), Span(250, 126, 21)]
    for span in spans:
        asked.addParam(span.id, span.address, span.size)
    asked.txPacket()
    assert port.sent == group.bulk_read(spans)


def test_bulk_writes_are_the_same_bytes() -> None:
    port = RecordingPort()
    written = sdk.GroupBulkWrite(port, handler())
    writes = [Write(1, 32, b"\xa0\x00"), Write(2, 31, b"\x50"), Write(9, 116, b"\xff\xfd\xff\x00")]
    for write in writes:
        written.addParam(write.id, write.address, len(write.data), list(write.data))
    written.txPacket()
    assert port.sent == group.bulk_write(writes)


def test_the_sdk_reads_our_answers_to_a_sync_read() -> None:
    replies = [StatusPacket(id_, 0, bytes([id_, 0, 0, 0x80])) for id_ in (4, 2, 9)]
    answer = b"".join(reply.encode() for reply in replies)
    asked = sdk.GroupSyncRead(RecordingPort(answer), handler(), 132, 4)
    for reply in replies:
        asked.addParam(reply.id)
    assert asked.rxPacket() == 0
    ours = group.decode_sync_reply(answer, (4, 2, 9), 4)
    for row, reply in enumerate(replies):
        assert asked.getData(reply.id, 132, 4) == int.from_bytes(ours.data[row].tobytes(), "little")


@pytest.mark.parametrize("data", [bytes(range(40)), b"\xff" * 9, b"\x00", bytes.fromhex("80 05 FF FE")])
def test_the_crc_is_the_same(data: bytes) -> None:
    assert crc16(data) == handler().updateCRC(0, data, len(data))


@pytest.mark.parametrize("fast", [False, True])
def test_sync_reads_are_the_same_bytes(fast: bool) -> None:
    port = RecordingPort()
    group = sdk.GroupSyncRead(port, handler(), 126, 21)
    for id_ in (11, 12, 13):
        group.addParam(id_)
    group.fastSyncReadTxPacket() if fast else group.txPacket()
    assert port.sent == dxl.sync_read(126, 21, [11, 12, 13], fast=fast)


def test_sync_writes_are_the_same_bytes() -> None:
    rng = np.random.default_rng(0)
    rows = rng.choice(np.array([0xFE, 0xFD, 0, 9], np.uint8), (12, 4))
    port = RecordingPort()
    group = sdk.GroupSyncWrite(port, handler(), 116, 4)
    for id_, row in zip(range(11, 23), rows, strict=True):
        group.addParam(id_, bytes(row))
    group.txPacket()
    assert port.sent == dxl.sync_write(116, range(11, 23), rows)


def test_the_sdk_understands_our_status_packets() -> None:
    port = RecordingPort(StatusPacket(5, 0x80, STUFFED).encode())
    packet, result, error = handler().readRx(port, 5, len(STUFFED))
    assert (bytes(packet), result, error) == (STUFFED, 0, 0x80)


def test_the_sdk_understands_our_fast_replies() -> None:
    replies = [StatusPacket(id_, 0, bytes([id_]) * 4) for id_ in (4, 2, 9)]
    group = sdk.GroupSyncRead(RecordingPort(encode_fast_reply(replies)), handler(), 132, 4)
    for reply in replies:
        group.addParam(reply.id)
    assert group.fastSyncReadRxPacket() == 0
    for reply in replies:
        assert group.getData(reply.id, 132, 4) == int.from_bytes(reply.params, "little")
