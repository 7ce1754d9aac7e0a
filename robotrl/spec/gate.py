"""What goes into the safety gate beside the measured state, its memory and its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from robotrl.spec.limits import Reaction, SafetyLimits
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, Floats, JointCommand, frozen

PERSISTENT = (
    "limits.temperature_c",
    "limits.voltage_min_v",
    "limits.voltage_max_v",
    "hardware_error",
    "limits.tracking_error_rad",
    "limits.stuck_nm",
)
"""Checks that must fail `fault_ticks` times in a row: one odd reading is no fault."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a source of targets asks the joints to do; the gate turns it into a `JointCommand`."""

    kind: CommandKind
    joint_target_rad: Floats
    """(n,) rad; ignored unless `kind` is TRACK."""
    source: str
    """Who asks; when it changes, the gate blends over from the previous command."""


class Level(IntEnum):
    """How strongly the gate steps in, in order of severity."""

    NONE = 0
    """The request passes as it is."""
    LIMITING = 1
    """The request passes within limits."""
    HOLD = 2
    """The previous command is repeated."""
    DAMP = 3
    """No stiffness, only damping."""
    LIMP = 4
    """Torque off."""


REACTIONS: Mapping[Reaction, Level] = MappingProxyType(
    {"hold": Level.HOLD, "damp": Level.DAMP, "limp": Level.LIMP}
)
"""The words of robot.toml."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate did in one tick: its level, why, and the joints concerned.

    A cause is the key of robot.toml whose number was reached. What has no number there is named
    after the field that was wrong: `joint_pos_rad`, `imu_quat`, `hardware_error`, `now_s`, ...
    """

    level: Level = Level.NONE
    causes: frozenset[str] = frozenset()
    joints: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """Read as `DAMP: limits.temperature_c (FL_knee)`."""
        joints = f" ({', '.join(sorted(self.joints))})" if self.joints else ""
        return f"{self.level.name}: {', '.join(sorted(self.causes))}{joints}"


CLEAR = Verdict()
"""Nothing is wrong."""


def strongest(*verdicts: Verdict) -> Verdict:
    """Return the strongest level with the causes and joints of all."""
    level = max(v.level for v in verdicts)
    if level is Level.NONE:
        return CLEAR
    return Verdict(
        level,
        frozenset[str]().union(*(v.causes for v in verdicts)),
        frozenset[str]().union(*(v.joints for v in verdicts)),
    )


@dataclass(frozen=True, slots=True)
class GateLimits:
    """A robot's limits as arrays (n,) in spec order, built once; the reader refused impossible ones."""

    joint_names: tuple[str, ...]
    position_min_rad: Floats
    position_max_rad: Floats
    torque_reach_rad: Floats
    """Distance between target and measured position at which the servo reaches `torque_nm`."""
    stuck_reach_rad: Floats
    """How far what is asked of a joint may go while it reads the same; infinite where that is no fault."""
    period_s: float
    scalar: SafetyLimits

    @classmethod
    def of(cls, robot: RobotSpec) -> GateLimits:
        """Collect the limits of `robot`."""
        limits = robot.limits
        return cls(
            joint_names=robot.joint_names,
            position_min_rad=robot.position_min_rad,
            position_max_rad=robot.position_max_rad,
            torque_reach_rad=frozen(limits.torque_nm / robot.stiffness_nm_rad),
            stuck_reach_rad=frozen((limits.stuck_nm or math.inf) / robot.stiffness_nm_rad),
            period_s=robot.control.period_s,
            scalar=limits,
        )


@dataclass(frozen=True, slots=True)
class GateMemory:
    """What the gate carries from tick to tick: start from `fresh`, clear faults with `safety.rearm`."""

    command: JointCommand
    asked_rad: Floats
    """(n,) what TRACK asked for before the rate and torque windows; otherwise NaN."""
    source: str | None
    blend_from_rad: Floats
    blend_since_s: float
    limiting_since_s: float
    """Infinite while the gate is not limiting."""
    bad_ticks: NDArray[np.int64]
    """(6, n) failures in a row of each check in `PERSISTENT`."""
    still_rad: Floats
    """(3, n) what each joint reads, and the lowest and highest place it was asked to be since it first did,
    in measurements of which none was missing; as `asked_rad`."""
    latched: Verdict
    now_s: float

    @classmethod
    def fresh(cls, joint_count: int) -> GateMemory:
        """Return the memory of a limp robot without a fault."""
        nothing = frozen(np.full(joint_count, np.nan))
        counts = np.zeros((len(PERSISTENT), joint_count), dtype=np.int64)
        limp = JointCommand(CommandKind.LIMP, nothing)
        still = frozen(np.full((3, joint_count), np.nan))
        return cls(limp, nothing, None, nothing, -math.inf, math.inf, counts, still, CLEAR, -math.inf)
