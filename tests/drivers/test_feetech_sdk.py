"""Parity with Feetech's own SDK, driven over a port that only records."""

from __future__ import annotations

import random
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from robotrl.drivers import feetech as ft
from robotrl.drivers import scs, sts
from robotrl.drivers.feetech import StatusPacket
from robotrl.drivers.registers import Register
from tests.drivers.sdk_port import RecordingPort

sdk: Any = import_module("scservo_sdk")  # untyped

LITTLE, BIG = 0, 1
IDS = (4, 2, 9)


def handler(end: int = LITTLE) -> Any:
    """The SDK's packet handler; the byte order is global in the SDK."""
    return sdk.PacketHandler(end)


def sent(action: str, *arguments: object, end: int = LITTLE) -> bytes:
    """What the SDK sends."""
    port = RecordingPort()
    getattr(handler(end), action)(port, *arguments)
    return port.sent


def test_instructions_are_the_same_bytes() -> None:
    rng = random.Random(1)
    for _ in range(100):
        id_, address, data = rng.randrange(254), rng.randrange(256), list(rng.randbytes(rng.randrange(1, 9)))
        assert sent("ping", id_) == ft.ping(id_)
        assert sent("readTx", id_, address, 8) == ft.read(id_, address, 8)
        assert sent("writeTxOnly", id_, address, len(data), data) == ft.write(id_, address, bytes(data))
        assert sent("regWriteTxOnly", id_, address, len(data), data) == ft.reg_write(
            id_, address, bytes(data)
        )
        assert sent("action", id_) == ft.action(id_)


@pytest.mark.parametrize(
    ("end", "register"), [(LITTLE, sts.GOAL_POSITION), (BIG, scs.GOAL_POSITION)], ids=("sts", "scs")
)
def test_words_are_the_same_bytes_in_both_series(end: int, register: Register) -> None:
    for value in (0, 1, 0x0102, 1023):
        theirs = sent("write2ByteTxOnly", 3, register.address, value, end=end)
        assert theirs == ft.write(3, register.address, register.encode(value))


@pytest.mark.parametrize("register", [sts.HOMING_OFFSET, sts.PRESENT_LOAD, sts.PRESENT_VELOCITY])
def test_sign_and_magnitude_are_the_same(register: Register) -> None:
    for value in (*range(-1000, 1001, 37), register.minimum, register.maximum):
        raw = sdk.SCS_TOSCS(value, register.sign_bit)
        assert register.encode(value) == raw.to_bytes(2, "little")
        assert register.decode(register.encode(value)) == sdk.SCS_TOHOST(raw, register.sign_bit)


def test_sync_instructions_are_the_same_bytes() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (len(IDS), 6), np.uint8)
    port = RecordingPort()
    read = sdk.GroupSyncRead(port, handler(), 56, 8)
    for id_ in IDS:
        read.addParam(id_)
    read.txPacket()
    port.is_using = False
    write = sdk.GroupSyncWrite(port, handler(), 42, 6)
    for id_, row in zip(IDS, rows, strict=True):
        write.addParam(id_, row.tolist())
    write.txPacket()
    assert port.sent == ft.sync_read(56, 8, IDS) + ft.sync_write(42, IDS, rows)


def test_the_sdk_understands_our_status_packets() -> None:
    data = bytes.fromhex("01 FF FF 02 00")
    port = RecordingPort(StatusPacket(5, 0x24, data).encode())
    packet, result, error = handler().readRx(port, 5, len(data))
    assert (bytes(packet), result, error) == (data, 0, 0x24)


def test_the_sdk_reads_our_sync_answers_as_we_do() -> None:
    rows = np.random.default_rng(1).integers(0, 256, (len(IDS), 8), np.uint8)
    answers = b"".join(
        StatusPacket(id_, 0, row.tobytes()).encode() for id_, row in zip(IDS, rows, strict=True)
    )
    read = sdk.GroupSyncRead(RecordingPort(answers), handler(), 56, 8)
    for id_ in IDS:
        read.addParam(id_)
    assert read.rxPacket() == 0
    ours = ft.decode_sync_reply(answers, IDS, 8).data
    for id_, row in zip(IDS, ours, strict=True):
        assert read.getData(id_, 56, 2) == int.from_bytes(row[:2].tobytes(), "little")
        assert read.getData(id_, 62, 1) == row[6]
