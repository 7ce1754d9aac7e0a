"""The safety gate: one pure function between every policy and every motor; deny by default.

Faults, the strongest reaction wins, latched until `rearm`: a clock that stands still -> on_fault;
measurements not finite or not fresh -> on_lost_sensing; measured limits -> on_fault; tilt -> on_fall;
servo health, tracking and joints that read the same wherever they are to go, N ticks in a row -> on_fault;
a request that is no number -> on_fault.

Without a fault the request is limited: position clamp, blend-in after a change of source, then the
window around the previous command (rate) and, inside it, the window around the measured position
(torque). The windows are nested, so that no step can undo an earlier one: a command is always within
the position limits and the rate, and as near to the torque bound as those two permit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from robotrl.spec.gate import (
    CLEAR,
    PERSISTENT,
    REACTIONS,
    GateLimits,
    GateMemory,
    Level,
    Request,
    Verdict,
    strongest,
)  # fmt: skip
from robotrl.spec.state import CommandKind, Floats, JointCommand, RobotState, frozen

ROUNDING_RAD = 1e-6
"""A request changed by less is not called limited: policies compute in float32."""

Wrong = Mapping[str, NDArray[np.bool_] | bool]
"""Cause -> whether it applies, or (n,) to which joints; `{}` in a cause stands for the joint's name."""

_WEAKEST = {Level.HOLD: CommandKind.TRACK, Level.DAMP: CommandKind.DAMP, Level.LIMP: CommandKind.LIMP}


def rearm(limits: GateLimits, memory: GateMemory, state: RobotState, now_s: float) -> GateMemory:
    """Clear every latched fault; a robot that was held is from now on held where it is measured.

    A joint that is not well measured keeps its target: it must not jump to a value that no one believes.
    A fault whose cause is still there latches again in the next tick.
    """
    command = memory.command
    if command.kind is CommandKind.TRACK:
        wrong = [*_lost_joints(limits, state, now_s).values(), *_beyond_limits(limits, state).values()]
        here = np.where(np.any(wrong, axis=0), command.joint_target_rad, state.joint_pos_rad)
        command = JointCommand(CommandKind.TRACK, frozen(here))
    return replace(GateMemory.fresh(command.joint_target_rad.size), command=command)


def estop(memory: GateMemory) -> GateMemory:
    """Latch the operator's emergency stop: torque off until `rearm`."""
    return replace(memory, latched=strongest(memory.latched, Verdict(Level.LIMP, frozenset({"estop"}))))


def guard(
    limits: GateLimits, memory: GateMemory, state: RobotState, request: Request, now_s: float
) -> tuple[JointCommand, GateMemory, Verdict]:
    """Decide what is written to the servos in this tick.

    Args:
        limits: the robot's limits.
        memory: what the previous call returned.
        state: the newest measurement.
        request: what the current source asks for.
        now_s: time of this tick, on the clock of `state.stamp_s`.

    Returns:
        The command to write, the memory for the next call, and what was done and why.
    """
    ticking = memory.now_s < now_s < math.inf
    elapsed_s = min(now_s - memory.now_s, limits.period_s)  # a stalled loop earns no larger step
    step_rad = limits.scalar.command_speed_rad_s * elapsed_s
    still_rad = _watch(limits, memory, state)
    bad = _count_bad_ticks(limits, memory, still_rad, state)
    memory = replace(memory, still_rad=still_rad, bad_ticks=bad, now_s=now_s if ticking else memory.now_s)
    fault = _faults(limits, memory, state, request, now_s, ticking)
    base = _previous_target(limits, memory, state)
    if fault.level or request.kind is not CommandKind.TRACK:
        return _do_not_follow(memory, request, base, fault)
    moved, verdict = _follow(limits, memory, state, request, base, step_rad)
    if now_s - moved.limiting_since_s < limits.scalar.sustained_limiting_s:
        return moved.command, moved, verdict
    sustained = Verdict(REACTIONS[limits.scalar.on_fault], frozenset({"limits.sustained_limiting_s"}))
    return _do_not_follow(memory, request, base, strongest(verdict, sustained))


def _faults(
    limits: GateLimits, memory: GateMemory, state: RobotState, request: Request, now_s: float, ticking: bool
) -> Verdict:
    """Everything that is wrong now or was before and is latched."""
    scalar, tilt_rad = limits.scalar, state.tilt_rad
    fallen = scalar.tilt_rad is not None and tilt_rad > scalar.tilt_rad
    lost: Wrong = {**_lost_joints(limits, state, now_s), **_lost_senses(limits, state, tilt_rad, now_s)}
    broken: Wrong = {
        "now_s": not ticking,
        **_beyond_limits(limits, state),
        **dict(zip(PERSISTENT, memory.bad_ticks >= scalar.fault_ticks, strict=True)),
        "request.joint_target_rad": _no_number(limits, request),
    }
    return strongest(
        memory.latched,
        _flag(limits, REACTIONS[scalar.on_lost_sensing], lost),
        _flag(limits, REACTIONS[scalar.on_fall or scalar.on_fault], {"limits.tilt_rad": fallen}),
        _flag(limits, REACTIONS[scalar.on_fault], broken),
    )


def _within(values: Floats, low: Floats, high: Floats) -> Floats:
    """As np.clip, which takes three times as long for a few joints."""
    return np.minimum(np.maximum(values, low), high)


def _previous_target(limits: GateLimits, memory: GateMemory, state: RobotState) -> Floats:
    """What the servos follow now; where they follow nothing, the measured posture."""
    following = memory.command.kind is CommandKind.TRACK
    here = memory.command.joint_target_rad if following else state.joint_pos_rad
    return _within(here, limits.position_min_rad, limits.position_max_rad)


def _watch(limits: GateLimits, memory: GateMemory, state: RobotState) -> Floats:
    """Note where each joint was asked to be since it first read what it reads anew now, as `still_rad`."""
    asked, (before, low, high) = memory.asked_rad, memory.still_rad
    same = (before == state.joint_pos_rad) & (low <= high) & (state.joint_age_s < limits.period_s)
    low, high = np.minimum(low, asked), np.maximum(high, asked)
    return frozen((state.joint_pos_rad, np.where(same, low, asked), np.where(same, high, asked)))


def _count_bad_ticks(
    limits: GateLimits, memory: GateMemory, still_rad: Floats, state: RobotState
) -> NDArray[np.int64]:
    """Count on where a check fails; a health value that is no number fails."""
    scalar = limits.scalar
    bad = (
        ~(np.isfinite(state.temperature_c) & (state.temperature_c <= scalar.temperature_c)),
        ~(state.voltage_v >= scalar.voltage_min_v),
        ~(state.voltage_v <= scalar.voltage_max_v),
        state.hardware_error != 0,
        np.abs(memory.asked_rad - state.joint_pos_rad) > scalar.tracking_error_rad,
        still_rad[2] - still_rad[1] > limits.stuck_reach_rad,
    )
    return np.where(np.array(bad), memory.bad_ticks + 1, 0)


def _lost_joints(limits: GateLimits, state: RobotState, now_s: float) -> dict[str, NDArray[np.bool_]]:
    """Which joints' measurements are not finite or not fresh."""
    oldest_s = limits.scalar.joint_stale_s - abs(now_s - state.stamp_s)
    return {
        "limits.joint_stale_s": ~((state.joint_age_s >= 0) & (state.joint_age_s <= oldest_s)),
        "joint_pos_rad": ~np.isfinite(state.joint_pos_rad),
        "joint_vel_rad_s": ~np.isfinite(state.joint_vel_rad_s),
    }


def _lost_senses(limits: GateLimits, state: RobotState, tilt_rad: float, now_s: float) -> dict[str, bool]:
    """What else is not finite or not fresh, of the senses that the robot has."""
    since_s, scalar = abs(now_s - state.stamp_s), limits.scalar
    lost = {}
    if scalar.imu_stale_s is not None:
        lost["limits.imu_stale_s"] = not 0 <= state.imu_age_s <= scalar.imu_stale_s - since_s
        lost["imu_quat"] = math.isnan(tilt_rad)
        lost["imu_gyro_rad_s"] = not _finite(state.imu_gyro_rad_s)
        lost["imu_accel_m_s2"] = not _finite(state.imu_accel_m_s2)
    if scalar.estimator_stale_s is not None:
        lost["limits.estimator_stale_s"] = not 0 <= state.estimate_age_s <= scalar.estimator_stale_s - since_s
        lost["estimate"] = not all(map(_finite, state.estimate.values()))
    return lost


def _finite(values: Floats) -> bool:
    return all(map(math.isfinite, values.ravel().tolist()))


def _beyond_limits(limits: GateLimits, state: RobotState) -> dict[str, NDArray[np.bool_]]:
    margin = limits.scalar.position_margin_rad
    return {
        "joint.{}.position_min_rad": state.joint_pos_rad < limits.position_min_rad - margin,
        "joint.{}.position_max_rad": state.joint_pos_rad > limits.position_max_rad + margin,
        "limits.speed_rad_s": np.abs(state.joint_vel_rad_s) > limits.scalar.speed_rad_s,
    }


def _no_number(limits: GateLimits, request: Request) -> NDArray[np.bool_] | bool:
    if request.kind is not CommandKind.TRACK:
        return False
    target = request.joint_target_rad
    return ~np.isfinite(target) if target.shape == (len(limits.joint_names),) else True


def _do_not_follow(
    memory: GateMemory, request: Request, base: Floats, fault: Verdict
) -> tuple[JointCommand, GateMemory, Verdict]:
    """Hold, damp or go limp. A fault never makes a command stiffer than it was or than was requested."""
    kind = request.kind
    if fault.level:
        kind = max(kind, memory.command.kind, _WEAKEST[fault.level])
    target = frozen(base if kind is CommandKind.TRACK else np.full_like(base, np.nan))
    command = JointCommand(kind, target)
    memory = replace(memory, command=command, asked_rad=target, source=None, latched=fault)
    return command, replace(memory, limiting_since_s=math.inf), fault


def _follow(
    limits: GateLimits, memory: GateMemory, state: RobotState, request: Request, base: Floats, step_rad: float
) -> tuple[GateMemory, Verdict]:
    """Track the request within every limit."""
    if request.source != memory.source:
        memory = replace(memory, source=request.source, blend_from_rad=base, blend_since_s=memory.now_s)
    wish = request.joint_target_rad
    inside = _within(wish, limits.position_min_rad, limits.position_max_rad)
    weight = min((memory.now_s - memory.blend_since_s) / limits.scalar.blend_in_s, 1.0)
    asked = inside if weight == 1.0 else weight * inside + (1.0 - weight) * memory.blend_from_rad
    low = np.maximum(limits.position_min_rad, base - step_rad)
    high = np.minimum(limits.position_max_rad, base + step_rad)
    rated = _within(asked, low, high)
    low = _within(state.joint_pos_rad - limits.torque_reach_rad, low, high)
    high = _within(state.joint_pos_rad + limits.torque_reach_rad, low, high)
    target = frozen(_within(rated, low, high))
    changed = {
        "joint.{}.position_min_rad": inside - wish > ROUNDING_RAD,
        "joint.{}.position_max_rad": wish - inside > ROUNDING_RAD,
        "limits.command_speed_rad_s": np.abs(rated - asked) > ROUNDING_RAD,
        "limits.torque_nm": np.abs(target - rated) > ROUNDING_RAD,
    }
    verdict = _flag(limits, Level.LIMITING, changed)
    since_s = min(memory.limiting_since_s, memory.now_s) if verdict.level else math.inf
    command = JointCommand(CommandKind.TRACK, target)
    return replace(memory, command=command, asked_rad=frozen(asked), limiting_since_s=since_s), verdict


def _flag(limits: GateLimits, level: Level, wrong: Wrong) -> Verdict:
    """Return `level` with the causes that apply and the joints they apply to, or a clear verdict."""
    causes, joints = set[str](), set[str]()
    for cause, bad in wrong.items():
        if not isinstance(bad, np.ndarray):
            causes |= {cause} if bad else set()
        elif 1 in bad.tobytes():  # quicker than any()
            for joint in compress(limits.joint_names, bad.tolist()):
                causes.add(cause.format(joint))
                joints.add(joint)
    return Verdict(level, frozenset(causes), frozenset(joints)) if causes else CLEAR
