"""Laws of the gate's limiting: position, rate, torque and blend-in, alone and against each other."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from robotrl.safety import guard, rearm
from robotrl.spec.gate import GateLimits, GateMemory, Level, Request, Verdict
from robotrl.spec.state import CommandKind
from tests.laws.rig import TICK_S, Gate, calm, robot_with, track

N, J = 6, 4
WIDE = {"torque_nm": 1e3, "command_speed_rad_s": 1e3, "tracking_error_rad": 1e3, "blend_in_s": 1e-6}
"""Limits out of the way of the one under test."""


def target_at(gate: Gate, value_rad: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The default posture with one joint elsewhere."""
    target = gate.robot.default_rad.copy()
    target[J] = value_rad
    return target


def test_what_is_within_every_limit_passes_bit_for_bit() -> None:
    gate = Gate(robot_with(N))
    gate.settle()
    random = np.random.default_rng(0)
    for _ in range(200):
        target = gate.robot.default_rad + random.uniform(-0.09, 0.09, N)
        assert gate.tick(track(target)) == Verdict()
        np.testing.assert_array_equal(gate.target_rad, target)


@pytest.mark.parametrize(("side", "sign"), [("min", -1), ("max", 1)])
def test_targets_stay_within_the_position_limits(side: str, sign: int) -> None:
    gate = Gate(robot_with(N, **WIDE))
    gate.settle()
    limit = float(getattr(gate.robot, f"position_{side}_rad")[J])
    outcomes = set()
    for past in (-0.5, -1e-9, 0.0, 0.5e-6, 1.5e-6, 1e-3, 0.5, 1e6, 1e300):
        verdict = gate.tick(track(target_at(gate, limit + sign * past)))
        limited = past > 1e-6
        outcomes.add(limited)
        assert verdict.level == (Level.LIMITING if limited else Level.NONE)
        assert verdict.causes == ({f"joint.joint{J}.position_{side}_rad"} if limited else set())
        assert verdict.joints == ({f"joint{J}"} if limited else set())
        assert gate.target_rad[J] == (limit + sign * past if past <= 0 else limit)
    assert outcomes == {True, False}


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_target_moves_no_faster_than_allowed_from_the_previous_command(sign: int) -> None:
    speed = 5.0
    outcomes = set()
    for step in (0.0, 0.5, 0.999999, 1.0, 1.0001, 2.0, 10.0):
        gate = Gate(robot_with(N, **(WIDE | {"command_speed_rad_s": speed})))
        gate.settle()
        before = gate.target_rad[J]
        asked = before + sign * step * speed * TICK_S
        # The measured position is elsewhere: it must not matter.
        verdict = gate.tick(track(target_at(gate, asked)), joint_pos_rad=target_at(gate, before - 0.3))
        limited = step > 1.0
        outcomes.add(limited)
        assert verdict.causes == ({"limits.command_speed_rad_s"} if limited else set())
        assert gate.target_rad[J] == pytest.approx(before + sign * min(step, 1.0) * speed * TICK_S, abs=1e-12)
    assert outcomes == {True, False}


@pytest.mark.parametrize(("wait", "allowed"), [(0.25, 0.25), (1.0, 1.0), (1.5, 1.0), (50.0, 1.0)])
def test_a_short_tick_earns_a_short_step_and_a_long_one_no_longer_step(wait: float, allowed: float) -> None:
    gate = Gate(robot_with(N, **(WIDE | {"command_speed_rad_s": 5.0})))
    gate.settle()
    before = gate.target_rad[J]
    gate.tick(track(target_at(gate, before + 1.0)), wait_s=wait * TICK_S)
    assert gate.target_rad[J] - before == pytest.approx(allowed * 5.0 * TICK_S, rel=1e-6)


@pytest.mark.parametrize("kind", [CommandKind.LIMP, CommandKind.DAMP])
def test_without_a_previous_target_the_rate_counts_from_the_measured_posture(kind: CommandKind) -> None:
    gate = Gate(robot_with(N, **(WIDE | {"command_speed_rad_s": 5.0})))
    gate.settle()
    gate.tick(Request(kind, gate.robot.default_rad, "operator"))
    here = target_at(gate, gate.robot.default_rad[J] - 0.7)
    for _ in range(2):  # blend-in gives one tick in place
        gate.tick(joint_pos_rad=here)
    assert gate.target_rad[J] == pytest.approx(here[J] + 5.0 * TICK_S)


def test_the_very_first_command_is_where_the_robot_is() -> None:
    gate = Gate(robot_with(N))
    here = target_at(gate, gate.robot.default_rad[J] + 0.4)
    gate.tick(joint_pos_rad=here)
    np.testing.assert_allclose(gate.target_rad, here)


def test_a_start_outside_the_limits_but_within_the_margin_comes_back_in() -> None:
    gate = Gate(robot_with(N))
    low = float(gate.robot.position_min_rad[J])
    gate.tick(joint_pos_rad=target_at(gate, low - 0.1))
    assert gate.command.kind is CommandKind.TRACK
    assert gate.target_rad[J] == low


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_target_asks_for_no_more_than_the_torque_bound(sign: int) -> None:
    gate = Gate(robot_with(N, **(WIDE | {"torque_nm": 1.5})))
    gate.settle()
    here = gate.robot.default_rad[J]
    outcomes = set()
    for share in (0.0, 0.9, 0.99999, 1.0001, 1.5, 3.0):
        verdict = gate.tick(track(target_at(gate, here + sign * share * gate.limits.torque_reach_rad[J])))
        torque_nm = gate.robot.stiffness_nm_rad[J] * (gate.target_rad[J] - here)
        outcomes.add(share > 1)
        assert verdict.causes == ({"limits.torque_nm"} if share > 1 else set())
        assert verdict.joints == ({f"joint{J}"} if share > 1 else set())
        assert torque_nm == pytest.approx(sign * min(share, 1.0) * 1.5)
    assert outcomes == {True, False}


def test_the_torque_bound_follows_the_measured_position() -> None:
    gate = Gate(robot_with(N, **(WIDE | {"torque_nm": 1.5})))
    gate.settle()
    reach = gate.limits.torque_reach_rad[J]
    for here in (-0.5, -0.2, 0.0, 0.3):
        at = target_at(gate, gate.robot.default_rad[J] + here)
        gate.tick(track(target_at(gate, at[J] + 0.5)), joint_pos_rad=at)
        assert gate.target_rad[J] == pytest.approx(min(at[J] + reach, gate.robot.position_max_rad[J]))


@pytest.mark.parametrize(("side", "sign"), [("min", -1), ("max", 1)])
def test_the_torque_bound_pushes_no_target_outside_the_position_limits(side: str, sign: int) -> None:
    gate = Gate(robot_with(N, **(WIDE | {"torque_nm": 0.1})))
    limit = float(getattr(gate.robot, f"position_{side}_rad")[J])
    outside = target_at(gate, limit + sign * 0.14)
    assert gate.limits.torque_reach_rad[J] < 0.14, "the bound alone would ask for a target outside"
    for _ in range(5):
        gate.tick(track(target_at(gate, limit - sign * 0.3)), joint_pos_rad=outside)
        assert gate.target_rad[J] == limit


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_rate_outlasts_the_torque_bound_and_yields_at_full_speed(sign: int) -> None:
    gate = Gate(robot_with(N, **(WIDE | {"torque_nm": 0.5, "command_speed_rad_s": 2.0})))
    gate.settle()
    before = gate.target_rad[J]
    pushed = target_at(gate, before + sign * 0.6)
    reach = gate.limits.torque_reach_rad[J]
    for k in range(1, 40):
        gate.tick(joint_pos_rad=pushed)
        moved = min(k * 2.0 * TICK_S, 0.6 - reach)
        assert gate.target_rad[J] == pytest.approx(before + sign * moved)
    assert moved == 0.6 - reach


def test_a_new_source_takes_over_within_the_blend_time() -> None:
    gate = Gate(robot_with(N, **(WIDE | {"blend_in_s": 0.1})))
    gate.settle()
    start = gate.target_rad.copy()
    goal = start + 0.2
    for k in range(8):
        assert gate.tick(track(goal, "another")) == Verdict(), "blending in is not limiting"
        share = min(k * TICK_S / 0.1, 1.0)
        np.testing.assert_allclose(gate.target_rad, start + share * 0.2, atol=1e-12)


def test_a_source_without_a_name_is_blended_in_like_any_other() -> None:
    gate = Gate(robot_with(N))
    for _ in range(2):
        here = gate.robot.default_rad + 0.1
        gate.tick(track(gate.robot.default_rad, ""), joint_pos_rad=here)
        np.testing.assert_allclose(gate.target_rad, here)
        gate.tick(imu_age_s=1.0, joint_pos_rad=here)
        gate.rearm(joint_pos_rad=here)


def test_a_goal_far_away_is_no_tracking_error_while_it_is_blended_in() -> None:
    gate = Gate(robot_with(N, **(WIDE | {"blend_in_s": 5.0, "tracking_error_rad": 0.3})))
    for _ in range(10):
        assert not gate.tick(track(gate.robot.default_rad + 0.5, "another")).level


def test_a_change_in_mid_blend_starts_from_the_command_of_that_moment() -> None:
    gate = Gate(robot_with(N, **(WIDE | {"blend_in_s": 0.1})))
    gate.settle()
    for _ in range(3):
        gate.tick(track(gate.robot.default_rad + 0.2, "a"))
    middle = gate.target_rad.copy()
    gate.tick(track(gate.robot.default_rad - 0.2, "b"))
    np.testing.assert_array_equal(gate.target_rad, middle)


def test_after_a_rearm_even_the_same_source_blends_in_anew() -> None:
    gate = Gate(robot_with(N, **(WIDE | {"blend_in_s": 0.1})))
    gate.settle()
    gate.tick(imu_age_s=1.0)
    sagged = gate.robot.default_rad - 0.1
    gate.rearm(joint_pos_rad=sagged)
    gate.tick(joint_pos_rad=sagged)
    np.testing.assert_allclose(gate.target_rad, sagged)
    gate.tick(joint_pos_rad=sagged)
    np.testing.assert_allclose(gate.target_rad, sagged + 0.1 * TICK_S / 0.1)


def test_after_damping_even_the_same_source_blends_in_anew() -> None:
    gate = Gate(robot_with(N, **(WIDE | {"blend_in_s": 0.1})))
    gate.settle()
    gate.tick(Request(CommandKind.DAMP, gate.robot.default_rad, "policy"))
    sagged = gate.robot.default_rad - 0.1
    gate.tick(joint_pos_rad=sagged)
    np.testing.assert_allclose(gate.target_rad, sagged)


def test_limiting_for_too_long_is_a_fault() -> None:
    gate = Gate(robot_with(N, sustained_limiting_s=0.09, tracking_error_rad=1e3))
    gate.settle()
    beyond = track(target_at(gate, gate.robot.position_max_rad[J] + 0.1))
    levels = [gate.tick(beyond).level for _ in range(8)]
    assert levels == [Level.LIMITING] * 5 + [Level.DAMP] * 3
    assert "limits.sustained_limiting_s" in gate.memory.latched.causes
    assert f"joint.joint{J}.position_max_rad" in gate.memory.latched.causes
    assert gate.memory.latched.joints == {f"joint{J}"}
    assert gate.tick().level == Level.DAMP


def test_sustained_limiting_has_the_reaction_of_faults() -> None:
    gate = Gate(
        robot_with(N, sustained_limiting_s=0.03, on_fault="limp", on_fall="hold", on_lost_sensing="hold")
    )
    gate.settle()
    beyond = track(target_at(gate, gate.robot.position_max_rad[J] + 0.1))
    assert [gate.tick(beyond).level for _ in range(3)][-1] == Level.LIMP


def test_the_time_of_limiting_ends_at_its_limit() -> None:
    gate = Gate(robot_with(N, sustained_limiting_s=0.0625, tracking_error_rad=1e3))
    gate.settle()
    gate.now_s = 128.0
    beyond = track(target_at(gate, gate.robot.position_max_rad[J] + 0.1))
    levels = [gate.tick(beyond, wait_s=0.015625).level for _ in range(5)]
    assert levels == [Level.LIMITING] * 4 + [Level.DAMP]


def test_one_free_tick_or_torque_off_starts_the_time_of_limiting_anew() -> None:
    gate = Gate(robot_with(N, sustained_limiting_s=0.09, tracking_error_rad=1e3))
    gate.settle()
    beyond = track(target_at(gate, gate.robot.position_max_rad[J] + 0.1))
    limp = Request(CommandKind.LIMP, gate.robot.default_rad, "policy")
    for pause in (None, limp, None, limp):
        for _ in range(4):
            assert gate.tick(beyond).level == Level.LIMITING
        assert not gate.tick(pause, joint_pos_rad=gate.robot.default_rad).level


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("bound", ["position", "command_speed_rad_s", "torque_nm"])
def test_what_is_changed_by_exactly_a_rounding_goes_without_a_word(bound: str, sign: int) -> None:
    gate = Gate(robot_with(N, **(WIDE if bound == "position" else WIDE | {bound: 0.0})))
    abduction = 3
    assert gate.robot.default_rad[abduction] == 0.0, "so that nothing is rounded"
    cause = f"limits.{bound}"
    if bound == "position":
        side = "min" if sign < 0 else "max"
        limit = getattr(gate.limits, f"position_{side}_rad").copy()
        limit[abduction] = 0.0
        changes: dict[str, Any] = {f"position_{side}_rad": limit}
        gate.limits = dataclasses.replace(gate.limits, **changes)
        cause = f"joint.joint{abduction}.position_{side}_rad"
    gate.settle()
    for wish_rad, causes in ((1e-6, set[str]()), (math.nextafter(1e-6, 1.0), {cause})):
        target = gate.robot.default_rad.copy()
        target[abduction] = sign * wish_rad
        assert gate.tick(track(target)).causes == causes
        assert gate.target_rad[abduction] == 0.0


NASTY = (math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0)


@pytest.mark.parametrize("joints", [1, 6, 20, 30])
@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_asked_the_command_is_within_the_limits(joints: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    robot = robot_with(joints, on_lost_sensing="hold", on_fault=("hold", "damp")[seed % 2])
    limits, memory, now_s = GateLimits.of(robot), GateMemory.fresh(joints), 0.0
    seen = set()
    for _ in range(200):
        wait_s = float(random.choice([TICK_S, TICK_S * random.uniform(0.1, 3.0)]))
        now_s += wait_s
        pos = random.uniform(robot.position_min_rad - 0.1, robot.position_max_rad + 0.1)
        state = calm(robot, now_s, joint_pos_rad=pos)
        asked = robot.default_rad + random.normal(0.0, 10.0 ** random.uniform(-2, 4), joints)
        if random.random() < 0.03:
            asked[random.integers(joints)] = random.choice(NASTY)
        if random.random() < 0.03:
            state = calm(robot, now_s, imu_age_s=1.0, joint_pos_rad=np.full(joints, np.nan))
        kind = CommandKind(random.choice(3, p=(0.9, 0.05, 0.05)))
        request = Request(kind, asked, str(random.integers(2)))
        if memory.latched.level and random.random() < 0.2:
            memory = rearm(limits, memory, state, now_s)
        before = memory
        command, memory, verdict = guard(limits, memory, state, request, now_s)
        seen.add((command.kind, verdict.level))
        assert verdict.level >= before.latched.level
        assert command.kind >= kind
        if command.kind is not CommandKind.TRACK:
            continue
        target = command.joint_target_rad
        assert np.all((robot.position_min_rad <= target) & (target <= robot.position_max_rad))
        if verdict.level >= Level.HOLD:
            continue
        base = before.command.joint_target_rad if before.command.kind is CommandKind.TRACK else pos
        base = np.clip(base, robot.position_min_rad, robot.position_max_rad)
        step = robot.limits.command_speed_rad_s * min(wait_s, TICK_S)
        assert np.all(np.abs(target - base) <= step + 1e-9)
        # Torque: within the bound, or as near to it as rate and position allow.
        low = np.maximum(robot.position_min_rad, base - step) + 1e-9
        high = np.minimum(robot.position_max_rad, base + step) - 1e-9
        above = target > pos + limits.torque_reach_rad + 1e-9
        below = target < pos - limits.torque_reach_rad - 1e-9
        assert np.all(~above | (target <= low))
        assert np.all(~below | (target >= high))
    assert {(CommandKind.TRACK, Level.LIMITING), (CommandKind.TRACK, Level.HOLD)} <= seen
