"""Laws of the gripper's gate: whatever is asked, the arm stays within its limits or stands still."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from robotrl.safety_gripper import GripperMemory, estop, guard, rearm
from robotrl.spec.arm import ArmLimits
from robotrl.spec.gate import Level, Verdict
from robotrl.spec.gripper import ArmState
from robotrl.spec.state import Floats
from tests.fetch_arm import fetch_arm

LIMITS = replace(fetch_arm().limits, opening_m=(-0.02, 0.03))
LOW, HIGH = LIMITS.workspace_m
MIDDLE = (LOW + HIGH) / 2
TICK_S = 0.04
NOTHING = np.zeros(4)


def state(now_s: float, **changes: Any) -> ArmState:
    """A healthy arm in the middle of its workspace, but for `changes`."""
    here = ArmState(now_s, MIDDLE.copy(), np.zeros(3), np.zeros(2), np.zeros(2), 0.0)
    return replace(here, **changes)


class Gate:
    """The gate with its memory and a clock."""

    def __init__(self) -> None:
        self.memory, self.now_s = GripperMemory(), 10.0
        self.move_m: Floats | None = None

    def tick(self, wish_m: Floats | None = NOTHING, wait_s: float = TICK_S, **changes: Any) -> Verdict:
        """One tick later; keeps what is sent."""
        self.now_s += wait_s
        now = state(self.now_s, **changes)
        command, self.memory, verdict = guard(LIMITS, self.memory, now, wish_m, self.now_s)
        self.move_m = command.move_m
        return verdict


def wish(*axes: float, opening: float = 0.0) -> Floats:
    return np.array([*axes, opening])


def test_what_is_within_the_limits_passes_as_it_is() -> None:
    gate = Gate()
    asked = wish(0.05, -0.05, 0.01, opening=0.03)
    assert gate.tick(asked) == Verdict()
    np.testing.assert_array_equal(gate.move_m, asked)


def test_float32_is_no_excess() -> None:
    assert Gate().tick(wish(float(np.float32(0.05)), 0.0, 0.0)) == Verdict()
    assert Gate().tick(wish(0.05 + 1.5e-6, 0.0, 0.0)).level is Level.LIMITING


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_asked_the_gripper_is_sent_no_further_than_the_workspace_in_steps(seed: int) -> None:
    rng, gate = np.random.default_rng(seed), Gate()
    here = rng.uniform(LOW, HIGH)
    for _ in range(50):
        asked = rng.normal(0, 10.0 ** rng.uniform(-3, 3), 4)
        verdict = gate.tick(asked, gripper_pos_m=here)
        assert gate.move_m is not None or verdict.level is Level.HOLD
        if gate.move_m is None:
            gate.memory = rearm(gate.memory)
            continue
        assert (np.abs(gate.move_m[:3]) <= LIMITS.displacement_m).all()
        target = here + gate.move_m[:3]
        assert (target >= LOW - 1e-12).all()
        assert (target <= HIGH + 1e-12).all()
        assert LIMITS.opening_m[0] <= gate.move_m[3] <= LIMITS.opening_m[1]
        here = target.clip(LOW, HIGH)


@pytest.mark.parametrize("axis", range(3))
def test_a_displacement_leads_up_to_the_wall_and_its_cause_is_named(axis: int) -> None:
    here = MIDDLE.copy()
    here[axis] = HIGH[axis] - 0.02
    asked = np.zeros(4)
    asked[axis] = 0.05
    gate = Gate()
    verdict = gate.tick(asked, gripper_pos_m=here)
    assert verdict == Verdict(Level.LIMITING, frozenset({f"limits.workspace_{'xyz'[axis]}_m"}))
    assert gate.move_m is not None
    assert gate.move_m[axis] == pytest.approx(0.02)


def test_from_outside_the_way_is_in_and_no_faster_than_any() -> None:
    gate = Gate()
    for start, way in ((LOW - 0.09, 0.05), (HIGH + 0.09, -0.05)):
        assert gate.tick(gripper_pos_m=start).level is Level.LIMITING
        assert gate.move_m is not None
        np.testing.assert_allclose(gate.move_m, [way, way, way, 0.0])


def test_an_opening_beyond_its_range_is_cut() -> None:
    gate = Gate()
    for asked, sent in ((1.0, 0.03), (-1.0, -0.02)):
        verdict = gate.tick(wish(0.0, 0.0, 0.0, opening=asked))
        assert verdict == Verdict(Level.LIMITING, frozenset({"limits.opening_m"}))
        np.testing.assert_array_equal(gate.move_m, [0.0, 0.0, 0.0, sent])


NAN3 = np.array([0.0, math.nan, 0.0])
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"age_s": 0.061}, "limits.stale_s"),
    ({"age_s": math.inf}, "limits.stale_s"),
    ({"age_s": math.nan}, "limits.stale_s"),
    ({"age_s": -0.01}, "limits.stale_s"),
    ({"stamp_s": 9.0}, "limits.stale_s"),
    ({"gripper_pos_m": NAN3}, "gripper_pos"),
    ({"gripper_vel_m_s": NAN3}, "gripper_vel"),
    ({"finger_pos_m": np.array([math.inf, 0.0])}, "finger_pos"),
    ({"finger_vel_m_s": np.array([0.0, math.nan])}, "finger_vel"),
    ({"gripper_pos_m": HIGH + np.array([0.0, 0.0, 0.11])}, "limits.workspace_margin_m"),
    ({"gripper_pos_m": LOW - np.array([0.11, 0.0, 0.0])}, "limits.workspace_margin_m"),
    ({"wish_m": wish(0.0, math.nan, 0.0)}, "request.gripper_command"),
    ({"wish_m": wish(0.0, 0.0, 0.0, opening=math.inf)}, "request.gripper_command"),
    ({"wish_m": np.zeros(3)}, "request.gripper_command"),
    ({"wait_s": 0.0}, "now_s"),
    ({"wait_s": -1.0}, "now_s"),
    ({"wait_s": math.nan}, "now_s"),
    ({"wait_s": math.inf}, "now_s"),
]


@pytest.mark.parametrize(("fault", "cause"), FAULTS, ids=str)
def test_a_fault_stops_the_arm_until_it_is_rearmed(fault: dict[str, Any], cause: str) -> None:
    gate = Gate()
    assert gate.tick() == Verdict()
    before_s = gate.now_s
    verdict = gate.tick(**fault)
    assert verdict.level is Level.HOLD
    assert cause in verdict.causes
    assert gate.move_m is None
    gate.now_s = before_s + 1.0
    assert gate.tick() == verdict
    assert gate.move_m is None
    gate.memory = rearm(gate.memory)
    assert gate.tick() == Verdict()
    assert gate.move_m is not None


def test_an_emergency_stop_stops_the_arm_until_it_is_rearmed_and_forgets_no_fault() -> None:
    gate = Gate()
    gate.tick()
    gate.memory = estop(gate.memory)
    assert gate.tick() == Verdict(Level.HOLD, frozenset({"estop"}))
    assert gate.move_m is None
    assert gate.tick(age_s=1.0).causes == {"estop", "limits.stale_s"}
    gate.memory = rearm(gate.memory)
    assert gate.tick() == Verdict()
    gate.tick(age_s=1.0)
    gate.memory = estop(gate.memory)
    assert gate.tick().causes == {"estop", "limits.stale_s"}


def test_a_rearm_does_not_help_against_a_cause_that_is_still_there() -> None:
    gate = Gate()
    for _ in range(3):
        assert gate.tick(age_s=1.0).level is Level.HOLD
        gate.memory = rearm(gate.memory)


def test_a_clock_that_went_back_is_not_believed_before_it_has_caught_up() -> None:
    gate = Gate()
    gate.tick()
    for wait_s, level in ((-1.0, Level.HOLD), (0.5, Level.HOLD), (0.6, Level.NONE)):
        assert gate.tick(wait_s=wait_s).level is level
        gate.memory = rearm(gate.memory)


def test_one_missed_tick_is_no_fault_and_two_are() -> None:
    gate = Gate()
    assert gate.tick(age_s=0.04) == Verdict()
    assert gate.tick(age_s=0.08).causes == {"limits.stale_s"}


def test_who_asks_for_a_stop_gets_it() -> None:
    gate = Gate()
    assert gate.tick(None) == Verdict()
    assert gate.move_m is None


def test_limiting_for_a_second_on_end_is_a_fault() -> None:
    gate = Gate()
    levels = [gate.tick(wish(0.06, 0.0, 0.0), wait_s=1 / 32).level for _ in range(33)]
    assert levels == [Level.LIMITING] * 32 + [Level.HOLD]
    assert gate.tick().causes == {"limits.displacement_m", "limits.sustained_limiting_s"}


def test_after_a_rearm_the_second_begins_anew_and_ends_in_a_fault_again() -> None:
    gate = Gate()
    for _ in range(2):
        levels = [gate.tick(wish(0.06, 0.0, 0.0), wait_s=1 / 32).level for _ in range(33)]
        assert levels == [Level.LIMITING] * 32 + [Level.HOLD]
        gate.memory = rearm(gate.memory)


def test_one_tick_within_the_limits_begins_the_second_anew() -> None:
    for relief in (NOTHING, None):
        gate = Gate()
        for _ in range(3):
            for _ in range(20):
                assert gate.tick(wish(0.06, 0.0, 0.0)).level is Level.LIMITING
            assert gate.tick(relief).level is Level.NONE


def guarded(limits: ArmLimits, wish_m: Floats, **changes: Any) -> Verdict:
    """The verdict of a first tick under other limits."""
    return guard(limits, GripperMemory(), state(10.0, **changes), wish_m, 10.0)[2]


def at(axis: int, value: float, others: Floats) -> Floats:
    values = others.copy()
    values[axis] = value
    return values


@pytest.mark.parametrize("sign", [-1, 1])
def test_what_is_changed_by_exactly_a_rounding_goes_without_a_word(sign: int) -> None:
    still = replace(LIMITS, displacement_m=0.0)
    shut = replace(LIMITS, opening_m=(0.0, 0.0))
    for wish_m, said in ((1e-6, False), (math.nextafter(1e-6, 1.0), True)):
        for axis, name in enumerate("xyz"):
            asked = at(axis, sign * wish_m, NOTHING)
            wall = at(axis, (HIGH if sign > 0 else LOW)[axis], MIDDLE)
            causes = guarded(LIMITS, asked, gripper_pos_m=wall).causes
            assert causes == ({f"limits.workspace_{name}_m"} if said else set())
            assert guarded(still, asked).causes == ({"limits.displacement_m"} if said else set())
        asked = at(3, sign * wish_m, NOTHING)
        assert guarded(shut, asked).causes == ({"limits.opening_m"} if said else set())


def test_at_the_very_margin_of_the_workspace_the_gripper_is_not_astray() -> None:
    limits = replace(LIMITS, workspace_x_m=(0.0, 1.0), workspace_margin_m=0.125)
    for edge, away in ((-0.125, -1.0), (1.125, 2.0)):
        inside = guarded(limits, NOTHING, gripper_pos_m=at(0, edge, MIDDLE))
        beyond = guarded(limits, NOTHING, gripper_pos_m=at(0, math.nextafter(edge, away), MIDDLE))
        assert inside.level is Level.LIMITING
        assert beyond == Verdict(Level.HOLD, frozenset({"limits.workspace_margin_m"}))


def test_at_the_very_age_limit_a_measurement_is_fresh() -> None:
    for age_s, since_s, stale in (
        (LIMITS.stale_s, 0.0, False),
        (math.nextafter(LIMITS.stale_s, 1.0), 0.0, True),
        (0.0, 0.0625, True),
        (0.0, -0.0625, True),
        (0.0, 0.03125, False),
        (0.0, -0.03125, False),
        (0.03125, 0.03125, True),
    ):
        verdict = guarded(LIMITS, NOTHING, age_s=age_s, stamp_s=10.0 - since_s)
        assert verdict.causes == ({"limits.stale_s"} if stale else set())
