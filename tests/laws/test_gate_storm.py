"""Every shipped robot's gate in random and boundary-dense ticks, and that the witness sees broken gates."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from robotrl.bench import gate_storm, gripper_storm
from robotrl.bench.gate import every_robot
from robotrl.bench.gate_laws import Witness
from robotrl.bench.gate_storm import JointStorm, boundaries, calm, tripped
from robotrl.bench.gripper_storm import GripperStorm
from robotrl.errors import VerificationError
from robotrl.runtime.modes import TRANSITIONS, Event, Mode, ModeMachine
from robotrl.safety import guard
from robotrl.safety_gripper import guard as gripper_guard
from robotrl.spec.arm import ArmSpec
from robotrl.spec.gate import PERSISTENT, GateLimits, GateMemory, Level, Request, Verdict
from robotrl.spec.gripper import GripperCommand
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, JointCommand, RobotState, frozen

ROBOTS = [robot for robot in every_robot().values() if isinstance(robot, RobotSpec)]
ARMS = [arm for arm in every_robot().values() if isinstance(arm, ArmSpec)]
REACTIONS = [("limp", "hold", "damp"), ("damp", "limp", "hold"), ("hold", "hold", "hold")]


def named(value: RobotSpec | ArmSpec) -> str:
    return value.name


@pytest.mark.parametrize("robot", ROBOTS, ids=named)
def test_no_law_is_broken_in_bad_weather(robot: RobotSpec) -> None:
    storm = JointStorm(robot, 2026)
    storm.run(800)
    for level in ("NONE", "LIMITING", robot.limits.on_fault.upper()):
        assert storm.seen[level] > 10, level


def test_the_weather_is_bad_in_every_way() -> None:
    storm = JointStorm(next(robot for robot in ROBOTS if robot.imu), 3)
    storm.run(4000)
    for cause in (*PERSISTENT, "limits.tilt_rad", "limits.joint_stale_s", "limits.imu_stale_s", "now_s"):
        assert storm.seen[cause], cause


@pytest.mark.parametrize("robot", ROBOTS, ids=named)
def test_no_law_is_broken_in_a_loop_that_is_faster_than_the_policy(robot: RobotSpec) -> None:
    control = dataclasses.replace(robot.control, bus_rate_hz=4 * robot.control.rate_hz)
    JointStorm(dataclasses.replace(robot, control=control), 11).run(500)


@pytest.mark.parametrize("reactions", REACTIONS, ids="-".join)
def test_no_law_is_broken_whatever_the_reactions_are(reactions: tuple[Any, Any, Any]) -> None:
    for robot in ROBOTS:
        lost, fault, fall = reactions
        limits = dataclasses.replace(robot.limits, on_lost_sensing=lost, on_fault=fault)
        limits = dataclasses.replace(limits, on_fall=fall if robot.imu else None)
        JointStorm(dataclasses.replace(robot, limits=limits), 7).run(200)


@pytest.mark.parametrize("opening_m", [(0.0, 0.0), (-0.02, 0.03)])
@pytest.mark.parametrize("arm", ARMS, ids=named)
def test_no_law_of_the_gripper_is_broken_in_bad_weather(arm: ArmSpec, opening_m: tuple[float, float]) -> None:
    limits = dataclasses.replace(arm.limits, opening_m=opening_m)
    storm = GripperStorm(dataclasses.replace(arm, limits=limits), 2026)
    storm.run(1000)
    for level in ("NONE", "LIMITING", "HOLD"):
        assert storm.seen[level] > 50, level


def following(robot: RobotSpec, memory: GateMemory, now_s: float) -> RobotState:
    """A calm robot whose joints are where they were sent."""
    state, command = calm(robot, now_s), memory.command
    followed = command.kind is CommandKind.TRACK
    return dataclasses.replace(state, joint_pos_rad=command.joint_target_rad.copy()) if followed else state


def in_mode(robot: RobotSpec, mode: Mode) -> tuple[ModeMachine, GateMemory, Witness, float]:
    """A robot that got to a mode by legal steps, each followed by a second of calm ticks."""
    roads: dict[Mode, list[Event | None]] = {Mode.LIMP: [None]}
    while mode not in roads:
        for (start, event), end in TRANSITIONS.items():
            if start in roads:
                roads.setdefault(end, [*roads[start], event])
    machine, limits = ModeMachine(robot), GateLimits.of(robot)
    memory, witness, now_s = GateMemory.fresh(len(robot.joint)), Witness(robot), 10.0
    for step in roads[mode]:
        if step is not None:
            machine.handle(step, now_s, robot.default_rad)
        for _ in range(2 + math.ceil(robot.limits.blend_in_s / limits.period_s)):
            now_s += limits.period_s
            state = following(robot, memory, now_s)
            request = machine.request(now_s, memory.command.joint_target_rad, robot.default_rad)
            command, memory, verdict = guard(limits, memory, state, request, now_s)
            assert not witness.tick(state, request, now_s, command, verdict)
            assert verdict.level <= Level.LIMITING
    return machine, memory, witness, now_s


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("robot", ROBOTS, ids=named)
def test_no_law_is_broken_at_a_boundary_in_any_mode(robot: RobotSpec, mode: Mode) -> None:
    machine, memory_before, witness_before, before_s = in_mode(robot, mode)
    limits, levels = GateLimits.of(robot), Counter[Level]()
    shared: dict[int, object] = {id(record): record for record in (robot, robot.limits)}
    for joint in range(list(Mode).index(mode), len(robot.joint), len(Mode)):
        for name, values in boundaries(robot, joint).items():
            levels.clear()
            for value in set(values):
                memory, witness, now_s = memory_before, copy.deepcopy(witness_before, {**shared}), before_s
                for _ in range(1 if name.startswith("joint") else robot.limits.fault_ticks):
                    now_s += limits.period_s
                    state = following(robot, memory, now_s)
                    getattr(state, name)[joint] = value
                    held_rad = memory.command.joint_target_rad
                    request = machine.request(now_s, held_rad, robot.default_rad)
                    command, memory, verdict = guard(limits, memory, state, request, now_s)
                    assert not witness.tick(state, request, now_s, command, verdict), (name, value)
                levels[verdict.level] += 1
            stopped = sum(levels[level] for level in Level if level >= Level.HOLD)
            assert 0 < stopped < levels.total(), f"the scan of {name} must cross its limits"


Answer = tuple[JointCommand, GateMemory, Verdict]


def moved(answer: Answer, by_rad: float) -> Answer:
    """The same answer with one target elsewhere, where there are targets."""
    command, memory, verdict = answer
    target = command.joint_target_rad.copy()
    target[0] += by_rad
    command = JointCommand(command.kind, frozen(target))
    return command, dataclasses.replace(memory, command=command), verdict


def forgets_faults(limits: GateLimits, memory: GateMemory, *rest: Any) -> Answer:
    return guard(limits, dataclasses.replace(memory, latched=Verdict()), *rest)


def counts_anew(limits: GateLimits, memory: GateMemory, *rest: Any) -> Answer:
    return guard(limits, dataclasses.replace(memory, bad_ticks=0 * memory.bad_ticks), *rest)


def never_tires(limits: GateLimits, memory: GateMemory, *rest: Any) -> Answer:
    return guard(limits, dataclasses.replace(memory, limiting_since_s=math.inf), *rest)


def is_blind(
    limits: GateLimits, memory: GateMemory, state: RobotState, request: Request, now_s: float
) -> Answer:
    level = dataclasses.replace(state, imu_quat=np.array([1.0, 0.0, 0.0, 0.0]))
    return guard(limits, memory, level, request, now_s)


def leaves_targets_writeable(*everything: Any) -> Answer:
    command, memory, verdict = guard(*everything)
    return JointCommand(command.kind, command.joint_target_rad.copy()), memory, verdict


def stiffens(*everything: Any) -> Answer:
    command, memory, verdict = guard(*everything)
    if command.kind is CommandKind.DAMP:
        command = JointCommand(CommandKind.TRACK, everything[0].position_min_rad)
    return command, memory, verdict


def overflows(*everything: Any) -> Answer:
    np.array([1e308]) * 10.0
    return guard(*everything)


@pytest.mark.parametrize(
    "broken",
    [
        forgets_faults,
        counts_anew,
        never_tires,
        is_blind,
        leaves_targets_writeable,
        stiffens,
        overflows,
        lambda *everything: moved(guard(*everything), 1e-8),
        lambda *everything: moved(guard(*everything), -1e-12),
    ],
)
def test_the_witness_sees_a_broken_gate(
    broken: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_storm, "guard", broken)
    quad12 = next(robot for robot in ROBOTS if robot.imu)
    with pytest.raises(VerificationError, match=r"breaks a law: quad12, seed 5, tick \d+: "):
        JointStorm(quad12, 5).run(10_000)


def test_the_witness_sees_a_broken_gripper_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    def jumps(*everything: Any) -> Any:
        command, memory, verdict = gripper_guard(*everything)
        if command.move_m is not None:
            command = GripperCommand(frozen(2 * command.move_m))
        return command, memory, verdict

    monkeypatch.setattr(gripper_storm, "guard", jumps)
    with pytest.raises(VerificationError, match="breaks a law: fetch_sim, seed 5, tick 0: "):
        GripperStorm(ARMS[0], 5).run(10_000)


def test_a_storm_is_drawn_from_its_seed() -> None:
    storms = [JointStorm(ROBOTS[0], seed) for seed in (3, 3, 4)]
    for storm in storms:
        storm.run(100)
    assert storms[0].seen == storms[1].seen != storms[2].seen
    assert 0 < tripped(storms[0].seen) < 100
