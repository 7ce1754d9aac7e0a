"""Feetech's own SDK, unchanged, drives the emulated STS3215 through a pseudo-terminal."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from robotrl.drivers import sts
from robotrl.drivers.feetech import HardwareError
from tests.emulator.served import ServedServos

sdk: Any = import_module("scservo_sdk")  # untyped

ID = 12
LITTLE = 0


@pytest.fixture
def served() -> Iterator[ServedServos]:
    with ServedServos() as servos:
        yield servos


@pytest.fixture
def port(served: ServedServos) -> Iterator[Any]:
    opened = sdk.PortHandler(served.path)
    assert opened.openPort()
    assert opened.setBaudRate(1000000)
    yield opened
    opened.closePort()


@pytest.fixture
def packets() -> Any:
    return sdk.PacketHandler(LITTLE)


def test_a_scan_finds_every_servo_its_model_and_nobody_else(
    served: ServedServos, port: Any, packets: Any
) -> None:
    for id_ in range(10, 25):
        model, result, error = packets.ping(port, id_)
        if id_ in served.bus.ids:
            assert (model, result, error) == (777, sdk.COMM_SUCCESS, 0)
        else:
            assert result == sdk.COMM_RX_TIMEOUT


def test_a_servo_at_another_baud_rate_is_found_at_that_one_only(port: Any, packets: Any) -> None:
    packets.write1ByteTxRx(port, ID, sts.BAUD_RATE.address, 1)
    assert packets.ping(port, ID)[1] == sdk.COMM_RX_TIMEOUT
    assert port.setBaudRate(500000)
    assert packets.ping(port, ID)[:2] == (777, sdk.COMM_SUCCESS)


def test_what_the_sdk_writes_it_reads_back(port: Any, packets: Any) -> None:
    goal = sts.GOAL_POSITION.address
    assert packets.write2ByteTxRx(port, ID, goal, 1234) == (sdk.COMM_SUCCESS, 0)
    assert packets.read2ByteTxRx(port, ID, goal) == (1234, sdk.COMM_SUCCESS, 0)
    assert packets.write1ByteTxRx(port, ID, sts.ID.address, 99) == (sdk.COMM_SUCCESS, 0)
    assert packets.read2ByteTxRx(port, 99, goal) == (1234, sdk.COMM_SUCCESS, 0)


def test_a_refused_value_is_not_taken(port: Any, packets: Any) -> None:
    packets.write1ByteTxRx(port, ID, sts.MAX_TEMPERATURE.address, 101)
    assert packets.read1ByteTxRx(port, ID, sts.MAX_TEMPERATURE.address)[0] == 70


def test_sync_write_and_sync_read_reach_all_servos(served: ServedServos, port: Any, packets: Any) -> None:
    ids = served.bus.ids
    write = sdk.GroupSyncWrite(port, packets, sts.GOAL_POSITION.address, 2)
    for id_ in ids:
        assert write.addParam(id_, [id_, 4])
    assert write.txPacket() == sdk.COMM_SUCCESS
    read = sdk.GroupSyncRead(port, packets, sts.GOAL_POSITION.address, 2)
    for id_ in ids:
        assert read.addParam(id_)
    assert read.txRxPacket() == sdk.COMM_SUCCESS
    assert [read.getData(id_, sts.GOAL_POSITION.address, 2) for id_ in ids] == [1024 + id_ for id_ in ids]


def test_a_lost_answer_is_a_timeout_and_the_next_one_comes(
    served: ServedServos, port: Any, packets: Any
) -> None:
    served.lost = 1
    assert packets.read1ByteTxRx(port, ID, sts.P_GAIN.address)[1] == sdk.COMM_RX_TIMEOUT
    assert packets.read1ByteTxRx(port, ID, sts.P_GAIN.address) == (32, sdk.COMM_SUCCESS, 0)


def test_the_error_byte_tells_of_the_voltage(served: ServedServos, port: Any, packets: Any) -> None:
    served.host.supply_v = 3.5
    served.host.live(0.04)
    value, result, error = packets.read1ByteTxRx(port, ID, sts.PRESENT_VOLTAGE.address)
    assert (value, result, error) == (35, sdk.COMM_SUCCESS, HardwareError.VOLTAGE)
