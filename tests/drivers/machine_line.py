"""Ports of an emulated robot in this very process: emulated time passes only while the host waits."""

from __future__ import annotations

from collections.abc import Iterable

from robotrl.drivers import feetech
from robotrl.emulator.machine import Machine
from robotrl.emulator.wire import PacketFramer
from robotrl.spec.robot import IMU_LINE

_PATIENCE_S = 0.005
"""Emulated time after which a read gives up."""


class MachineLines:
    """A machine, its clock, and what has reached the host."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.now_s = 0.0
        self._arrived = dict.fromkeys(machine.cables, b"")

    def port(self, line: str) -> MachinePort:
        """Open one line."""
        return MachinePort(self, line)

    def live_until(self, time_s: float) -> None:
        """Let the robot live on."""
        self.now_s = max(self.now_s, time_s)
        self.machine.run_until(self.now_s)
        for delivery in self.machine.released(self.now_s):
            self._arrived[delivery.line] += delivery.data

    def send(self, line: str, pieces: Iterable[bytes]) -> None:
        """Put packets on the line, one after the other."""
        for piece in pieces:
            self.live_until(self.machine.transmit(line, piece, self.now_s))

    def take(self, line: str) -> bytes:
        """What has arrived."""
        data, self._arrived[line] = self._arrived[line], b""
        return data

    def wait(self, line: str) -> bytes:
        """Live until something arrives, or not for too long."""
        give_up_s = self.now_s + _PATIENCE_S
        while not self._arrived[line] and self.now_s < give_up_s:
            self.live_until(min(max(self.machine.pending_s(), self.now_s + 1e-6), give_up_s))
        return self.take(line)


class MachinePort:
    """A `Port` on one line."""

    def __init__(self, lines: MachineLines, line: str) -> None:
        self._lines, self._line = lines, line
        self._framer = PacketFramer(feetech.FRAMING)

    def write(self, data: bytes) -> None:
        """Send all of `data`."""
        self._lines.send(self._line, [data] if self._line == IMU_LINE else self._framer.feed(data))

    def read(self, deadline_s: float) -> bytes:
        """Return what arrives; the deadline is the wall clock's, and it stands still here."""
        return self._lines.wait(self._line)

    def drain(self) -> bytes:
        """Return what has arrived."""
        return self._lines.take(self._line)

    def close(self) -> None:
        """Nothing to release."""
