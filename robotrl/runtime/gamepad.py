"""A gamepad through the kernel's joystick interface: sticks walk the robot while a dead-man button is held.

Letting the dead-man button go asks for no velocity, at which a walking policy keeps its balance; a policy
that reads no velocity is left for standing. Standing up, starting the policy and re-arming need the button
held; limp and the emergency stop do not. A pad that is pulled out after it has commanded is an emergency
stop. A wireless receiver hides a pad that is out of range or empty: the kernel then reports the last sticks
for ever, so walk a robot with a cable or a link whose device vanishes (Bluetooth).
"""

from __future__ import annotations

import fcntl
import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from robotrl.errors import BadInputError
from robotrl.runtime.link import Link
from robotrl.runtime.modes import Event
from robotrl.runtime.operator import VELOCITY, Ranges, Setpoint
from robotrl.spec.state import Floats

JS_EVENT = struct.Struct("=IhBB")
"""`struct js_event` of linux/joystick.h: time in ms, value, type, number."""
BUTTON, AXIS, INIT = 0x01, 0x02, 0x80
"""Types; INIT marks the state at opening and after events were lost."""
FULL = 32767
"""Value of an axis at its end."""
JSIOCGVERSION = 0x80046A01
"""Asks for the driver's version; only a joystick answers."""

WITHOUT_DEAD_MAN = frozenset({Event.LIMP, Event.ESTOP})
"""What is heard although the dead-man button is not held."""


@dataclass(frozen=True)
class Stick:
    """One axis: its number, and which way is positive."""

    number: int
    sign: float


@dataclass(frozen=True)
class Layout:
    """What each axis and button means; by default as Xbox and PlayStation pads have them alike."""

    forward: Stick = Stick(1, -1.0)
    """Left stick, away."""
    left: Stick = Stick(0, -1.0)
    """Left stick, to the left."""
    yaw_left: Stick = Stick(3, -1.0)
    """Right stick, to the left."""
    dead_man: int = 4
    """Left shoulder."""
    events: Mapping[int, Event] = field(
        default_factory=lambda: MappingProxyType(
            {0: Event.STAND, 1: Event.ESTOP, 2: Event.LIMP, 3: Event.REARM, 5: Event.POLICY}
        )
    )
    """A or cross, B or circle, X or triangle, Y or square, right shoulder."""
    dead_zone: float = 0.1
    """Share of a stick's way that counts as its middle."""


class Gamepad:
    """Obeys one gamepad.

    Args:
        fd: a joystick device, open for reading without blocking; closed at the end.
        ranges: what the policy reads.
        layout: what each axis and button means.
    """

    notes: tuple[str, ...] = ()
    """A pad asks for nothing that could not be done."""

    def __init__(self, fd: int, ranges: Ranges, layout: Layout | None = None) -> None:
        self._fd, self._layout = fd, layout or Layout()
        self._setpoint = Setpoint(ranges)
        self._link = Link()
        self._rest = b""
        self._sticks: dict[int, float] = {}
        self._held = False
        self._last: Event | None = None
        self._kept: list[Event] = []
        self._gone = False

    @classmethod
    def open(cls, device: Path, ranges: Ranges) -> Gamepad:
        """Open a device such as /dev/input/js0.

        Raises:
            BadInputError: it cannot be read, or is no joystick.
        """
        try:
            fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise BadInputError(
                f"cannot be opened ({error.strerror})", key="--gamepad", value=str(device)
            ) from error
        try:
            fcntl.ioctl(fd, JSIOCGVERSION, bytes(4))
        except OSError as error:
            os.close(fd)
            raise BadInputError(
                "is no joystick", key="--gamepad", value=str(device), allowed="/dev/input/js0 and its like"
            ) from error
        return cls(fd, ranges)

    def __enter__(self) -> Gamepad:
        """Nothing to do."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the device."""
        os.close(self._fd)

    @property
    def commands(self) -> Mapping[str, Floats]:
        """What is asked for now."""
        return self._setpoint.values

    def poll(self, elapsed_s: float) -> list[Event]:
        """Obey what was pressed and moved since the last call."""
        kept, self._kept = self._kept, []
        if self.finished():
            return kept
        held, before = self._held, self._velocity()
        events = kept + [event for event in self._pressed() if self._held or event in WITHOUT_DEAD_MAN]
        if self._held != held or self._velocity() != before:
            self._steer()
        if events:
            self._last = events[-1]
        if VELOCITY not in self._setpoint.values and self._last is Event.POLICY and not self._held:
            self._last = Event.STAND
            events.append(self._last)
        if events:
            self._link.commanded(events)
        if self._gone:
            events += self._link.lost()
        if self._gone or Event.ESTOP in events:
            self._setpoint.stop()
        return events

    def heed(self, *, orders: bool) -> None:
        """Forget what was pressed, but for an emergency stop, and who holds on; or miss nobody any more."""
        if orders:
            self._kept = [Event.ESTOP] * (Event.ESTOP in self._pressed())
            self._held = False
        else:
            self._link.end()

    def finished(self) -> bool:
        """Return whether the pad is gone."""
        return self._gone

    def _pressed(self) -> list[Event]:
        """Take every change over that is there, and return what they ask for."""
        return [event for change in self._changes() if (event := self._event(*change)) is not None]

    def _changes(self) -> Iterator[tuple[int, int, int]]:
        """Type, number and value of every event that is there; half a one waits for the rest."""
        while not self._gone:
            try:
                data = os.read(self._fd, 64 * JS_EVENT.size)
            except BlockingIOError:
                return
            except OSError:  # ENODEV: unplugged
                data = b""
            self._gone = not data
            self._rest += data
            whole = len(self._rest) - len(self._rest) % JS_EVENT.size
            for _, value, kind, number in JS_EVENT.iter_unpack(self._rest[:whole]):
                yield kind, number, value
            self._rest = self._rest[whole:]

    def _event(self, kind: int, number: int, value: int) -> Event | None:
        """Take one change over, and return what it asks for.

        A button that is down at opening asks for nothing, so that a jammed one starts nothing; but a
        jammed emergency stop is one.
        """
        initial, kind = bool(kind & INIT), kind & ~INIT
        if kind == AXIS:
            self._sticks[number] = max(value / FULL, -1.0)
        if kind != BUTTON:
            return None
        if number == self._layout.dead_man:
            self._held = bool(value) and (self._held or not initial)
            return None
        event = self._layout.events.get(number)
        allowed = event is Event.ESTOP or (not initial and (self._held or event in WITHOUT_DEAD_MAN))
        return event if value and allowed else None

    def _steer(self) -> None:
        """Ask for the velocity of the sticks."""
        if VELOCITY in self._setpoint.values:
            self._setpoint.set(VELOCITY, self._velocity())
            self._link.commanded()

    def _velocity(self) -> tuple[float, ...]:
        """Forward m/s, left m/s and yaw rate rad/s of the sticks; none unless the button is held."""
        if VELOCITY not in self._setpoint.ranges or not self._held:
            return (0.0, 0.0, 0.0)
        sticks = (self._layout.forward, self._layout.left, self._layout.yaw_left)
        shares = (self._share(stick) for stick in sticks)
        ends = zip(shares, *self._setpoint.ranges[VELOCITY], strict=True)
        return tuple(float(share * (high if share > 0 else -low)) for share, low, high in ends)

    def _share(self, stick: Stick) -> float:
        """How far a stick is from its middle, -1 to 1, without a jump at the edge of the dead zone."""
        way = stick.sign * self._sticks.get(stick.number, 0.0)
        zone = self._layout.dead_zone
        return math.copysign(max(abs(way) - zone, 0.0) / (1.0 - zone), way)
