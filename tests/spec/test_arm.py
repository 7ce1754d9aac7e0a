"""Laws of an arm's robot.toml: whatever is unknown, missing, ill-typed or impossible is refused by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robotrl.errors import ConfigError
from robotrl.spec.arm import ArmSpec
from robotrl.spec.channels import CHANNELS, Source
from robotrl.spec.fit import unsourced
from robotrl.spec.hardware import load_hardware, rate_hz
from robotrl.spec.records import load_toml
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from tests.fetch_arm import fetch_arm
from tests.spec.toml_text import changed, dotted, entries, to_toml, without

FILE = find_shipped("hardware", "fetch_sim")
TABLE = load_toml(FILE)
ENTRIES = list(entries(TABLE))


def refusal(folder: Path, table: dict[str, Any]) -> ConfigError:
    """The error that this robot.toml gets."""
    file = folder / "robot.toml"
    file.write_text(to_toml(table), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_hardware(file)
    sentence = str(refused.value)
    assert sentence.startswith(str(file))
    assert "\n" not in sentence
    return refused.value


def test_the_shipped_arm_is_told_from_robots_with_servos_by_its_controller() -> None:
    assert isinstance(fetch_arm(), ArmSpec)
    quad12 = load_hardware(find_shipped("hardware", "quad12"))
    assert isinstance(quad12, RobotSpec)
    assert (rate_hz(fetch_arm()), rate_hz(quad12)) == (25.0, 50.0)
    with pytest.raises(ConfigError, match="controller: unknown key"):
        load_robot(FILE)


def test_every_entry_is_mandatory(tmp_path: Path) -> None:
    for path, _ in ENTRIES:
        if path != ("controller",):
            error = refusal(tmp_path, without(TABLE, path))
            assert error.key == dotted(path)
            assert "; allowed: " in str(error)


def test_no_entry_can_have_another_type(tmp_path: Path) -> None:
    for path, value in ENTRIES:
        for other in ([True], 7 if isinstance(value, str) else "7"):
            error = refusal(tmp_path, changed(TABLE, path, other))
            assert error.key is not None
            assert error.key.startswith(dotted(path))
            assert "; allowed: " in str(error)


def test_no_key_can_be_added(tmp_path: Path) -> None:
    for path in ((), ("controller",), ("limits",)):
        error = refusal(tmp_path, changed(TABLE, (*path, "colour"), "red"))
        assert error.key == dotted((*path, "colour"))
    assert refusal(tmp_path, changed(TABLE, ("file",), "robot.toml")).key == "file"


IMPOSSIBLE: list[tuple[tuple[Any, ...], object]] = [
    (("schema",), 2),
    (("controller", "rate_hz"), 0.0),
    (("controller", "baud_bd"), 9600),
    (("controller", "reply_timeout_s"), 0.021),
    (("limits", "displacement_m"), 0.0),
    (("limits", "workspace_x_m"), [1.6, 1.05]),
    (("limits", "workspace_y_m"), [0.45, 0.54]),
    (("limits", "workspace_z_m"), [0.3]),
    (("limits", "workspace_margin_m"), -0.1),
    (("limits", "opening_m"), [0.01, 0.02]),
    (("limits", "stale_s"), 0.039),
    (("limits", "sustained_limiting_s"), 0.0),
]


@pytest.mark.parametrize(("path", "value"), IMPOSSIBLE, ids=str)
def test_an_impossible_entry_is_refused_with_its_value(
    tmp_path: Path, path: tuple[Any, ...], value: object
) -> None:
    error = refusal(tmp_path, changed(TABLE, path, value))
    assert error.key == dotted(path)
    assert error.value == value
    assert "; allowed: " in str(error)


def test_the_workspace_has_two_corners() -> None:
    low, high = fetch_arm().limits.workspace_m
    np.testing.assert_array_equal(low, [1.05, 0.45, 0.32])
    np.testing.assert_array_equal(high, [1.6, 1.05, 0.8])


def test_its_channels_are_those_of_its_controller_and_the_operator() -> None:
    delivered = {name for name in CHANNELS if not unsourced([name], fetch_arm())}
    sources = {Source.CONTROLLER, Source.OPERATOR}
    assert delivered == {c.name for c in CHANNELS.values() if c.source in sources}
    assert unsourced(["point_pos"], fetch_arm()) == [
        "channel point_pos has no source on fetch_sim; sources are operator, controller"
    ]


def test_what_a_policy_depends_on_is_its_hash() -> None:
    arm = fetch_arm()
    shorter = dataclasses.replace(arm.limits, displacement_m=0.04)
    assert dataclasses.replace(arm, limits=shorter).policy_hash != arm.policy_hash
    elsewhere = dataclasses.replace(arm.controller, port="/dev/ttyUSB7")
    assert dataclasses.replace(arm, controller=elsewhere).policy_hash == arm.policy_hash
