"""The emulated arm as a process: one pseudo-terminal, the wall or bus clock, commands and events as JSON."""

from __future__ import annotations

import math
import os
import select
from collections.abc import Callable
from typing import IO, Literal, Protocol

from robotrl.drivers.arm import FRAMING, Kind
from robotrl.emulator.arm import ArmMachine
from robotrl.emulator.cable import Piece
from robotrl.emulator.console import Console
from robotrl.emulator.host_time import HostTime
from robotrl.emulator.wire import PacketFramer, PseudoTerminal
from robotrl.spec.arm import CONTROLLER

_IDLE_WAIT_S = 0.2
_LONGEST_BATCH_S = 0.02
"""Physics never falls further behind than this while nothing happens on the line."""


class _Clock(Protocol):
    """What drives emulated time, in seconds since the emulator started."""

    origin_s: float
    """Added to emulated time to give the stamps of events."""

    def now_s(self) -> float:
        """The emulated time."""

    def host_sent(self, packet: bytes) -> None:
        """A packet of the host's has come out of its port."""

    def advance(self) -> bytes:
        """Let the arm live on; return what has now reached the host."""

    def wait_s(self) -> float:
        """How long the process may sleep if no byte comes."""


class WallClock(HostTime):
    """Emulated time is `time.monotonic`; answers come when the wire would have brought them."""

    def __init__(self, machine: ArmMachine) -> None:
        super().__init__()
        self._machine = machine
        self._free_s = 0.0
        self._due: list[Piece] = []

    def host_sent(self, packet: bytes) -> None:
        """Put the packet on the line now, or as soon as it is free."""
        self._free_s, heard = self._machine.exchange(packet, max(self.now_s(), self._free_s))
        self._due += heard

    def advance(self) -> bytes:
        """Catch up with the present."""
        now_s = self.now_s()
        self._machine.run_until(now_s)
        ripe = [piece for piece in self._due if piece.time_s <= now_s]
        self._due = [piece for piece in self._due if piece.time_s > now_s]
        return b"".join(piece.data for piece in ripe)

    def wait_s(self) -> float:
        """Until the next answer is due."""
        next_s = min((piece.time_s for piece in self._due), default=math.inf)
        return min(max(0.0, next_s - self.now_s()), _LONGEST_BATCH_S)


class BusClock:
    """Emulated time advances only with the host's traffic, so that runs repeat exactly.

    Every packet takes its time on the wire. A READ begins a control tick: it waits for the next multiple of
    the control period, also while the cable is out.
    """

    def __init__(self, machine: ArmMachine) -> None:
        self._machine = machine
        self.origin_s = 0.0
        self._now_s = 0.0
        self._period_s = 1.0 / machine.arm.controller.rate_hz
        self._heard: list[Piece] = []

    def now_s(self) -> float:
        """The end of the last transaction."""
        return self._now_s

    def host_sent(self, packet: bytes) -> None:
        """Live through the whole transaction of this packet."""
        if packet[2:3] == bytes((Kind.READ,)):
            self._now_s = (math.floor(self._now_s / self._period_s + 1e-6) + 1) * self._period_s
        self._now_s, heard = self._machine.exchange(packet, self._now_s)
        self._heard += heard

    def advance(self) -> bytes:
        """Hand out what the transactions brought."""
        heard, self._heard = self._heard, []
        return b"".join(piece.data for piece in heard)

    def wait_s(self) -> float:
        """Nothing happens without the host."""
        return _IDLE_WAIT_S


class ArmEmulator:
    """Joins a machine, a clock and the port; serves until it is told to stop.

    Commands, one a line: `unplug controller` and `plug controller` (the cable), `stop`; the end of the input
    means `stop`. Each is answered by one JSON line with `event` and `stamp_s`.

    Args:
        machine: the arm.
        clock: what its time is.
        commands: file descriptor of the command input.
        report: where JSON lines go.

    Raises:
        PortError: no pseudo-terminal can be had.
    """

    def __init__(
        self, machine: ArmMachine, clock: Literal["wall", "bus"], commands: int, report: IO[str]
    ) -> None:
        self._machine = machine
        self._console = Console(commands, report)
        self._terminal = PseudoTerminal(machine.arm.controller.baud_bd)
        self._framer = PacketFramer(FRAMING)
        self._stopped = False
        self._clock: _Clock = WallClock(machine) if clock == "wall" else BusClock(machine)

    def run(self, meanwhile: Callable[[], None] | None = None) -> None:
        """Announce the port and serve.

        Args:
            meanwhile: called between any two turns, to show what the arm does.

        Raises:
            SimulationError: the physics diverged.
        """
        self._console.say({"ports": {CONTROLLER: self._terminal.path}, "pid": os.getpid()})
        try:
            while not self._stopped:
                self._serve_once()
                if meanwhile is not None:
                    meanwhile()
        except BrokenPipeError:
            return  # nobody reads the reports any more
        finally:
            self._terminal.close()

    def _serve_once(self) -> None:
        ready, _, _ = select.select([self._terminal.fd, self._console.fd], [], [], self._clock.wait_s())
        if self._terminal.fd in ready:
            for packet in self._framer.feed(self._terminal.read()):
                self._clock.host_sent(packet)
        if self._console.fd in ready:
            self._take_commands()
        if heard := self._clock.advance():
            self._terminal.write(heard)

    def _take_commands(self) -> None:
        for words in self._console.take():
            if not self._stopped:
                self._obey(words)
        self._stopped |= self._console.ended

    def _obey(self, words: list[str]) -> None:
        told = " ".join(words)
        match words:
            case ["stop"]:
                self._stopped = True
            case ["unplug", line] if line == CONTROLLER:
                self._machine.cable.unplug()
            case ["plug", line] if line == CONTROLLER:
                self._machine.cable.plug()
            case _:
                told = f"not understood: {told}"
        self._console.say({"event": told, "stamp_s": self._clock.now_s() + self._clock.origin_s})
