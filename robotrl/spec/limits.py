"""The numbers of a robot's safety gate: all mandatory for what the robot has, none for what it lacks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from robotrl.spec.buses import Refuse
from robotrl.spec.records import Between

Reaction = Literal["hold", "damp", "limp"]
"""What the gate asks for when a check fails: freeze the targets, remove stiffness, torque off."""

Positive = Annotated[float, Between(1e-9)]


@dataclass(frozen=True)
class SafetyLimits:
    """The gate's numbers. See `robotrl.safety` for the order of checks.

    Those that may be None belong to a sense that a robot may lack, see `OF_SENSES`; or, as `stuck_nm`, are
    no fault of some robots.
    """

    command_speed_rad_s: Positive
    """Rate clamp: how fast a target may move."""
    torque_nm: Positive
    """Bound on stiffness * (target - measured position), kept by moving the target."""
    sustained_limiting_s: Positive
    """Limiting on every tick for this long is a fault."""
    blend_in_s: Positive
    """A new source of targets takes over within this time."""
    position_margin_rad: Positive
    """A joint measured this far outside its own limits is a fault."""
    speed_rad_s: Positive
    """A joint measured faster than this is a fault."""
    tracking_error_rad: Positive
    """A joint this far from its target is a fault."""
    joint_stale_s: Positive
    temperature_c: Positive
    voltage_min_v: Positive
    voltage_max_v: Positive
    fault_ticks: Annotated[int, Between(1, 100)]
    """Health and tracking faults need this many ticks in a row."""
    on_lost_sensing: Reaction
    on_fault: Reaction
    """Measured limits, health, tracking error, sustained limiting."""
    tilt_rad: Annotated[float, Between(0.01, math.pi)] | None = None
    """Angle between body up and world up beyond which the robot counts as fallen."""
    imu_stale_s: Positive | None = None
    on_fall: Reaction | None = None
    estimator_stale_s: Positive | None = None
    stuck_nm: Positive | None = None
    """A joint that reads the same to the last bit while it was asked to go so far that stiffness * travel is
    more than this is a fault: its encoder is stuck, it is blocked, or without torque. None where that is no
    fault, as of a finger on what it holds."""


OF_SENSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"imu": ("tilt_rad", "imu_stale_s", "on_fall"), "estimator": ("estimator_stale_s",)}
)
"""A table of robot.toml -> the limits that a robot with it must have and one without it cannot."""


def check_limits(limits: SafetyLimits, senses: Mapping[str, bool], tick_s: float, refuse: Refuse) -> None:
    """Refuse limits that are missing, of a sense that the robot lacks, or impossible.

    Args:
        limits: the limits.
        senses: each key of `OF_SENSES`, and whether the robot has it.
        tick_s: control period.
        refuse: raises the error.
    """
    for sense, names in OF_SENSES.items():
        for name in names:
            given = getattr(limits, name) is not None
            if given and not senses[sense]:
                refuse(sense, f"is missing, though limits.{name} is given", None, "both or neither")
            if senses[sense] and not given:
                refuse(f"limits.{name}", f"is missing, though there is an [{sense}]", None, "a value")
    if not limits.voltage_min_v < limits.voltage_max_v:
        refuse(
            "limits.voltage_min_v",
            "is not below voltage_max_v",
            limits.voltage_min_v,
            f"below {limits.voltage_max_v}",
        )
    for name in ("joint_stale_s", "imu_stale_s", "estimator_stale_s", "sustained_limiting_s"):
        value_s = getattr(limits, name)
        if value_s is not None and value_s < tick_s:
            refuse(f"limits.{name}", "is shorter than one control period", value_s, f"{tick_s} or more")
