"""Laws of a joint that reads the same wherever it is to go: what is a fault, where exactly, and what not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest

from robotrl.spec.gate import GateLimits, Level, Request, Verdict
from robotrl.spec.state import CommandKind, Floats
from tests.laws.rig import TICK_S, Gate, robot_with, track

N, J = 6, 1
"""Joints of the robot under test, and the joint that goes wrong."""

STUCK_NM = 0.5
ROBOT = robot_with(N, stuck_nm=STUCK_NM)
REACH_RAD = STUCK_NM / ROBOT.stiffness_nm_rad[J]
TICKS = ROBOT.limits.fault_ticks
STUCK = Verdict(Level.DAMP, frozenset({"limits.stuck_nm"}), frozenset({f"joint{J}"}))
COUNT_RAD = 2 * math.pi / 4096


def moved(by_rad: float) -> Floats:
    """The default posture with one joint elsewhere."""
    posture = ROBOT.default_rad.copy()
    posture[J] += by_rad
    return posture


def verdicts(gate: Gate, targets_rad: Iterable[float]) -> list[Verdict]:
    """Send the joint to places relative to its default one, while everything reads the same."""
    return [gate.tick(track(moved(by_rad))) for by_rad in targets_rad]


@pytest.fixture
def gate() -> Gate:
    """A robot that follows its default posture, and reads it."""
    settled = Gate(ROBOT)
    settled.settle()
    return settled


@pytest.mark.parametrize("sign", [-1, 1])
def test_it_is_a_fault_beyond_the_limit_for_so_many_ticks_in_a_row(gate: Gate, sign: int) -> None:
    """The target of a tick is what the next tick's reading should have followed."""
    told = verdicts(gate, [sign * (REACH_RAD + 1e-6)] * (TICKS + 1))
    assert all(v.level < Level.HOLD for v in told[:-1])
    assert told[-1] == STUCK


def test_at_the_limit_it_is_none(gate: Gate) -> None:
    assert all(v.level < Level.HOLD for v in verdicts(gate, [REACH_RAD - 1e-6] * (10 * TICKS)))


def test_at_the_very_limit_it_is_none() -> None:
    """To the last bit, for a joint whose default is zero."""
    reach_rad = GateLimits.of(ROBOT).stuck_reach_rad[0]
    assert ROBOT.default_rad[0] == 0.0
    for way_rad, stuck in ((reach_rad, False), (math.nextafter(reach_rad, 1.0), True)):
        gate, target = Gate(ROBOT), ROBOT.default_rad.copy()
        gate.settle()
        target[0] = way_rad
        for _ in range(TICKS + 1):
            verdict = gate.tick(track(target))
        assert (verdict.causes == {"limits.stuck_nm"}) is stuck


def test_the_way_to_and_fro_counts_and_not_the_distance_from_the_reading(gate: Gate) -> None:
    half = 0.5 * REACH_RAD + 1e-6
    told = verdicts(gate, [half, -half, *[0.0] * (TICKS + 1)])
    assert STUCK in told
    assert not STUCK.causes & told[TICKS].causes
    apart = Gate(ROBOT)
    apart.settle()
    assert all(v.level < Level.HOLD for v in verdicts(apart, [half, 0.0] * (5 * TICKS)))


def test_one_that_stands_still_because_it_is_told_to_is_well(gate: Gate) -> None:
    """However far away it stands: a heavy load bends a servo's spring."""
    for by_rad in (0.9 * REACH_RAD, 0.9 * REACH_RAD, 0.0):
        assert all(v.level < Level.HOLD for v in verdicts(gate, [by_rad] * (5 * TICKS)))


def test_one_count_is_enough_to_be_alive(gate: Gate) -> None:
    far = itertools.cycle([1.5 * REACH_RAD] * 4 + [-1.5 * REACH_RAD] * 4)
    for tick in range(200):
        reading = moved(COUNT_RAD * (tick // (TICKS - 1) % 2))
        verdict = gate.tick(track(moved(next(far))), joint_pos_rad=reading)
        assert verdict.level < Level.HOLD


def test_measurements_that_are_missing_are_no_sign_of_it(gate: Gate) -> None:
    """Every fourth one is: the value before stays, and is a tick old."""
    for tick in range(100):
        age_s = TICK_S if tick % 4 == 0 else 0.0
        sent = track(moved((-1) ** (tick // 8) * 1.5 * REACH_RAD))
        assert gate.tick(sent, joint_age_s=np.full(N, age_s)).level < Level.HOLD


def test_a_robot_that_is_sent_nowhere_is_not_stuck_and_starts_anew(gate: Gate) -> None:
    limp = Request(CommandKind.LIMP, np.full(N, np.nan), "limp")
    verdicts(gate, [0.7 * REACH_RAD])
    for _ in range(3 * TICKS):
        assert gate.tick(limp) == Verdict()
    assert all(v.level < Level.HOLD for v in verdicts(gate, [-0.7 * REACH_RAD] * (3 * TICKS)))


def test_rearming_starts_anew_and_a_joint_that_is_still_stuck_is_found_again(gate: Gate) -> None:
    assert verdicts(gate, [1.2 * REACH_RAD] * (TICKS + 1))[-1] == STUCK
    gate.rearm()
    assert gate.tick() == Verdict()
    there = verdicts(gate, [0.0] * 40)  # until a new source is blended in
    assert all(v.level < Level.HOLD for v in there)
    assert STUCK in verdicts(gate, [1.2 * REACH_RAD] * (TICKS + 1))


def test_a_robot_may_have_joints_that_are_blocked() -> None:
    gate = Gate(robot_with(N))
    gate.settle()
    assert all(v.level < Level.HOLD for v in verdicts(gate, [3 * REACH_RAD, -3 * REACH_RAD] * (5 * TICKS)))
