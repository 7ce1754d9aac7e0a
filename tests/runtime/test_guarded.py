"""A guarded body, with the test in the guardian's place: signs of life, and limp for ever after a fault."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from robotrl.errors import DeviceError
from robotrl.runtime import guarded
from robotrl.runtime.clock import FakeClock
from robotrl.runtime.guarded import Guard, GuardedBody, GuardianProcess, guarded_body
from robotrl.runtime.guardian import BEAT, CLOSE, OPEN, TRIPPED, encode_orders
from robotrl.runtime.loop import Loop
from robotrl.runtime.operator import Script
from robotrl.spec.state import CommandKind, JointCommand
from tests.laws.rig import QUAD12
from tests.runtime.fakes import QUICK, RANGES, WALK, BrokenError, FakeBody, FakePolicy

N = len(QUAD12.joint)
TRACK, DAMP, LIMP = (
    JointCommand(kind, np.zeros(N)) for kind in (CommandKind.TRACK, CommandKind.DAMP, CommandKind.LIMP)
)
PARTING = "the robot stays limp until it is started again"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a busy computer takes, all news are new and no answer is missed."""
    monkeypatch.setattr(guarded, "NEWS_S", 0.0)
    monkeypatch.setattr(guarded, "DEAF_S", 1e6)


class Rig:
    """A guarded body and the guardian's end of the socket."""

    def __init__(self) -> None:
        self.body = FakeBody(QUICK)
        self.starts = 0
        self.guarded = GuardedBody(self.body, self._start)
        self.answer = OPEN
        self.guardian = socket.socket()

    def _start(self) -> Guard:
        self.starts += 1
        self.guardian.close()
        ours, self.guardian = socket.socketpair()
        self.guardian.settimeout(10.0)
        if self.answer:
            self.guardian.send(self.answer)
        else:
            self.guardian.shutdown(socket.SHUT_WR)
        return Guard(ours)

    def close(self) -> None:
        """Close everything."""
        self.guarded.close()
        self.guardian.close()

    def heard(self) -> bytes:
        """What the guardian has been told since the last time."""
        self.guardian.setblocking(False)
        try:
            return self.guardian.recv(999)
        except BlockingIOError:
            return b""


@pytest.fixture
def closed() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


@pytest.fixture
def rig(closed: Rig) -> Rig:
    closed.guarded.open()
    assert closed.heard() == OPEN
    return closed


def test_every_command_is_a_sign_of_life_from_the_first_that_may_bring_torque(rig: Rig) -> None:
    told = []
    for command in (LIMP, LIMP, TRACK, DAMP, LIMP, LIMP):
        rig.guarded.write(command)
        told.append(rig.heard())
    assert told == [b"", b"", BEAT, BEAT, BEAT, BEAT]
    assert rig.body.written == [LIMP, LIMP, TRACK, DAMP, LIMP, LIMP]


def test_the_guardian_watches_before_there_is_torque(rig: Rig) -> None:
    """A loop that is stopped while it writes its first command leaves a robot that is watched."""
    rig.body.fail_in, rig.body.fail_at_s = "write", 0.0
    with pytest.raises(BrokenError):
        rig.guarded.write(TRACK)
    assert rig.heard() == BEAT


def test_limp_is_written_before_life_is_claimed(rig: Rig) -> None:
    rig.guarded.write(TRACK)
    rig.heard()
    rig.body.fail_in, rig.body.fail_at_s = "write LIMP", 0.0
    with pytest.raises(BrokenError):
        rig.guarded.write(LIMP)
    assert rig.heard() == b""


class FakeTime:
    """Stands still unless it is moved."""

    now_s = 100.0

    def monotonic(self) -> float:
        """Now."""
        return self.now_s


def trip(rig: Rig) -> None:
    """The loop was silent for too long."""
    rig.guardian.send(TRIPPED)


def die(rig: Rig) -> None:
    """The guardian is killed."""
    rig.guardian.close()


FAULTS: list[tuple[Callable[[Rig], None], str]] = [
    (trip, "the guardian has turned the torque off, because the control loop was silent too long"),
    (die, "the guardian process has ended"),
]


@pytest.mark.parametrize(("strike", "why"), FAULTS)
def test_without_a_watching_guardian_only_limp_is_passed_on(
    rig: Rig, strike: Callable[[Rig], None], why: str
) -> None:
    rig.guarded.write(TRACK)
    strike(rig)
    for _ in range(3):
        for refused in (
            lambda: rig.guarded.read(1.0),
            lambda: rig.guarded.write(TRACK),
            lambda: rig.guarded.write(DAMP),
            rig.guarded.rearm,
        ):
            with pytest.raises(DeviceError, match=f"{why}; {PARTING}"):
                refused()
        rig.guarded.write(LIMP)
    assert rig.body.written == [TRACK, LIMP, LIMP, LIMP]
    assert "read" not in rig.body.calls
    assert "rearm" not in rig.body.calls


def test_news_are_asked_for_again_when_they_have_become_old(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "NEWS_S", 1.0)
    monkeypatch.setattr(guarded, "time", clock := FakeTime())
    rig.guarded.read(0.0)
    trip(rig)
    rig.guarded.read(0.0)
    clock.now_s += 1.0
    with pytest.raises(DeviceError, match="torque off"):
        rig.guarded.read(0.0)
    with pytest.raises(DeviceError, match="torque off"):
        rig.guarded.read(0.0)


def test_answers_that_come_after_a_trip_do_not_undo_it(rig: Rig) -> None:
    trip(rig)
    with pytest.raises(DeviceError, match="torque off"):
        rig.guarded.read(1.0)
    rig.guardian.send(BEAT)
    with pytest.raises(DeviceError, match="torque off"):
        rig.guarded.read(1.1)


def test_what_a_stopped_loop_was_about_to_write_does_not_last(rig: Rig) -> None:
    """Stopped after the check and let go on after the trip, it finishes what it was doing, then gives way."""
    write = rig.body.write

    def stopped_meanwhile(command: JointCommand) -> None:
        if command.kind is CommandKind.TRACK:
            trip(rig)
        write(command)

    rig.body.write = stopped_meanwhile  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match="torque off"):
        rig.guarded.write(TRACK)
    assert [command.kind for command in rig.body.written] == [CommandKind.TRACK, CommandKind.LIMP]


def test_a_guardian_that_does_not_answer_protects_nobody(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.guarded.write(TRACK)
    rig.guarded.read(1.0)
    monkeypatch.setattr(guarded, "DEAF_S", -1.0)
    with pytest.raises(DeviceError, match="has not answered for"):
        rig.guarded.read(1.1)


def test_one_that_answers_does(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "DEAF_S", -1.0)
    rig.guarded.read(0.9)  # nothing was asked yet
    write = rig.body.write

    def answered(command: JointCommand) -> None:
        rig.guardian.send(BEAT)
        write(command)

    rig.body.write = answered  # type: ignore[method-assign]
    for _ in range(3):
        rig.guarded.write(TRACK)
        rig.guarded.read(1.0)
    assert rig.heard() == 3 * BEAT


def test_a_guardian_that_cannot_watch_lets_nothing_open(closed: Rig) -> None:
    closed.answer = b"port legs is in use by another program"
    with pytest.raises(DeviceError, match="guardian process cannot watch: port legs is in use"):
        closed.guarded.open()
    assert closed.body.calls[-1] == "close"
    assert closed.heard() == OPEN + CLOSE


def test_one_that_ends_at_once_neither(closed: Rig) -> None:
    closed.answer = b""
    with pytest.raises(DeviceError, match="cannot watch: it has ended"):
        closed.guarded.open()


def test_one_that_does_not_start_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "START_S", 0.0)
    ours, its = socket.socketpair()
    body = GuardedBody(FakeBody(QUICK), lambda: Guard(ours))
    with pytest.raises(DeviceError, match="does not start"):
        body.open()
    its.close()


def test_a_body_that_does_not_open_leaves_no_guardian_behind(closed: Rig) -> None:
    closed.body.fail_in, closed.body.fail_at_s = "open", 0.0
    with pytest.raises(BrokenError):
        closed.guarded.open()
    assert closed.heard() == CLOSE
    with pytest.raises(DeviceError, match="not open"):
        closed.guarded.read(1.0)


def test_the_ports_are_free_before_the_guardian_makes_sure(rig: Rig) -> None:
    heard: list[bytes] = []
    close = rig.body.close

    def look() -> None:
        heard.append(rig.heard())
        close()

    rig.body.close = look  # type: ignore[method-assign]
    rig.guarded.close()
    assert heard == [b""]
    assert rig.heard() == CLOSE


def test_opened_anew_it_has_a_new_guardian_and_may_move_again(rig: Rig) -> None:
    rig.guarded.write(TRACK)
    trip(rig)
    with pytest.raises(DeviceError):
        rig.guarded.write(TRACK)
    rig.guarded.open()
    assert rig.starts == 2
    assert rig.heard() == OPEN
    rig.guarded.write(LIMP)
    assert rig.heard() == b""  # nothing has moved yet
    rig.guarded.write(TRACK)
    assert rig.body.written[-1] is TRACK


@pytest.mark.parametrize(("strike", "why"), FAULTS)
def test_a_loop_ends_limp_with_the_reason(closed: Rig, strike: Callable[[Rig], None], why: str) -> None:
    rig, clock = closed, FakeClock(10.0)
    struck: list[float] = []

    def work(now_s: float) -> None:
        if now_s >= 10.7 and not struck:
            struck.append(now_s)
            strike(rig)

    rig.body.work = work
    loop = Loop(QUICK, rig.guarded, FakePolicy(), Script(WALK, RANGES), clock, armed=True)
    with pytest.raises(DeviceError, match=why):
        loop.run()
    assert rig.body.ended_limp
    last_s = clock.now_s()
    assert last_s - struck[0] <= 2 / QUICK.control.rate_hz


def test_a_killed_guardian_process_is_noticed() -> None:
    process = GuardianProcess(encode_orders([], 60.0))
    process.open()
    assert process.fault() == ""
    process._process.kill()
    process._process.wait()
    assert process.fault() == "the guardian process has ended"
    process.beat()
    process.close()


def test_it_acts_after_the_shortest_time_of_any_watchdog_on_the_ports_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bus = QUAD12.bus["legs"]
    buses = {"legs": bus, "arms": dataclasses.replace(bus, port="/dev/arms", watchdog_s=0.06)}
    joints = (dataclasses.replace(QUAD12.joint[0], bus="arms", id=7), *QUAD12.joint[1:])
    robot = dataclasses.replace(QUAD12, bus=buses, joint=joints)
    orders: list[tuple[object, float]] = []

    def note(buses: object, timeout_s: float) -> str:
        orders.append((buses, timeout_s))
        return ""

    monkeypatch.setattr(guarded, "encode_orders", note)
    body = guarded_body(robot, {"legs": "/dev/other"})
    [(listed, timeout_s)] = orders
    assert timeout_s == 0.06
    assert listed == [
        (dataclasses.replace(bus, port="/dev/other"), [joint.id for joint in QUAD12.joint[1:]]),
        (buses["arms"], [7]),
    ]
    assert body._body._guarded  # type: ignore[attr-defined]
