"""Operators' devices as a test presses them: a pipe for a gamepad, a pseudo-terminal, a loopback socket.

Whatever is pressed has arrived when the call returns.
"""

from __future__ import annotations

import json
import os
import pty
import select
import socket
from collections.abc import Iterable
from types import TracebackType

from robotrl.runtime.gamepad import AXIS, BUTTON, INIT, JS_EVENT, Gamepad
from robotrl.runtime.keyboard import Keyboard
from robotrl.runtime.operator import Ranges
from robotrl.runtime.udp import UdpOperator

PATIENCE_S = 300.0
"""Longest wait for the kernel on a loaded computer."""


class Pad:
    """A gamepad at the other end of a pipe."""

    def __init__(self, ranges: Ranges) -> None:
        read, self._write = os.pipe2(os.O_NONBLOCK)
        self.source = Gamepad(read, ranges)

    def __enter__(self) -> Pad:
        """Nothing to do."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close both ends."""
        self.source.__exit__()
        self.pull_out()

    def button(self, number: int, *, down: bool = True, initial: bool = False) -> None:
        """Press a button or let it go."""
        self.raw(JS_EVENT.pack(7, down, BUTTON | INIT * initial, number))

    def stick(self, number: int, value: int) -> None:
        """Move a stick."""
        self.raw(JS_EVENT.pack(7, value, AXIS, number))

    def raw(self, data: bytes) -> None:
        """Write bytes."""
        os.write(self._write, data)

    def pull_out(self) -> None:
        """End the device."""
        if self._write >= 0:
            os.close(self._write)
        self._write = -1

    def stand(self) -> None:
        """Command something, the dead-man button held."""
        self.button(4)
        self.button(0)

    def estop(self) -> None:
        """Press the emergency stop."""
        self.button(1)


class Keys:
    """A keyboard at the other end of a pseudo-terminal."""

    def __init__(self, ranges: Ranges) -> None:
        self._master, self.terminal = pty.openpty()
        self.source = Keyboard(ranges, fd=self.terminal)

    def __enter__(self) -> Keys:
        """Take the terminal over."""
        self.source.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Give it back, and close both ends."""
        self.source.__exit__()
        self.hang_up()
        os.close(self.terminal)

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)
        assert select.select([self.terminal], [], [], PATIENCE_S)[0]

    def hang_up(self) -> None:
        """Close the window."""
        if self._master >= 0:
            os.close(self._master)
        self._master = -1

    def stand(self) -> None:
        """Command something."""
        self.type(b"s")

    def estop(self) -> None:
        """Press the emergency stop."""
        self.type(b" ")


class Remote:
    """Somebody who sends datagrams."""

    def __init__(self, ranges: Ranges, *, token: str | None = None, timeout_s: float | None = None) -> None:
        self.source = UdpOperator(("127.0.0.1", 0), ranges, token=token, timeout_s=timeout_s)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(self.source.address)

    def __enter__(self) -> Remote:
        """Nothing to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both ends."""
        self.source.close()
        self._socket.close()

    def send(self, *orders: object) -> None:
        """Send each as JSON."""
        self.raw(json.dumps(order).encode() for order in orders)

    def raw(self, datagrams: Iterable[bytes]) -> None:
        """Send datagrams."""
        for data in datagrams:
            self._socket.send(data)
        assert select.select([self.source._socket], [], [], PATIENCE_S)[0]

    def stand(self) -> None:
        """Command something."""
        self.send({"event": "stand"})

    def estop(self) -> None:
        """Ask for the emergency stop."""
        self.send({"event": "estop"})
