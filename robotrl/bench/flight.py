"""A recorded run as arrays: what the robot measured, was asked, was sent, and what was true."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from robotrl.errors import RecordingError
from robotrl.runtime.recording import Recording
from robotrl.runtime.tally import Happening
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, Floats

POLICY = "POLICY"
"""The mode in which the policy is in charge."""

MOVING_COMMAND = 0.05
"""A velocity command longer than this (m/s or rad/s) asks for walking."""

FOOT_DOWN_N = 1.0
"""A foot that presses harder than this counts as standing."""

SETTLE_S = 0.5
"""Steady walking starts this long after the command changed."""


@dataclass(frozen=True)
class Event:
    """Something that happened at one moment."""

    stamp_s: float
    name: str


@dataclass(frozen=True)
class Flight:
    """One recorded run; arrays over T ticks, joints in spec order, time in host monotonic seconds."""

    joint_names: tuple[str, ...]
    period_s: float
    stamp_s: Floats
    """(T,)"""
    joint_pos_rad: Floats
    """(T, n) measured."""
    joint_target_rad: Floats
    """(T, n) sent to the servos; NaN where no target was sent."""
    joint_age_s: Floats
    """(T,) age of the oldest joint measurement."""
    velocity_command: Floats
    """(T, 3) m/s, m/s, rad/s in the body frame."""
    mode: tuple[str, ...]
    level: tuple[str, ...]
    """The gate's verdict in each tick: NONE, LIMITING, HOLD, DAMP or LIMP."""
    causes: tuple[tuple[str, ...], ...]
    work_s: Floats
    """(T,) from the tick's start to its last write."""
    late_s: Floats
    """(T,) how late the tick began."""
    events: tuple[Event, ...]

    @property
    def start_s(self) -> float:
        """Stamp of the first tick."""
        return float(self.stamp_s[0])

    @property
    def walking(self) -> NDArray[np.bool_]:
        """(T,) the policy is in charge and asked to move."""
        asked = np.abs(self.velocity_command).max(axis=1) > MOVING_COMMAND
        return np.asarray(asked & (np.array(self.mode) == POLICY))


@dataclass(frozen=True)
class Truth:
    """What the emulated robot really did, sampled at 100 Hz; S samples, n joints."""

    stamp_s: Floats
    """(S,) same clock as the flight's."""
    qpos: Floats
    """(S, 7 + n) base position m, quaternion w x y z, joints rad."""
    base_lin_vel_b: Floats
    """(S, 3) m/s, body frame."""
    base_ang_vel_b: Floats
    """(S, 3) rad/s, body frame."""
    foot_height_m: Floats
    """(S, feet)"""
    foot_touch_n: Floats
    """(S, feet)"""
    knee_touch_n: Floats
    """(S, knees)"""
    trunk_touch_n: Floats
    """(S, 1)"""
    joint_torque_nm: Floats
    """(S, n) torque of the motors."""

    def between(self, start_s: float, end_s: float) -> NDArray[np.bool_]:
        """(S,) samples with start_s <= stamp < end_s."""
        return (self.stamp_s >= start_s) & (self.stamp_s < end_s)


@dataclass(frozen=True)
class Window:
    """A stretch of time in host seconds."""

    start_s: float
    end_s: float


def flight_of(recording: Recording, robot: RobotSpec) -> Flight:
    """Arrange a recording as a flight.

    Raises:
        RecordingError: it has no ticks, or another number of joints than the robot.
    """
    if not recording.ticks:
        raise RecordingError("the recording holds no tick")
    state, command = recording.topics["/state"], recording.topics["/command"]
    timing, request, verdict = (recording.topics[name] for name in ("/timing", "/request", "/verdict"))
    if state["joint_pos_rad"].shape[1] != len(robot.joint):
        raise RecordingError(
            "the recording is of another robot",
            value=state["joint_pos_rad"].shape[1],
            allowed=f"{len(robot.joint)} joints, as {robot.name}",
        )
    if not request["velocity_command"].shape[1]:
        raise RecordingError(
            "the recording is of a policy that is asked for no velocity, so it does not walk"
        )
    tracked = command["kind"] == CommandKind.TRACK.name
    return Flight(
        joint_names=robot.joint_names,
        period_s=robot.control.period_s,
        stamp_s=timing["now_s"],
        joint_pos_rad=state["joint_pos_rad"],
        joint_target_rad=np.where(tracked[:, None], command["joint_target_rad"], np.nan),
        joint_age_s=state["joint_age_s"].max(axis=1),
        velocity_command=request["velocity_command"],
        mode=tuple(request["mode"]),
        level=tuple(verdict["level"]),
        causes=tuple(verdict["causes"]),
        work_s=timing["work_s"],
        late_s=timing["late_s"],
        events=tuple(_event(happening) for happening in recording.events if happening.name != "gate"),
    )


def _event(happening: Happening) -> Event:
    """A mode change is named after the new mode, anything else after itself."""
    changed = happening.name == "mode"
    return Event(happening.stamp_s, happening.text.rpartition(" ")[2] if changed else happening.name)


def read_truth(file: Path) -> Truth:
    """Read the emulator's truth.npz.

    Raises:
        RecordingError: it is missing, damaged or lacks an array.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return Truth(**{name: np.asarray(arrays[name]) for name in Truth.__dataclass_fields__})
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise RecordingError(f"is not the emulator's record of what was true ({error})", file=file) from error


def steady(flight: Flight) -> NDArray[np.bool_]:
    """(T,) ticks of undisturbed walking: command unchanged for SETTLE_S, gate at most limiting."""
    settle = max(1, round(SETTLE_S / flight.period_s))
    changed = np.any(np.diff(flight.velocity_command, axis=0, prepend=np.nan) != 0, axis=1)
    changed |= ~flight.walking | ~np.isin(flight.level, ("NONE", "LIMITING"))
    index = np.arange(changed.size)
    last_change = np.maximum.accumulate(np.where(changed, index, -settle))
    return index - last_change >= settle


def velocity_errors(flight: Flight, truth: Truth) -> Floats:
    """(3,) mean |commanded - true| of x, y (m/s) and yaw rate (rad/s) while the policy is in charge.

    Transients are included and the true velocity is the instantaneous one, as in `robotrl eval`.
    """
    chosen = (np.array(flight.mode) == POLICY) & np.isin(flight.level, ("NONE", "LIMITING"))
    if not chosen.any():
        return np.full(3, np.nan)
    raw = np.column_stack([truth.base_lin_vel_b[:, :2], truth.base_ang_vel_b[:, 2]])
    true = np.column_stack([np.interp(flight.stamp_s[chosen], truth.stamp_s, v) for v in raw.T])
    return np.asarray(np.abs(true - flight.velocity_command[chosen]).mean(axis=0))


def smooth_velocity(truth: Truth, window_s: float = 0.2) -> Floats:
    """(S, 3) true body velocity x, y (m/s) and yaw rate (rad/s), mean over a sliding window."""
    raw = np.column_stack([truth.base_lin_vel_b[:, :2], truth.base_ang_vel_b[:, 2]])
    width = max(1, round(window_s / float(np.median(np.diff(truth.stamp_s)))))
    kernel = np.ones(width) / width
    return np.column_stack([np.convolve(column, kernel, mode="same") for column in raw.T])


def longest(chosen: NDArray[np.bool_], stamp_s: Floats, at_most_s: float) -> Window | None:
    """Return the end of the longest unbroken stretch of `chosen`, cut to `at_most_s`."""
    edges = np.flatnonzero(np.diff(chosen.astype(np.int8), prepend=0, append=0))
    if edges.size == 0:
        return None
    starts, ends = edges[::2], edges[1::2] - 1
    best = int(np.argmax(stamp_s[ends] - stamp_s[starts]))
    end = float(stamp_s[ends[best]])
    return Window(max(float(stamp_s[starts[best]]), end - at_most_s), end)
