"""ROBOTIS's own SDK, unchanged, drives the emulated X-series servos, which do as the e-Manual says."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel import BROADCAST_ID, Fault, Reset
from robotrl.drivers.registers import Register
from tests.emulator.host import Host
from tests.emulator.sdk_line import SdkLine

sdk: Any = import_module("dynamixel_sdk")  # untyped

ID, OTHER, ABSENT = 12, 13, 99
TURN = 4096
RESTLESS = {x.REALTIME_TICK, x.GOAL_POSITION, x.PRESENT_POSITION, x.POSITION_TRAJECTORY}
"""Registers in RAM whose value after a start is no constant."""


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def port(host: Host) -> SdkLine:
    return SdkLine(host)


@pytest.fixture
def packets() -> Any:
    return sdk.PacketHandler(2.0)


def little(register: Register, value: int) -> list[int]:
    """The register's bytes as the SDK takes them."""
    return list(register.encode(value))


def test_a_scan_finds_every_servo_and_its_model(host: Host, port: SdkLine, packets: Any) -> None:
    for id_ in (*host.ids, ABSENT):
        model, result, error = packets.ping(port, id_)
        answered = (1080, sdk.COMM_SUCCESS, 0) if id_ != ABSENT else (0, sdk.COMM_RX_TIMEOUT, 0)
        assert (model, result, error) == answered


def test_what_the_sdk_writes_it_reads_back_and_a_refusal_is_told(port: SdkLine, packets: Any) -> None:
    assert packets.write2ByteTxRx(port, ID, x.POSITION_P_GAIN.address, 345) == (sdk.COMM_SUCCESS, 0)
    assert packets.read2ByteTxRx(port, ID, x.POSITION_P_GAIN.address) == (345, sdk.COMM_SUCCESS, 0)
    assert packets.write2ByteTxRx(port, ID, x.PWM_LIMIT.address, 886)[1] == Fault.DATA_RANGE


# Reg Write and Action --------------------------------------------------------------------------


def test_a_registered_write_waits_for_the_action(host: Host, port: SdkLine, packets: Any) -> None:
    for id_, gain in ((ID, 111), (OTHER, 222)):
        data = little(x.POSITION_P_GAIN, gain)
        assert packets.regWriteTxRx(port, id_, x.POSITION_P_GAIN.address, 2, data) == (sdk.COMM_SUCCESS, 0)
        assert host.read(id_, x.POSITION_P_GAIN) == 700
        assert host.read(id_, x.REGISTERED_INSTRUCTION) == 1
    assert packets.action(port, BROADCAST_ID) == sdk.COMM_SUCCESS  # nobody answers
    assert [host.read(id_, x.POSITION_P_GAIN) for id_ in (ID, OTHER, 11)] == [111, 222, 700]
    assert [host.read(id_, x.REGISTERED_INSTRUCTION) for id_ in (ID, OTHER)] == [0, 0]


def test_an_action_of_one_servo_is_acknowledged_and_works_once(
    host: Host, port: SdkLine, packets: Any
) -> None:
    for id_ in (ID, OTHER):
        packets.regWriteTxRx(port, id_, x.LED.address, 1, [1])
    assert packets.action(port, ID) == sdk.COMM_SUCCESS
    assert [host.read(id_, x.LED) for id_ in (ID, OTHER)] == [1, 0]
    host.write(ID, x.LED, 0)
    assert packets.action(port, ID) == sdk.COMM_SUCCESS
    assert host.read(ID, x.LED) == 0


def test_a_refused_write_is_not_registered(host: Host, port: SdkLine, packets: Any) -> None:
    data = little(x.PWM_LIMIT, 886)
    assert packets.regWriteTxRx(port, ID, x.PWM_LIMIT.address, 2, data) == (
        sdk.COMM_SUCCESS,
        Fault.DATA_RANGE,
    )
    assert host.read(ID, x.REGISTERED_INSTRUCTION) == 0
    packets.action(port, ID)
    assert host.read(ID, x.PWM_LIMIT) == 885


def test_what_is_no_longer_allowed_is_refused_at_the_action(host: Host, port: SdkLine, packets: Any) -> None:
    packets.regWriteTxRx(port, ID, x.PWM_LIMIT.address, 2, little(x.PWM_LIMIT, 500))
    host.write(ID, x.TORQUE_ENABLE, 1)
    (status,) = host.send(dxl.action(ID))  # the SDK keeps an action's error to itself
    assert status.error == Fault.ACCESS
    assert host.read(ID, x.PWM_LIMIT) == 885


def test_a_reboot_forgets_what_was_registered(host: Host, port: SdkLine, packets: Any) -> None:
    packets.regWriteTxRx(port, ID, x.LED.address, 1, [1])
    assert packets.reboot(port, ID) == (sdk.COMM_SUCCESS, 0)
    assert host.read(ID, x.REGISTERED_INSTRUCTION) == 0
    packets.action(port, BROADCAST_ID)
    assert host.read(ID, x.LED) == 0


# Bulk Read and Bulk Write ----------------------------------------------------------------------


def test_a_bulk_write_gives_each_servo_its_own_register_and_a_bulk_read_brings_them(
    port: SdkLine, packets: Any
) -> None:
    write = sdk.GroupBulkWrite(port, packets)
    assert write.addParam(ID, x.POSITION_P_GAIN.address, 2, little(x.POSITION_P_GAIN, 321))
    assert write.addParam(OTHER, x.LED.address, 1, [1])
    assert write.txPacket() == sdk.COMM_SUCCESS
    read = sdk.GroupBulkRead(port, packets)
    assert read.addParam(OTHER, x.LED.address, 1)
    assert read.addParam(ID, x.POSITION_P_GAIN.address, 2)
    assert read.addParam(11, x.MODEL_NUMBER.address, 2)
    assert read.txRxPacket() == sdk.COMM_SUCCESS
    assert read.getData(ID, x.POSITION_P_GAIN.address, 2) == 321
    assert read.getData(OTHER, x.LED.address, 1) == 1
    assert read.getData(11, x.MODEL_NUMBER.address, 2) == 1080


def test_a_missing_servo_silences_those_behind_it_in_a_bulk_read(port: SdkLine, packets: Any) -> None:
    read = sdk.GroupBulkRead(port, packets)
    for id_ in (ID, ABSENT, OTHER):
        read.addParam(id_, x.LED.address, 1)
    assert read.txRxPacket() == sdk.COMM_RX_TIMEOUT
    whole = sdk.GroupBulkRead(port, packets)
    for id_ in (ID, OTHER):
        whole.addParam(id_, x.LED.address, 1)
    assert whole.txRxPacket() == sdk.COMM_SUCCESS


def test_a_refused_part_of_a_bulk_write_leaves_the_others(host: Host, port: SdkLine, packets: Any) -> None:
    write = sdk.GroupBulkWrite(port, packets)
    write.addParam(ID, x.PWM_LIMIT.address, 2, little(x.PWM_LIMIT, 886))
    write.addParam(OTHER, x.PWM_LIMIT.address, 2, little(x.PWM_LIMIT, 500))
    write.txPacket()
    assert [host.read(id_, x.PWM_LIMIT) for id_ in (ID, OTHER)] == [885, 500]


# Factory Reset ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "id_", "baud_rate"),
    [(Reset.ALL, 1, 1), (Reset.EXCEPT_ID, ID, 1), (Reset.EXCEPT_ID_AND_BAUD_RATE, ID, 3)],
)
def test_a_factory_reset_keeps_what_its_option_says_and_starts_anew(
    host: Host, port: SdkLine, packets: Any, option: Reset, id_: int, baud_rate: int
) -> None:
    host.write(ID, x.PWM_LIMIT, 500)
    host.write(ID, x.HOMING_OFFSET, -300)
    host.write(ID, x.LED, 1)
    host.write(ID, x.TORQUE_ENABLE, 1)
    assert packets.factoryReset(port, ID, option) == (sdk.COMM_SUCCESS, 0)
    host.live(0.05)
    kept = {x.ID: id_, x.BAUD_RATE: baud_rate}
    host.bus.line_baud_bd = {1: 57600, 3: 1000000}[baud_rate]
    table = host.bus.tables.tables[1].registers.values()
    for register in (r for r in table if r not in RESTLESS):
        assert host.read(id_, register) == kept.get(register, register.initial), register.name
    host.bus.line_baud_bd = 1000000
    assert host.read(OTHER, x.ID) == OTHER


def test_a_factory_reset_of_everything_is_never_done_to_all(host: Host, port: SdkLine, packets: Any) -> None:
    packets.factoryReset(port, BROADCAST_ID, Reset.ALL)
    assert [host.read(id_, x.ID) for id_ in host.ids] == list(host.ids)
    host.write(ID, x.PWM_LIMIT, 500)
    host.write(OTHER, x.PWM_LIMIT, 500)
    packets.factoryReset(port, BROADCAST_ID, Reset.EXCEPT_ID_AND_BAUD_RATE)
    assert [host.read(id_, x.PWM_LIMIT) for id_ in (ID, OTHER)] == [885, 885]


def test_an_unknown_option_resets_nothing(host: Host, port: SdkLine, packets: Any) -> None:
    host.write(ID, x.PWM_LIMIT, 500)
    assert packets.factoryReset(port, ID, 0x03) == (sdk.COMM_SUCCESS, Fault.DATA_RANGE)
    (status,) = host.send(dxl.InstructionPacket(ID, dxl.Code.FACTORY_RESET).encode())
    assert status.error == Fault.DATA_LENGTH
    assert host.read(ID, x.PWM_LIMIT) == 500


# Clear -----------------------------------------------------------------------------------------


def turned(host: Host, turns: float) -> None:
    """Turn the shaft of servo `ID` by hand, and let it come to rest."""
    host.position_rad[1] += 2 * np.pi * turns
    host.live(0.05)


@pytest.mark.parametrize("turns", [-3, -1, 1, 2])
def test_clear_brings_the_position_into_one_turn_by_whole_turns(
    host: Host, port: SdkLine, packets: Any, turns: int
) -> None:
    before = host.read(ID, x.PRESENT_POSITION)
    others = host.read(OTHER, x.PRESENT_POSITION)
    turned(host, turns)
    assert host.read(ID, x.PRESENT_POSITION) == before + turns * TURN
    assert packets.clearMultiTurn(port, ID) == (sdk.COMM_SUCCESS, 0)
    assert host.read(ID, x.PRESENT_POSITION) == before
    turned(host, 0.25)
    assert host.read(ID, x.PRESENT_POSITION) == before + TURN // 4
    assert host.read(OTHER, x.PRESENT_POSITION) == others


def test_a_servo_that_moves_cannot_be_cleared(host: Host, port: SdkLine, packets: Any) -> None:
    turned(host, 1)
    before = host.read(ID, x.PRESENT_POSITION)
    host.position_rad[1] += 0.1
    host.live(0.002)
    assert packets.clearMultiTurn(port, ID) == (sdk.COMM_SUCCESS, Fault.RESULT_FAIL)
    host.position_rad[1] -= 0.1
    host.live(0.05)
    assert host.read(ID, x.PRESENT_POSITION) == before


def test_a_clear_without_its_word_does_nothing(host: Host) -> None:
    turned(host, 1)
    before = host.read(ID, x.PRESENT_POSITION)
    for params in (b"", b"\x01\x44\x58\x4c\x23", b"\x02\x45\x52\x43\x4c"):
        (status,) = host.send(dxl.InstructionPacket(ID, dxl.Code.CLEAR, params).encode())
        assert status.error == Fault.DATA_RANGE
    assert host.read(ID, x.PRESENT_POSITION) == before


def test_a_reboot_forgets_the_turns_too(host: Host, port: SdkLine, packets: Any) -> None:
    before = host.read(ID, x.PRESENT_POSITION)
    turned(host, -2)
    packets.reboot(port, ID)
    assert host.read(ID, x.PRESENT_POSITION) == before
    assert host.read(ID, x.GOAL_POSITION) == before


def test_the_goal_stays_true_to_the_joint_after_a_clear(host: Host, port: SdkLine, packets: Any) -> None:
    turned(host, 1)
    packets.clearMultiTurn(port, ID)
    host.write(ID, x.GOAL_POSITION, host.read(ID, x.PRESENT_POSITION))
    assert host.bus.goal_rad[1] == pytest.approx(host.position_rad[1], abs=2 * np.pi / TURN)
