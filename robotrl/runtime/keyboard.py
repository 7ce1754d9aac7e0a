"""A keyboard as operator: a terminal whose keys are read at once, and that is as before on every way out."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import termios
from collections.abc import Mapping
from types import FrameType, MappingProxyType
from typing import Any, NoReturn

from robotrl.errors import BadInputError
from robotrl.runtime.link import Link
from robotrl.runtime.modes import Event
from robotrl.runtime.operator import VELOCITY, Ranges, Setpoint
from robotrl.spec.state import Floats

KEYS: Mapping[bytes, Event] = MappingProxyType(
    {b"s": Event.STAND, b"p": Event.POLICY, b"l": Event.LIMP, b"r": Event.REARM, b"q": Event.LIMP}
)
"""Key -> what it asks for; `q` ends the run besides."""

ESTOP_KEYS = b" \x1a\x1c"
"""Space; and Ctrl-Z and Ctrl-backslash, which would stop or end the loop with the robot under torque."""

NUDGES: Mapping[bytes, tuple[int, float]] = MappingProxyType(
    {
        b"\x1bA": (0, +1.0),
        b"\x1bB": (0, -1.0),
        b"\x1bD": (2, +1.0),
        b"\x1bC": (2, -1.0),
        b",": (1, +1.0),
        b".": (1, -1.0),
    }
)
"""Key -> axis of the velocity and direction. The first four are the arrows up, down, left and right, whose
bytes are ESC, `[` or `O`, modifiers and this letter."""

NUDGE_SHARE = 0.05
"""Share of an axis' range that one key press adds."""

HELP = (
    "keys: s stand, p policy, l limp, r re-arm, SPACE emergency stop, q lie down and end; "
    "arrows walk and turn, comma and full stop go sideways, 0 stops"
)

_KEY = re.compile(rb"\x1b[\[O][0-9;]{0,8}[A-Za-z~]|[^\x1b]")
_UNFINISHED = re.compile(rb"\x1b([\[O][0-9;]{0,8})?\Z")
_LFLAG, _CC = 3, 6
"""Where `termios.tcgetattr` has the local modes and the control characters."""


class Keyboard:
    """Obeys the keys of one terminal while it is open as a context.

    Ctrl-C stays the signal that it is. A terminal that goes away ends the run, and is an emergency stop where
    it has commanded.

    Args:
        ranges: what the policy reads.
        fd: the terminal.
    """

    notes: tuple[str, ...] = ()
    """A key asks for nothing that could not be done."""

    def __init__(self, ranges: Ranges, fd: int = 0) -> None:
        self._fd = fd
        self._setpoint = Setpoint(ranges)
        self._link = Link()
        self._rest = self._kept = b""
        self._quit = self._gone = False
        self._signals: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Keyboard:
        """Read keys at once, without echo; forget what was typed before.

        Raises:
            BadInputError: there is no terminal, or it is another job's.
        """
        if not os.isatty(self._fd):
            raise BadInputError("needs a terminal", key="--keyboard")
        if in_background(self._fd):
            raise BadInputError("needs the foreground of its terminal", key="--keyboard")
        self._before = termios.tcgetattr(self._fd)
        # What a terminal sends its jobs must not end or stop Python before its `finally`s; nor may SIGTERM.
        for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU):
            self._signals[number] = signal.signal(number, signal.SIG_IGN)
        self._signals[signal.SIGTERM] = signal.signal(signal.SIGTERM, _leave)
        termios.tcsetattr(self._fd, termios.TCSAFLUSH, _key_by_key(self._before))
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the terminal, where there still is one, and the signals as they were."""
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
        except termios.error:
            self._gone = True
        for number, handler in self._signals.items():
            signal.signal(number, handler)

    @property
    def commands(self) -> Mapping[str, Floats]:
        """What is asked for now."""
        return self._setpoint.values

    def poll(self, elapsed_s: float) -> list[Event]:
        """Obey the keys that were pressed since the last call.

        Whatever else a key asks for, it asks for no velocity, so that no walk goes on where it was left.
        """
        typed, self._kept = self._kept + self._read(), b""
        if set(typed) & set(ESTOP_KEYS):
            events = [Event.ESTOP]
        else:
            events = [KEYS[key] for key in self._keys(typed) if not self._steer(key) and key in KEYS]
        self._quit |= b"q" in typed
        if events:
            self._setpoint.stop()
            self._link.commanded(events)
        return events + (self._link.lost() if self._gone else [])

    def heed(self, *, orders: bool) -> None:
        """Forget what was typed, but for an emergency stop and `q`; or miss nobody any more."""
        if orders:
            typed = b"".join(iter(self._read, b""))
            self._kept = bytes(set(typed) & set(ESTOP_KEYS + b"q"))
        else:
            self._link.end()

    def finished(self) -> bool:
        """Return whether `q` was pressed or the terminal is gone."""
        return self._quit or self._gone

    def _read(self) -> bytes:
        """What was typed since the last call."""
        if self._gone or not select.select([self._fd], [], [], 0)[0]:
            return b""
        try:
            data = os.read(self._fd, 256)
        except OSError:  # EIO: hung up
            data = b""
        self._gone = not data
        return data

    def _keys(self, typed: bytes) -> list[bytes]:
        """The whole keys, arrows as ESC and their letter; the start of one waits for its end."""
        typed = self._rest + typed
        unfinished = _UNFINISHED.search(typed)
        self._rest = unfinished.group() if unfinished else b""
        whole = typed.removesuffix(self._rest)
        return [key[:1] + key[-1:] if len(key) > 1 else key for key in _KEY.findall(whole)]

    def _steer(self, key: bytes) -> bool:
        """Obey a key that only steers; return whether it was one."""
        if key == b"0":
            self._setpoint.stop()
        if key not in NUDGES or VELOCITY not in self._setpoint.ranges:
            return False
        axis, direction = NUDGES[key]
        low, high = self._setpoint.ranges[VELOCITY]
        velocity = self._setpoint.values[VELOCITY].copy()
        velocity[axis] += direction * NUDGE_SHARE * (high - low)[axis]
        self._setpoint.set(VELOCITY, velocity)
        self._link.commanded()
        return True


def in_background(fd: int) -> bool:
    """Return whether a terminal is the foreground of another job, which would stop this one for using it."""
    try:
        return os.tcgetpgrp(fd) != os.getpgrp()
    except OSError:  # not the controlling terminal: no jobs
        return False


def _key_by_key(attributes: list[Any]) -> list[Any]:
    """Terminal attributes without lines and echo, in which Ctrl-Z and Ctrl-backslash are mere keys."""
    changed = [*attributes[:_CC], list(attributes[_CC])]
    changed[_LFLAG] &= ~(termios.ICANON | termios.ECHO)
    changed[_CC][termios.VMIN], changed[_CC][termios.VTIME] = 1, 0
    changed[_CC][termios.VSUSP] = changed[_CC][termios.VQUIT] = b"\0"
    return changed


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End by way of every `finally`."""
    sys.exit(128 + number)
