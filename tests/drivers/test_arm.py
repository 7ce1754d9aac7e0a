"""Laws of the arm controller's protocol and of the body that speaks it."""

from __future__ import annotations

import dataclasses
import math
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest

from robotrl.drivers.arm import FRAMING, OVERHEAD, SIZES, ArmBody, Kind, Packet, PacketParser, encode
from robotrl.drivers.crc import crc16
from robotrl.errors import BadInputError, DeviceError, PortError, ProtocolError
from robotrl.spec.gripper import GripperCommand
from tests.fetch_arm import fetch_arm

ARM = fetch_arm()
MOVE_M = np.array([0.01, -0.02, 0.03, 0.0])


def values(kind: Kind, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, SIZES[kind]).astype(np.float32).astype(np.float64)


def test_the_bytes_are_those_of_the_protocols_description() -> None:
    packet = encode(Kind.MOVE, 7, np.array([1.5, -2.0, 0.25, 0.0]))
    assert packet[:-2] == b"\xe5\x7b\x02\x07" + struct.pack("<4f", 1.5, -2.0, 0.25, 0.0)
    assert packet[-2:] == struct.pack("<H", crc16(packet[:-2]))
    assert encode(Kind.READ, 255)[:-2] == b"\xe5\x7b\x01\xff"
    assert encode(Kind.STOP, 0)[:-2] == b"\xe5\x7b\x03\x00"
    assert len(encode(Kind.STATE, 0, np.zeros(10))) == OVERHEAD + 40


@pytest.mark.parametrize("chunk", [1, 3, 10_000])
def test_packets_come_back_bit_for_bit_however_they_are_cut(chunk: int) -> None:
    sent = [(kind, number, values(kind, number)) for number in (0, 1, 255) for kind in Kind]
    stream = b"".join(encode(*packet) for packet in sent)
    parser = PacketParser()
    found = [p for i in range(0, len(stream), chunk) for p in parser.feed(stream[i : i + chunk])]
    assert [(p.kind, p.sequence) for p in found] == [packet[:2] for packet in sent]
    for packet, (_, _, wanted) in zip(found, sent, strict=True):
        assert packet.values.tobytes() == wanted.tobytes()


def test_no_single_flipped_bit_is_believed_and_the_next_packet_is_found() -> None:
    following = encode(Kind.STOP, 4)
    for kind in Kind:
        packet = encode(kind, 3, values(kind, 3))
        for bit in range(8 * len(packet)):
            damaged = bytearray(packet)
            damaged[bit // 8] ^= 1 << bit % 8
            # A damaged kind may announce more bytes than there are: enough follow for the longest packet.
            found = PacketParser().feed(bytes(damaged) + following + bytes(OVERHEAD + 40))
            assert [(p.kind, p.sequence) for p in found] == [(Kind.STOP, 4)]


def test_packets_are_found_among_noise_and_parts_of_packets() -> None:
    packet = encode(Kind.MOVE, 9, MOVE_M)
    noise = np.random.default_rng(0).bytes(200).replace(FRAMING.start, b"")
    stream = noise + packet[:11] + packet + noise + packet[5:] + encode(Kind.READ, 10) + bytes(100)
    assert [p.sequence for p in PacketParser().feed(stream)] == [9, 10]


@pytest.mark.parametrize(
    ("kind", "sequence", "count"),
    [(Kind.MOVE, 0, 3), (Kind.READ, 0, 1), (Kind.STOP, 256, 0), (Kind.STOP, -1, 0)],
)
def test_what_no_packet_holds_is_refused(kind: Kind, sequence: int, count: int) -> None:
    with pytest.raises(ProtocolError, match=f"no {kind.name} holds {count} values under number {sequence}"):
        encode(kind, sequence, np.zeros(count))


class Line:
    """A port with a controller behind it that answers as a test wants."""

    def __init__(self) -> None:
        self.heard: list[Packet] = []
        self.answer: Callable[[Packet], bytes] = lambda packet: encode(
            Kind.STATE, packet.sequence, np.arange(10.0)
        )
        self.gone = False
        self._data = b""

    def write(self, data: bytes) -> None:
        """Hear a packet, and answer a READ."""
        if self.gone:
            raise PortError("gone")
        for packet in PacketParser().feed(data):
            self.heard.append(packet)
            self._data += self.answer(packet) if packet.kind is Kind.READ else b""

    def read(self, deadline_s: float) -> bytes:
        """What there is; where there is nothing, time passes at once."""
        if not self._data:
            time.sleep(max(0.0, deadline_s - time.monotonic()))
        data, self._data = self._data, b""
        return data

    def drain(self) -> bytes:
        """Never used."""
        raise AssertionError

    def close(self) -> None:
        """Nothing to do."""


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def body(line: Line) -> ArmBody:
    def opened(path: str, baud_bd: int) -> Line:
        assert (path, baud_bd) == ("/dev/arm", 921600)
        return line

    found = ArmBody(ARM, {"controller": "/dev/arm"}, opened)
    found.open()
    return found


def test_opening_moves_nothing(body: ArmBody, line: Line) -> None:
    assert body is not None
    assert {packet.kind for packet in line.heard} == {Kind.READ}


def test_a_state_is_told_in_its_parts(body: ArmBody) -> None:
    state = body.read(5.0)
    assert (state.stamp_s, state.age_s) == (5.0, 0.0)
    parts = [state.gripper_pos_m, state.gripper_vel_m_s, state.finger_pos_m, state.finger_vel_m_s]
    assert [part.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]]
    assert list(state.channels) == ["gripper_pos", "gripper_vel", "finger_pos", "finger_vel"]


def test_nothing_is_known_before_the_first_read(line: Line) -> None:
    """The answer that `open` waited for is of no tick."""
    body = ArmBody(ARM, open_port=lambda *_: line)
    body.open()
    line.answer = lambda _: b""
    state = body.read(1.0)
    assert state.age_s == math.inf


def test_without_an_answer_the_state_grows_older_and_nothing_waits_long(body: ArmBody, line: Line) -> None:
    body.read(1.0)
    line.answer = lambda _: b""
    start_s = time.process_time()
    state = body.read(1.5)
    assert time.process_time() - start_s < 0.1
    assert state.age_s == 0.5
    np.testing.assert_array_equal(state.gripper_pos_m, [0, 1, 2])


def test_an_answer_to_an_earlier_question_is_no_news(body: ArmBody, line: Line) -> None:
    body.read(1.0)
    late = [encode(Kind.STATE, line.heard[-1].sequence, np.full(10, 9.0))]
    line.answer = lambda _: late[0]
    assert body.read(2.0).age_s == 1.0
    line.answer = lambda packet: late[0] + encode(Kind.STATE, packet.sequence, np.full(10, 7.0))
    state = body.read(3.0)
    assert (state.age_s, state.gripper_pos_m[0]) == (0.0, 7.0)


def test_an_echo_of_the_question_is_no_answer(body: ArmBody, line: Line) -> None:
    line.answer = lambda packet: (
        encode(Kind.READ, packet.sequence) + encode(Kind.STATE, packet.sequence, np.ones(10))
    )
    assert body.read(1.0).finger_vel_m_s.tolist() == [1.0, 1.0]


def test_commands_go_out_as_they_are(body: ArmBody, line: Line) -> None:
    body.write(GripperCommand(MOVE_M))
    body.write(GripperCommand(None))
    move, stop = line.heard[-2:]
    assert move.kind is Kind.MOVE
    np.testing.assert_array_equal(move.values, MOVE_M.astype(np.float32))
    assert stop.kind is Kind.STOP
    assert stop.sequence == (move.sequence + 1) % 256


def test_numbers_of_packets_wrap(body: ArmBody) -> None:
    for k in range(300):
        assert body.read(float(k)).age_s == 0.0


def test_what_is_no_number_is_never_sent(body: ArmBody, line: Line) -> None:
    before = len(line.heard)
    with pytest.raises(DeviceError, match="cannot be moved by"):
        body.write(GripperCommand(np.array([0.0, math.nan, 0.0, 0.0])))
    assert len(line.heard) == before


def test_a_port_that_goes_raises_nothing_and_may_come_back(body: ArmBody, line: Line) -> None:
    body.read(1.0)
    line.gone = True
    assert body.read(2.0).age_s == 1.0
    body.write(GripperCommand(None))
    line.gone = False
    deadline_s = time.monotonic() + 30.0
    while body.read(3.0).age_s > 0.0:
        assert time.monotonic() < deadline_s


def test_a_controller_that_does_not_answer_is_named(line: Line) -> None:
    line.answer = lambda _: b""
    hasty = dataclasses.replace(ARM.controller, reply_timeout_s=0.001)
    body = ArmBody(dataclasses.replace(ARM, controller=hasty), open_port=lambda *_: line)
    with pytest.raises(DeviceError, match="controller on /dev/ttyUSB0 does not answer at 921600 baud"):
        body.open()
    with pytest.raises(DeviceError, match="not open"):
        body.read(0.0)


def test_a_port_that_it_does_not_have_is_refused() -> None:
    with pytest.raises(BadInputError, match="no such port, got 'imu'; allowed: controller"):
        ArmBody(ARM, {"imu": "/dev/null"})
