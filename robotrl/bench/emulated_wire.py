"""One emulated servo bus in a process of its own: firmware, wire and USB adapter, but no body that moves."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from robotrl.drivers import dynamixel, feetech
from robotrl.drivers.series import SERIES
from robotrl.emulator.firmware import Firmware, Reply
from robotrl.emulator.machine import FIRMWARE
from robotrl.emulator.plant import STEP_S
from robotrl.emulator.wire import PacketFramer, PseudoTerminal, wire_time_s
from robotrl.spec.robot import RobotSpec

BUS = "bench"
"""Name of the only bus of the robots here."""

_SETTLE_STEPS = 20
_SPIN_S = 300e-6
"""A process is woken up late by less than this; so much is waited for awake."""
HOST_PRIORITY, _SERVO_PRIORITY = 50, 40
"""Real-time priorities while something is timed."""


@dataclass(frozen=True)
class Adapter:
    """What lies between host and servos.

    Attributes:
        timed: bytes take their time on the wire; without it answers come at once.
        latency_s: how long a USB adapter holds an answer back after its last byte.
    """

    timed: bool
    latency_s: float = 0.0


class EmulatedWire:
    """Servos that hold still behind a pseudo-terminal; use as a context manager.

    The answers of a wire without time are kept: servos that hold still repeat themselves, and a host's
    speed is to be measured, not the emulator's.

    Args:
        robot: its servos, all on the bus `BUS`.
        adapter: what the wire costs.
    """

    def __init__(self, robot: RobotSpec, adapter: Adapter) -> None:
        self._terminal = PseudoTerminal(robot.bus[BUS].baud_bd)
        self.path = self._terminal.path
        """The port."""
        self._wake, self._stop = os.pipe()
        serve = _Served(robot, adapter, self._terminal, self._wake)
        # A fork: the child keeps the terminal and the pipe, and needs nothing imported again.
        self._process = multiprocessing.get_context("fork").Process(target=serve.run, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        os.write(self._stop, b"x")
        self._process.join()
        os.close(self._wake)
        os.close(self._stop)
        self._terminal.close()


class DirectPort:
    """A `Port` to such servos in this very process, which adds up what their wire would take.

    Attributes:
        wire_s: time that all bytes so far need.
        pauses_s: time that servos wait before they answer.
    """

    def __init__(self, robot: RobotSpec) -> None:
        self._firmware = _firmware(robot)
        self._baud_bd = robot.bus[BUS].baud_bd
        self._framer = _framer(robot)
        self._arrived = b""
        self.wire_s = 0.0
        self.pauses_s = 0.0

    def write(self, data: bytes) -> None:
        """Send all of `data`."""
        for packet in self._framer.feed(data):
            replies = _replies(self._firmware, packet)
            self.pauses_s += _pauses_s(replies)
            self.wire_s += _line_time_s(packet, replies, self._baud_bd) - _pauses_s(replies)
            self._arrived += b"".join(reply.data for reply in replies)

    def read(self, deadline_s: float) -> bytes:
        """Return what has arrived; nothing is ever late here."""
        del deadline_s
        return self.drain()

    def drain(self) -> bytes:
        """Return what has arrived."""
        data, self._arrived = self._arrived, b""
        return data

    def close(self) -> None:
        """Nothing to release."""


class InstantPort(DirectPort):
    """A `Port` to such servos that costs nothing: answers are kept, as in an `EmulatedWire` without time."""

    def __init__(self, robot: RobotSpec) -> None:
        super().__init__(robot)
        self._kept: dict[bytes, bytes] = {}

    def write(self, data: bytes) -> None:
        """Send all of `data`, one instruction."""
        if data not in self._kept:
            before, self._arrived = self._arrived, b""
            super().write(data)
            self._kept[data], self._arrived = self._arrived, before
        self._arrived += self._kept[data]


class InstantSerial:
    """As much of pyserial as `dynamixel_sdk.PortHandler` uses, over an `InstantPort`."""

    def __init__(self, robot: RobotSpec) -> None:
        self._port = InstantPort(robot)
        self._arrived = b""

    def write(self, data: list[int]) -> int:
        """Send all of `data`; return how much that was."""
        self._port.write(bytes(data))
        self._arrived += self._port.drain()
        return len(data)

    def read(self, size: int) -> bytes:
        """Return what has arrived, so many bytes at most."""
        data, self._arrived = self._arrived[:size], self._arrived[size:]
        return data

    def reset_input_buffer(self) -> None:
        """Drop what has arrived."""
        self._arrived = b""

    def close(self) -> None:
        """Nothing to release."""


@contextlib.contextmanager
def hurried(priority: int = HOST_PRIORITY) -> Iterator[None]:
    """Let this process go before others where that is allowed: other work must not count as the driver's."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _line_time_s(packet: bytes, replies: list[Reply], baud_bd: int) -> float:
    byte_count = len(packet) + sum(len(reply.data) for reply in replies)
    return wire_time_s(byte_count, baud_bd) + _pauses_s(replies)


def _pauses_s(replies: list[Reply]) -> float:
    return sum(reply.gap_s for reply in replies)


def _replies(firmware: Firmware, packet: bytes) -> list[Reply]:
    return firmware.receive(packet, _SETTLE_STEPS * STEP_S)


def _framer(robot: RobotSpec) -> PacketFramer:
    return PacketFramer(dynamixel.FRAMING if _is_dynamixel(robot) else feetech.FRAMING)


def _firmware(robot: RobotSpec) -> Firmware:
    """The servos, powered for a moment, without the return delay that a driver takes off them."""
    firmware = FIRMWARE[robot.bus[BUS].protocol](robot, BUS, robot.default_rad)
    for step in range(_SETTLE_STEPS):
        still = robot.default_rad
        firmware.step(step * STEP_S, still, 0.0 * still, robot.supply.open_v)
    _take_off_the_delay(firmware, robot)
    return firmware


def _take_off_the_delay(firmware: Firmware, robot: RobotSpec) -> None:
    delay = SERIES[robot.bus[BUS].protocol].service.return_delay
    if delay is None:
        return
    ids = [joint.id for joint in robot.joint]
    values = np.zeros((len(ids), delay.size), np.uint8)
    sync_write = dynamixel.sync_write if _is_dynamixel(robot) else feetech.sync_write
    _replies(firmware, sync_write(delay.address, ids, values))


def _is_dynamixel(robot: RobotSpec) -> bool:
    return robot.bus[BUS].protocol == "dynamixel2"


class _Served:
    """The child process."""

    def __init__(self, robot: RobotSpec, adapter: Adapter, terminal: PseudoTerminal, wake: int) -> None:
        self._baud_bd = robot.bus[BUS].baud_bd
        self._adapter = adapter
        self._terminal, self._wake = terminal, wake
        self._framer = _framer(robot)
        self._firmware = _firmware(robot)
        self._line_free_s = 0.0
        self._kept: dict[bytes, bytes] = {}

    def run(self) -> None:
        """Serve until told to stop."""
        obey = self._obey_in_time if self._adapter.timed else self._obey_at_once
        with hurried(_SERVO_PRIORITY):
            while True:
                ready, _, _ = select.select([self._terminal.fd, self._wake], [], [])
                if self._wake in ready:
                    return
                sent_s = time.monotonic()
                for packet in self._framer.feed(self._terminal.read()):
                    obey(packet, sent_s)

    def _obey_at_once(self, packet: bytes, sent_s: float) -> None:
        del sent_s  # no time passes
        if packet not in self._kept:
            self._kept[packet] = b"".join(reply.data for reply in _replies(self._firmware, packet))
        if answer := self._kept[packet]:
            self._terminal.write(answer)

    def _obey_in_time(self, packet: bytes, sent_s: float) -> None:
        start_s = max(sent_s, self._line_free_s)
        replies = _replies(self._firmware, packet)
        self._line_free_s = start_s + _line_time_s(packet, replies, self._baud_bd)
        if replies:
            _wait_until(self._line_free_s + self._adapter.latency_s)
            self._terminal.write(b"".join(reply.data for reply in replies))


def _wait_until(time_s: float) -> None:
    time.sleep(max(0.0, time_s - _SPIN_S - time.monotonic()))
    while time.monotonic() < time_s:
        pass
