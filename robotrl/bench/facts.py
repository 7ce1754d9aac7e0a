"""The figures that a recorded run proves, computed in one place for the page, the table and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from robotrl.bench.flight import FOOT_DOWN_N, Event, Flight, Truth, steady, velocity_errors
from robotrl.bench.folder import Run
from robotrl.spec.state import Floats

CALM = ("NONE", "LIMITING")
"""Gate levels in which the robot does what it was asked."""

SHORTEST_SWING_S = 0.08
"""A foot that is off the ground for less has only bounced."""

UNPLUG, PLUG, WATCHDOG, REARM = "unplug", "plug", "watchdog", "rearm"
"""How the events of a pulled cable begin."""


@dataclass(frozen=True)
class LoopFacts:
    """How the control loop kept its time."""

    duration_s: float
    ticks: int
    period_ms: float
    missed_deadlines: int
    tick_p50_ms: float
    tick_p99_ms: float
    tick_max_ms: float
    limiting_percent: float
    """Share of steady walking in which the gate changed the request."""


@dataclass(frozen=True)
class WalkFacts:
    """How the robot really moved while the policy was in charge."""

    error_vx_m_s: float
    error_vy_m_s: float
    error_wz_rad_s: float
    swing_clearance_mm: float
    """Median over swings of the highest point of the foot."""
    worst_tilt_deg: float
    knee_contact_s: float
    trunk_contact_s: float


@dataclass(frozen=True)
class CableFacts:
    """What followed after the bus cable was pulled; NaN where it did not happen."""

    noticed_ms: float
    """Until the end of the first tick whose read missed a joint; NaN where the gate had stepped in before."""
    reaction: str
    """The first level that the gate went to."""
    reacted_ms: float
    """Until the end of that tick, its command sent."""
    servos_stopped_ms: float
    """Until the last servo's own bus watchdog tripped."""
    moved_after_plug_rad: float
    """Largest joint motion between plugging in again and the explicit re-arm or the end."""


@dataclass(frozen=True)
class Facts:
    """All figures of a run."""

    loop: LoopFacts
    walk: WalkFacts | None
    """None where nothing is known of what was true."""
    cable: CableFacts | None
    """None where no cable was pulled."""


def facts_of(run: Run) -> Facts:
    """Compute the figures of a run."""
    return Facts(
        loop_facts(run.flight),
        walk_facts(run.flight, run.truth) if run.truth else None,
        cable_facts(run.flight, run.truth, run.events),
    )


def loop_facts(flight: Flight) -> LoopFacts:
    """Measure the loop's timing."""
    done_s = flight.late_s + flight.work_s
    p50, p99 = np.percentile(flight.work_s, (50, 99))
    calm = steady(flight)
    limiting = np.array(flight.level)[calm] == "LIMITING"
    return LoopFacts(
        duration_s=float(flight.stamp_s[-1] - flight.stamp_s[0]),
        ticks=int(flight.stamp_s.size),
        period_ms=1e3 * flight.period_s,
        missed_deadlines=int(np.count_nonzero(done_s > flight.period_s)),
        tick_p50_ms=1e3 * float(p50),
        tick_p99_ms=1e3 * float(p99),
        tick_max_ms=1e3 * float(flight.work_s.max()),
        limiting_percent=100 * float(limiting.mean()) if limiting.size else float("nan"),
    )


def walk_facts(flight: Flight, truth: Truth) -> WalkFacts:
    """Compare what was asked with what was true."""
    forward, sideways, turn = velocity_errors(flight, truth)
    walking = np.interp(truth.stamp_s, flight.stamp_s, flight.walking & np.isin(flight.level, CALM)) > 0.5  # noqa: PLR2004
    sample_s = float(np.median(np.diff(truth.stamp_s)))
    x, y = truth.qpos[walking, 4], truth.qpos[walking, 5]
    tilt = np.arccos(np.clip(1 - 2 * (x**2 + y**2), -1, 1))
    peaks = swing_peaks_m(truth, walking)
    return WalkFacts(
        error_vx_m_s=float(forward),
        error_vy_m_s=float(sideways),
        error_wz_rad_s=float(turn),
        swing_clearance_mm=1e3 * float(np.median(peaks)) if peaks.size else float("nan"),
        worst_tilt_deg=float(np.degrees(tilt.max(initial=0.0))),
        knee_contact_s=sample_s
        * int(np.count_nonzero(truth.knee_touch_n[walking].max(axis=1) > FOOT_DOWN_N)),
        trunk_contact_s=sample_s * int(np.count_nonzero(truth.trunk_touch_n[walking] > FOOT_DOWN_N)),
    )


def swing_peaks_m(truth: Truth, chosen: NDArray[np.bool_]) -> Floats:
    """Highest point of every complete swing of every foot above where the foot last stood, in m."""
    peaks = []
    for foot in range(truth.foot_touch_n.shape[1]):
        up = (truth.foot_touch_n[:, foot] <= FOOT_DOWN_N) & chosen
        edges: list[int] = np.flatnonzero(np.diff(up.astype(np.int8))).tolist()
        for start, end in pairwise(edges):
            lasted_s = truth.stamp_s[end] - truth.stamp_s[start]
            if up[start + 1] and lasted_s >= SHORTEST_SWING_S and chosen[start : end + 2].all():
                height = truth.foot_height_m[start : end + 2, foot]
                peaks.append(float(height.max() - height[0]))
    return np.array(peaks)


def cable_facts(flight: Flight, truth: Truth | None, events: Sequence[Event]) -> CableFacts | None:
    """Follow the first pulled cable, or None where no cable was pulled."""
    pulled = next((e.stamp_s for e in events if e.name.startswith(UNPLUG)), None)
    if pulled is None:
        return None
    calm, after = np.isin(flight.level, CALM), flight.stamp_s > pulled
    if not calm[~after][-1:].all():
        after = np.zeros_like(after)  # the robot had stopped before: this proves nothing
    reacted = np.flatnonzero(after & ~calm)[:1]
    tripped = [e.stamp_s for e in events if e.name.startswith(WATCHDOG) and e.stamp_s > pulled]
    return CableFacts(
        noticed_ms=_until_done_ms(flight, after & (flight.joint_age_s > 0.5 * flight.period_s), pulled),
        reaction=flight.level[reacted[0]].lower() if reacted.size else "nothing",
        reacted_ms=_until_done_ms(flight, after & ~calm, pulled),
        servos_stopped_ms=1e3 * (max(tripped) - pulled) if tripped else float("nan"),
        moved_after_plug_rad=_moved(truth, pulled, events) if truth else float("nan"),
    )


def _until_done_ms(flight: Flight, chosen: NDArray[np.bool_], since_s: float) -> float:
    """From a moment to the end of the first chosen tick; NaN where there is none."""
    done_s = (flight.stamp_s + flight.work_s)[chosen]
    return 1e3 * float(done_s[0] - since_s) if done_s.size else float("nan")


def _moved(truth: Truth, pulled_s: float, events: Sequence[Event]) -> float:
    plugged = next((e.stamp_s for e in events if e.name.startswith(PLUG) and e.stamp_s > pulled_s), None)
    if plugged is None:
        return float("nan")
    rearmed = next((e.stamp_s for e in events if e.name.startswith(REARM) and e.stamp_s > plugged), np.inf)
    angles = truth.qpos[truth.between(plugged, rearmed), 7:]
    return float(np.abs(angles - angles[:1]).max(initial=0.0))
