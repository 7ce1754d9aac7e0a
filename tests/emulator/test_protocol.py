"""Laws of the servos' protocol, at byte level: who answers what, and with which error."""

from __future__ import annotations

import numpy as np
import pytest

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel import BROADCAST_ID, Code, ErrorBit, Fault, InstructionPacket
from robotrl.emulator.firmware import IDLE_RESET_S, RETURN_DELAY_UNIT_S, TURNAROUND_S
from tests.emulator.host import Host

ALL_IDS = [11, 12, 13, 21, 22, 23, 31, 32, 33, 41, 42, 43]


@pytest.fixture
def host() -> Host:
    return Host()


def test_ping_tells_model_and_firmware(host: Host) -> None:
    (status,) = host.send(dxl.ping(22))
    assert (status.id, status.error, status.params) == (22, 0, bytes([0x38, 0x04, 45]))


def test_broadcast_ping_is_answered_by_all_in_order_of_id(host: Host) -> None:
    assert [s.id for s in host.send(dxl.ping(BROADCAST_ID))] == ALL_IDS


def test_an_absent_id_is_silent(host: Host) -> None:
    assert host.send(dxl.ping(99)) == []


def test_a_write_is_acknowledged_and_reads_back(host: Host) -> None:
    assert host.write(13, x.POSITION_P_GAIN, 345) == Fault.NONE
    assert host.read(13, x.POSITION_P_GAIN) == 345
    assert host.read(12, x.POSITION_P_GAIN) == 700


def test_broadcast_write_reaches_all_and_nobody_answers(host: Host) -> None:
    assert host.send(dxl.write(BROADCAST_ID, x.LED.address, b"\x01")) == []
    assert [host.read(id_, x.LED) for id_ in ALL_IDS] == [1] * 12


def test_broadcast_read_is_not_answered(host: Host) -> None:
    assert host.send(dxl.read(BROADCAST_ID, x.LED.address, 1)) == []


def test_sync_write_gives_each_its_own_value_without_answer(host: Host) -> None:
    values = np.arange(100, 112)
    data = values.astype("<u2").view(np.uint8).reshape(12, 2)
    assert host.send(dxl.sync_write(x.POSITION_P_GAIN.address, ALL_IDS, data)) == []
    assert [host.read(id_, x.POSITION_P_GAIN) for id_ in ALL_IDS] == values.tolist()


def test_sync_read_answers_in_the_listed_order(host: Host) -> None:
    order = [43, 11, 32]
    replies = host.send(dxl.sync_read(x.ID.address, 1, order))
    assert [(s.id, s.params[0]) for s in replies] == [(i, i) for i in order]


def test_fast_sync_read_is_one_frame_of_all_blocks(host: Host) -> None:
    replies = host.bus.receive(dxl.sync_read(x.ID.address, 1, ALL_IDS, fast=True), host.now_s)
    assert len(replies) == 1
    assert len(replies[0].data) == 8 + 12 * (4 + 1)
    blocks = dxl.decode_fast_reply(replies[0].data, 12, 1)
    assert [(b.id, b.params[0], b.error) for b in blocks] == [(i, i, 0) for i in ALL_IDS]


@pytest.mark.parametrize("fast", [False, True])
def test_a_missing_servo_silences_those_behind_it_in_a_sync_read(host: Host, fast: bool) -> None:
    asked = [11, 12, 99, 13]
    replies = host.bus.receive(dxl.sync_read(x.ID.address, 1, asked, fast=fast), host.now_s)
    data = b"".join(r.data for r in replies)
    heard = (
        dxl.decode_fast_reply(data, 4, 1)
        if fast
        else [p for p in dxl.PacketParser().feed(data) if isinstance(p, dxl.StatusPacket)]
    )
    assert [b.id for b in heard] == [11, 12]


def test_unknown_instruction(host: Host) -> None:
    (status,) = host.send(InstructionPacket(11, 0x77).encode())
    assert status.error == Fault.INSTRUCTION
    assert host.send(InstructionPacket(BROADCAST_ID, 0x77).encode()) == []


def test_wrong_crc_is_answered_by_the_addressed_servo_and_not_obeyed(host: Host) -> None:
    packet = bytearray(dxl.write(11, x.LED.address, b"\x01"))
    packet[-1] ^= 0x10
    (status,) = host.send(bytes(packet))
    assert (status.id, status.error) == (11, Fault.CRC)
    host.live(0.01)
    assert host.read(11, x.LED) == 0


def test_noise_is_not_answered_and_does_not_block_what_follows(host: Host) -> None:
    assert host.send(b"\x00\xff\xff\xfd\x13\x37") == []
    assert len(host.send(dxl.ping(11))) == 1


def test_a_broken_off_packet_is_forgotten_when_the_line_idles(host: Host) -> None:
    assert host.send(dxl.write(11, x.LED.address, b"\x01")[:8]) == []
    host.live(2 * IDLE_RESET_S)
    assert len(host.send(dxl.ping(11))) == 1


def test_a_packet_may_arrive_in_pieces(host: Host) -> None:
    packet = dxl.ping(11)
    assert host.send(packet[:4]) == []
    assert len(host.send(packet[4:])) == 1


@pytest.mark.parametrize("code", [Code.READ, Code.WRITE])
def test_too_few_parameters_are_a_length_error(host: Host, code: Code) -> None:
    (status,) = host.send(InstructionPacket(11, code, b"\x40").encode())
    assert status.error == Fault.DATA_LENGTH


@pytest.mark.parametrize(("level", "read_answers", "write_answers"), [(0, 0, 0), (1, 1, 0), (2, 1, 1)])
def test_status_return_level(host: Host, level: int, read_answers: int, write_answers: int) -> None:
    host.send(dxl.write(11, x.STATUS_RETURN_LEVEL.address, bytes([level])))
    assert len(host.send(dxl.ping(11))) == 1
    assert len(host.send(dxl.read(11, x.LED.address, 1))) == read_answers
    assert len(host.send(dxl.sync_read(x.LED.address, 1, [11]))) == read_answers
    assert len(host.send(dxl.write(11, x.LED.address, b"\x01"))) == write_answers


def test_return_delay_time_delays_the_reply(host: Host) -> None:
    assert host.read(11, x.RETURN_DELAY_TIME) == 250
    (factory,) = host.bus.receive(dxl.ping(11), host.now_s)
    host.write(11, x.RETURN_DELAY_TIME, 0)
    (prompt,) = host.bus.receive(dxl.ping(11), host.now_s)
    assert factory.gap_s - prompt.gap_s == pytest.approx(250 * RETURN_DELAY_UNIT_S)
    assert prompt.gap_s == TURNAROUND_S


def test_a_hardware_error_raises_the_alert_bit_until_reboot(host: Host) -> None:
    host.bus.heat_c[0] = 95.0
    host.live(0.03)
    (status,) = host.send(dxl.ping(11))
    assert status.error == ErrorBit.ALERT
    assert host.read(11, x.HARDWARE_ERROR_STATUS) == x.HardwareError.OVERHEATING
    assert host.send(dxl.ping(12))[0].error == 0
    host.bus.heat_c[0] = 30.0
    host.live(0.03)
    assert host.send(dxl.ping(11))[0].alert
    assert len(host.send(dxl.reboot(11))) == 1
    assert host.send(dxl.ping(11))[0].error == 0


def test_reboot_keeps_eeprom_resets_ram_and_turns_torque_off(host: Host) -> None:
    host.write(11, x.PWM_LIMIT, 700)
    host.write(11, x.GOAL_PWM, 600)
    host.write(11, x.POSITION_P_GAIN, 300)
    host.write(11, x.TORQUE_ENABLE, 1)
    assert [s.error for s in host.send(dxl.reboot(11))] == [0]
    found = [host.read(11, r) for r in (x.PWM_LIMIT, x.GOAL_PWM, x.POSITION_P_GAIN, x.TORQUE_ENABLE)]
    assert found == [700, 700, 700, 0]
    assert host.read(11, x.GOAL_POSITION) == host.read(11, x.PRESENT_POSITION)
