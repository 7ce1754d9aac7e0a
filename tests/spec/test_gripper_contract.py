"""Laws of the command type of a contract: declared, consistent, and unknown to policies of joints."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robotrl.errors import PolicyError
from robotrl.export.card import card_of
from robotrl.runtime.policy import Policy
from robotrl.spec.contract import GOLDEN_TICKS, PolicyContract, parse_contract
from robotrl.spec.fit import incompatibilities
from tests.export import sample
from tests.fetch_arm import exported, fetch_arm
from tests.spec.toml_text import changed, without

FILE = Path("policy.onnx")


@pytest.fixture(scope="module")
def file() -> Path:
    return exported()


@pytest.fixture(scope="module")
def contract(file: Path) -> PolicyContract:
    return Policy.load(file).contract


@pytest.fixture(scope="module")
def table(contract: PolicyContract) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(contract.to_json())
    return parsed


def test_a_gripper_command_is_declared_and_comes_back(contract: PolicyContract) -> None:
    assert contract.command == "gripper"
    assert contract.output_sizes == {"gripper_command": (4,)}
    assert [axis.name for axis in contract.axes] == ["x", "y", "z", "opening"]
    assert [axis.scale_m for axis in contract.axes] == [0.05, 0.05, 0.05, 0.0]
    assert (contract.joints, contract.servo, contract.action_scale_rad) == ((), {}, 0.0)
    assert parse_contract(contract.to_json(), FILE) == contract


def test_a_policy_of_joints_says_nothing_of_command_types() -> None:
    """So that its contract is the same text, and has the same digest, as before there were others."""
    text = sample.contract().to_json()
    for name in ("command", "axes", "gripper_command"):
        assert f'"{name}":' not in text
    assert parse_contract(text, FILE).command == "joint_target"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("command",), "joint_target"),
        (("command",), "torque"),
        (("axes",), []),
        (("axes", 0, "name"), "y"),
        (("axes", 0, "name"), "w"),
        (("action_scale_rad",), 0.3),
        (("golden", 3, "gripper_command"), [0.0] * 3),
        (("golden", 3, "joint_target"), [0.0] * 4),
    ],
    ids=str,
)
def test_parts_that_contradict_the_command_are_refused(
    table: dict[str, Any], path: tuple[Any, ...], value: object
) -> None:
    with pytest.raises(PolicyError, match=r"^policy\.onnx: contract\."):
        parse_contract(json.dumps(changed(table, path, value)), FILE)


def test_no_golden_tick_lacks_its_command(table: dict[str, Any]) -> None:
    with pytest.raises(PolicyError, match=r"golden\[3\] outputs"):
        parse_contract(json.dumps(without(table, ("golden", 3, "gripper_command"))), FILE)


def test_joints_do_not_go_with_a_gripper(table: dict[str, Any]) -> None:
    joints = json.loads(sample.contract().to_json())
    both = table | {"joints": joints["joints"], "servo": joints["servo"]}
    with pytest.raises(PolicyError, match=r"contract\.joints: contradicts"):
        parse_contract(json.dumps(both), FILE)


def test_the_golden_ticks_are_what_the_file_computes(file: Path, contract: PolicyContract) -> None:
    policy = Policy.load(file)
    assert policy.replay_golden() < 1e-6
    moves = np.array([tick.gripper_command for tick in contract.golden])
    assert moves.shape == (GOLDEN_TICKS, 4)
    assert np.abs(moves[:, :3]).max() <= 0.05 + 1e-6
    assert (moves[:, 3] == 0.0).all()
    wrong = dataclasses.replace(contract.golden[5], gripper_command=(0.0, 0.0, 0.0, 0.01))
    policy.contract = dataclasses.replace(contract, golden=(*contract.golden[:5], wrong))
    with pytest.raises(PolicyError, match="does not reproduce its recorded ticks"):
        policy.replay_golden()


def test_it_drives_its_arm_and_nothing_else(contract: PolicyContract) -> None:
    arm = fetch_arm()
    assert incompatibilities(contract, arm) == []
    problems = incompatibilities(contract, sample.quad12())
    assert "command is gripper in the policy and joint_target on quad12" in problems
    assert "command is joint_target in the policy and gripper on fetch_sim" in incompatibilities(
        sample.contract(), arm
    )
    slower = dataclasses.replace(arm, controller=dataclasses.replace(arm.controller, rate_hz=20.0))
    assert incompatibilities(contract, slower) == [
        "control.rate_hz is 25.0 in the policy and 20.0 on fetch_sim"
    ]
    short = dataclasses.replace(arm, limits=dataclasses.replace(arm.limits, displacement_m=0.04))
    assert incompatibilities(contract, short) == [
        f"one unit of action along {axis} is 0.05 m in the policy and within -0.04 to 0.04 m on fetch_sim"
        for axis in "xyz"
    ]


def test_the_card_says_what_the_gripper_is_asked(file: Path) -> None:
    card = card_of(file)
    assert "| one unit of action | 0.05 m |" in card
    assert "| opening | 0 | 0..0 |" in card
    assert "Joints out" not in card
