"""The guardian over a real socket, with switches that note what they are told and play the loop's part."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from robotrl.drivers.torque import TorqueSwitch
from robotrl.errors import PortError
from robotrl.runtime import guardian
from robotrl.runtime.guarded import GuardianProcess
from robotrl.runtime.guardian import BEAT, CLOSE, OPEN, TRIPPED, Guardian, encode_orders
from robotrl.runtime.realtime import FIFO_PRIORITY
from tests.laws.rig import QUAD12

TIMEOUT_S = 0.01
DIED, ENDED = "the control loop has died", "the control loop has ended"
SILENT = f"the control loop was silent for {TIMEOUT_S} s; every servo's torque is off"


class Switch:
    """A bus of servos that let go at once; what the loop does next is tied to the calls.

    Attributes:
        calls: in order, `name refresh|off|ask`.
        next_: by call, what the loop does meanwhile, one at a time.
        stubborn: so many questions are answered with: no, torque is still on.
    """

    def __init__(self, name: str, calls: list[str]) -> None:
        self._name, self.calls = name, calls
        self.next_: dict[str, deque[Callable[[], object]]] = {}
        self.stubborn = 0
        self.gone = False

    def refresh(self) -> None:
        """Note it."""
        self._call("refresh")

    def turn_off(self) -> None:
        """Note it."""
        self._call("off")

    def is_off(self) -> bool:
        """Note it."""
        self._call("ask")
        self.stubborn -= 1
        return self.stubborn < 0

    def _call(self, what: str) -> None:
        self.calls.append(f"{self._name} {what}")
        if self.next_.get(what):
            self.next_[what].popleft()()
        if self.gone:
            raise PortError("port legs is in use by another program")


class Vigil:
    """A guardian of two buses, and the loop's end of its socket."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.loop, its = socket.socketpair()
        self.loop.setblocking(False)
        self._its = its
        self.calls: list[str] = []
        self.legs, self.arms = Switch("legs", self.calls), Switch("arms", self.calls)
        self.said: list[str] = []
        self.guardian = Guardian(its, (self.legs, self.arms), timeout_s, self.said.append)

    def run(self) -> None:
        """Let the loop have its ports, then watch to the end."""
        self.loop.send(OPEN)
        self.guardian.watch()

    def meanwhile(self, **calls: list[Callable[[], object]]) -> None:
        """What the loop does during the calls of the first bus."""
        self.legs.next_ = {name: deque(actions) for name, actions in calls.items()}

    def beat(self) -> None:
        """The loop lives."""
        self.loop.send(BEAT)

    def die(self) -> None:
        """As after kill -9: the kernel closes the loop's end."""
        self.heard = self.hear()
        self.loop.close()

    def close(self) -> None:
        """Close both ends."""
        self.loop.close()
        self._its.close()

    def hear(self) -> bytes:
        """What the guardian has said to the loop."""
        try:
            return self.loop.recv(999)
        except BlockingIOError:
            return b""


@pytest.fixture
def vigil() -> Iterator[Vigil]:
    made = Vigil()
    yield made
    made.close()


OFF = ["legs off", "arms off", "legs ask", "arms ask"]
"""Every bus is told before the first one is waited for."""
LOOK = ["legs refresh", "arms refresh"]


def test_a_loop_that_dies_leaves_a_limp_robot(vigil: Vigil) -> None:
    vigil.meanwhile(refresh=[vigil.beat, vigil.beat, vigil.die])
    vigil.run()
    assert vigil.calls == [*LOOK, *LOOK, *LOOK, *OFF]
    assert vigil.heard == OPEN + BEAT + BEAT
    assert vigil.said == [f"{DIED}; every servo's torque is off"]


def test_no_error_of_one_bus_leaves_another_one_stiff(vigil: Vigil, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        vigil.calls.append("legs failed")
        raise OSError("Protocol error")  # what no port of ours lets through

    monkeypatch.setattr(guardian, "CRASHED_PATIENCE_S", 0.0)
    vigil.meanwhile(refresh=[vigil.beat, vigil.die], off=[fail], ask=[fail])
    vigil.run()
    assert vigil.calls == [
        *LOOK,
        *LOOK,
        "legs off",
        "legs failed",
        "arms off",
        "legs ask",
        "legs failed",
        "arms ask",
    ]
    assert vigil.said == [f"{DIED}, and not every servo has answered that its torque is off"]


def test_one_that_falls_silent_is_told_before_its_torque_goes(vigil: Vigil) -> None:
    told: list[bytes] = []
    vigil.meanwhile(refresh=[vigil.beat], off=[lambda: told.append(vigil.hear()), vigil.die])
    vigil.run()
    assert told == [OPEN + BEAT + TRIPPED]
    assert vigil.calls == [*LOOK, *LOOK, *OFF, *OFF, *OFF]
    assert vigil.said == [SILENT, f"{DIED}; every servo's torque is off"]


def test_one_that_goes_on_after_that_gets_no_torque_any_more(vigil: Vigil) -> None:
    vigil.meanwhile(refresh=[vigil.beat], off=[vigil.beat, vigil.beat, vigil.beat, vigil.die])
    vigil.run()
    assert vigil.calls == [*LOOK, *LOOK, *OFF, *OFF, *OFF, *OFF, *OFF]
    assert vigil.heard == OPEN + BEAT + TRIPPED  # its later beats are not answered
    assert vigil.said[0] == SILENT


def test_silence_before_the_first_beat_means_nothing() -> None:
    """The robot is limp then, and the loop waits for its sensors."""
    vigil = Vigil(timeout_s=0.0)
    vigil.meanwhile(refresh=[vigil.die])
    vigil.run()
    vigil.close()
    assert vigil.heard == b""
    assert vigil.said == [f"{DIED}; every servo's torque is off"]


class Clock:
    """A time that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        """Now."""
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        """Move it."""
        self.now_s += duration_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(guardian, "time", made)
    return made


def test_it_waits_for_a_beat_as_long_as_it_is_told(
    vigil: Vigil, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the first one without end; then from each beat on, less what it has spent otherwise."""
    waits_s: list[float | None] = []
    whole = select.select

    def note(*arguments: Any) -> Any:
        waits_s.append(arguments[3])
        return whole(*arguments)

    def work() -> None:
        clock.now_s += TIMEOUT_S / 4
        vigil.beat()

    monkeypatch.setattr("select.select", note)
    vigil.meanwhile(refresh=[vigil.beat, work, vigil.beat, vigil.die])
    vigil.run()
    assert waits_s == [None, None, pytest.approx(0.75 * TIMEOUT_S), TIMEOUT_S, TIMEOUT_S]


def test_a_guardian_that_was_late_itself_blames_no_loop_that_has_beaten(vigil: Vigil, clock: Clock) -> None:
    def late() -> None:
        clock.now_s += 10.0
        vigil.beat()

    vigil.meanwhile(refresh=[vigil.beat, late, late, vigil.die])
    vigil.run()
    assert vigil.heard == OPEN + 3 * BEAT
    assert vigil.said == [f"{DIED}; every servo's torque is off"]


def test_after_an_orderly_end_it_makes_sure_and_says_nothing(vigil: Vigil) -> None:
    vigil.meanwhile(refresh=[vigil.beat, lambda: vigil.loop.send(CLOSE)])
    vigil.run()
    assert vigil.calls == [*LOOK, *LOOK, *OFF]
    assert vigil.said == []


def test_it_tries_again_until_every_servo_has_confirmed(vigil: Vigil, clock: Clock) -> None:
    vigil.meanwhile(refresh=[vigil.die])
    vigil.arms.stubborn = 7
    vigil.run()
    assert vigil.calls == [*LOOK, *8 * OFF]
    assert clock.now_s == pytest.approx(7 * guardian.REPEAT_S)
    assert vigil.said == [f"{DIED}; every servo's torque is off"]


@pytest.mark.parametrize(
    ("crash", "patience_s", "what"),
    [(True, guardian.CRASHED_PATIENCE_S, DIED), (False, guardian.CLOSED_PATIENCE_S, ENDED)],
)
def test_in_vain_it_tries_for_a_while_and_then_says_so(
    vigil: Vigil, clock: Clock, crash: bool, patience_s: float, what: str
) -> None:
    vigil.meanwhile(refresh=[vigil.die if crash else lambda: vigil.loop.send(CLOSE)])
    vigil.arms.stubborn = 10**9
    vigil.run()
    assert patience_s <= clock.now_s <= patience_s + 2 * guardian.REPEAT_S
    assert vigil.said == [f"{what}, and not every servo has answered that its torque is off"]


def test_a_bus_whose_port_has_gone_keeps_no_other_from_being_limp(vigil: Vigil, clock: Clock) -> None:
    def pull() -> None:
        vigil.legs.gone = True
        vigil.beat()

    vigil.meanwhile(refresh=[vigil.beat, pull, vigil.die])
    vigil.run()
    assert vigil.calls[:8] == [*LOOK, *LOOK, *LOOK, "legs off", "arms off"]
    assert vigil.said == [f"{DIED}, and not every servo has answered that its torque is off"]


def test_a_port_that_cannot_be_opened_is_told_and_nothing_is_watched(vigil: Vigil) -> None:
    vigil.legs.gone = True
    vigil.run()
    assert vigil.calls == ["legs refresh"]
    assert vigil.hear() == b"port legs is in use by another program"


@pytest.mark.parametrize("word", [CLOSE, b""])
def test_a_loop_that_ends_before_it_has_its_ports_leaves_nothing_to_do(vigil: Vigil, word: bytes) -> None:
    if word:
        vigil.loop.send(word)
    else:
        vigil.loop.close()
    vigil.guardian.watch()
    assert vigil.calls == []


def test_a_loop_that_does_not_listen_cannot_block_it(vigil: Vigil, clock: Clock) -> None:
    """A stopped one reads nothing for hours."""

    def fill() -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                vigil._its.send(bytes(4096), socket.MSG_DONTWAIT)
        vigil.beat()

    vigil.meanwhile(refresh=[fill, vigil.die])
    vigil.run()
    assert vigil.calls == [*LOOK, *LOOK, *OFF]


def test_the_orders_name_port_protocol_and_servos() -> None:
    bus = dataclasses.replace(QUAD12.bus["legs"], port="/dev/other")
    orders = json.loads(encode_orders([(bus, (11, 12))], 0.1))
    switch = guardian._switch(orders["buses"][0])
    assert orders["timeout_s"] == 0.1
    assert isinstance(switch, TorqueSwitch)
    assert (switch._bus.ids, switch._bus._spec) == ((11, 12), bus)


def test_what_is_said_goes_to_the_error_output_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads, writes = os.pipe()
    with os.fdopen(writes, "wb", buffering=0) as stream, os.fdopen(reads, "rb", buffering=0) as reader:
        monkeypatch.setattr("sys.stderr", stream)
        guardian.say("limp")
        assert reader.read(999) == b"robotrl guardian: limp\n"
        os.set_blocking(writes, False)
        while stream.write(bytes(4096)):
            continue
        os.set_blocking(writes, True)
        guardian.say("nobody reads this")  # and it does not wait either


def test_signals_to_the_terminal_or_the_session_do_not_end_it() -> None:
    process = GuardianProcess(encode_orders([], 60.0))
    process.open()
    pid = process._process.pid
    assert os.getsid(pid) != os.getsid(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    process.beat()
    process.close()
    assert process._process.returncode == 0


@pytest.mark.parametrize("permitted", [0, FIFO_PRIORITY, FIFO_PRIORITY + 1, 99])
def test_it_comes_before_a_loop_with_real_time_priority(
    monkeypatch: pytest.MonkeyPatch, permitted: int
) -> None:
    held = 0

    def schedule(pid: int, policy: int, param: os.sched_param) -> None:
        nonlocal held
        assert (pid, policy) == (0, os.SCHED_FIFO)
        if param.sched_priority > permitted:
            raise PermissionError
        held = param.sched_priority

    monkeypatch.setattr(os, "sched_setscheduler", schedule)
    guardian._come_before_the_loop()
    assert held == min(permitted, FIFO_PRIORITY + 1)
