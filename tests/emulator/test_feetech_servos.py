"""Laws of the emulated Feetech firmware: memory, lock, answers, identity, drive and protection."""

from __future__ import annotations

import numpy as np
import pytest

from robotrl.drivers import feetech as ft
from robotrl.drivers import scs, sts
from robotrl.drivers.feetech import HardwareError
from robotrl.drivers.registers import Access, Area, Register
from robotrl.emulator.feetech_registers import FIXED
from robotrl.emulator.firmware import RETURN_DELAY_UNIT_S, TURNAROUND_S
from tests.emulator.feetech_host import FeetechHost

ID = 12
ROW = 1
STS = list(sts.STS3215.registers.values())
IDENTITY = (sts.ID, sts.BAUD_RATE)
WRITABLE = [r for r in STS if r.access is Access.RW and r not in IDENTITY and r is not sts.TORQUE_ENABLE]
FREE = [r for r in WRITABLE if r.name not in FIXED]


def named(register: Register) -> str:
    return register.name


@pytest.fixture
def host() -> FeetechHost:
    return FeetechHost()


def stiff(host: FeetechHost, goal: int) -> None:
    """Torque on towards a goal, with the dead zones and the startup force off."""
    for register in (sts.CW_DEAD_ZONE, sts.CCW_DEAD_ZONE, sts.MIN_STARTUP_FORCE):
        host.write(ID, register, 0)
    host.write(ID, sts.GOAL_POSITION, goal)
    host.write(ID, sts.TORQUE_ENABLE, 1)


# Memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("register", [r for r in STS if not r.name.startswith("Present")], ids=named)
def test_power_up_value(host: FeetechHost, register: Register) -> None:
    assembled = {sts.ID: ID, sts.BAUD_RATE: 0}
    assert host.read(ID, register) == assembled.get(register, register.initial)


@pytest.mark.parametrize("register", [r for r in STS if r.access is Access.R], ids=named)
def test_read_only_registers_keep_their_value(host: FeetechHost, register: Register) -> None:
    before = host.read(ID, register)
    host.write(ID, register, before ^ 1)
    assert host.read(ID, register) == before


@pytest.mark.parametrize("register", [r for r in FREE if r is not sts.RESPONSE_LEVEL], ids=named)
def test_both_ends_of_the_range_are_taken_and_nothing_beyond(host: FeetechHost, register: Register) -> None:
    for value in (register.minimum, register.maximum):
        host.write(ID, register, value)
        assert host.read(ID, register) == value
    for beyond in (register.minimum - 1, register.maximum + 1):
        if register.lowest <= beyond <= register.highest:
            host.write(ID, register, beyond)
            assert host.read(ID, register) == register.maximum


@pytest.mark.parametrize("register", [r for r in WRITABLE if r.name in FIXED], ids=named)
def test_registers_without_emulated_effect_keep_what_they_hold(host: FeetechHost, register: Register) -> None:
    held = host.read(ID, register)
    host.write(ID, register, held + 1 if held < register.maximum else held - 1)
    assert host.read(ID, register) == held


@pytest.mark.parametrize("register", [r for r in FREE if r.area is Area.EEPROM], ids=named)
@pytest.mark.parametrize("lock", [0, 1])
def test_eeprom_survives_without_power_only_if_unlocked(
    host: FeetechHost, register: Register, lock: int
) -> None:
    host.write(ID, sts.LOCK, lock)
    before = host.read(ID, register)
    other = register.maximum if before != register.maximum else register.minimum
    host.write(ID, register, other)
    assert host.read(ID, register) == other
    host.bus.power_cycle(ROW)
    assert host.read(ID, register) == (before if lock else other)


def test_power_takes_ram_with_it_and_bounds_the_drive_by_max_torque(host: FeetechHost) -> None:
    host.write(ID, sts.LOCK, 0)
    host.write(ID, sts.MAX_TORQUE, 600)
    stiff(host, 2000)
    host.bus.power_cycle(ROW)
    assert host.read(ID, sts.TORQUE_ENABLE) == 0
    assert host.read(ID, sts.GOAL_POSITION) == 0
    assert host.read(ID, sts.LOCK) == 1
    assert host.read(ID, sts.TORQUE_LIMIT) == 600


def test_neighbouring_registers_are_written_at_once_and_gaps_read_zero(host: FeetechHost) -> None:
    host.send(ft.write(ID, sts.CW_DEAD_ZONE.address, bytes((3, 4, 100, 0))))
    assert [host.read(ID, r) for r in (sts.CW_DEAD_ZONE, sts.CCW_DEAD_ZONE, sts.PROTECTION_CURRENT)] == [
        3,
        4,
        100,
    ]
    (status,) = host.send(ft.read(ID, sts.TORQUE_LIMIT.address, 8))
    assert status.params == bytes((0xE8, 3, 0, 0, 0, 0, 0, 1))


# Answers -------------------------------------------------------------------------------------


def test_every_servo_answers_its_own_ping_and_no_other(host: FeetechHost) -> None:
    for id_ in host.bus.ids:
        assert [s.id for s in host.send(ft.ping(id_))] == [id_]
    assert host.send(ft.ping(99)) == []


def test_response_level_0_silences_all_but_ping_and_read(host: FeetechHost) -> None:
    host.write(ID, sts.RESPONSE_LEVEL, 0)
    assert host.send(ft.write(ID, sts.P_GAIN.address, b"\x09")) == []
    assert host.read(ID, sts.P_GAIN) == 9
    assert len(host.send(ft.ping(ID))) == 1


def test_the_pause_before_an_answer_is_the_return_delay(host: FeetechHost) -> None:
    host.write(ID, sts.RETURN_DELAY, 100)
    (reply,) = host.bus.receive(ft.ping(ID), host.now_s)
    assert reply.gap_s == pytest.approx(TURNAROUND_S + 100 * RETURN_DELAY_UNIT_S)


def test_a_sync_read_is_answered_in_the_order_of_the_list_up_to_a_gap(host: FeetechHost) -> None:
    assert [s.id for s in host.send(ft.sync_read(56, 8, [13, 11, 12]))] == [13, 11, 12]
    assert [s.id for s in host.send(ft.sync_read(56, 8, [13, 99, 12]))] == [13]


def test_scs_servos_do_not_know_sync_read() -> None:
    host = FeetechHost("feetech_scs")
    assert host.send(ft.sync_read(56, 8, [11, 12])) == []
    assert host.read(ID, scs.MODEL_NUMBER) == 1284


def test_a_reg_write_waits_for_its_action(host: FeetechHost) -> None:
    host.send(ft.reg_write(ID, sts.GOAL_POSITION.address, sts.GOAL_POSITION.encode(1234)))
    assert host.read(ID, sts.GOAL_POSITION) == 0
    assert host.read(ID, sts.REGISTERED_INSTRUCTION) == 1
    assert host.send(ft.action()) == []
    assert host.read(ID, sts.GOAL_POSITION) == 1234
    assert host.read(ID, sts.REGISTERED_INSTRUCTION) == 0


def test_broken_or_unknown_instructions_are_not_obeyed(host: FeetechHost) -> None:
    good = ft.write(ID, sts.P_GAIN.address, b"\x09")
    for bit in range(8 * len(good)):
        host.live(0.003)  # an idle line makes the servos forget a started packet
        broken = bytearray(good)
        broken[bit // 8] ^= 1 << bit % 8
        host.send(bytes(broken))
    host.live(0.003)
    assert host.send(ft.InstructionPacket(ID, 0x77).encode()) == []
    assert host.send(ft.InstructionPacket(ID, ft.Code.READ, b"\x01").encode()) == []
    assert host.read(ID, sts.P_GAIN) == sts.P_GAIN.initial


# Identity ------------------------------------------------------------------------------------


def test_a_new_id_holds_from_the_next_instruction_on(host: FeetechHost) -> None:
    (status,) = host.send(ft.write(ID, sts.ID.address, b"\x63"))
    assert status.id == ID
    assert host.send(ft.ping(ID)) == []
    assert [s.id for s in host.send(ft.ping(99))] == [99]
    assert host.bus.ids[ROW] == 99


def test_a_servo_at_another_baud_rate_hears_nothing_until_the_line_is_there_too(host: FeetechHost) -> None:
    host.write(ID, sts.BAUD_RATE, 1)
    assert host.send(ft.ping(ID)) == []
    assert len(host.send(ft.ping(11))) == 1
    host.bus.line_baud_bd = 500000
    assert len(host.send(ft.ping(ID))) == 1
    assert host.send(ft.ping(11)) == []


# Drive ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("protocol", "steps"), [("feetech_sts", 4096 / (2 * np.pi)), ("feetech_scs", 195.6)])
def test_positions_are_whole_steps_of_the_encoder(protocol: str, steps: float) -> None:
    host = FeetechHost(protocol)  # type: ignore[arg-type]
    register = sts.PRESENT_POSITION if protocol == "feetech_sts" else scs.PRESENT_POSITION
    joint = host.robot.joint[ROW]
    for angle in np.linspace(-0.5, 0.5, 31):
        host.position_rad[ROW] = angle
        host.live(0.001)
        assert abs(host.read(ID, register) - (joint.zero_count + joint.sign * angle * steps)) < 0.6


@pytest.mark.parametrize("offset", [-1000, 0, 7, 2047])
def test_the_offset_is_taken_off_the_encoder_and_wraps(host: FeetechHost, offset: int) -> None:
    before = host.read(ID, sts.PRESENT_POSITION)
    host.write(ID, sts.HOMING_OFFSET, offset)
    assert host.read(ID, sts.PRESENT_POSITION) == (before - offset) % 4096


def test_128_makes_the_present_position_the_midpoint_and_turns_nothing_on(host: FeetechHost) -> None:
    host.write(ID, sts.TORQUE_ENABLE, sts.SET_MIDPOINT)
    assert host.read(ID, sts.PRESENT_POSITION) == 2048
    assert host.read(ID, sts.TORQUE_ENABLE) == 0


def test_other_values_of_torque_enable_do_nothing(host: FeetechHost) -> None:
    before = host.read(ID, sts.PRESENT_POSITION)
    host.write(ID, sts.TORQUE_ENABLE, 33)
    assert host.read(ID, sts.PRESENT_POSITION) == before
    assert host.read(ID, sts.TORQUE_ENABLE) == 0


def test_torque_without_a_goal_drives_towards_0(host: FeetechHost) -> None:
    host.write(ID, sts.TORQUE_ENABLE, 1)
    host.live(0.001)
    assert host.bus.torque_nm[ROW] * host.robot.joint[ROW].sign < -0.5


def test_the_drive_is_the_law_of_the_servo_type_within_the_torque_limit(host: FeetechHost) -> None:
    servo = host.robot.servo_of(host.robot.joint[ROW])
    here = host.read(ID, sts.PRESENT_POSITION)
    for error in (-400, -30, -1, 0, 1, 30, 400):
        stiff(host, here + error)
        host.write(ID, sts.TORQUE_LIMIT, 500)
        host.live(0.001)
        pwm = np.clip(round(servo.position_p_gain / servo.p_gain_divisor * error), -500, 500)
        expected = servo.stall_torque_nm * pwm / servo.pwm_full
        torque = host.bus.torque_nm[ROW] * host.robot.joint[ROW].sign
        assert torque == pytest.approx(expected * host.supply_v / servo.nominal_voltage_v)
        assert host.read(ID, sts.PRESENT_LOAD) == pwm


def test_dead_zone_startup_force_and_position_limits_shape_the_drive(host: FeetechHost) -> None:
    here = host.read(ID, sts.PRESENT_POSITION)
    stiff(host, here + 10)
    host.write(ID, sts.CW_DEAD_ZONE, 10)
    host.live(0.001)
    assert host.read(ID, sts.PRESENT_LOAD) == 0
    host.write(ID, sts.CW_DEAD_ZONE, 9)
    host.write(ID, sts.MIN_STARTUP_FORCE, 300)
    host.live(0.001)
    assert host.read(ID, sts.PRESENT_LOAD) == 300
    host.write(ID, sts.MAX_POSITION_LIMIT, here)
    host.live(0.001)
    assert host.read(ID, sts.PRESENT_LOAD) == 0


# Protection ----------------------------------------------------------------------------------


def test_overload_weakens_the_servo_until_torque_is_turned_off(host: FeetechHost) -> None:
    host.write(ID, sts.PROTECTION_TIME, 10)
    stiff(host, host.read(ID, sts.PRESENT_POSITION) + 800)
    host.live(0.1)
    assert host.read(ID, sts.PRESENT_LOAD) == 1000
    host.live(0.04)
    assert host.read(ID, sts.PRESENT_LOAD) == 200
    (status,) = host.send(ft.ping(ID))
    assert status.error == HardwareError.OVERLOAD
    host.write(ID, sts.TORQUE_ENABLE, 0)
    host.live(0.04)
    (status,) = host.send(ft.ping(ID))
    assert status.error == 0


def test_a_hot_servo_lets_go_and_says_so_while_it_is_hot(host: FeetechHost) -> None:
    stiff(host, host.read(ID, sts.PRESENT_POSITION))
    host.bus.heat_c[ROW] = 75.0
    host.live(0.02)
    assert host.read(ID, sts.TORQUE_ENABLE) == 0
    assert host.read(ID, sts.PRESENT_TEMPERATURE) == 75
    assert [(e.kind, e.servo_id) for e in host.bus.events] == [("shutdown", ID)]
    (status,) = host.send(ft.ping(ID))
    assert status.error == HardwareError.OVERHEATING
    host.bus.heat_c[ROW] = 40.0
    host.live(0.02)
    (status,) = host.send(ft.ping(ID))
    assert status.error == 0


@pytest.mark.parametrize("supply_v", [3.0, 9.0])
def test_a_wrong_voltage_is_told_in_every_answer_as_long_as_it_lasts(
    host: FeetechHost, supply_v: float
) -> None:
    host.supply_v = supply_v
    host.live(0.02)
    assert host.write(ID, sts.P_GAIN, 10) == HardwareError.VOLTAGE
    assert host.read(ID, sts.PRESENT_VOLTAGE) == round(10 * supply_v)
    host.supply_v = 7.4
    host.live(0.02)
    assert host.write(ID, sts.P_GAIN, 10) == 0


def test_a_stalled_motor_warms_up_and_draws_current(host: FeetechHost) -> None:
    host.write(ID, sts.UNLOADING_CONDITION, 0)
    stiff(host, host.read(ID, sts.PRESENT_POSITION) + 800)
    host.live(2.0)
    assert host.read(ID, sts.PRESENT_CURRENT) == pytest.approx(2.5 / 0.0065, rel=0.01)
    assert host.bus.temperature_c[ROW] > host.bus.temperature_c[0] + 0.5
