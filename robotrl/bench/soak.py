"""An hour on a bad bus: 200 Hz against the emulator with 1 % of all packets damaged; stalls, leaks, files."""

from __future__ import annotations

import dataclasses
import gc
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from robotrl.drivers.body import SerialBody
from robotrl.emulator.faults import FaultScript, Noise
from robotrl.emulator.machine import Machine
from robotrl.emulator.process import Emulator
from robotrl.errors import BadInputError, DeviceError
from robotrl.runtime.clock import Clock, RealClock
from robotrl.runtime.realtime import quiet_collector, request_realtime
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import CommandKind, JointCommand, RobotState

RATE_HZ = 200.0
BAUD_BD: Final = 3_000_000
REPLY_TIMEOUT_S = 0.002
DAMAGED = 0.01
"""Share of the packets, of either direction and on every line."""
NOISY_FROM_S = 1.0
"""The handshake has a quiet line."""
SETTLE_TICKS = 2000
"""Ticks before memory and files are counted for the first time."""
STALL_PERIODS = 2.0
PRIORITY = 40
"""Real-time priority of the emulator where it is allowed: hardware is never late for want of a processor."""
_BIN_S, _BINS = 50e-6, 2000


class Body(Protocol):
    """What is soaked."""

    def read(self, now_s: float) -> RobotState:
        """See `SerialBody`."""

    def write(self, command: JointCommand) -> None:
        """See `SerialBody`."""


def soaked_robot() -> RobotSpec:
    """Return quad12 at 200 Hz, on a bus that leaves time for a retry in each tick."""
    robot = load_robot(find_shipped("hardware", "quad12"))
    bus = {
        name: dataclasses.replace(spec, baud_bd=BAUD_BD, reply_timeout_s=REPLY_TIMEOUT_S)
        for name, spec in robot.bus.items()
    }
    return dataclasses.replace(robot, bus=bus, control=dataclasses.replace(robot.control, rate_hz=RATE_HZ))


def damage(robot: RobotSpec) -> FaultScript:
    """Return the fault script: some of the packets arrive damaged, for ever."""
    return FaultScript(noise=tuple(Noise(line, NOISY_FROM_S, 1e9, damage=DAMAGED) for line in robot.lines))


class Tally:
    """Counts over a run of any length, in memory that does not grow.

    Args:
        period_s: of the control loop.
        joints: how many are measured.
    """

    def __init__(self, period_s: float, joints: int) -> None:
        self._period_s = period_s
        self._bins = np.zeros(_BINS, np.int64)
        self._joints = joints
        self.ticks = self.missed = self.stalls = self.unheard = self.errors = 0
        self.longest_s = self.oldest_s = 0.0

    def add(self, state: RobotState, tick_s: float) -> None:
        """Take one tick.

        Args:
            state: what it measured.
            tick_s: from its deadline to its end.
        """
        self.ticks += 1
        self.missed += tick_s > self._period_s
        self.stalls += tick_s > STALL_PERIODS * self._period_s
        self.longest_s = max(self.longest_s, tick_s)
        self._bins[min(int(tick_s / _BIN_S), _BINS - 1)] += 1
        self.unheard += int(np.count_nonzero(state.joint_age_s > 0))
        self.oldest_s = max(self.oldest_s, float(state.joint_age_s.max()))
        self.errors += int(np.count_nonzero(state.hardware_error))

    def quantile_ms(self, share: float) -> float:
        """Return the tick that this share of all ticks does not exceed, rounded up to a bin."""
        at = int(np.searchsorted(np.cumsum(self._bins), share * self.ticks))
        return 1e3 * _BIN_S * (at + 1)

    def figures(self) -> dict[str, float]:
        """Return the counts by name."""
        return {
            "ticks": self.ticks,
            "stalls_over_2_periods": self.stalls,
            "missed_deadlines": self.missed,
            "tick_p50_ms": self.quantile_ms(0.5),
            "tick_p99_ms": self.quantile_ms(0.99),
            "tick_max_ms": 1e3 * self.longest_s,
            "unheard_share": self.unheard / (self._joints * self.ticks),
            "oldest_measurement_ms": 1e3 * self.oldest_s,
            "hardware_errors": self.errors,
        }


def soak(robot: RobotSpec, body: Body, clock: Clock, ticks: int) -> dict[str, float]:
    """Hold the posture in which the robot lies, and count.

    Args:
        robot: it.
        body: its driver, open.
        clock: of the deadlines.
        ticks: how many are counted; `SETTLE_TICKS` go before them.

    Returns:
        Figures of the ticks, and memory and open files before and after them.
    """
    period_s = robot.control.period_s
    posture_rad = body.read(clock.now_s()).joint_pos_rad
    hold = JointCommand(
        CommandKind.TRACK, np.clip(posture_rad, robot.position_min_rad, robot.position_max_rad)
    )
    deadline_s = clock.now_s()

    def run(count: int) -> Tally:
        nonlocal deadline_s
        tally = Tally(period_s, len(robot.joint))
        for _ in range(count):
            # A tick that is late is not made up for: the next one has the next deadline.
            deadline_s += period_s * max(1, int((clock.now_s() - deadline_s) / period_s))
            clock.sleep_until(deadline_s)
            state = body.read(deadline_s)
            body.write(hold)
            tally.add(state, clock.now_s() - deadline_s)
        return tally

    with quiet_collector():
        run(SETTLE_TICKS)
        before = resident_mib(), open_files()
        tally = run(ticks)
    after = resident_mib(), open_files()
    return tally.figures() | {
        "resident_start_mib": before[0],
        "resident_end_mib": after[0],
        "files_start": before[1],
        "files_end": after[1],
    }


def resident_mib(process: int | str = "self") -> float:
    """Return the resident memory of a process, in MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """Return how many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count, not paths


def bench_soak(minutes: float, report: Callable[[str], None]) -> dict[str, Any]:
    """Soak the driver on the wall clock.

    Args:
        minutes: how long.
        report: takes lines that tell what is going on.

    Returns:
        The figures of `soak`, and the emulator's memory before and after.

    Raises:
        BadInputError: no time at all.
    """
    ticks = round(60 * minutes * RATE_HZ)
    if ticks < 1:
        raise BadInputError("is too short", key="--minutes", value=minutes, allowed="above 0")
    robot = soaked_robot()
    report(f"{minutes:g} minutes at {RATE_HZ:g} Hz, {DAMAGED:.0%} of the packets damaged")
    with emulated(robot, damage(robot)) as (process, ports):
        for refusal in request_realtime():
            report(refusal)
        body = SerialBody(robot, ports)
        body.open()
        try:
            before = resident_mib(process)
            figures = soak(robot, body, RealClock(), ticks)
            after = resident_mib(process)
        finally:
            body.close()
    return figures | {"emulator_start_mib": before, "emulator_end_mib": after}


@contextmanager
def emulated(robot: RobotSpec, script: FaultScript) -> Iterator[tuple[int, dict[str, str]]]:
    """Run an emulated robot on the wall clock in a process of its own; give its number and its ports.

    Raises:
        DeviceError: it does not start.
    """
    commands, stop = os.pipe()
    told, tell = os.pipe()
    # A fork: the child keeps the pipes, and needs nothing imported again.
    serve = multiprocessing.get_context("fork").Process(
        target=_serve, args=(robot, script, (commands, tell), (stop, told)), daemon=True
    )
    serve.start()
    os.close(commands)
    os.close(tell)
    try:
        with os.fdopen(told) as reports:
            if not (first := reports.readline()):
                raise DeviceError("the emulator does not start")
            yield serve.pid or 0, json.loads(first)["ports"]
    finally:
        os.close(stop)  # the end of its input
        serve.join()


def _serve(robot: RobotSpec, script: FaultScript, ours: tuple[int, int], parents: tuple[int, int]) -> None:
    """The child: emulate until the input ends."""
    for fd in parents:
        os.close(fd)
    commands, tell = ours
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    with os.fdopen(tell, "w") as report:
        emulator = Emulator(Machine(robot, script, 0, log=False), "wall", commands, report)
        gc.freeze()  # what is there stays: servos make no pauses to look through it
        emulator.run(None)
