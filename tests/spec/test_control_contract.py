"""Laws of the controls in a contract: declared, consistent, of a task that no robot does."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from robotrl.errors import PolicyError
from robotrl.spec.contract import PolicyContract, parse_contract, read_policy_file
from robotrl.spec.fit import drives_no_robot, incompatibilities
from robotrl.spec.shipped import find_shipped
from robotrl.spec.simulated import Control, SimulatedTask
from tests.export import sample
from tests.fetch_arm import fetch_arm
from tests.spec.toml_text import changed, without

FILE = Path("policy.onnx")
HOPPER = SimulatedTask(
    name="Hopper-v5",
    options={},
    rate_hz=125.0,
    observation_size=11,
    controls=tuple(Control(f"{joint}_joint", -1.0, 1.0) for joint in ("thigh", "leg", "foot")),
)


@pytest.fixture(scope="module")
def contract() -> PolicyContract:
    return read_policy_file(find_shipped("policies", "hopper"))[1]


@pytest.fixture(scope="module")
def table(contract: PolicyContract) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(contract.to_json())
    return parsed


def test_controls_are_declared_and_come_back(contract: PolicyContract) -> None:
    assert contract.command == "control"
    assert contract.output_sizes == {"control": (3,)}
    assert contract.input_sizes == {"observation": (11,)}
    assert (contract.joints, contract.servo, contract.axes) == ((), {}, ())
    assert (contract.action_scale, contract.command_unit) == (1.0, "units of the task")
    assert parse_contract(contract.to_json(), FILE) == contract


def test_other_policies_say_nothing_of_controls() -> None:
    """So that their contracts are the same text, and have the same digest, as before there were any."""
    text = sample.contract().to_json()
    assert '"controls":' not in text
    assert '"control":' not in text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("command",), "joint_target"),
        (("command",), "gripper"),
        (("controls",), []),
        (("controls", 0, "low"), 1.0),
        (("controls", 0, "high"), float("nan")),
        (("controls", 0, "scale_m"), 1.0),
        (("action_scale_rad",), 0.3),
        (("golden", 3, "control"), [0.0] * 2),
        (("golden", 3, "joint_target"), [0.0] * 3),
        (("golden", 3, "gripper_command"), [0.0] * 4),
        (("channels", 0, "source"), "nowhere"),
    ],
    ids=str,
)
def test_parts_that_contradict_the_command_are_refused(
    table: dict[str, Any], path: tuple[Any, ...], value: object
) -> None:
    with pytest.raises(PolicyError, match=r"^policy\.onnx: contract\."):
        parse_contract(json.dumps(changed(table, path, value)), FILE)


def test_no_golden_tick_lacks_its_controls(table: dict[str, Any]) -> None:
    with pytest.raises(PolicyError, match=r"golden\[3\] outputs"):
        parse_contract(json.dumps(without(table, ("golden", 3, "control"))), FILE)


def test_joints_and_axes_do_not_go_with_controls(table: dict[str, Any]) -> None:
    joints = json.loads(sample.contract().to_json())
    with pytest.raises(PolicyError, match=r"contract\.joints: contradicts"):
        parse_contract(json.dumps(table | {"joints": joints["joints"], "servo": joints["servo"]}), FILE)
    with pytest.raises(PolicyError, match=r"contract\.controls: contradicts"):
        parse_contract(json.dumps(joints | {"controls": table["controls"]}), FILE)


def test_it_drives_its_task_and_no_robot(contract: PolicyContract) -> None:
    assert drives_no_robot(contract) == (
        "drives no robot: it commands the controls of the simulated task Hopper-v5"
    )
    assert drives_no_robot(sample.contract()) == ""
    assert incompatibilities(contract, HOPPER) == []
    for robot, command in ((sample.quad12(), "joint_target"), (fetch_arm(), "gripper")):
        problems = incompatibilities(contract, robot)
        assert f"command is control in the policy and {command} on {robot.name}" in problems
        assert any(line.startswith("channel observation has no source") for line in problems)
    assert "command is joint_target in the policy and control on Hopper-v5" in incompatibilities(
        sample.contract(), HOPPER
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "Walker2d-v5"}, "robot is Hopper-v5 in the policy and Walker2d-v5 on Walker2d-v5"),
        ({"rate_hz": 100.0}, "control.rate_hz is 125.0 in the policy and 100.0 on Hopper-v5"),
        ({"observation_size": 12}, "channel observation has shape (11,) in the policy and (12,) here"),
        ({"controls": HOPPER.controls[::-1]}, "the list of controls is thigh_joint -1.0 to 1.0, leg_joint"),
        ({"options": {"healthy_reward": 2.0}}, "policy_hash is "),
    ],
    ids=str,
)
def test_another_task_is_told_by_what_differs(
    contract: PolicyContract, change: dict[str, Any], said: str
) -> None:
    other = dataclasses.replace(HOPPER, **change)
    assert other.policy_hash != HOPPER.policy_hash
    [line] = incompatibilities(contract, other)
    assert line.startswith(said)
