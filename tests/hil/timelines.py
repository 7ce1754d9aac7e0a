"""What a robot reports and when: the first and the last tick of everything that driver and gate say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from robotrl.emulator.faults import FaultScript
from robotrl.spec.gate import Level, Verdict
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import Floats, RobotState
from tests.hil.on_emulated_time import Robot

STRIKE_S = 0.2
"""Tick 0 is the first one after this, when every fault begins."""
_EARLY_S = 0.0005


def shifted(faults: Mapping[str, Any], from_tick: int, ticks: int, period_s: float) -> FaultScript:
    """Return a script of records that begin just before one tick and end just before another."""
    begin_s = STRIKE_S + from_tick * period_s - _EARLY_S
    window = {"from_s": begin_s, "until_s": begin_s + ticks * period_s}
    return FaultScript(
        **{key: tuple(dataclasses.replace(f, **window) for f in records) for key, records in faults.items()}
    )


def reports(spec: RobotSpec, state: RobotState, verdict: Verdict) -> set[str]:
    """Return everything that is not well in one tick, in words.

    `old 12`: servo 12 has not been heard in this tick; `error 12: 4`: its hardware error; `old imu`;
    `DAMP limits.tilt_rad`: the gate's level with each of its causes.
    """
    said = set()
    for i, joint in enumerate(spec.joint):
        if state.joint_age_s[i] > 0:
            said.add(f"old {joint.id}")
        if state.hardware_error[i]:
            said.add(f"error {joint.id}: {state.hardware_error[i]}")
    if spec.imu and state.imu_age_s > 0:
        said.add("old imu")
    if verdict.level is not Level.NONE:
        said |= {f"{verdict.level.name} {cause}" for cause in verdict.causes}
    return _summed(said, spec)


def _summed(said: set[str], spec: RobotSpec) -> set[str]:
    every = {f"old {joint.id}" for joint in spec.joint}
    return (said - every) | {"old all"} if every <= said else said


Span = tuple[int, int]
"""First and last tick of a report."""


def watch(
    robot: Robot,
    ticks: int,
    first_tick: int = 0,
    before: Mapping[str, Span] = MappingProxyType({}),
    step_rad: Floats | float = 0.0,
) -> dict[str, Span]:
    """Return the first and the last tick of every report, those `before` included.

    Args:
        robot: the robot.
        ticks: how many are watched.
        first_tick: number of the first one.
        before: what was seen earlier.
        step_rad: how far the target moves in each tick.
    """
    seen = dict(before)
    for tick in range(first_tick, first_tick + ticks):
        for said in reports(robot.spec, *robot.tick()):
            seen[said] = (seen.get(said, (tick, tick))[0], tick)
        moved = robot.target_rad + step_rad
        robot.target_rad = np.clip(moved, robot.spec.position_min_rad, robot.spec.position_max_rad)
    return seen


def run_until_strike(robot: Robot) -> None:
    """Tick until just before the fault."""
    while (robot.ticks + 1.5) * robot.period_s < STRIKE_S:
        state, verdict = robot.tick()
        assert reports(robot.spec, state, verdict) == set()
    assert robot.machine.buses["legs"].torque_enabled.all()


def follows(robot: Robot) -> bool:
    """Whether every servo takes a new target, with torque on."""
    bus = robot.machine.buses["legs"]
    robot.target_rad = robot.target_rad + np.where(robot.target_rad > 0, -0.05, 0.05)
    for _ in range(27):  # a new target is blended in within 25
        robot.tick()
    close = np.abs(bus.goal_rad - robot.target_rad).max() < 0.01
    return bool(close and bus.torque_enabled.all() and (robot.state.joint_age_s == 0).all())
