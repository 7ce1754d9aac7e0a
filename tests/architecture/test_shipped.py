"""What is shipped can be read: every TOML parses, every robot loads, every lookup by name works."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from robotrl.export.card import card_of
from robotrl.runtime.policy import Policy
from robotrl.spec.fit import drives_no_robot
from robotrl.spec.hardware import load_hardware
from robotrl.spec.shipped import find_shipped, shipped_names
from robotrl.tasks.classic import CLASSIC
from robotrl.tasks.robotics import ROBOTICS

ROOT = Path(__file__).resolve().parents[2]
TOMLS = sorted(file for folder in ("hardware", "configs") for file in (ROOT / folder).rglob("*.toml"))


@pytest.mark.parametrize("file", TOMLS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_shipped_toml_parses(file: Path) -> None:
    assert tomllib.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", shipped_names("hardware"))
def test_every_shipped_robot_loads_by_name_and_bears_it(name: str) -> None:
    robot = load_hardware(find_shipped("hardware", name))
    assert robot.name == name
    assert robot.model_file.is_file()


@pytest.mark.parametrize("name", shipped_names("policies"))
def test_every_shipped_policy_computes_its_golden_ticks_and_its_card_is_what_its_file_says(name: str) -> None:
    file = find_shipped("policies", name)
    Policy.load(file).replay_golden()
    assert file.with_name("card.md").read_text(encoding="utf-8") == card_of(file)


@pytest.mark.parametrize("name", shipped_names("policies"))
def test_every_shipped_policy_may_drive_its_robot_or_says_that_it_drives_none(name: str) -> None:
    policy = Policy.load(find_shipped("policies", name))
    if drives_no_robot(policy.contract):
        robots = [load_hardware(find_shipped("hardware", robot)) for robot in shipped_names("hardware")]
        assert policy.contract.robot in {*CLASSIC, *ROBOTICS}
        assert all(policy.check(robot) for robot in robots)
    else:
        assert policy.check(load_hardware(find_shipped("hardware", policy.contract.robot))) == []


def test_the_quadruped_is_shipped() -> None:
    assert "quad12" in shipped_names("hardware")
