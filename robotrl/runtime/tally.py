"""What one tick of the loop did, and what a run of them adds up to."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from robotrl.runtime.clock import Wake
from robotrl.runtime.modes import Mode
from robotrl.spec.gate import Request, Verdict
from robotrl.spec.state import Floats, JointCommand, RobotState

PHASES = ("read", "sense", "infer", "guard", "write", "record")
"""Parts of a tick, in order."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Everything that went through one tick of the loop, for the recorder."""

    index: int
    now_s: float
    state: RobotState
    mode: Mode
    commands: Mapping[str, Floats]
    """What the operator asked of the policy, by channel."""
    rearmed: bool
    """The gate's memory was re-armed with this state before the request."""
    policy_reset: bool
    """The policy's memory was reset before the request."""
    request: Request
    command: JointCommand
    verdict: Verdict
    wake: Wake
    phases_s: tuple[float, ...]
    """Durations of read, sense, infer, guard and write."""


class Counted(Protocol):
    """What is counted of a tick, be it a robot's or an arm's."""

    @property
    def verdict(self) -> Verdict:
        """What the gate did."""

    @property
    def wake(self) -> Wake:
        """How the wait before it ended."""

    @property
    def phases_s(self) -> tuple[float, ...]:
        """Durations of read, sense, infer, guard and write."""


@dataclass(frozen=True)
class Happening:
    """Something that happened at one moment, in words."""

    stamp_s: float
    name: str
    """`mode`, `gate`, `refused` or `rearm`."""
    text: str


@dataclass(frozen=True)
class PhaseTimes:
    """Quantiles of one phase's duration."""

    p50_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True)
class LoopReport:
    """What a run adds up to."""

    ticks: int
    overruns: int
    skipped: int
    phases: dict[str, PhaseTimes]
    """Of each part of a tick, of `work` (start to last write) and of `late` (start after deadline)."""
    verdicts: dict[str, int]
    """Ticks at each level of the gate."""
    causes: dict[str, int]
    """Ticks for each cause of the gate."""
    events: list[Happening]
    last_mode: str


class Tally:
    """Adds up ticks as they happen, in arrays that do not grow a Python object per tick."""

    def __init__(self) -> None:
        self._durations = {name: array("d") for name in (*PHASES, "work", "late")}
        self._verdicts: Counter[str] = Counter()
        self._causes: Counter[str] = Counter()
        self._overruns = 0
        self._skipped = 0
        self.events: list[Happening] = []

    def add(self, tick: Counted, record_s: float) -> None:
        """Count one tick."""
        for name, duration_s in zip(PHASES, (*tick.phases_s, record_s), strict=True):
            self._durations[name].append(duration_s)
        self._durations["work"].append(sum(tick.phases_s))
        self._durations["late"].append(tick.wake.late_s)
        self._verdicts[tick.verdict.level.name] += 1
        self._causes.update(tick.verdict.causes)
        self._overruns += tick.wake.overrun
        self._skipped += tick.wake.skipped

    def report(self, last_mode: Mode) -> LoopReport:
        """Return what has been counted."""
        ticks = len(self._durations["work"])
        return LoopReport(
            ticks,
            self._overruns,
            self._skipped,
            {name: _times(durations) for name, durations in self._durations.items()} if ticks else {},
            dict(self._verdicts),
            dict(self._causes.most_common()),
            list(self.events),
            last_mode.value,
        )


def _times(durations_s: array[float]) -> PhaseTimes:
    values = np.asarray(durations_s)
    p50, p99 = np.percentile(values, (50, 99))
    return PhaseTimes(float(p50), float(p99), float(values.max()))
