"""Laws of the gate's faults: what trips, exactly where, what it leads to, and what clears it."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from robotrl.bench.gate_storm import tilted
from robotrl.spec.gate import Level, Request, Verdict
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind
from tests.laws.rig import TICK_S, Gate, calm, robot_with, track

N, J = 6, 4
"""Joints of the robot under test, and the joint that goes wrong."""

ROBOT = robot_with(N)
LIMITS = ROBOT.limits
assert LIMITS.imu_stale_s is not None
assert LIMITS.tilt_rad is not None
IMU_STALE_S, TILT_RAD = LIMITS.imu_stale_s, LIMITS.tilt_rad


def at_joint(base: object, value: float) -> np.ndarray[Any, Any]:
    """The calm array with one joint changed."""
    array = np.array(base)
    array[J] = value
    return array


def joint_field(name: str) -> Callable[[float], dict[str, Any]]:
    """State changes that set one joint's value of a field."""
    return lambda value: {name: at_joint(getattr(calm(ROBOT, 0.0), name), value)}


@dataclasses.dataclass(frozen=True)
class Limit:
    """One limit on a measured value: at the limit is fine, beyond is a fault."""

    cause: str
    at: float
    beyond: int
    """1 where larger is worse, -1 where smaller is."""
    reaction: str
    ticks: int
    joint: bool
    changes: Callable[[float], dict[str, Any]]
    exact: float = 0.0
    """Width around the limit in which rounding decides."""


LIMIT_LAWS = [
    Limit(
        "limits.joint_stale_s",
        LIMITS.joint_stale_s,
        1,
        "on_lost_sensing",
        1,
        True,
        joint_field("joint_age_s"),
    ),
    Limit("limits.joint_stale_s", 0.0, -1, "on_lost_sensing", 1, True, joint_field("joint_age_s")),
    Limit("limits.imu_stale_s", IMU_STALE_S, 1, "on_lost_sensing", 1, False, lambda v: {"imu_age_s": v}),
    Limit("limits.imu_stale_s", 0.0, -1, "on_lost_sensing", 1, False, lambda v: {"imu_age_s": v}),
    Limit(
        "imu_quat",
        1.05,
        1,
        "on_lost_sensing",
        1,
        False,
        lambda v: {"imu_quat": np.array([v, 0, 0, 0])},
        exact=1e-12,
    ),
    Limit(
        "imu_quat",
        0.95,
        -1,
        "on_lost_sensing",
        1,
        False,
        lambda v: {"imu_quat": np.array([v, 0, 0, 0])},
        exact=1e-12,
    ),
    Limit(
        f"joint.joint{J}.position_max_rad",
        ROBOT.position_max_rad[J] + LIMITS.position_margin_rad,
        1,
        "on_fault",
        1,
        True,
        joint_field("joint_pos_rad"),
    ),
    Limit(
        f"joint.joint{J}.position_min_rad",
        ROBOT.position_min_rad[J] - LIMITS.position_margin_rad,
        -1,
        "on_fault",
        1,
        True,
        joint_field("joint_pos_rad"),
    ),
    Limit("limits.speed_rad_s", LIMITS.speed_rad_s, 1, "on_fault", 1, True, joint_field("joint_vel_rad_s")),
    Limit("limits.speed_rad_s", -LIMITS.speed_rad_s, -1, "on_fault", 1, True, joint_field("joint_vel_rad_s")),
    Limit(
        "limits.tilt_rad",
        TILT_RAD,
        1,
        "on_fall",
        1,
        False,
        lambda v: {"imu_quat": tilted(v, heading_rad=2.0, yaw_rad=3.0)},
        exact=1e-12,
    ),
    Limit(
        "limits.temperature_c",
        LIMITS.temperature_c,
        1,
        "on_fault",
        LIMITS.fault_ticks,
        True,
        joint_field("temperature_c"),
    ),
    Limit(
        "limits.voltage_min_v",
        LIMITS.voltage_min_v,
        -1,
        "on_fault",
        LIMITS.fault_ticks,
        True,
        joint_field("voltage_v"),
    ),
    Limit(
        "limits.voltage_max_v",
        LIMITS.voltage_max_v,
        1,
        "on_fault",
        LIMITS.fault_ticks,
        True,
        joint_field("voltage_v"),
    ),
    Limit("hardware_error", 0, 1, "on_fault", LIMITS.fault_ticks, True, joint_field("hardware_error")),
]

ODD_VALUES = {
    "joint_pos_rad": ("on_lost_sensing", "joint_pos_rad", 1),
    "joint_vel_rad_s": ("on_lost_sensing", "joint_vel_rad_s", 1),
    "joint_age_s": ("on_lost_sensing", "limits.joint_stale_s", 1),
    "temperature_c": ("on_fault", "limits.temperature_c", LIMITS.fault_ticks),
    "voltage_v": ("on_fault", "limits.voltage_min_v", LIMITS.fault_ticks),
}


def scan(limit: Limit) -> list[float]:
    """Values dense around the limit, to the last bit where the limit is exact, and sparse further out."""
    if isinstance(limit.at, int):
        return [limit.at + step for step in (0, 1, 2, 4, 32)]
    step = limit.exact or float(np.spacing(limit.at) if limit.at else 5e-324)
    near = [limit.at + k * step for k in (-1000, -2, -1, 0, 1, 2, 1000)]
    return near + [limit.at + 0.3 * k * (abs(limit.at) or 1) * limit.beyond for k in (0.01, 0.1, 1)]


def robot_reacting(reaction: str, how: str) -> RobotSpec:
    """One reaction set, the two others weaker or equal, so that it shows."""
    others = {"on_lost_sensing": "hold", "on_fall": "hold", "on_fault": "hold"}
    return robot_with(N, **{**others, reaction: how})


@pytest.mark.parametrize("how", ["hold", "damp", "limp"])
@pytest.mark.parametrize("limit", LIMIT_LAWS, ids=lambda x: f"{x.cause}{'+-'[x.beyond < 0]}")
def test_a_measured_limit_trips_beyond_it_and_not_at_it(limit: Limit, how: str) -> None:
    outcomes = set()
    settled = Gate(robot_reacting(limit.reaction, how))
    settled.settle()
    for value in scan(limit):
        past = (value - limit.at) * limit.beyond
        if limit.exact and 0 < abs(past) < 0.9 * limit.exact:
            continue
        gate = copy.copy(settled)
        changes = limit.changes(value)
        verdicts = [gate.tick(**changes) for _ in range(limit.ticks + 1)]
        early, verdict = verdicts[: limit.ticks - 1], verdicts[limit.ticks - 1]
        beyond = past > (limit.exact / 2)
        if limit.exact and value == limit.at:
            continue
        outcomes.add(beyond)
        assert all(v.level < Level.HOLD for v in early)
        if not beyond:
            assert verdict.level < Level.HOLD, value
            continue
        assert verdict == Verdict(
            Level[how.upper()], frozenset({limit.cause}), frozenset({f"joint{J}"} if limit.joint else ())
        ), value
    assert outcomes == {True, False}, "the scan must cross the limit"


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ODD_VALUES)
def test_a_joint_value_that_is_no_number_is_a_fault(field: str, odd: float) -> None:
    reaction, cause, ticks = ODD_VALUES[field]
    gate = Gate(robot_reacting(reaction, "damp"))
    gate.settle()
    for _ in range(ticks):
        verdict = gate.tick(**joint_field(field)(odd))
    assert verdict.level == Level.DAMP
    # Infinity is also beyond the limit on its side.
    assert math.isinf(odd) or cause in verdict.causes


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("field", "size"), [("imu_quat", 4), ("imu_gyro_rad_s", 3), ("imu_accel_m_s2", 3)])
def test_an_imu_value_that_is_no_number_is_lost_sensing_and_no_fall(
    field: str, size: int, odd: float
) -> None:
    settled = Gate(robot_reacting("on_fall", "limp"))
    settled.settle()
    for part in range(size):
        gate = copy.copy(settled)
        values = np.array([1.0, 0.0, 0.0, 0.0][:size])
        values[part] = odd
        changes: dict[str, Any] = {field: values}
        verdict = gate.tick(**changes)
        assert (verdict.level, verdict.causes) == (Level.HOLD, frozenset({field}))


@pytest.mark.parametrize("age", [math.nan, math.inf, -math.inf, -1e-9])
def test_an_imu_age_that_cannot_be_is_lost_sensing(age: float) -> None:
    gate = Gate(ROBOT)
    gate.settle()
    assert gate.tick(imu_age_s=age).causes == {"limits.imu_stale_s"}


@pytest.mark.parametrize("joint_side", [True, False])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_state_ages_while_it_waits_and_one_from_the_future_is_as_bad(joint_side: bool, sign: int) -> None:
    cause = "limits.joint_stale_s" if joint_side else "limits.imu_stale_s"
    limit_s = LIMITS.joint_stale_s if joint_side else IMU_STALE_S
    for since_s, stale in ((limit_s - 1e-6, False), (limit_s + 1e-6, True)):
        gate = Gate(ROBOT)
        gate.settle()
        verdict = gate.tick(stamp_s=gate.now_s + TICK_S - sign * since_s)
        assert (cause in verdict.causes) is stale


def test_tilt_counts_in_every_direction_and_heading_does_not() -> None:
    gate = Gate(ROBOT)
    for direction in np.linspace(-math.pi, math.pi, 17):
        for yaw in (-3.0, -1.0, 0.0, 0.5, 3.1):
            for angle, fallen in (
                (TILT_RAD - 1e-6, False),
                (TILT_RAD + 1e-6, True),
                (3.1, True),
            ):
                verdict = gate.tick(imu_quat=tilted(angle, float(direction), yaw))
                assert (verdict.causes == {"limits.tilt_rad"}) is fallen
                gate.rearm()


def test_at_the_very_tilt_limit_a_robot_has_not_fallen() -> None:
    side = math.sqrt(0.5)
    for limit_rad, fallen in ((math.pi / 2, False), (math.nextafter(math.pi / 2, 0.0), True)):
        gate = Gate(robot_with(N, tilt_rad=limit_rad))
        gate.settle()
        assert (gate.tick(imu_quat=np.array([side, side, 0.0, 0.0])).level > Level.NONE) is fallen


def test_a_robot_lying_on_its_back_has_fallen() -> None:
    gate = Gate(robot_with(N, tilt_rad=2.5))
    gate.settle()
    assert gate.tick(imu_quat=np.array([0.0, 1.0, 0.0, 0.0])).causes == {"limits.tilt_rad"}


def test_one_good_tick_starts_the_count_anew_for_its_joint_and_check_alone() -> None:
    gate = Gate(ROBOT)
    gate.settle()
    hot: dict[str, Any] = {"temperature_c": at_joint(np.full(N, 40.0), 90.0)}
    low: dict[str, Any] = {"voltage_v": np.full(N, 9.0)}
    for _ in range(LIMITS.fault_ticks - 1):
        assert not gate.tick(**hot).level
    assert not gate.tick().level
    for _ in range(LIMITS.fault_ticks - 1):
        assert not gate.tick(**hot).level
    other_joint: dict[str, Any] = {"temperature_c": np.roll(hot["temperature_c"], 1)}
    assert not gate.tick(**other_joint).level
    for _ in range(LIMITS.fault_ticks - 1):
        assert not gate.tick(**low).level
    assert gate.tick(**low).causes == {"limits.voltage_min_v"}


def test_a_joint_that_stays_away_from_where_it_was_asked_to_be_is_a_fault() -> None:
    for error_rad, blocked in (
        (LIMITS.tracking_error_rad - 1e-6, False),
        (LIMITS.tracking_error_rad + 1e-6, True),
    ):
        for sign in (-1, 1):
            gate = Gate(ROBOT)
            gate.settle()
            pos = at_joint(ROBOT.default_rad, ROBOT.default_rad[J] + sign * error_rad)
            verdicts = [gate.tick(joint_pos_rad=pos) for _ in range(LIMITS.fault_ticks)]
            assert all(v.level <= Level.LIMITING for v in verdicts[:-1])
            assert ("limits.tracking_error_rad" in verdicts[-1].causes) is blocked
            assert (verdicts[-1].level == Level.DAMP) is blocked


def test_at_the_very_tracking_limit_there_is_no_fault() -> None:
    abduction = 3
    assert ROBOT.default_rad[abduction] == 0.0
    for limit_rad, blocked in ((0.5, False), (math.nextafter(0.5, 0.0), True)):
        gate = Gate(robot_with(N, tracking_error_rad=limit_rad, torque_nm=1.0))
        gate.settle()
        pos = ROBOT.default_rad.copy()
        pos[abduction] = 0.5
        for _ in range(LIMITS.fault_ticks):
            verdict = gate.tick(joint_pos_rad=pos)
        assert ("limits.tracking_error_rad" in verdict.causes) is blocked


def test_a_limp_robot_is_not_compared_with_targets_of_before() -> None:
    gate = Gate(ROBOT)
    gate.settle()
    limp = Request(CommandKind.LIMP, np.full(N, np.nan), "limp")
    far = at_joint(ROBOT.default_rad, ROBOT.default_rad[J] + 1.0)
    gate.tick(limp)
    for _ in range(3 * LIMITS.fault_ticks):
        assert gate.tick(limp, joint_pos_rad=far) == Verdict()


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_request_that_is_no_number_is_a_fault(odd: float) -> None:
    gate = Gate(ROBOT)
    gate.settle()
    verdict = gate.tick(track(at_joint(ROBOT.default_rad, odd)))
    assert verdict == Verdict(Level.DAMP, frozenset({"request.joint_target_rad"}), frozenset({f"joint{J}"}))


@pytest.mark.parametrize("shape", [(N - 1,), (N + 1,), (1,), (), (1, N)])
def test_a_request_of_another_shape_is_a_fault(shape: tuple[int, ...]) -> None:
    gate = Gate(ROBOT)
    gate.settle()
    assert gate.tick(track(np.zeros(shape))).causes == {"request.joint_target_rad"}
    assert gate.command.kind is CommandKind.DAMP


def test_targets_of_a_request_without_tracking_do_not_matter() -> None:
    gate = Gate(ROBOT)
    for kind in (CommandKind.LIMP, CommandKind.DAMP):
        assert gate.tick(Request(kind, np.array([np.nan]), "operator")) == Verdict()
        assert gate.command.kind is kind


@pytest.mark.parametrize("wait_s", [0.0, -TICK_S, math.nan, math.inf, -math.inf])
def test_a_clock_that_does_not_go_on_is_a_fault_and_going_on_does_not_clear_it(wait_s: float) -> None:
    gate = Gate(ROBOT)
    gate.settle()
    before_s = gate.now_s
    verdict = gate.tick(wait_s=wait_s)
    assert "now_s" in verdict.causes
    assert verdict.level == Level.DAMP
    gate.now_s = before_s
    assert "now_s" in gate.tick().causes
    gate.rearm()
    assert not gate.tick().level


def every_fault() -> list[tuple[str, dict[str, Any], int]]:
    """One state beyond each limit."""
    return [(x.cause, x.changes(scan(x)[-1]), x.ticks) for x in LIMIT_LAWS]


@pytest.mark.parametrize(("cause", "changes", "ticks"), every_fault())
def test_every_fault_latches_until_rearm(cause: str, changes: dict[str, Any], ticks: int) -> None:
    gate = Gate(ROBOT)
    gate.settle()
    for _ in range(ticks):
        fault = gate.tick(**changes)
    assert cause in fault.causes
    command = gate.command
    for _ in range(100):
        assert gate.tick() == fault
        assert gate.command.kind is command.kind
        np.testing.assert_array_equal(gate.target_rad, command.joint_target_rad)
    gate.rearm()
    assert gate.tick() == Verdict()


@pytest.mark.parametrize(("cause", "changes", "ticks"), every_fault())
def test_rearm_with_the_cause_still_there_latches_again(
    cause: str, changes: dict[str, Any], ticks: int
) -> None:
    gate = Gate(ROBOT)
    gate.settle()
    for _ in range(ticks):
        gate.tick(**changes)
    gate.rearm(**changes)
    for _ in range(ticks):
        verdict = gate.tick(**changes)
    assert cause in verdict.causes


def test_the_strongest_reaction_wins_and_causes_add_up() -> None:
    gate = Gate(robot_with(N, on_lost_sensing="hold", on_fault="damp", on_fall="limp"))
    gate.settle()
    assert gate.tick(imu_age_s=1.0) == Verdict(Level.HOLD, frozenset({"limits.imu_stale_s"}))
    verdict = gate.tick(joint_vel_rad_s=at_joint(np.zeros(N), 50.0))
    causes = {"limits.imu_stale_s", "limits.speed_rad_s"}
    assert verdict == Verdict(Level.DAMP, frozenset(causes), frozenset({f"joint{J}"}))
    assert gate.tick(imu_age_s=1.0).level == Level.DAMP
    verdict = gate.tick(imu_quat=tilted(2.0, 0.0))
    assert (verdict.level, verdict.causes) == (Level.LIMP, frozenset(causes | {"limits.tilt_rad"}))
    assert gate.tick().level == Level.LIMP


def test_all_at_once_gives_the_strongest_with_every_cause() -> None:
    gate = Gate(robot_with(N, on_lost_sensing="limp", on_fault="damp", on_fall="hold"))
    gate.settle()
    verdict = gate.tick(
        imu_age_s=1.0, imu_quat=tilted(2.0, 0.0), joint_vel_rad_s=at_joint(np.zeros(N), -50.0)
    )
    assert verdict.level == Level.LIMP
    assert verdict.causes == {"limits.imu_stale_s", "limits.tilt_rad", "limits.speed_rad_s"}


@pytest.mark.parametrize("before", list(CommandKind))
@pytest.mark.parametrize("asked", list(CommandKind))
@pytest.mark.parametrize("how", ["hold", "damp", "limp"])
def test_a_fault_never_makes_a_command_stiffer(before: CommandKind, asked: CommandKind, how: str) -> None:
    weakest = {"hold": CommandKind.TRACK, "damp": CommandKind.DAMP, "limp": CommandKind.LIMP}[how]
    gate = Gate(robot_with(N, on_lost_sensing=how))
    gate.tick(Request(before, ROBOT.default_rad, "policy"))
    assert gate.command.kind is before
    gate.tick(Request(asked, ROBOT.default_rad, "policy"), imu_age_s=1.0)
    assert gate.command.kind is max(before, asked, weakest)
    for _ in range(3):
        gate.tick()
        assert gate.command.kind is max(before, asked, weakest)
