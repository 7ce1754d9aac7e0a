"""Laws of the contract: exact round trip, strict reading, and every incompatibility named at once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from robotrl.errors import PolicyError
from robotrl.spec.channels import CHANNELS
from robotrl.spec.contract import PolicyContract, parse_contract, read_policy_file
from robotrl.spec.fit import incompatibilities, unsourced
from robotrl.spec.robot import RobotSpec
from robotrl.spec.seal import seal
from tests.export import sample
from tests.spec.toml_text import changed, dotted, entries, without

FILE = Path("policy.onnx")
FREE = {("provenance", "versions"), ("provenance", "scores"), ("servo",), ("golden",)}
"""Tables whose keys are data: packages, figures, servo models, channels of a tick."""


@pytest.fixture(scope="module")
def contract() -> PolicyContract:
    return sample.contract()


@pytest.fixture(scope="module")
def table(contract: PolicyContract) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(contract.to_json())
    return parsed


def read(table: dict[str, Any]) -> PolicyContract:
    return parse_contract(json.dumps(table), FILE)


def refusal(table: dict[str, Any]) -> str:
    with pytest.raises(PolicyError) as refused:
        read(table)
    sentence = str(refused.value)
    assert sentence.startswith("policy.onnx: contract.")
    assert "; allowed: " in sentence
    return sentence


def test_the_round_trip_is_exact(contract: PolicyContract) -> None:
    again = parse_contract(contract.to_json(), FILE)
    assert again == contract
    assert again.to_json() == contract.to_json()


def test_a_servo_without_play_is_written_as_before_there_was_the_key() -> None:
    contract = sample.contract()
    assert "backlash_rad" not in contract.to_json()
    (name, servo), *others = contract.servo.items()
    loose = {name: dataclasses.replace(servo, backlash_rad=0.02), **dict(others)}
    again = parse_contract(dataclasses.replace(contract, servo=loose).to_json(), FILE)
    assert again.servo == loose


def test_floats_keep_every_bit(contract: PolicyContract) -> None:
    awkward = (0.1 + 0.2, 1 / 3, 5e-324, -0.0, 1.7976931348623157e308, -1e-300)
    odd = dataclasses.replace(contract, command_low=awkward[:3], command_high=awkward[3:])
    read_back = parse_contract(odd.to_json(), FILE)
    assert [v.hex() for v in read_back.command_low + read_back.command_high] == [v.hex() for v in awkward]


def test_the_file_holds_the_contract(contract: PolicyContract) -> None:
    data, found, sha256 = read_policy_file(sample.exported()[0])
    assert found == contract
    assert data.endswith(sha256.encode())


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_schema_version_is_refused_before_anything_else(version: object) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_contract(json.dumps({"schema": version, "later": 1}), FILE)
    sentence = str(refused.value)
    assert sentence.startswith("policy.onnx: contract.schema: is not this version")
    assert sentence.endswith("; allowed: 1")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"contract"'])
def test_what_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(PolicyError, match=r"^policy\.onnx: "):
        parse_contract(text, FILE)


def typical_entries(table: dict[str, Any]) -> list[tuple[tuple[Any, ...], object]]:
    """Every entry, of each list only in its first element."""
    return [(path, value) for path, value in entries(table) if not {*path} & {*range(1, 99)}]


def test_no_entry_can_be_left_out(table: dict[str, Any]) -> None:
    for path, _ in typical_entries(table):
        if path[:2] not in FREE and path[:1] not in FREE:
            assert f"contract.{dotted(path)}" in refusal(without(table, path))


def test_no_entry_can_be_of_another_type_or_unknown(table: dict[str, Any]) -> None:
    for path, value in typical_entries(table):
        other = 7 if isinstance(value, str) else "7"
        assert f"contract.{dotted(path)}" in refusal(changed(table, path, other))
    for path in ((), ("provenance",), ("joints", 0), ("channels", 0), ("memory", 0), ("golden", 0)):
        assert "unknown key" in refusal(changed(table, (*path, "extra"), 1))


CONTRADICTIONS: list[tuple[tuple[Any, ...], Any]] = [
    (("golden",), []),
    (("golden", 0, "joint_target"), [0.0] * 11),
    (("golden", 3, "channels"), {}),
    (("golden", 3, "channels", "joint_pos"), [0.0] * 11),
    (("golden", 3, "memory", "clock"), []),
    (("golden", 3, "next_memory", "clock"), [0.0, 0.0]),
    (("golden", 3, "next_memory"), {}),
    (("channels", 0, "low"), [0.0]),
    (("channels", 0, "shape"), [13]),
    (("channels", 0, "shape"), [0]),
    (("channels", 0, "source"), "guess"),
    (("channels", 0, "name"), "joint_vel"),
    (("memory", 0, "name"), "joint_vel"),
    (("memory", 1, "initial"), []),
    (("joints", 2, "servo"), "xl330"),
    (("command_high",), [1.0]),
    (("channels", 4, "name"), "base_lin_vel"),
    (("golden", 0, "joint_target"), [float("nan")] * 12),
]


@pytest.mark.parametrize(("path", "value"), CONTRADICTIONS, ids=str)
def test_parts_that_contradict_each_other_are_refused(
    table: dict[str, Any], path: tuple[Any, ...], value: object
) -> None:
    refusal(changed(table, path, value))


def test_shapes_of_the_graph_follow_from_the_contract(contract: PolicyContract) -> None:
    assert contract.input_sizes == {
        "joint_pos": (12,),
        "joint_vel": (12,),
        "imu_quat": (4,),
        "imu_gyro": (3,),
        "velocity_command": (3,),
        "last_action": (12,),
        "clock": (1,),
    }
    assert contract.output_sizes == {"joint_target": (12,), "next_last_action": (12,), "next_clock": (1,)}


def test_a_sealed_file_of_another_version_is_refused(tmp_path: Path, table: dict[str, Any]) -> None:
    file = tmp_path / "policy.onnx"
    file.write_bytes(seal(b"", json.dumps(table | {"schema": 2})))
    with pytest.raises(PolicyError, match=r"contract\.schema: is not this version, got 2; allowed: 1"):
        read_policy_file(file)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        read_policy_file(tmp_path / "policy.onnx")


def test_the_robot_it_was_trained_for_may_be_driven(contract: PolicyContract) -> None:
    assert incompatibilities(contract, sample.quad12()) == []


def with_joint(robot: RobotSpec, i: int, **fields: Any) -> RobotSpec:
    joint = dataclasses.replace(robot.joint[i], **fields)
    return dataclasses.replace(robot, joint=(*robot.joint[:i], joint, *robot.joint[i + 1 :]))


def with_servo(robot: RobotSpec, **fields: Any) -> RobotSpec:
    servo = dataclasses.replace(robot.servo["xc430_w240"], **fields)
    return dataclasses.replace(robot, servo={"xc430_w240": servo})


def other_robots() -> dict[str, tuple[RobotSpec, str]]:
    """What differs -> a robot that differs by it alone, and the line that says so."""
    robot = sample.quad12()
    faster = dataclasses.replace(robot, control=dataclasses.replace(robot.control, rate_hz=100.0))
    swapped = dataclasses.replace(robot, joint=(robot.joint[1], robot.joint[0], *robot.joint[2:]))
    fewer = dataclasses.replace(robot, joint=robot.joint[:11])
    names = ", ".join(robot.joint_names)
    mixed = dataclasses.replace(
        with_joint(robot, 2, servo="strong"),
        servo=robot.servo | {"strong": dataclasses.replace(robot.servo["xc430_w240"], stall_torque_nm=3.0)},
    )
    return {
        "name": (
            dataclasses.replace(robot, name="hexa"),
            "robot is quad12 in the policy and hexa on hexa",
        ),
        "rate": (faster, "control.rate_hz is 50.0 in the policy and 100.0 on quad12"),
        "order": (
            swapped,
            f"joint order is {names} in the policy and {', '.join(swapped.joint_names)} on quad12",
        ),
        "joints": (
            fewer,
            f"the list of joints is {names} in the policy and {', '.join(fewer.joint_names)} on quad12",
        ),
        "default": (
            with_joint(robot, 4, default_rad=0.7),
            "default_rad of FR_hip is 0.6 in the policy and 0.7 on quad12",
        ),
        "lower limit": (
            with_joint(robot, 5, position_min_rad=-2.3),
            "position_min_rad of FR_knee is -2.4 in the policy and -2.3 on quad12",
        ),
        "upper limit": (
            with_joint(robot, 5, position_max_rad=-0.2),
            "position_max_rad of FR_knee is -0.1 in the policy and -0.2 on quad12",
        ),
        "gain": (
            with_servo(robot, position_p_gain=800),
            "servo position_p_gain of every joint is 700 in the policy and 800 on quad12",
        ),
        "one servo": (
            mixed,
            "servo stall_torque_nm of FL_knee is 1.9 in the policy and 3.0 on quad12",
        ),
    }


@pytest.mark.parametrize(
    "what",
    ["name", "rate", "order", "joints", "default", "lower limit", "upper limit", "gain", "one servo"],
)
def test_each_difference_is_said(contract: PolicyContract, what: str) -> None:
    robot, line = other_robots()[what]
    assert line in incompatibilities(contract, robot)


@pytest.mark.parametrize("what", ["name", "rate", "order", "default", "lower limit", "upper limit", "gain"])
def test_nothing_else_is_said(contract: PolicyContract, what: str) -> None:
    robot, _ = other_robots()[what]
    assert len(incompatibilities(contract, robot)) == 1


def test_all_differences_are_said_at_once(contract: PolicyContract) -> None:
    robot = with_servo(with_joint(sample.quad12(), 4, default_rad=0.7), position_p_gain=800, friction_nm=0.1)
    robot = dataclasses.replace(
        robot, name="other", control=dataclasses.replace(robot.control, rate_hz=100.0)
    )
    assert [line.split(" is ")[0] for line in incompatibilities(contract, robot)] == [
        "robot",
        "control.rate_hz",
        "default_rad of FR_hip",
        "servo position_p_gain of every joint",
        "servo friction_nm of every joint",
    ]


def test_a_servo_may_have_another_name(contract: PolicyContract) -> None:
    robot = sample.quad12()
    renamed = dataclasses.replace(
        robot,
        servo={"motor": robot.servo["xc430_w240"]},
        joint=tuple(dataclasses.replace(j, servo="motor") for j in robot.joint),
    )
    assert incompatibilities(contract, renamed) == []


def test_a_hash_that_nothing_explains_is_said(contract: PolicyContract) -> None:
    strange = dataclasses.replace(contract, policy_hash="0" * 64)
    assert incompatibilities(strange, sample.quad12()) == [
        f"policy_hash is {'0' * 64} in the policy and {sample.quad12().policy_hash} on quad12"
    ]


def test_a_channel_without_a_source_is_said() -> None:
    assert unsourced(["joint_pos", "base_lin_vel", "smell"], sample.quad12()) == [
        "channel base_lin_vel has no source on quad12; sources are joints, imu, operator",
        f"channel smell is unknown; known are {', '.join(sorted(CHANNELS))}",
    ]


@pytest.mark.parametrize(
    ("field", "value"), [("unit", "deg"), ("frame", "world"), ("source", "imu"), ("shape", (3, 4))]
)
def test_a_channel_that_meant_something_else_is_said(
    contract: PolicyContract, field: str, value: object
) -> None:
    changes: Any = {field: value}
    first = dataclasses.replace(contract.channels[0], **changes)
    other = dataclasses.replace(contract, channels=(first, *contract.channels[1:]))
    (line,) = incompatibilities(other, sample.quad12())
    assert line.startswith(f"channel joint_pos has {field} {value!r} in the policy and ")


def test_a_policy_that_needs_an_estimator_is_refused_by_name(contract: PolicyContract) -> None:
    foreign = dataclasses.replace(contract.channels[3], name="base_lin_vel", unit="m/s", source="estimator")
    other = dataclasses.replace(contract, channels=(foreign,))
    assert incompatibilities(other, sample.quad12()) == [
        "channel base_lin_vel has no source on quad12; sources are joints, imu, operator"
    ]


def test_ranges_are_dealt_out_to_the_operators_channels_in_order(contract: PolicyContract) -> None:
    asked = next(c for c in contract.channels if c.name == "velocity_command")
    goal = dataclasses.replace(asked, name="goal", shape=(2,), low=(0, 0), median=(0, 0), high=(0, 0))
    low, high = (0.0, 1.0, 2.0, 3.0, 4.0), (10.0, 11.0, 12.0, 13.0, 14.0)
    both = dataclasses.replace(
        contract, channels=(goal, *contract.channels), command_low=low, command_high=high
    )
    assert both.operator_ranges == {
        "goal": (low[:2], high[:2]),
        "velocity_command": (low[2:], high[2:]),
    }
    assert contract.operator_ranges == {"velocity_command": (contract.command_low, contract.command_high)}


def test_goals_may_have_any_size(contract: PolicyContract) -> None:
    """It is the policy's task that gives them theirs."""
    asked = next(c for c in contract.channels if c.name == "velocity_command")
    for size in (1, 7):
        goal = dataclasses.replace(asked, name="goal", shape=(size,), unit="of the task", frame="of the task")
        other = dataclasses.replace(contract, channels=(goal,))
        assert incompatibilities(other, sample.quad12()) == []
