"""Laws of several buses in one body: all are asked before one is waited for, and a failure stays alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robotrl.drivers import xseries as x
from robotrl.drivers.body import SerialBody
from robotrl.errors import PortError
from robotrl.spec.robot import RobotSpec
from tests.drivers.fake_bus import FakeBus, FakeImu
from tests.drivers.rig import ROBOT

BYTE_S = 10 / 1000000


class Wall:
    """The clock of all lines, and what happened on them."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.log: list[str] = []


class TimedLine(FakeBus):
    """A line whose bytes take their time; a host that waits lets it pass."""

    def __init__(self, name: str, wall: Wall, robot: RobotSpec) -> None:
        super().__init__(joint.id for joint in robot.joint if joint.bus == name)
        self._name, self._wall = name, wall
        self._free_s = 0.0

    def write(self, data: bytes) -> None:
        """Let the instruction and its answers pass over the line after what is on it."""
        before = len(self._incoming)
        super().write(data)
        if len(self._incoming) > before:
            self._wall.log.append(f"ask {self._name}")
        start_s = max(self._free_s, self._wall.now_s)
        self._free_s = start_s + BYTE_S * (len(data) + len(self._incoming) - before)

    def read(self, deadline_s: float) -> bytes:
        """Wait until everything has arrived."""
        if self._incoming:
            self._wall.now_s = max(self._wall.now_s, self._free_s)
            self._wall.log.append(f"answer {self._name}")
        return super().read(deadline_s)

    def drain(self) -> bytes:
        """Return what is left over, which takes no time."""
        return super().read(0.0)


def split(*names: str) -> RobotSpec:
    """The robot with its joints on so many buses, one after the other."""
    (spec,) = ROBOT.bus.values()
    share = len(ROBOT.joint) // len(names)
    joints = tuple(dataclasses.replace(joint, bus=names[i // share]) for i, joint in enumerate(ROBOT.joint))
    return dataclasses.replace(ROBOT, joint=joints, bus=dict.fromkeys(names, spec))


class Side:
    """A body over such lines, opened and in the default posture."""

    def __init__(self, *names: str) -> None:
        self.wall = Wall()
        robot = split(*names)
        self.lines = {name: TimedLine(name, self.wall, robot) for name in names}
        ports = {name: name for name in names} | {"imu": "imu"}
        self.body = SerialBody(robot, ports, self._open)
        self.body.open()
        for joint in robot.joint:
            count = joint.zero_count + joint.sign * joint.default_rad * robot.servo_of(joint).counts_per_rad
            self.lines[joint.bus].servos[joint.id][x.PRESENT_POSITION] = round(count)
        self.wall.log.clear()

    def _open(self, path: str, baud_bd: int) -> TimedLine | FakeImu:
        return FakeImu() if path == "imu" else self.lines[path]

    def read_s(self) -> float:
        """How long one read takes."""
        started_s = self.wall.now_s
        state = self.body.read(0.0)
        assert np.isfinite(state.joint_pos_rad).all()
        return self.wall.now_s - started_s


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robotrl.drivers.body._LISTEN_S", 0.0)


def test_every_bus_is_asked_before_the_first_is_waited_for() -> None:
    side = Side("left", "right", "tail")
    side.body.read(0.0)
    assert side.wall.log == [f"{what} {bus}" for what in ("ask", "answer") for bus in side.lines]


def test_two_buses_cost_the_time_of_one() -> None:
    all_s, halves_s = Side("legs").read_s(), Side("left", "right").read_s()
    assert halves_s < 0.6 * all_s


def test_the_longest_bus_sets_the_time_not_the_sum() -> None:
    one_s = Side("a", "b", "c").read_s()
    three = Side("a", "b", "c")
    assert three.read_s() == pytest.approx(one_s)
    three.lines["b"].silence(1)  # its retry is what the others do not wait for
    assert three.read_s() < 2.2 * one_s


def test_values_do_not_depend_on_how_many_buses_there_are() -> None:
    states = [side.body.read(0.0) for side in (Side("legs"), Side("left", "right"))]
    assert np.array_equal(states[0].joint_pos_rad, states[1].joint_pos_rad)
    assert states[0].joint_pos_rad == pytest.approx(ROBOT.default_rad, abs=1e-3)


@pytest.mark.parametrize("gone", ["left", "right"])
def test_a_bus_that_goes_away_ages_alone(gone: str) -> None:
    side = Side("left", "right")
    side.body.read(1.0)
    side.lines[gone].gone = True
    state = side.body.read(2.0)
    here = np.array([joint.bus != gone for joint in split("left", "right").joint])
    assert (state.joint_age_s[here] == 0.0).all()
    assert (state.joint_age_s[~here] == 1.0).all()


def test_a_port_that_fails_between_request_and_answer_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side = Side("left", "right")
    side.body.read(1.0)
    line = side.lines["left"]

    def pulled(deadline_s: float) -> bytes:
        raise PortError("port left has gone away")

    with monkeypatch.context() as patch:
        patch.setattr(line, "read", pulled)
        aged = side.body.read(2.0)
    assert aged.joint_age_s.max() == 1.0
    monkeypatch.setattr("robotrl.drivers.port._REOPEN_INTERVAL_S", 0.0)
    line.servos[ROBOT.joint[0].id][x.PRESENT_POSITION] = 2100
    side.body.read(3.0)
    assert side.body.read(4.0).joint_age_s.max() == 0.0
