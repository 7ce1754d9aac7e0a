"""Laws of unit files: what is written is read back, and what the robot cannot be is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from robotrl.errors import BadInputError, ConfigError
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.spec.unit import (
    SCHEMA,
    JointUnit,
    UnitSpec,
    check_unit,
    count_of,
    load_unit,
    of_unit,
    to_toml,
    unit_file,
)


@pytest.fixture
def robot(tmp_path: Path) -> RobotSpec:
    """quad12, as if its folder were a temporary one."""
    spec = load_robot(find_shipped("hardware", "quad12"))
    (tmp_path / "units").mkdir()
    return dataclasses.replace(spec, file=str(tmp_path / "robot.toml"))


def unit_of(robot: RobotSpec) -> UnitSpec:
    zeros = {name: JointUnit(2040 + i, 300, 3800) for i, name in enumerate(robot.joint_names)}
    return UnitSpec(SCHEMA, robot.name, "A7", zeros)


def replaced(unit: UnitSpec, name: str, joint: JointUnit) -> UnitSpec:
    return dataclasses.replace(unit, joint=unit.joint | {name: joint})


def written(robot: RobotSpec, text: str) -> RobotSpec:
    unit_file(robot, "A7").write_text(text, encoding="utf-8")
    return robot


def test_what_is_written_is_read_back(robot: RobotSpec) -> None:
    unit = unit_of(robot)
    assert load_unit(written(robot, to_toml(unit)), "A7") == unit


def test_a_unit_changes_the_zeros_and_nothing_else(robot: RobotSpec) -> None:
    changed = of_unit(robot, unit_of(robot))
    assert [joint.zero_count for joint in changed.joint] == [2040 + i for i in range(len(robot.joint))]
    back = tuple(
        dataclasses.replace(joint, zero_count=was.zero_count)
        for joint, was in zip(changed.joint, robot.joint, strict=True)
    )
    assert dataclasses.replace(changed, joint=back) == robot
    assert changed.policy_hash == robot.policy_hash


def test_ends_that_are_just_reached_are_enough(robot: RobotSpec) -> None:
    unit = unit_of(robot)
    joint = robot.joint[1]
    zero = unit.joint[joint.name].zero_count
    counts = [count_of(joint, robot, zero, angle) for angle in (joint.default_rad, joint.park_rad)]
    exact = JointUnit(zero, min(counts), max(counts))
    check_unit(replaced(unit, joint.name, exact), robot, unit_file(robot, "A7"))
    for narrower in (JointUnit(zero, min(counts) + 1, 4000), JointUnit(zero, 0, max(counts) - 1)):
        with pytest.raises(ConfigError, match="out of reach"):
            check_unit(replaced(unit, joint.name, narrower), robot, unit_file(robot, "A7"))


def test_limits_may_lie_at_the_very_end_of_the_encoder(robot: RobotSpec) -> None:
    unit, joint = unit_of(robot), robot.joint[0]
    ends = [count_of(joint, robot, 0, angle) for angle in (joint.position_min_rad, joint.position_max_rad)]
    for zero, beyond in ((-min(ends), -min(ends) - 1), (4095 - max(ends), 4096 - max(ends))):
        check_unit(replaced(unit, joint.name, JointUnit(zero, 0, 4095)), robot, unit_file(robot, "A7"))
        with pytest.raises(ConfigError, match="outside the encoder's turn"):
            check_unit(replaced(unit, joint.name, JointUnit(beyond, 0, 4095)), robot, unit_file(robot, "A7"))


def test_an_unknown_unit_brings_those_that_there_are(robot: RobotSpec) -> None:
    with pytest.raises(BadInputError, match="allowed: none yet: robotrl bus calibrate"):
        load_unit(robot, "A7")
    written(robot, to_toml(unit_of(robot)))
    with pytest.raises(BadInputError, match=r"--unit: is no unit of quad12, got 'A8'; allowed: A7"):
        load_unit(robot, "A8")


@pytest.mark.parametrize("serial", ["", "../A7", "a/b", ".hidden", "a b", "-x"])
def test_a_serial_number_is_a_file_name(serial: str, robot: RobotSpec) -> None:
    with pytest.raises(BadInputError, match="is no serial number"):
        unit_file(robot, serial)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("schema = 1", "schema = 2", "schema: is not this one, got 2; allowed: 1"),
        ('robot = "quad12"', 'robot = "biped"', "robot: is not this one, got 'biped'; allowed: quad12"),
        ('serial = "A7"', 'serial = "A8"', "serial: is not this one, got 'A8'; allowed: A7"),
        ('[joint."FL_', '[joint."XL_', "joint: has not the joints of quad12"),
        ("zero_count = 2040", "zero_count = 20", "zero_count: puts position_m"),
        ("zero_count = 2040", "zero_count = 2040.5", "zero_count: has the wrong type"),
        ("zero_count = 2040", "zero_count = -1", "zero_count: is out of range"),
        ("zero_count = 2040", "zero = 2040", "zero: unknown key"),
        ("count_min = 300", "count_min = 3800", "count_min: is not below count_max, got 3800"),
        ("count_min = 300", "count_min = 3000", "leaves default_rad of robot.toml"),
        ("count_max = 3800\n", "", "count_max: is missing"),
    ],
)
def test_what_cannot_be_is_refused(old: str, new: str, said: str, robot: RobotSpec) -> None:
    text = to_toml(unit_of(robot))
    assert old in text
    written(robot, text.replace(old, new, 1))
    with pytest.raises(ConfigError) as refused:
        load_unit(robot, "A7")
    assert said in str(refused.value)
    assert "A7.toml" in str(refused.value)
