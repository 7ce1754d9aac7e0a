"""Frames for the page: the newest tick, with the worst of those since the frame before."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from robotrl.runtime.dashboard.frames import FRAME, Subject, layout
from robotrl.runtime.operator import Ranges
from robotrl.runtime.tally import PHASES, Tick
from robotrl.spec.gate import Verdict, strongest
from robotrl.spec.robot import RobotSpec


def subject_of(robot: RobotSpec, policy: str, ranges: Ranges, *, armed: bool) -> Subject:
    """Return what the page needs to know once.

    Args:
        robot: whose joints are shown, against its limits.
        policy: its name.
        ranges: lowest and highest values of each command that the policy reads.
        armed: whether motion is allowed.
    """
    limits = robot.limits
    return {
        "robot": robot.name,
        "policy": policy,
        "armed": armed,
        "period_s": robot.control.period_s,
        "phases": PHASES[:-1],
        "joints": [
            {
                "name": joint.name,
                "min_rad": joint.position_min_rad,
                "max_rad": joint.position_max_rad,
                "home_rad": joint.default_rad,
            }
            for joint in robot.joint
        ],
        "commands": {
            name: {"low": np.asarray(low).tolist(), "high": np.asarray(high).tolist()}
            for name, (low, high) in ranges.items()
        },
        "joint_stale_s": limits.joint_stale_s,
        "temperature_c": limits.temperature_c,
        "voltage_v": [limits.voltage_min_v, limits.voltage_max_v],
        "tilt_rad": limits.tilt_rad,
    }


class Encoder:
    """Sums up ticks until a frame is due, in memory that is allocated once."""

    def __init__(self, subject: Subject) -> None:
        self._places = layout(subject)
        self._numbers = np.full(max(place.stop for place in self._places.values()), np.nan)
        self._commands = tuple(subject["commands"])
        self._no_phases_s = (0.0,) * len(subject["phases"])
        self._overruns = self._skipped = 0
        self._phases_s: tuple[float, ...] = self._no_phases_s
        self._work_s = self._late_s = 0.0
        self._verdict = Verdict()

    def note(self, tick: Tick) -> None:
        """Take a tick into the sum."""
        self._overruns += tick.wake.overrun
        self._skipped += tick.wake.skipped
        self._phases_s = tuple(map(max, self._phases_s, tick.phases_s))
        self._work_s = max(self._work_s, sum(tick.phases_s))
        self._late_s = max(self._late_s, tick.wake.late_s)
        if tick.verdict.level:
            self._verdict = strongest(self._verdict, tick.verdict)

    def frame(self, tick: Tick, dropped: int) -> bytes:
        """Return the datagram of the sum, and start the next one.

        Args:
            tick: the newest, already noted.
            dropped: datagrams that were not taken so far.
        """
        for name, values in self._values(tick, dropped).items():
            self._numbers[self._places[name]] = values
        words = {
            "mode": tick.mode.value,
            "kind": tick.command.kind.name,
            "level": self._verdict.level.name,
            "causes": sorted(self._verdict.causes),
            "joints": sorted(self._verdict.joints),
        }
        self._start()
        return FRAME + self._numbers.tobytes() + json.dumps(words).encode()

    def _values(self, tick: Tick, dropped: int) -> dict[str, Any]:
        state = tick.state
        return {
            "now_s": tick.now_s,
            "tick": tick.index,
            "work_s": self._work_s,
            "late_s": self._late_s,
            "overruns": self._overruns,
            "skipped": self._skipped,
            "dropped": dropped,
            "imu_age_s": state.imu_age_s,
            "phases_s": self._phases_s,
            "imu_quat": state.imu_quat,
            "joint_pos_rad": state.joint_pos_rad,
            "joint_target_rad": tick.command.joint_target_rad,
            "joint_age_s": state.joint_age_s,
            "joint_load": state.joint_load,
            "temperature_c": state.temperature_c,
            "voltage_v": state.voltage_v,
            **{name: tick.commands[name] for name in self._commands},
        }

    def _start(self) -> None:
        self._phases_s, self._verdict = self._no_phases_s, Verdict()
        self._work_s = self._late_s = 0.0
