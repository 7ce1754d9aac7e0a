"""The guardian: a process that turns the torque off when the control loop dies, hangs or is stopped.

The loop (`robotrl.runtime.guarded`) starts it and holds the other end of a socket. Both say single bytes:

| byte | from | means |
|---|---|---|
| `OPEN` | loop | the servos are configured and limp: open the ports beside me |
| `OPEN` | guardian | they are open; anything else instead is a sentence that says why not |
| `BEAT` | loop | I live; the first one says that from now on there may be torque |
| `BEAT` | guardian | heard |
| `CLOSE` | loop | I end on purpose; the ports are yours |
| `TRIPPED` | guardian | you were silent too long: the torque is off, and is turned off again until you end |

A loop that has died is told by the end of the stream, at once; one that hangs or is stopped, by its silence.
Whatever the reason, the guardian ends only when every servo has answered that its torque is off, or
after it has tried in vain for a while. Signals do not end it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from robotrl.drivers.torque import TorqueSwitch
from robotrl.errors import PortError
from robotrl.runtime.realtime import FIFO_PRIORITY
from robotrl.spec.buses import BusSpec

OPEN, BEAT, CLOSE, TRIPPED = b"o", b".", b"c", b"!"
REPEAT_S = 0.02
"""Between two attempts to turn the torque off."""
CRASHED_PATIENCE_S = 10.0
"""How long it tries after the loop has died: somebody may plug the cable in again."""
CLOSED_PATIENCE_S = 0.3
"""How long after an orderly end, for which somebody waits."""

_CHUNK = 4096


class Switch(Protocol):
    """The torque of one bus, as `robotrl.drivers.torque.TorqueSwitch`; every method raises `PortError`."""

    def refresh(self) -> None:
        """Keep the port open, and let go of one that has vanished."""

    def turn_off(self) -> None:
        """Send torque off to every servo."""

    def is_off(self) -> bool:
        """Return whether every servo answers that its torque is off."""


class Guardian:
    """Watches one loop to its end.

    Args:
        link: its end of the socket.
        switches: the torque of each bus.
        timeout_s: how long the loop may be silent, from its first beat on.
        say: told in one sentence what has happened to the torque.
    """

    def __init__(
        self, link: socket.socket, switches: Sequence[Switch], timeout_s: float, say: Callable[[str], None]
    ) -> None:
        self._link, self._switches, self._timeout_s, self._say = link, switches, timeout_s, say
        self._due_s = math.inf
        """When the silence has lasted too long, or the torque is turned off once more."""
        self._tripped = self._confirmed = False

    def watch(self) -> None:
        """Serve until the loop has ended; the torque is off afterwards."""
        if not self._open():
            return
        while (heard := self._hear()) is not None and CLOSE not in heard:
            if self._tripped or not heard:
                self._trip()
            else:
                self._answer(heard)
        if heard is None:
            self._finish(CRASHED_PATIENCE_S, "the control loop has died")
        else:
            self._finish(CLOSED_PATIENCE_S, "the control loop has ended")

    def _open(self) -> bool:
        """Open the ports when the loop has them; return whether there is something to watch."""
        if self._hear() != OPEN:
            return False
        try:
            for switch in self._switches:
                switch.refresh()
        except PortError as error:
            self._tell(str(error).encode())
            return False
        self._tell(OPEN)
        return True

    def _hear(self) -> bytes | None:
        """Wait for the loop; return what it says, nothing if it is silent too long, None if it is gone."""
        wait_s = None if math.isinf(self._due_s) else max(0.0, self._due_s - time.monotonic())
        if not select.select([self._link], [], [], wait_s)[0]:
            return b""
        try:
            return self._link.recv(_CHUNK) or None
        except ConnectionError:
            return None

    def _answer(self, heard: bytes) -> None:
        """Note a beat. One that was read late counts from now: it is this process that was late."""
        if BEAT in heard:
            self._due_s = time.monotonic() + self._timeout_s
            self._tell(BEAT)
            for switch in self._switches:
                with contextlib.suppress(PortError):  # it comes back, or the loop reports it
                    switch.refresh()

    def _trip(self) -> None:
        """Turn the torque off, now and again: a loop that was stopped may go on with what it was doing."""
        if not self._tripped:
            self._tripped = True
            self._tell(TRIPPED)
        off = self._turn_off()
        if off and not self._confirmed:
            self._say(f"the control loop was silent for {self._timeout_s} s; every servo's torque is off")
        self._confirmed |= off
        self._due_s = time.monotonic() + REPEAT_S

    def _finish(self, patience_s: float, what: str) -> None:
        """Turn the torque off for good."""
        give_up_s = time.monotonic() + patience_s
        while not (off := self._turn_off()) and time.monotonic() < give_up_s:
            time.sleep(REPEAT_S)
        if not off:
            self._say(f"{what}, and not every servo has answered that its torque is off")
        elif patience_s == CRASHED_PATIENCE_S:
            self._say(f"{what}; every servo's torque is off")

    def _turn_off(self) -> bool:
        """Turn the torque of every bus off; return whether all servos have confirmed it."""
        for switch in self._switches:  # all of them, before the first is waited for
            with contextlib.suppress(Exception):  # no error of one bus leaves another one stiff
                switch.turn_off()
        return not [switch for switch in self._switches if not _confirms(switch)]

    def _tell(self, word: bytes) -> None:
        """Say something, if the loop is still there and has not stopped listening long ago."""
        with contextlib.suppress(OSError):
            self._link.send(word, socket.MSG_DONTWAIT)


def _confirms(switch: Switch) -> bool:
    with contextlib.suppress(Exception):  # then nothing is confirmed, which `_finish` tells in the end
        return switch.is_off()
    return False


def encode_orders(buses: Sequence[tuple[BusSpec, Sequence[int]]], timeout_s: float) -> str:
    """Return what a guardian is started with, as `main` reads it.

    Args:
        buses: each with the ids of its servos, its port that of the device in use.
        timeout_s: how long the loop may be silent.
    """
    listed = [{"bus": dataclasses.asdict(bus), "ids": list(ids)} for bus, ids in buses]
    return json.dumps({"timeout_s": timeout_s, "buses": listed})


def _switch(order: Mapping[str, Any]) -> TorqueSwitch:
    return TorqueSwitch(BusSpec(**order["bus"]), order["ids"])


def say(sentence: str) -> None:
    """Print to the standard error output, unless that would block: nothing may keep a guardian waiting."""
    with contextlib.suppress(OSError):
        if select.select([], [sys.stderr], [], 0)[1]:
            os.write(sys.stderr.fileno(), f"robotrl guardian: {sentence}\n".encode())


def _come_before_the_loop() -> None:
    """Take precedence over a loop with real-time priority that never sleeps again, as far as permitted."""
    for priority in (FIFO_PRIORITY, FIFO_PRIORITY + 1):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def main() -> None:
    """Watch the loop at the other end of the socket that the first argument numbers; see `encode_orders`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _come_before_the_loop()
    descriptor, text = sys.argv[1:]
    orders = json.loads(text)
    with socket.socket(fileno=int(descriptor)) as link:
        switches = [_switch(order) for order in orders["buses"]]
        Guardian(link, switches, orders["timeout_s"], say).watch()


if __name__ == "__main__":
    main()
