"""A body with a guardian: a second process turns its torque off when the loop that drives it falls silent."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

from robotrl.drivers.body import SerialBody
from robotrl.errors import DeviceError
from robotrl.runtime.guardian import BEAT, CLOSE, OPEN, TRIPPED, encode_orders
from robotrl.runtime.parts import Body
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, JointCommand, RobotState

START_S = 20.0
"""Longest wait for the guardian to start, on a computer however busy."""
NEWS_S = 0.01
"""News of the guardian that are younger than this are not asked for again: each time costs 10 to 25 us. A
loop that was stopped has none so young."""
DEAF_S = 1.0
"""A guardian that has not answered for this long protects nobody."""
END_S = 2.0
"""Longest wait for its end; it turns the torque off once more and asks every servo."""

_CHUNK = 4096


class Guard:
    """The loop's end of the connection to a guardian; what is said is in `robotrl.runtime.guardian`.

    Args:
        link: the socket.
    """

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._asked_s = math.inf
        """Time of the oldest beat that has not been answered."""
        self._fault = ""
        self._looked_s = -math.inf

    def open(self) -> None:
        """Let it open the ports, which the loop must have by now.

        Raises:
            DeviceError: it cannot, or has not started.
        """
        self._link.settimeout(START_S)
        try:
            self._link.sendall(OPEN)
            answer = self._link.recv(_CHUNK)
        except OSError as error:
            raise DeviceError(f"the guardian process does not start ({error})") from error
        if answer != OPEN:
            raise DeviceError(f"the guardian process cannot watch: {answer.decode() or 'it has ended'}")
        self._link.setblocking(False)

    def beat(self) -> None:
        """Tell it that the loop lives; never blocks."""
        with contextlib.suppress(OSError):
            self._link.send(BEAT)
        self._asked_s = min(self._asked_s, time.monotonic())

    def fault(self) -> str:
        """Return why the robot must stay limp, empty while it need not; once there is a reason, it stays."""
        now_s = time.monotonic()
        if not self._fault and now_s - self._looked_s >= NEWS_S:
            self._fault, self._looked_s = self._listen(), now_s
        return self._fault

    def close(self) -> None:
        """Tell it to end: it turns the torque off once more."""
        with contextlib.suppress(OSError):
            self._link.send(CLOSE)
        self._link.close()

    def _listen(self) -> str:
        try:
            heard = self._link.recv(_CHUNK)
        except BlockingIOError:
            deaf = time.monotonic() - self._asked_s > DEAF_S
            return f"the guardian process has not answered for {DEAF_S} s" if deaf else ""
        except OSError:
            heard = b""
        if TRIPPED in heard:
            return "the guardian has turned the torque off, because the control loop was silent too long"
        self._asked_s = math.inf
        return "" if heard else "the guardian process has ended"


class GuardianProcess(Guard):
    """A running guardian.

    It belongs to no terminal, so that Ctrl-C reaches the loop alone. Processes that are forked while it
    runs must close the descriptors that they inherit, or it learns of the loop's death by silence only.

    Args:
        orders: see `robotrl.runtime.guardian.encode_orders`.
    """

    def __init__(self, orders: str) -> None:
        ours, its = socket.socketpair()
        with its:
            command = [sys.executable, "-m", "robotrl.runtime.guardian", str(its.fileno()), orders]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,
            )
        super().__init__(ours)

    def close(self) -> None:
        """Tell it to end, and wait until it has."""
        super().close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class GuardedBody:
    """A body that is driven only while a guardian watches.

    Every command is a sign of life, from the first one on that is not LIMP. When the guardian has turned the
    torque off, or has ended or fallen silent itself, nothing but LIMP is passed on any more until the body
    is opened anew.

    Args:
        body: what is driven.
        start: starts a guardian.
    """

    def __init__(self, body: Body, start: Callable[[], Guard]) -> None:
        self._body, self._start = body, start
        self._guard: Guard | None = None
        self._moved = False

    def open(self) -> None:
        """Open the body while the guardian starts, and wait for both.

        Raises:
            PortError: a port is missing, busy or not permitted.
            DeviceError: a device or the guardian does not do what it ought to.
        """
        self.close()
        self._moved = False
        self._guard = self._start()
        try:
            self._body.open()
            self._guard.open()
        except BaseException:  # also when interrupted: leave no process behind
            self.close()
            raise

    def read(self, now_s: float) -> RobotState:
        """Measure.

        Raises:
            DeviceError: there is no guardian any more, or it has turned the torque off.
        """
        self._require_guard()
        return self._body.read(now_s)

    def write(self, command: JointCommand) -> None:
        """Send a command; LIMP always.

        Raises:
            DeviceError: there is no guardian any more, or it has turned the torque off.
        """
        if command.kind is CommandKind.LIMP:
            self._body.write(command)
            if self._moved:
                self._require_open().beat()
            return
        self._require_guard().beat()
        self._moved = True
        self._body.write(command)
        try:
            self._require_guard()
        except DeviceError:  # this process was stopped in between: what it has sent must not last
            self._body.write(dataclasses.replace(command, kind=CommandKind.LIMP))
            raise

    def rearm(self) -> None:
        """Clear tripped servo watchdogs without moving.

        Raises:
            DeviceError: there is no guardian any more, or it has turned the torque off.
        """
        self._require_guard()
        self._body.rearm()

    def close(self) -> None:
        """Let go of the ports, then let the guardian make sure that the torque is off."""
        try:
            self._body.close()
        finally:
            if self._guard is not None:
                self._guard.close()
                self._guard = None

    def _require_open(self) -> Guard:
        if self._guard is None:
            raise DeviceError("the body is not open")
        return self._guard

    def _require_guard(self) -> Guard:
        guard = self._require_open()
        if fault := guard.fault():
            raise DeviceError(f"{fault}; the robot stays limp until it is started again")
        return guard


def guarded_body(robot: RobotSpec, ports: Mapping[str, str] | None = None) -> GuardedBody:
    """Return the robot behind its serial ports, with a guardian.

    The guardian acts after the shortest `watchdog_s` of the robot's buses: what a servo's own watchdog may
    wait, it may too.

    Args:
        robot: what the body is.
        ports: as for `SerialBody`.

    Raises:
        BadInputError: `ports` names something that the robot does not have.
    """
    body = SerialBody(robot, ports, guarded=True)
    buses = []
    for name, bus in robot.bus.items():
        in_use = dataclasses.replace(bus, port=(ports or {}).get(name, bus.port))
        buses.append((in_use, [joint.id for joint in robot.joint if joint.bus == name]))
    timeout_s = min(bus.watchdog_s for bus in robot.bus.values())
    return GuardedBody(body, partial(GuardianProcess, encode_orders(buses, timeout_s)))
