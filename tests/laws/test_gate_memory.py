"""Laws of the gate's memory: how it starts, what a re-arm clears and where it holds, the emergency stop."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from robotrl.safety import estop, guard
from robotrl.spec.gate import GateLimits, GateMemory, Level, Request, Verdict, strongest
from robotrl.spec.state import CommandKind
from tests.laws.rig import TICK_S, Gate, calm, robot_with, track

N, J = 6, 4
ROBOT = robot_with(N)
LIMITS = ROBOT.limits


def at_joint(base: object, value: float) -> np.ndarray[Any, Any]:
    """An array with one joint changed."""
    array = np.array(base, dtype=np.float64)
    array[J] = value
    return array


def test_timeline_cable_pulled_in_mid_walk_then_plugged_in_again() -> None:
    gate = Gate(ROBOT)
    gate.settle()
    walking = ROBOT.default_rad + 0.05
    for _ in range(40):
        gate.tick(track(walking))
    held = gate.target_rad.copy()
    pulled_s = gate.now_s
    lost = np.full(N, TICK_S)
    assert not gate.tick(track(walking), joint_age_s=lost).level, "one missed tick is no loss"
    assert gate.tick(track(walking - 1.0), joint_age_s=2 * lost).level == Level.HOLD
    assert gate.now_s - pulled_s <= 2 * TICK_S + 1e-9
    for k in range(3, 50):
        nothing = np.full(N, np.nan)
        gate.tick(track(walking - 1.0), joint_age_s=k * lost, joint_pos_rad=nothing, joint_vel_rad_s=nothing)
        np.testing.assert_allclose(gate.target_rad, held, atol=1e-12)
    sagged = ROBOT.default_rad - 0.1
    for _ in range(50):
        assert gate.tick(track(walking), joint_pos_rad=sagged).level == Level.HOLD
        np.testing.assert_allclose(gate.target_rad, held, atol=1e-12)
    gate.rearm(joint_pos_rad=sagged)
    assert gate.tick(track(walking), joint_pos_rad=sagged).level <= Level.LIMITING
    np.testing.assert_allclose(gate.target_rad, sagged, atol=1e-12)


def test_hold_before_anything_moved_stays_limp() -> None:
    gate = Gate(ROBOT)
    assert gate.tick(imu_age_s=1.0).level == Level.HOLD
    assert gate.command.kind is CommandKind.LIMP
    assert np.isnan(gate.target_rad).all()


def test_rearm_holds_a_held_robot_where_it_is_and_keeps_targets_it_cannot_measure() -> None:
    gate = Gate(ROBOT)
    gate.settle()
    gate.tick(imu_age_s=1.0)
    held = gate.target_rad
    sagged = at_joint(ROBOT.default_rad - 0.1, np.nan)
    gate.rearm(joint_pos_rad=sagged)
    command = gate.command
    assert command.kind is CommandKind.TRACK
    np.testing.assert_array_equal(command.joint_target_rad, np.where(np.isnan(sagged), held, sagged))


@pytest.mark.parametrize("kind", [CommandKind.DAMP, CommandKind.LIMP])
def test_rearm_does_not_stiffen(kind: CommandKind) -> None:
    gate = Gate(ROBOT)
    gate.tick(Request(kind, ROBOT.default_rad, "policy"))
    gate.tick(imu_age_s=1.0)
    gate.rearm()
    assert gate.command.kind is kind


def test_the_gate_changes_nothing_it_is_given_and_gives_nothing_that_can_be_changed() -> None:
    gate = Gate(ROBOT)
    gate.settle()
    now_s = gate.now_s + TICK_S
    for state in (calm(ROBOT, now_s), calm(ROBOT, now_s, imu_age_s=1.0)):
        for array in dataclasses.asdict(state).values():
            if isinstance(array, np.ndarray):
                array.setflags(write=False)
        request = track(ROBOT.default_rad + 5.0)
        request.joint_target_rad.setflags(write=False)
        before = repr((state, request, gate.memory))
        first = guard(gate.limits, gate.memory, state, request, now_s)
        again = guard(gate.limits, gate.memory, state, request, now_s)
        assert repr((state, request, gate.memory)) == before
        assert repr(first) == repr(again)
        with pytest.raises(ValueError, match="read-only"):
            first[0].joint_target_rad[0] = 1.0


def test_fresh_memory_is_limp_without_fault() -> None:
    memory = GateMemory.fresh(N)
    assert (memory.command.kind, memory.latched) == (CommandKind.LIMP, Verdict())


def test_limits_are_the_robots() -> None:
    limits = GateLimits.of(ROBOT)
    np.testing.assert_allclose(limits.torque_reach_rad * ROBOT.stiffness_nm_rad, ROBOT.limits.torque_nm)
    assert limits.joint_names == ROBOT.joint_names
    assert limits.period_s == TICK_S


BAD_JOINTS: list[dict[str, Any]] = [
    {"joint_pos_rad": at_joint(ROBOT.default_rad - 0.1, value)}
    for value in (math.nan, math.inf, 1e30, ROBOT.position_max_rad[J] + LIMITS.position_margin_rad + 1e-3)
] + [
    {name: at_joint(np.zeros(N), value), "joint_pos_rad": ROBOT.default_rad - 0.1}
    for name, value in (
        ("joint_age_s", LIMITS.joint_stale_s + 1e-6),
        ("joint_age_s", math.nan),
        ("joint_vel_rad_s", math.nan),
        ("joint_vel_rad_s", LIMITS.speed_rad_s + 1e-3),
    )
]


@pytest.mark.parametrize("bad", BAD_JOINTS)
def test_a_rearm_sends_no_joint_to_a_place_that_no_one_believes(bad: dict[str, Any]) -> None:
    gate = Gate(robot_with(N, on_lost_sensing="hold", on_fault="hold"))
    gate.settle()
    gate.tick(imu_age_s=1.0)
    held = gate.target_rad
    gate.rearm(**bad)
    believed = np.arange(N) != J
    np.testing.assert_array_equal(gate.target_rad, np.where(believed, ROBOT.default_rad - 0.1, held))
    assert gate.tick(**bad).level is Level.HOLD
    assert gate.target_rad[J] == held[J], "and it stays there while the cause lasts"


def test_at_a_rearm_with_an_old_state_every_joint_keeps_its_target() -> None:
    gate = Gate(ROBOT)
    gate.settle()
    gate.tick(imu_age_s=1.0)
    held = gate.target_rad
    old_s = gate.now_s - LIMITS.joint_stale_s - 1e-6
    gate.rearm(stamp_s=old_s, joint_pos_rad=ROBOT.default_rad - 0.1)
    np.testing.assert_array_equal(gate.target_rad, held)


@pytest.mark.parametrize("before", list(CommandKind))
def test_an_emergency_stop_is_torque_off_until_a_rearm(before: CommandKind) -> None:
    gate = Gate(ROBOT)
    gate.tick(Request(before, ROBOT.default_rad, "policy"))
    gate.memory = estop(gate.memory)
    for _ in range(3):
        assert gate.tick() == Verdict(Level.LIMP, frozenset({"estop"}))
        assert gate.command.kind is CommandKind.LIMP
    gate.rearm()
    assert gate.tick() == Verdict()
    assert gate.command.kind is CommandKind.TRACK


def test_an_emergency_stop_forgets_no_fault() -> None:
    gate = Gate(ROBOT)
    gate.settle()
    gate.tick(joint_vel_rad_s=at_joint(np.zeros(N), 50.0))
    gate.memory = estop(gate.memory)
    stopped = Verdict(Level.LIMP, frozenset({"estop", "limits.speed_rad_s"}), frozenset({f"joint{J}"}))
    assert gate.tick() == stopped


def test_a_verdict_reads_as_level_causes_and_joints() -> None:
    causes, joints = frozenset({"b", "limits.a"}), frozenset({"RR_hip", "FL_knee"})
    assert str(Verdict(Level.DAMP, causes, joints)) == "DAMP: b, limits.a (FL_knee, RR_hip)"
    assert str(Verdict(Level.LIMP, frozenset({"estop"}))) == "LIMP: estop"


def test_a_gate_that_limits_in_its_first_tick_is_not_tired() -> None:
    """The first request of all is beyond a position limit."""
    gate = Gate(ROBOT)
    verdict = gate.tick(track(ROBOT.position_max_rad + 0.1))
    assert verdict.level is Level.LIMITING


def test_the_strongest_verdict_has_the_causes_and_joints_of_all() -> None:
    weak = Verdict(Level.LIMITING, frozenset({"limits.torque_nm"}), frozenset({"joint1"}))
    strong = Verdict(Level.DAMP, frozenset({"hardware_error"}), frozenset({"joint2"}))
    assert strongest(Verdict(), weak) == weak
    both = frozenset({"limits.torque_nm", "hardware_error"}), frozenset({"joint1", "joint2"})
    assert strongest(weak, Verdict(), strong) == Verdict(Level.DAMP, *both)
    assert strongest(Verdict(), Verdict()) == Verdict()
