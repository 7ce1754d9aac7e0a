"""What goes into the safety gate beside the measured state, and its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from robotrl.spec.limits import SafetyLimits
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, Floats, frozen


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


def strongest(*verdicts: Verdict) -> Verdict:
    """Return the strongest level with the causes and joints of all."""
    return Verdict(
        max(v.level for v in verdicts),
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
    period_s: float
    scalar: SafetyLimits

    @classmethod
    def of(cls, robot: RobotSpec) -> GateLimits:
        """Collect the limits of `robot`."""
        reach_rad = frozen(robot.limits.torque_nm / robot.stiffness_nm_rad)
        period_s = 1.0 / robot.control.rate_hz
        low, high = robot.position_min_rad, robot.position_max_rad
        return cls(robot.joint_names, low, high, reach_rad, period_s, robot.limits)
