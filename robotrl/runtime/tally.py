"""What one tick of the loop did, and what a run of them adds up to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robotrl.runtime.clock import Wake
from robotrl.runtime.modes import Mode
from robotrl.spec.gate import Request, Verdict
from robotrl.spec.state import Floats, JointCommand, RobotState

PHASES = ("read", "sense", "infer", "guard", "write", "record")
"""Parts of a tick, in order."""


@dataclass(frozen=True, slots=True)
class Inference:
    """What the policy was given and what it answered."""

    channels: Mapping[str, NDArray[np.float32]]
    command: Floats
    """(n,) rad, before the gate."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Everything that went through one tick of the loop, for the recorder.

    It is read by other threads later: no array in it is written to after the tick.
    """

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
    inference: Inference | None = None
    """None where the policy was not asked."""
    estopped: bool = False
    """The gate's memory latched an emergency stop before the request, after the re-arm if there was one."""


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
    """One phase's durations: quantiles, rounded up by at most 1/32, and how often each octave occurred."""

    p50_s: float
    p99_s: float
    max_s: float
    octaves: tuple[tuple[float, int], ...]
    """Upper end in seconds, and ticks between half of it and it; in order, without the empty ones."""


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


class Durations:
    """Durations, counted in bins of 1/32 of an octave: any number of them in the same memory."""

    _PER_OCTAVE = 32
    _SHORTEST, _LONGEST = -30, 17
    """Powers of two: a nanosecond and a day; what lies outside counts as that."""

    def __init__(self) -> None:
        self._bins = [0] * ((self._LONGEST - self._SHORTEST) * self._PER_OCTAVE + 1)
        self._max_s = 0.0

    def add(self, duration_s: float) -> None:
        """Count one, which is not negative."""
        self._max_s = max(self._max_s, duration_s)
        mantissa, exponent = math.frexp(duration_s + 2.0**self._SHORTEST)  # 0.5 <= mantissa < 1
        octaves = 2.0 * mantissa + exponent - (self._SHORTEST + 2)
        self._bins[min(int(octaves * self._PER_OCTAVE), len(self._bins) - 1)] += 1

    def times(self) -> PhaseTimes:
        """Return what has been counted."""
        counts = np.array(self._bins)
        octave, part = np.divmod(np.arange(counts.size), self._PER_OCTAVE)
        ends_s = 2.0 ** (octave + self._SHORTEST) * (1.0 + (part + 1.0) / self._PER_OCTAVE)
        p50_s, p99_s = ends_s[np.searchsorted(counts.cumsum(), np.array((0.5, 0.99)) * counts.sum())]
        of_octave = np.bincount(octave, counts).astype(int).tolist()
        octaves = tuple((2.0 ** (k + self._SHORTEST + 1), n) for k, n in enumerate(of_octave) if n)
        return PhaseTimes(
            min(float(p50_s), self._max_s), min(float(p99_s), self._max_s), self._max_s, octaves
        )


class Tally:
    """Adds up ticks as they happen, in memory that does not grow with them."""

    def __init__(self) -> None:
        self._durations = {name: Durations() for name in (*PHASES, "work", "late")}
        self._verdicts: Counter[str] = Counter()
        self._causes: Counter[str] = Counter()
        self._ticks = self._overruns = self._skipped = 0
        self.events: list[Happening] = []

    def add(self, tick: Counted, record_s: float) -> None:
        """Count one tick."""
        spans_s = (*tick.phases_s, record_s, sum(tick.phases_s), tick.wake.late_s)
        for durations, span_s in zip(self._durations.values(), spans_s, strict=True):
            durations.add(span_s)
        self._verdicts[tick.verdict.level.name] += 1
        if tick.verdict.causes:
            self._causes.update(tick.verdict.causes)
        self._ticks += 1
        self._overruns += tick.wake.overrun
        self._skipped += tick.wake.skipped

    def report(self, last_mode: Mode) -> LoopReport:
        """Return what has been counted."""
        return LoopReport(
            self._ticks,
            self._overruns,
            self._skipped,
            {name: durations.times() for name, durations in self._durations.items()} if self._ticks else {},
            dict(self._verdicts),
            dict(self._causes.most_common()),
            list(self.events),
            last_mode.value,
        )
