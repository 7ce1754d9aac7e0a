"""The part of a recording in which the policy walked undisturbed, for a comparison with its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robotrl.bench.flight import POLICY, Truth
from robotrl.errors import RecordingError
from robotrl.runtime.recording import POLICY_TOPIC, Recording
from robotrl.spec.gate import Level
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import Floats

CALM = (Level.NONE.name, Level.LIMITING.name)
"""Verdicts under which the robot still does what the policy asks for."""
SHORTEST_S, LONGEST_S = 1.0, 60.0
CHANNELS = {
    "joint_pos": "joint_pos_rad",
    "joint_vel": "joint_vel_rad_s",
    "imu_quat": "imu_quat",
    "imu_gyro": "imu_gyro_rad_s",
}
"""Channel of a walking policy -> field of `/state`; the velocity command is in `/request`."""


@dataclass(frozen=True)
class Stretch:
    """T steps of the policy from its reset on, n joints.

    Attributes:
        period_s: between two steps.
        stamp_s: (T,) on the loop's clock.
        channels: name -> (T, ...) float32, as the policy was given them.
        answer_rad: (T, n) what the policy asked for.
        target_rad: (T, n) what the gate let through.
        load: (T, n) share of full drive.
        voltage_v: (T, n)
        temperature_c: (T, n)
    """

    period_s: float
    stamp_s: Floats
    channels: Mapping[str, NDArray[np.float32]]
    answer_rad: Floats
    target_rad: Floats
    load: Floats
    voltage_v: Floats
    temperature_c: Floats


def longest_stretch(recording: Recording, robot: RobotSpec) -> Stretch:
    """Return the longest time for which the policy was in charge, cut to its first `LONGEST_S`.

    Raises:
        RecordingError: the policy was never in charge for `SHORTEST_S`, or it does not walk.
    """
    request = recording.topics["/request"]
    if not (recording.ticks and request["velocity_command"].shape[1]):
        raise RecordingError("the recording is of no policy that is asked for a velocity")
    ticks = _longest(recording)[:: robot.control.ticks_per_step]
    period_s = 1.0 / robot.control.rate_hz
    if len(ticks) * period_s < SHORTEST_S:
        raise RecordingError(
            "the policy was never in charge for long enough", allowed=f"{SHORTEST_S} s without a stop"
        )
    ticks = ticks[: round(LONGEST_S / period_s)]
    state = recording.topics["/state"]
    channels = {name: state[field][ticks].astype(np.float32) for name, field in CHANNELS.items()}
    channels["velocity_command"] = request["velocity_command"][ticks].astype(np.float32)
    return Stretch(
        period_s=period_s,
        stamp_s=request["now_s"][ticks],
        channels=channels,
        answer_rad=_answers(recording, ticks),
        target_rad=recording.topics["/command"]["joint_target_rad"][ticks],
        load=state["joint_load"][ticks],
        voltage_v=state["voltage_v"][ticks],
        temperature_c=state["temperature_c"][ticks],
    )


def _longest(recording: Recording) -> NDArray[np.int64]:
    """Rows of the longest unbroken time in charge, the policy's reset first."""
    request, levels = recording.topics["/request"], recording.topics["/verdict"]["level"]
    calm = (request["mode"] == POLICY) & np.isin(levels.astype(str), CALM)
    follows = np.diff(request["tick"], prepend=-2) == 1
    starts = calm & (request["policy_reset"] | ~follows | ~np.concatenate(([False], calm[:-1])))
    runs = np.split(np.arange(calm.size), np.flatnonzero(starts | ~calm))
    led = [run for run in runs if run.size and calm[run[0]] and request["policy_reset"][run[0]]]
    return max(led, key=len, default=np.zeros(0, np.int64))


def _answers(recording: Recording, ticks: NDArray[np.int64]) -> Floats:
    """What the policy answered; the first recordings have it as the request alone."""
    rows, numbers = recording.topics[POLICY_TOPIC], recording.topics["/request"]["tick"][ticks]
    found = np.isin(rows["tick"], numbers)
    if found.sum() == len(ticks):
        return np.asarray(rows["joint_target_rad"][found])
    return np.asarray(recording.topics["/request"]["joint_target_rad"][ticks])


def sampled(values: Floats, truth: Truth, stamp_s: Floats) -> Floats:
    """Return values (S, ...) of the emulator's record at other times (T,): those of the nearest sample."""
    between_s = (truth.stamp_s[1:] + truth.stamp_s[:-1]) / 2
    return values[np.searchsorted(between_s, stamp_s)]
