"""Parity with ROBOTIS's own DynamixelSDK, driven over a port that only records."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers.dynamixel import StatusPacket, encode_fast_reply

sdk: Any = import_module("dynamixel_sdk")  # untyped


class RecordingPort:
    """As much of the SDK's PortHandler as its packet handler calls."""

    is_using = False

    def __init__(self, reply: bytes = b"") -> None:
        self.sent = b""
        self._reply = reply

    def clearPort(self) -> None:  # noqa: N802
        """Nothing is pending."""

    def writePort(self, packet: list[int]) -> int:  # noqa: N802
        """Keep the bytes."""
        self.sent += bytes(packet)
        return len(packet)

    def readPort(self, length: int) -> bytes:  # noqa: N802
        """Hand out the prepared reply."""
        data, self._reply = self._reply[:length], self._reply[length:]
        return data

    def setPacketTimeout(self, length: int) -> None:  # noqa: N802
        """Time stands still."""

    def isPacketTimeout(self) -> bool:  # noqa: N802
        """Only when there is nothing more to read."""
        return not self._reply


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
