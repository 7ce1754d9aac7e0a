"""Torque off by a second speaker: on a line in use, after a broken packet, and beside a locked port."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from robotrl.bench.emulated_time import EmulatedPort
from robotrl.drivers import torque
from robotrl.drivers.port import SerialPort
from robotrl.drivers.torque import SharedPort, TorqueSwitch
from robotrl.emulator.faults import FaultScript, ServoFault
from robotrl.errors import PortError
from robotrl.spec.robot import RobotSpec
from tests.emulator.host import quad12
from tests.feetech_robot import feetech_robot
from tests.hil.on_emulated_time import Robot, emulated_robot

ROBOTS = {"dynamixel": quad12(), "sts": feetech_robot("feetech_sts"), "scs": feetech_robot("feetech_scs")}
FOR_EVER = 1e6


class SecondPort(EmulatedPort):
    """One more view of a line."""

    gone = False


@contextmanager
def stiff(spec: RobotSpec, script: FaultScript | None = None) -> Iterator[tuple[Robot, TorqueSwitch]]:
    """A robot that follows targets, and the switch of its only bus."""
    with emulated_robot(spec, script or FaultScript()) as robot, patch.object(torque, "time", robot.time):
        robot.tick()
        robot.tick()
        bus = dataclasses.replace(spec.bus["legs"], port="legs")
        ids = [joint.id for joint in spec.joint]
        switch = TorqueSwitch(bus, ids, lambda line, baud_bd: SecondPort(robot.time, line, baud_bd))
        assert robot.machine.buses["legs"].torque_enabled.all()
        yield robot, switch


@pytest.mark.parametrize("name", ROBOTS)
def test_every_servo_lets_go_and_confirms_it(name: str) -> None:
    with stiff(ROBOTS[name]) as (robot, switch):
        assert not switch.is_off()
        switch.turn_off()
        assert switch.is_off()
        assert not robot.machine.buses["legs"].torque_enabled.any()


@pytest.mark.parametrize("name", ROBOTS)
def test_what_the_loop_writes_later_makes_nothing_stiff_again(name: str) -> None:
    """Goals alone do not: only arming does, which `GuardedBody` refuses."""
    with stiff(ROBOTS[name]) as (robot, switch):
        switch.turn_off()
        robot.tick()
        assert switch.is_off()


@pytest.mark.parametrize("name", ROBOTS)
def test_answers_to_what_the_dead_loop_asked_are_not_taken_for_its_own(name: str) -> None:
    with stiff(ROBOTS[name]) as (robot, switch):
        group = robot.body._groups[0]
        group.begin()
        switch.turn_off()
        assert switch.is_off()


class Talk:
    """A line on which somebody speaks until a certain time, and the clock that goes with it."""

    gone = False

    def __init__(self, until_s: float) -> None:
        self.now_s, self._until_s = 0.0, until_s
        self.written_s: list[float] = []

    def monotonic(self) -> float:
        """Now."""
        return self.now_s

    def read(self, deadline_s: float) -> bytes:
        """A byte every 0.4 ms, while there are any."""
        self.now_s = min(self.now_s + 0.0004, deadline_s) if self.now_s < self._until_s else deadline_s
        return b"x" if self.now_s < self._until_s else b""

    def write(self, data: bytes) -> None:
        """Note when."""
        self.written_s.append(self.now_s)

    def drain(self) -> bytes:
        """Nothing."""
        return b""

    def close(self) -> None:
        """Nothing to release."""


@pytest.mark.parametrize(
    ("until_s", "written_s"),
    [(0.0, torque.SILENCE_S), (0.005, 0.005 + torque.SILENCE_S), (FOR_EVER, torque.LONGEST_WAIT_S)],
)
def test_it_lets_the_servos_finish_what_they_say_but_not_for_ever(until_s: float, written_s: float) -> None:
    talk = Talk(until_s)
    switch = TorqueSwitch(quad12().bus["legs"], [11, 12], lambda path, baud_bd: talk)
    with patch.object(torque, "time", talk):
        switch.turn_off()
    assert talk.written_s == [pytest.approx(written_s, abs=0.0009)]


@pytest.mark.parametrize("name", ROBOTS)
def test_a_packet_that_the_dead_loop_has_begun_costs_one_attempt_at_most(name: str) -> None:
    """Its rest never comes, so that servos may take what follows for it."""
    with stiff(ROBOTS[name]) as (robot, switch):
        bus = robot.machine.buses["legs"]
        begun = b"\xff\xff\xfd\x00\xfe\x40\x00\x83" if name == "dynamixel" else b"\xff\xff\xfe\x40\x83"
        bus.receive(begun, robot.time.elapsed_s)
        switch.turn_off()
        if not switch.is_off():
            switch.turn_off()
            assert switch.is_off()
        assert not bus.torque_enabled.any()


def test_a_silent_servo_is_never_taken_for_one_that_has_let_go() -> None:
    spec = ROBOTS["dynamixel"]
    script = FaultScript(servo_silence=(ServoFault("legs", 22, 0.9, FOR_EVER),))
    with stiff(spec, script) as (robot, switch):
        while robot.time.elapsed_s < 1.0:
            robot.tick()
        switch.turn_off()
        assert not switch.is_off()
        assert not robot.machine.buses["legs"].torque_enabled.any()  # it hears all the same


@pytest.fixture
def line(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The device's end of a serial line, and a name for the host's that can be given to another one."""
    master, slave = os.openpty()
    name = tmp_path / "legs"
    name.symlink_to(os.ttyname(slave))
    os.close(slave)
    yield master, name
    os.close(master)


def test_a_shared_port_opens_beside_a_locked_one_and_takes_no_bytes_from_it(line: tuple[int, Path]) -> None:
    master, name = line
    owner = SerialPort(str(name), 1000000)
    shared = SharedPort(str(name), 1000000)
    shared.refresh()
    os.write(master, b"an answer")
    shared.refresh()
    assert owner.read(FOR_EVER) == b"an answer"
    shared.write(b"off")
    assert os.read(master, 99) == b"off"
    with pytest.raises(PortError, match="in use"):
        SerialPort(str(name), 1000000)
    shared.close()
    owner.write(b"on")
    assert os.read(master, 99) == b"on"
    owner.close()


def descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_vanished_device_is_let_go_of_and_found_again_when_it_is_back(tmp_path: Path) -> None:
    name = tmp_path / "legs"
    first, first_slave = os.openpty()
    name.symlink_to(os.ttyname(first_slave))
    shared = SharedPort(str(name), 1000000)
    shared.refresh()
    os.close(first_slave)
    os.close(first)
    name.unlink()
    held = descriptors()
    shared.refresh()
    assert descriptors() < held
    with pytest.raises(PortError):
        shared.write(b"off")
    second, second_slave = os.openpty()
    name.symlink_to(os.ttyname(second_slave))
    shared.refresh()
    shared.write(b"off")
    assert os.read(second, 99) == b"off"
    shared.close()
    os.close(second_slave)
    os.close(second)


def test_without_a_refresh_a_vanished_device_costs_one_failure(tmp_path: Path) -> None:
    name = tmp_path / "legs"
    first, first_slave = os.openpty()
    second, second_slave = os.openpty()
    name.symlink_to(os.ttyname(first_slave))
    shared = SharedPort(str(name), 1000000)
    shared.drain()
    os.close(first_slave)
    os.close(first)
    name.unlink()
    name.symlink_to(os.ttyname(second_slave))
    with pytest.raises(PortError, match="gone"):
        shared.read(0.0)
    shared.write(b"off")
    assert os.read(second, 99) == b"off"
    shared.close()
    os.close(second_slave)
    os.close(second)
