"""Laws of the control table, over every register: access, range, length, limits."""

from __future__ import annotations

import numpy as np
import pytest

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel import Fault
from robotrl.drivers.registers import Access, Area, Register
from robotrl.emulator.dynamixel_registers import FIXED, OFF_AT_0
from tests.emulator.host import Host

ID = 12
REGISTERS = list(x.REGISTERS.values())
WRITABLE = [r for r in REGISTERS if r.access is Access.RW]
READ_ONLY = [r for r in REGISTERS if r.access is Access.R]
SPOKEN_TO = (x.STATUS_RETURN_LEVEL, x.ID, x.BAUD_RATE)
"""Another value, and the servo answers otherwise or not at all."""
FREE = [r for r in WRITABLE if r.address not in FIXED and r not in SPOKEN_TO]
SET_BY_ASSEMBLY = {x.ID.address: ID, x.BAUD_RATE.address: 3}
LIVE = {
    r.address
    for r in (
        x.GOAL_POSITION,
        x.REALTIME_TICK,
        x.PRESENT_POSITION,
        x.POSITION_TRAJECTORY,
    )
}


def named(register: Register) -> str:
    return register.name


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.parametrize("register", REGISTERS, ids=named)
def test_power_up_value(host: Host, register: Register) -> None:
    value = host.read(ID, register)
    if register.address not in LIVE:
        assert value == SET_BY_ASSEMBLY.get(register.address, register.initial)


@pytest.mark.parametrize("register", READ_ONLY, ids=named)
def test_read_only_registers_refuse_writes(host: Host, register: Register) -> None:
    before = host.read(ID, register)
    assert host.write(ID, register, before) == Fault.ACCESS
    assert host.read(ID, register) == before


@pytest.mark.parametrize("register", FREE, ids=named)
def test_both_ends_of_the_range_are_taken(host: Host, register: Register) -> None:
    host.write(ID, x.VELOCITY_LIMIT, 1023)
    for value in (register.minimum, register.maximum):
        assert host.write(ID, register, value) == Fault.NONE
        assert host.read(ID, register) == value


@pytest.mark.parametrize("register", WRITABLE, ids=named)
def test_values_beyond_the_range_are_refused(host: Host, register: Register) -> None:
    before = host.read(ID, register)
    for value in (register.minimum - 1, register.maximum + 1):
        try:
            register.encode(value)
        except OverflowError:
            continue  # the register's bytes cannot hold it
        assert host.write(ID, register, value) == Fault.DATA_RANGE
    assert host.read(ID, register) == before


@pytest.mark.parametrize("address", sorted(FIXED))
def test_registers_without_emulated_effect_take_only_what_they_hold(host: Host, address: int) -> None:
    register = x.REGISTERS[address]
    held = host.read(ID, register)
    other = held + 1 if held < register.maximum else held - 1
    assert host.write(ID, register, held) == Fault.NONE
    assert host.write(ID, register, other) == Fault.DATA_RANGE
    assert host.read(ID, register) == held


@pytest.mark.parametrize("address", sorted(OFF_AT_0))
def test_gains_and_profiles_without_emulated_effect_can_be_turned_off(host: Host, address: int) -> None:
    host.bus.tables.values[address][1] = 77
    assert host.write(ID, x.REGISTERS[address], 76) == Fault.DATA_RANGE
    assert host.write(ID, x.REGISTERS[address], 0) == Fault.NONE
    assert host.read(ID, x.REGISTERS[address]) == 0


@pytest.mark.parametrize("register", WRITABLE, ids=named)
def test_eeprom_is_locked_while_torque_is_on_and_ram_is_not(host: Host, register: Register) -> None:
    held = host.read(ID, register)
    host.write(ID, x.TORQUE_ENABLE, 1)
    expected = Fault.ACCESS if register.area is Area.EEPROM else Fault.NONE
    assert host.write(ID, register, held) == expected


@pytest.mark.parametrize("register", [r for r in WRITABLE if r.size > 1], ids=named)
def test_part_of_a_register_cannot_be_written(host: Host, register: Register) -> None:
    before = host.read(ID, register)
    (status,) = host.send(dxl.write(ID, register.address, bytes(register.size - 1)))
    assert status.error == Fault.DATA_LENGTH
    (status,) = host.send(dxl.write(ID, register.address + 1, bytes(register.size - 1)))
    assert status.error == Fault.ACCESS
    assert host.read(ID, register) == before


def test_several_registers_are_written_together_or_not_at_all(host: Host) -> None:
    good = bytes([0, 0, 0, 0]) + (500).to_bytes(2, "little")
    (status,) = host.send(dxl.write(ID, x.POSITION_D_GAIN.address, good))
    assert status.error == Fault.NONE
    assert host.read(ID, x.POSITION_P_GAIN) == 500
    bad = (1).to_bytes(1, "little") + bytes([7])
    (status,) = host.send(dxl.write(ID, x.TORQUE_ENABLE.address, bad))
    assert status.error == Fault.DATA_RANGE
    assert host.read(ID, x.TORQUE_ENABLE) == 0


@pytest.mark.parametrize(("address", "size"), [(14, 1), (71, 2), (148, 1), (146, 3), (60000, 4)])
def test_reads_that_begin_nowhere_or_leave_the_table_are_refused(host: Host, address: int, size: int) -> None:
    (status,) = host.send(dxl.read(ID, address, size))
    assert (status.error, status.params) == (Fault.ACCESS, b"")


def test_reserved_bytes_inside_a_read_are_zero(host: Host) -> None:
    (status,) = host.send(dxl.read(ID, x.PROTOCOL_TYPE.address, 8))
    assert status.params == bytes([2, 0, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("goal", "limit"), [(x.GOAL_PWM, x.PWM_LIMIT), (x.GOAL_VELOCITY, x.VELOCITY_LIMIT)], ids=named
)
def test_goals_stay_within_their_limit_register(host: Host, goal: Register, limit: Register) -> None:
    host.write(ID, limit, 200)
    assert host.write(ID, goal, 200) == Fault.NONE
    assert host.write(ID, goal, -200) == Fault.NONE
    assert host.write(ID, goal, 201) == Fault.DATA_LIMIT
    assert host.write(ID, goal, -201) == Fault.DATA_LIMIT
    assert host.read(ID, goal) == -200


def test_goal_position_stays_within_the_position_limits(host: Host) -> None:
    host.write(ID, x.MIN_POSITION_LIMIT, 1000)
    host.write(ID, x.MAX_POSITION_LIMIT, 3000)
    answers = [host.write(ID, x.GOAL_POSITION, v) for v in (1000, 3000, 999, 3001)]
    assert answers == [Fault.NONE, Fault.NONE, Fault.DATA_LIMIT, Fault.DATA_LIMIT]
    assert host.read(ID, x.GOAL_POSITION) == 3000


def test_torque_stays_off_after_a_shutdown_until_reboot(host: Host) -> None:
    host.write(ID, x.TORQUE_ENABLE, 1)
    host.bus.heat_c[1] = 95.0
    host.live(0.03)
    assert host.read(ID, x.TORQUE_ENABLE) == 0
    assert [(e.kind, e.servo_id) for e in host.bus.events] == [("shutdown", ID)]
    host.bus.heat_c[1] = 30.0
    (status,) = host.send(dxl.write(ID, x.TORQUE_ENABLE.address, b"\x01"))
    assert status.fault == Fault.RESULT_FAIL
    host.send(dxl.reboot(ID))
    assert host.write(ID, x.TORQUE_ENABLE, 1) == Fault.NONE


def test_an_error_outside_shutdown_alerts_without_turning_torque_off(host: Host) -> None:
    host.write(ID, x.TORQUE_ENABLE, 1)
    host.supply_v = 16.5
    host.live(0.03)
    (status,) = host.send(dxl.ping(ID))
    assert status.alert
    assert host.read(ID, x.HARDWARE_ERROR_STATUS) == x.HardwareError.INPUT_VOLTAGE
    assert host.read(ID, x.TORQUE_ENABLE) == 1


def test_a_new_id_holds_from_the_next_instruction_on(host: Host) -> None:
    (status,) = host.send(dxl.write(ID, x.ID.address, b"\x63"))
    assert (status.id, status.error) == (ID, 0)
    assert host.send(dxl.ping(ID)) == []
    assert [status.id for status in host.send(dxl.ping(0x63))] == [0x63]
    assert [status.id for status in host.send(dxl.ping(dxl.BROADCAST_ID))][-1] == 0x63


def test_a_servo_at_another_baud_rate_hears_nothing_until_the_line_is_there_too(host: Host) -> None:
    assert host.write(ID, x.BAUD_RATE, 1) == Fault.NONE
    assert host.send(dxl.ping(ID)) == []
    host.bus.line_baud_bd = 57600
    assert [status.id for status in host.send(dxl.ping(dxl.BROADCAST_ID))] == [ID]
    assert host.write(ID, x.BAUD_RATE, 3) == Fault.NONE
    host.bus.line_baud_bd = 1000000
    assert len(host.send(dxl.ping(ID))) == 1


def test_the_identity_is_locked_under_torque(host: Host) -> None:
    host.write(ID, x.TORQUE_ENABLE, 1)
    assert host.write(ID, x.ID, 99) == Fault.ACCESS
    assert host.write(ID, x.BAUD_RATE, 1) == Fault.ACCESS


@pytest.mark.parametrize("fast", [False, True])
def test_two_servos_of_one_id_answer_at_once_and_garble_each_other(host: Host, *, fast: bool) -> None:
    host.position_rad[0] += 0.2
    host.live(0.02)
    host.write(ID, x.ID, 11)
    assert host.send(dxl.read(11, x.PRESENT_POSITION.address, 4)) == []
    (garbled,) = host.bus.receive(dxl.sync_read(x.PRESENT_POSITION.address, 4, [11], fast=fast), host.now_s)
    clean = dxl.encode_fast_reply if fast else lambda replies: replies[0].encode()
    assert len(garbled.data) == len(clean([dxl.StatusPacket(11, 0, bytes(4))]))
    assert host.send(dxl.read(13, x.PRESENT_POSITION.address, 4)) != []
    both = host.bus.torque_enabled
    host.send(dxl.sync_write(x.TORQUE_ENABLE.address, [11], np.ones((1, 1), np.uint8)))
    assert host.bus.torque_enabled.tolist() == [True, True, *both[2:].tolist()]
