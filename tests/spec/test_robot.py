"""Laws of robot.toml: whatever is unknown, missing, ill-typed or impossible is refused by name."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robotrl.errors import ConfigError
from robotrl.spec.channels import Source
from robotrl.spec.records import load_toml
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from tests.spec.toml_text import changed, dotted, entries, to_toml, without

FILE = find_shipped("hardware", "quad12")
TABLE = load_toml(FILE)
NAMED = {("bus", "legs"), ("servo", "xc430_w240")}
"""Tables whose names are the robot's own: missing, they are missed by the joints that name them."""
STUCK = ("limits", "stuck_nm")
ENTRIES = [(path, value) for path, value in entries(TABLE) if path not in NAMED]
RECORDS: list[tuple[Any, ...]] = [
    (), ("control",), ("imu",), ("supply",), ("limits",), ("joint", 0), *sorted(NAMED)
]  # fmt: skip
"""Every table with fixed keys."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the hundreds of files that these tests write."""
    return tmp_path_factory.mktemp("robots")


def refusal(folder: Path, table: dict[str, Any]) -> ConfigError:
    """The error that this robot.toml gets."""
    file = folder / "robot.toml"
    file.write_text(to_toml(table), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_robot(file)
    sentence = str(refused.value)
    assert str(file) in sentence
    assert "\n" not in sentence
    return refused.value


def accepted(folder: Path, table: dict[str, Any]) -> RobotSpec:
    """The robot of this robot.toml."""
    file = folder / "robot.toml"
    file.write_text(to_toml(table), encoding="utf-8")
    return load_robot(file)


def names(value: object) -> str:
    return dotted(value) if isinstance(value, tuple) else ""


def test_the_writer_of_these_tests_loses_nothing(folder: Path) -> None:
    file = folder / "robot.toml"
    file.write_text(to_toml(TABLE), encoding="utf-8")
    assert dataclasses.replace(load_robot(file), file="") == dataclasses.replace(load_robot(FILE), file="")


def test_the_lists_of_entries_and_records_are_the_whole_file() -> None:
    text = FILE.read_text(encoding="utf-8")
    assigned = [line for line in text.splitlines() if " = " in line.partition("#")[0]]
    leaves = [path for path, value in ENTRIES if not isinstance(value, dict)]
    assert len(leaves) == len(assigned) + 1  # `joint` itself, which the file writes as [[joint]]
    tables = {path for path, value in entries(TABLE) if isinstance(value, dict)}
    by_name = {("bus",), ("servo",), ("supply", "stall_current_a")}
    assert tables - by_name == {path for path in RECORDS if path} - {("joint", 0)}


def test_what_is_no_fault_of_a_robot_is_left_out(folder: Path) -> None:
    robot = accepted(folder, without(TABLE, STUCK))
    assert robot.limits.stuck_nm is None


@pytest.mark.parametrize("path", [path for path, _ in ENTRIES if path != STUCK], ids=names)
def test_no_entry_can_be_left_out(folder: Path, path: tuple[Any, ...]) -> None:
    error = refusal(folder, without(TABLE, path))
    assert error.key == dotted(path)
    assert "; allowed: " in str(error)


@pytest.mark.parametrize(("path", "value"), ENTRIES, ids=names)
def test_no_entry_can_have_another_type(folder: Path, path: tuple[Any, ...], value: object) -> None:
    wrong: list[object] = [[True], 7 if isinstance(value, str) else "7"]
    if isinstance(value, str):
        wrong += [True, {"a": "b"}]
    if isinstance(value, float):
        wrong += [True, math.nan, math.inf, -math.inf]
    if type(value) is int:
        wrong += [True, value + 0.5]
    for other in wrong:
        error = refusal(folder, changed(TABLE, path, other))
        assert error.key is not None
        assert error.key.startswith(dotted(path))
        assert error.value == other or isinstance(other, list) or other != other  # noqa: PLR0124 - NaN
        assert "; allowed: " in str(error)


@pytest.mark.parametrize("path", RECORDS, ids=names)
def test_no_key_can_be_added(folder: Path, path: tuple[Any, ...]) -> None:
    error = refusal(folder, changed(TABLE, (*path, "colour"), "red"))
    assert error.key == dotted((*path, "colour"))
    assert "unknown key; allowed: " in str(error)


@pytest.mark.parametrize("name", ["legs", "xc430_w240"])
def test_a_table_that_joints_name_is_missed_by_the_first_of_them(folder: Path, name: str) -> None:
    kind = {"legs": "bus", "xc430_w240": "servo"}[name]
    error = refusal(folder, without(TABLE, (kind, name)))
    assert error.key == f"joint[0].{kind}"
    assert error.value == name


IMPOSSIBLE: list[tuple[tuple[Any, ...], object]] = [
    (("schema",), 2),
    (("control", "rate_hz"), 0.0),
    (("control", "rate_hz"), -50.0),
    (("control", "bus_rate_hz"), 0.0),
    (("control", "bus_rate_hz"), 25.0),
    (("control", "bus_rate_hz"), 75.0),
    (("control", "bus_rate_hz"), 149.9),
    (("supply", "open_v"), 24.0),
    (("supply", "ohm"), -0.1),
    (("supply", "stall_current_a", "xc430_w240"), 0.0),
    (("supply", "stall_current_a", "xl430"), 1.3),
    (("bus", "legs", "watchdog_s"), 0.021),
    (("bus", "legs", "baud_bd"), 9600),
    (("bus", "legs", "protocol"), "feetech"),
    (("bus", "legs", "retries_per_tick"), -1),
    (("bus", "legs", "reply_timeout_s"), 0.041),
    (("imu", "rate_hz"), 201),
    (("imu", "mount_quat"), [1.0, 0.0, 0.0, 0.1]),
    (("imu", "mount_quat"), [1.0, 0.0, 0.0]),
    (("servo", "xc430_w240", "pwm_limit"), 886),
    (("servo", "xc430_w240", "voltage_min_v"), 15.0),
    (("limits", "torque_nm"), 2.0),
    (("limits", "torque_nm"), 0.0),
    (("limits", "temperature_c"), 81.0),
    (("limits", "voltage_min_v"), 13.5),
    (("limits", "tilt_rad"), 3.2),
    (("limits", "joint_stale_s"), 0.019),
    (("limits", "imu_stale_s"), 0.019),
    (("limits", "fault_ticks"), 0),
    (("limits", "on_fall"), "ignore"),
    (("joint",), []),
    (("joint", 4, "id"), 253),
    (("joint", 4, "id"), 11),
    (("joint", 4, "name"), "FL_hip"),
    (("joint", 4, "bus"), "arms"),
    (("joint", 4, "sign"), 0),
    (("joint", 4, "default_rad"), 2.0),
    (("joint", 4, "position_min_rad"), 1.9),
    (("joint", 4, "position_max_rad"), 3.2),
    (("joint", 4, "zero_count"), 0),
]


@pytest.mark.parametrize(("path", "value"), IMPOSSIBLE, ids=str)
def test_an_impossible_entry_is_refused_with_its_value(
    folder: Path, path: tuple[Any, ...], value: object
) -> None:
    error = refusal(folder, changed(TABLE, path, value))
    assert error.key is not None
    # A zero count that is impossible shows in the limit that the encoder then cannot reach.
    assert error.key.startswith(dotted(path if path[-1] != "zero_count" else path[:-1]))
    if isinstance(error.value, tuple):
        assert list(error.value) == value
    elif path[-1] != "zero_count":
        assert error.value == value
    assert "; allowed: " in str(error)


@pytest.mark.parametrize("joint", range(12))
@pytest.mark.parametrize("key", ["position_min_rad", "position_max_rad"])
def test_every_joint_limit_is_checked_against_its_partner_and_the_encoder(
    folder: Path, joint: int, key: str
) -> None:
    sign = -1.0 if key == "position_min_rad" else 1.0
    for value in (-sign * 3.0, sign * 3.15):
        assert refusal(folder, changed(TABLE, ("joint", joint, key), value)).key in {
            f"joint[{joint}].position_min_rad",
            f"joint[{joint}].position_max_rad",
        }


@pytest.mark.parametrize("text", ["[control", "schema = 1\nschema = 1\n", "\xff"])
def test_what_is_not_toml_is_one_sentence(folder: Path, text: str) -> None:
    file = folder / "robot.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"is not (valid TOML|text): ") as refused:
        load_robot(file)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_one_sentence(folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_robot(folder / "no_robot.toml")


@pytest.fixture(scope="module")
def robot() -> RobotSpec:
    return load_robot(FILE)


def test_arrays_are_in_file_order_and_cannot_be_written(robot: RobotSpec) -> None:
    assert robot.joint_names == tuple(j["name"] for j in TABLE["joint"])
    for array, key in (
        (robot.default_rad, "default_rad"),
        (robot.position_min_rad, "position_min_rad"),
        (robot.position_max_rad, "position_max_rad"),
    ):
        np.testing.assert_array_equal(array, [j[key] for j in TABLE["joint"]])
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.0


def test_the_loop_may_be_a_multiple_as_fast_as_the_policy(folder: Path) -> None:
    usual = accepted(folder, TABLE).control
    assert (usual.ticks_per_step, usual.period_s) == (1, 0.02)
    fast = accepted(folder, changed(TABLE, ("control", "bus_rate_hz"), 150.0)).control
    assert (fast.ticks_per_step, fast.period_s) == (3, 1 / 150)
    slow = changed(TABLE, ("limits", "joint_stale_s"), 0.009)
    assert refusal(folder, slow).key == "limits.joint_stale_s"
    accepted(folder, changed(slow, ("control", "bus_rate_hz"), 200.0))  # judged by the period of the loop


def test_servo_physics_follow_from_the_data_sheet(robot: RobotSpec) -> None:
    """1.9 N m stall, 70 rev/min, P 700: 700/128 PWM steps per count of 4096, of 885 full drive."""
    servo = robot.servo["xc430_w240"]
    assert servo.stiffness_nm_rad == pytest.approx(1.9 * (700 / 128) * (4096 / (2 * math.pi)) / 885)
    assert servo.torque_limit_nm == pytest.approx(1.52)
    assert servo.back_emf_nm_s_rad == pytest.approx(1.9 / (70 * 2 * math.pi / 60))


def test_a_policy_depends_on_what_it_feels_and_on_nothing_else(robot: RobotSpec) -> None:
    hashes = {robot.policy_hash}
    joint = dataclasses.replace(robot.joint[3], default_rad=0.01)
    felt = [
        dataclasses.replace(robot, control=dataclasses.replace(robot.control, rate_hz=100.0)),
        dataclasses.replace(robot, joint=(*robot.joint[:3], joint, *robot.joint[4:])),
        dataclasses.replace(robot, joint=robot.joint[::-1]),
        dataclasses.replace(
            robot,
            servo={"xc430_w240": dataclasses.replace(robot.servo["xc430_w240"], position_p_gain=701)},
        ),
    ]
    hashes |= {r.policy_hash for r in felt}
    assert len(hashes) == 5
    assert robot.imu is not None
    unfelt = [
        dataclasses.replace(robot, control=dataclasses.replace(robot.control, bus_rate_hz=200.0)),
        dataclasses.replace(robot, imu=dataclasses.replace(robot.imu, port="/dev/other")),
        dataclasses.replace(robot, limits=dataclasses.replace(robot.limits, tilt_rad=0.5)),
        dataclasses.replace(
            robot, joint=tuple(dataclasses.replace(j, zero_count=j.zero_count + 5) for j in robot.joint)
        ),
    ]
    assert {r.policy_hash for r in unfelt} == {robot.policy_hash}


def test_play_in_a_joint_is_felt_and_none_is_as_before_there_was_the_key(robot: RobotSpec) -> None:
    servo = robot.servo["xc430_w240"]
    assert servo.backlash_rad == 0.0
    stiff, loose = (
        dataclasses.replace(robot, servo={"xc430_w240": dataclasses.replace(servo, backlash_rad=play_rad)})
        for play_rad in (0.0, 0.02)
    )
    assert stiff.policy_hash == robot.policy_hash != loose.policy_hash


@pytest.mark.parametrize("play_rad", [-0.01, 0.51])
def test_play_has_a_range(tmp_path: Path, play_rad: float) -> None:
    file = tmp_path / "robot.toml"
    text = FILE.read_text(encoding="utf-8")
    key = "stall_torque_nm"
    file.write_text(text.replace(f"\n{key}", f"\nbacklash_rad = {play_rad}\n{key}"), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"servo.xc430_w240.backlash_rad.*{play_rad}.*0.5"):
        load_robot(file)


def test_the_robot_has_no_estimator(robot: RobotSpec) -> None:
    assert robot.sources == {Source.JOINTS, Source.IMU, Source.OPERATOR}


HAND = load_toml(find_shipped("hardware", "shadow_hand_sim"))
ESTIMATOR = {"port": "/dev/ttyUSB2", "baud_bd": 921600, "rate_hz": 100, "joints": [], "points": ["tip"]}


def blind() -> dict[str, Any]:
    """The shipped quadruped without its IMU."""
    table = without(TABLE, ("imu",))
    for name in ("tilt_rad", "imu_stale_s", "on_fall"):
        table = without(table, ("limits", name))
    return table


def test_a_robot_need_not_have_an_imu(folder: Path) -> None:
    file = folder / "robot.toml"
    file.write_text(to_toml(blind()), encoding="utf-8")
    robot = load_robot(file)
    assert robot.imu is None
    assert robot.sources == {Source.JOINTS, Source.OPERATOR}
    assert list(robot.lines) == ["legs"]
    assert robot.policy_hash == load_robot(FILE).policy_hash


@pytest.mark.parametrize("name", ["tilt_rad", "imu_stale_s", "on_fall"])
def test_limits_of_an_imu_go_with_an_imu(folder: Path, name: str) -> None:
    missing = refusal(folder, without(TABLE, ("limits", name)))
    assert missing.key == f"limits.{name}"
    assert "is missing, though there is an [imu]" in str(missing)
    needless = refusal(folder, changed(blind(), ("limits", name), TABLE["limits"][name]))
    assert needless.key == "imu"
    assert f"is missing, though limits.{name} is given; allowed: both or neither" in str(needless)


def test_an_estimator_goes_with_its_limit(folder: Path) -> None:
    estimating = changed(TABLE, ("estimator",), ESTIMATOR)
    assert refusal(folder, estimating).key == "limits.estimator_stale_s"
    assert refusal(folder, changed(TABLE, ("limits", "estimator_stale_s"), 0.1)).key == "estimator"
    file = folder / "robot.toml"
    file.write_text(to_toml(changed(estimating, ("limits", "estimator_stale_s"), 0.1)), encoding="utf-8")
    robot = load_robot(file)
    assert robot.sources == {Source.JOINTS, Source.IMU, Source.OPERATOR, Source.ESTIMATOR}
    assert robot.lines["estimator"] == ("/dev/ttyUSB2", 921600)
    assert list(robot.lines) == ["legs", "imu", "estimator"]
    assert robot.policy_hash != load_robot(FILE).policy_hash


HAND_IMPOSSIBLE: list[tuple[tuple[Any, ...], object, str]] = [
    (("estimator", "joints"), ["robot0:FFJ1"], "estimator.joints[0]"),
    (("estimator", "joints"), ["robot0:FFJ0", "robot0:FFJ0"], "estimator.joints[1]"),
    (("estimator", "points"), ["a", "b", "a"], "estimator.points[2]"),
    (("estimator", "points"), [7], "estimator.points[0]"),
    (("estimator", "rate_hz"), 5, "estimator.rate_hz"),
    (("estimator", "baud_bd"), 57600, "estimator.baud_bd"),
    (("estimator", "colour"), "red", "estimator.colour"),
    (("estimator",), {k: v for k, v in ESTIMATOR.items() if k != "points"}, "estimator"),
    (("limits", "estimator_stale_s"), 0.039, "limits.estimator_stale_s"),
    (("bus",), {"estimator": HAND["bus"]["hand"], "hand": HAND["bus"]["hand"]}, "bus.estimator"),
    (("bus",), {"imu": HAND["bus"]["hand"], "hand": HAND["bus"]["hand"]}, "bus.imu"),
]


@pytest.mark.parametrize(("path", "value", "key"), HAND_IMPOSSIBLE, ids=str)
def test_an_impossible_estimator_is_refused(
    folder: Path, path: tuple[Any, ...], value: object, key: str
) -> None:
    assert refusal(folder, changed(HAND, path, value)).key == key


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("no_such_package:hand.xml", "is of a package that is not installed, got 'no_such_package:hand.xml'"),
        ("no-such package:hand.xml", "is of a package that is not installed"),
        ("gymnasium_robotics:envs/assets/hand/foot.xml", "is no file of the installed package"),
        ("tomllib:hand.xml", "is no file of the installed package"),
    ],
)
def test_a_model_that_no_package_brings_is_refused_where_it_is_needed(
    folder: Path, model: str, problem: str
) -> None:
    """A robot runs without the simulation's packages, so loading it does not look for them."""
    file = folder / "robot.toml"
    file.write_text(to_toml(changed(HAND, ("model",), model)), encoding="utf-8")
    robot = load_robot(file)
    with pytest.raises(ConfigError, match=problem) as refused:
        _ = robot.model_file
    assert refused.value.key == "model"
    assert "; allowed: " in str(refused.value)
