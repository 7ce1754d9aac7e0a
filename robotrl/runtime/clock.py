"""Absolute deadlines: a loop that wakes late once does not drift."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Protocol

from robotrl.spec.robot import RobotSpec

PATIENCE_S = 0.25
"""Reply time-out on an emulator's bus clock, in real time: long enough for a busy computer."""


class Clock(Protocol):
    """Where a loop's time comes from."""

    def now_s(self) -> float:
        """Return the time in seconds since an arbitrary moment; never goes back."""
        ...

    def sleep_until(self, deadline_s: float) -> None:
        """Return when `now_s` has reached `deadline_s`; at once if it already has."""
        ...


class RealClock:
    """The host's monotonic clock."""

    def now_s(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def sleep_until(self, deadline_s: float) -> None:
        """Sleep; an interrupted sleep goes on, because the deadline is absolute."""
        while (left_s := deadline_s - time.monotonic()) > 0:
            time.sleep(left_s)


class FakeClock:
    """Time that passes only by waiting for it: loops run as fast as the computer can."""

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        """Return the time that has been waited for."""
        return self._now_s

    def sleep_until(self, deadline_s: float) -> None:
        """Let the time be `deadline_s` without sleeping."""
        self._now_s = max(self._now_s, deadline_s)

    def advance(self, seconds_s: float) -> None:
        """Let time pass, as work does on a real clock."""
        self._now_s += seconds_s


@dataclass(frozen=True, slots=True)
class Wake:
    """How one wait ended.

    Attributes:
        late_s: how long after its deadline the tick starts.
        overrun: the work before it was not done by this deadline.
        skipped: further deadlines that had passed meanwhile and get no tick.
    """

    late_s: float
    overrun: bool
    skipped: int


class Pacer:
    """Deadlines on the fixed grid start + k * period.

    Work that ends after its deadline is an overrun: the next tick starts at once. Deadlines that lie
    a whole period back are skipped, so that a stall is followed by one tick and not by a burst.
    """

    def __init__(self, clock: Clock, period_s: float) -> None:
        self._clock = clock
        self._period_s = period_s
        self._next_s = clock.now_s()

    def wait(self) -> Wake:
        """Wait for the next deadline."""
        self._next_s += self._period_s
        behind_s = self._clock.now_s() - self._next_s
        skipped = max(0, math.floor(behind_s / self._period_s))
        self._next_s += skipped * self._period_s
        self._clock.sleep_until(self._next_s)
        return Wake(self._clock.now_s() - self._next_s, behind_s > 0, skipped)


def with_patient_buses(robot: RobotSpec) -> RobotSpec:
    """Return the robot with long reply time-outs, for a body whose time advances with its traffic.

    On such a bus a reply that is late by the host's clock is on time by the robot's, so that a run
    repeats exactly however busy the computer is.
    """
    buses = {name: dataclasses.replace(bus, reply_timeout_s=PATIENCE_S) for name, bus in robot.bus.items()}
    return dataclasses.replace(robot, bus=buses)
