"""Emulated time for the real driver: waiting lets the emulated robot live on, nothing else takes any."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from robotrl.drivers import dynamixel, feetech
from robotrl.drivers.framing import Framing
from robotrl.emulator.machine import Machine
from robotrl.emulator.plant import STEP_S
from robotrl.emulator.wire import PacketFramer
from robotrl.errors import PortError
from robotrl.spec.buses import ServoProtocol

_FRAMINGS: Mapping[ServoProtocol, Framing] = MappingProxyType(
    {"dynamixel2": dynamixel.FRAMING, "feetech_sts": feetech.FRAMING, "feetech_scs": feetech.FRAMING}
)
_WAKE_S = 1e-6
"""A wait moves time on by at least this much."""


class EmulatedTime:
    """What the module `time` and the loop's clock are to a driver whose robot is emulated in its process.

    Attributes:
        machine: the robot.
        elapsed_s: emulated seconds since it began to live.
        arrived: line -> bytes that have reached the host and were not read yet.

    Args:
        machine: the robot.
        witness: called after each emulated step with `elapsed_s`.
    """

    def __init__(self, machine: Machine, witness: Callable[[float], None] | None = None) -> None:
        self.machine = machine
        self.elapsed_s = 0.0
        self.arrived = dict.fromkeys(machine.cables, b"")
        self._witness = witness

    def now_s(self) -> float:
        """Return `elapsed_s`; see `robotrl.runtime.clock.Clock`."""
        return self.elapsed_s

    def monotonic(self) -> float:
        """Return `elapsed_s`, in place of `time.monotonic`."""
        return self.elapsed_s

    def sleep(self, duration_s: float) -> None:
        """Let time pass, in place of `time.sleep`."""
        self.sleep_until(self.elapsed_s + duration_s)

    def sleep_until(self, time_s: float) -> None:
        """Let the robot live on, and collect what reaches the host."""
        while self._witness is not None and self.elapsed_s + STEP_S < time_s:
            self._live_until(self.elapsed_s + STEP_S)
        self._live_until(max(self.elapsed_s, time_s))

    def _live_until(self, time_s: float) -> None:
        self.elapsed_s = time_s
        self.machine.run_until(time_s)
        for delivery in self.machine.released(time_s):
            self.arrived[delivery.line] += delivery.data
        if self._witness is not None:
            self._witness(time_s)


class EmulatedPort:
    """A `Port` on one line of an emulated robot, gone while its adapter is out.

    Args:
        clock: of the robot.
        line: the line's name.
        baud_bd: the host's.

    Raises:
        PortError: the adapter is out.
    """

    def __init__(self, clock: EmulatedTime, line: str, baud_bd: int) -> None:
        self._clock, self._line = clock, line
        bus = clock.machine.robot.bus.get(line)
        self._framer = PacketFramer(_FRAMINGS[bus.protocol]) if bus else None
        self._check()
        clock.machine.set_host_baud(line, baud_bd)
        clock.arrived[line] = b""

    def write(self, data: bytes) -> None:
        """Send all of `data`; the adapter's buffer takes it at once."""
        self._check()
        for packet in self._framer.feed(data) if self._framer else [data]:
            self._clock.machine.transmit(self._line, packet, self._clock.elapsed_s)

    def read(self, deadline_s: float) -> bytes:
        """Live until something arrives, or until the deadline."""
        self._check()
        clock = self._clock
        while not clock.arrived[self._line] and clock.elapsed_s < deadline_s:
            next_s = max(clock.machine.pending_s(), clock.elapsed_s + _WAKE_S)
            clock.sleep_until(min(next_s, deadline_s))
        self._check()
        data, clock.arrived[self._line] = clock.arrived[self._line], b""
        return data

    def drain(self) -> bytes:
        """Return what has arrived."""
        return self.read(0.0)

    def close(self) -> None:
        """Nothing to release."""

    def _check(self) -> None:
        if not self._clock.machine.port_exists(self._line, self._clock.elapsed_s):
            raise PortError(f"port {self._line} has gone away")


@contextmanager
def on_emulated_time(clock: EmulatedTime) -> Iterator[None]:
    """Let `time.monotonic` and `time.sleep` of this process be the emulated robot's inside the block."""
    stand_ins = {"monotonic": clock.monotonic, "sleep": clock.sleep}
    own = {name: getattr(time, name) for name in stand_ins}
    try:
        for name, stand_in in stand_ins.items():
            setattr(time, name, stand_in)
        yield
    finally:
        for name, function in own.items():
            setattr(time, name, function)
