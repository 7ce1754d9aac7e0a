"""What differs from one built robot to the next: encoder zeros and reach, by serial number.

`robotrl bus calibrate` writes `hardware/<robot>/units/<serial>.toml`; robot.toml stays the same for all.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from robotrl.errors import BadInputError, ConfigError
from robotrl.spec.records import Between, load_toml, read_record
from robotrl.spec.robot import JointSpec, RobotSpec

SCHEMA = 1
"""Version of unit files that this reader understands."""

_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Count = Annotated[int, Between(0, 65535)]


@dataclass(frozen=True)
class JointUnit:
    """One joint of one unit, in counts of its encoder."""

    zero_count: Count
    """Instead of the joint's `zero_count` in robot.toml."""
    count_min: Count
    """Lowest count that a hand could reach."""
    count_max: Count
    """Highest count that a hand could reach."""


@dataclass(frozen=True)
class UnitSpec:
    """One built robot."""

    schema: int
    robot: str
    """Name in robot.toml."""
    serial: str
    """Also the file's name."""
    joint: dict[str, JointUnit]
    """One table for each joint of robot.toml."""


def unit_file(robot: RobotSpec, serial: str, key: str = "--unit") -> Path:
    """Return where the file of a unit is, or is to be; `key` is the option that says its serial number.

    Raises:
        BadInputError: such a serial number is no file name.
    """
    if not _SERIAL.fullmatch(serial):
        allowed = "letters, digits, points, hyphens and underscores"
        raise BadInputError("is no serial number", key=key, value=serial, allowed=allowed)
    return Path(robot.file).parent / "units" / f"{serial}.toml"


def load_unit(robot: RobotSpec, serial: str) -> UnitSpec:
    """Read and check the file of one unit of a robot.

    Raises:
        BadInputError: there is none; names those that there are.
        ConfigError: it is of another robot or unit, incomplete, or says what cannot be.
    """
    file = unit_file(robot, serial)
    if not file.is_file():
        known = (
            sorted(other.stem for other in file.parent.glob("*.toml")) or "none yet: robotrl bus calibrate"
        )
        raise BadInputError(f"is no unit of {robot.name}", key="--unit", value=serial, allowed=known)
    unit = read_record(UnitSpec, load_toml(file), file=file)
    check_unit(unit, robot, file)
    return unit


def check_unit(unit: UnitSpec, robot: RobotSpec, file: Path) -> None:
    """Refuse a unit that the robot cannot be.

    Args:
        unit: what was read or measured.
        robot: as robot.toml has it.
        file: the unit's, for errors.

    Raises:
        ConfigError: another robot or unit, joints missing or unknown, or a posture beyond the reach.
    """
    for key, value, right in (
        ("schema", unit.schema, SCHEMA),
        ("robot", unit.robot, robot.name),
        ("serial", unit.serial, file.stem),
    ):
        if value != right:
            raise ConfigError("is not this one", file=file, key=key, value=value, allowed=str(right))
    if unit.joint.keys() != set(robot.joint_names):
        raise ConfigError(
            f"has not the joints of {robot.name}", file=file, key="joint", value=list(unit.joint),
            allowed=robot.joint_names,
        )  # fmt: skip
    for joint in robot.joint:
        _check_joint(unit.joint[joint.name], joint, robot, file)


def of_unit(robot: RobotSpec, unit: UnitSpec) -> RobotSpec:
    """Return the robot with the encoder zeros of one unit; all else, its policy hash too, stays the same."""
    joints = tuple(
        dataclasses.replace(joint, zero_count=unit.joint[joint.name].zero_count) for joint in robot.joint
    )
    return dataclasses.replace(robot, joint=joints)


def to_toml(unit: UnitSpec) -> str:
    """Return the text of a unit's file."""
    lines = [
        f"schema = {unit.schema}",
        f"robot = {json.dumps(unit.robot)}",
        f"serial = {json.dumps(unit.serial)}",
    ]
    for name, of in unit.joint.items():
        lines += ["", f"[joint.{json.dumps(name)}]"]
        lines += [f"{field.name} = {getattr(of, field.name)}" for field in dataclasses.fields(of)]
    return "\n".join(lines) + "\n"


def count_of(joint: JointSpec, robot: RobotSpec, zero_count: int, angle_rad: float) -> int:
    """Return the encoder count nearest to a joint angle, where the zero is at `zero_count`."""
    return round(zero_count + joint.sign * angle_rad * robot.servo_of(joint).counts_per_rad)


def _check_joint(of: JointUnit, joint: JointSpec, robot: RobotSpec, file: Path) -> None:
    key = f"joint.{joint.name}"
    if not of.count_min < of.count_max:
        raise ConfigError(
            "is not below count_max", file=file, key=f"{key}.count_min", value=of.count_min,
            allowed=f"below {of.count_max}",
        )  # fmt: skip
    highest = robot.servo_of(joint).counts_per_rev - 1
    for name in ("position_min_rad", "position_max_rad"):
        count = count_of(joint, robot, of.zero_count, getattr(joint, name))
        if not 0 <= count <= highest:
            problem = f"puts {name} of robot.toml outside the encoder's turn"
            allowed = f"one that brings count {count} into 0 to {highest}"
            raise ConfigError(
                problem, file=file, key=f"{key}.zero_count", value=of.zero_count, allowed=allowed
            )
    for posture in ("default_rad", "park_rad"):
        count = count_of(joint, robot, of.zero_count, getattr(joint, posture))
        if not of.count_min <= count <= of.count_max:
            problem = f"leaves {posture} of robot.toml (count {count}) out of reach"
            allowed = f"count_min {of.count_min} to count_max {of.count_max} around it"
            raise ConfigError(problem, file=file, key=key, allowed=allowed)
