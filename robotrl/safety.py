"""The safety gate: one pure function between every policy and every motor; deny by default.

Faults, the strongest reaction wins, latched until `rearm`: a clock that stands still -> on_fault;
measurements not finite or not fresh -> on_lost_sensing; measured limits -> on_fault; tilt -> on_fall;
servo health and tracking, N ticks in a row -> on_fault; a request that is no number -> on_fault.

Without a fault the request is limited: position clamp, blend-in after a change of source, then the
window around the previous command (rate) and, inside it, the window around the measured position
(torque). The windows are nested, so that no step can undo an earlier one: a command is always within
the position limits and the rate, and as near to the torque bound as those two permit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from robotrl.spec.gate import GateLimits, Level, Request, Verdict, strongest
from robotrl.spec.state import CommandKind, Floats, JointCommand, RobotState, frozen

ROUNDING_RAD = 1e-6
"""A request changed by less is not called limited: policies compute in float32."""

PERSISTENT = (
    "limits.temperature_c",
    "limits.voltage_min_v",
    "limits.voltage_max_v",
    "hardware_error",
    "limits.tracking_error_rad",
)
"""Checks that must fail `fault_ticks` times in a row: one odd reading is no fault."""

Wrong = Mapping[str, NDArray[np.bool_] | bool]
"""Cause -> whether it applies, or (n,) to which joints; `{}` in a cause stands for the joint's name."""

_REACTION = {"hold": Level.HOLD, "damp": Level.DAMP, "limp": Level.LIMP}
_WEAKEST = {Level.HOLD: CommandKind.TRACK, Level.DAMP: CommandKind.DAMP, Level.LIMP: CommandKind.LIMP}


@dataclass(frozen=True, slots=True)
class GateMemory:
    """What the gate carries from tick to tick: start from `fresh`, clear faults with `rearm`."""

    command: JointCommand
    asked_rad: Floats
    """(n,) what TRACK asked for before the rate and torque windows; otherwise NaN."""
    source: str | None
    blend_from_rad: Floats
    blend_since_s: float
    limiting_since_s: float
    """Infinite while the gate is not limiting."""
    bad_ticks: NDArray[np.int64]
    """(5, n) failures in a row of each check in `PERSISTENT`."""
    latched: Verdict
    now_s: float

    @classmethod
    def fresh(cls, joint_count: int) -> GateMemory:
        """Return the memory of a limp robot without a fault."""
        nothing = frozen(np.full(joint_count, np.nan))
        counts = np.zeros((len(PERSISTENT), joint_count), dtype=np.int64)
        limp = JointCommand(CommandKind.LIMP, nothing)
        return cls(limp, nothing, None, nothing, -math.inf, math.inf, counts, Verdict(), -math.inf)


def rearm(memory: GateMemory, state: RobotState) -> GateMemory:
    """Clear every latched fault; a robot that was held is from now on held where it is measured.

    A fault whose cause is still there latches again in the next tick.
    """
    command = memory.command
    if command.kind is CommandKind.TRACK:
        here = np.where(np.isfinite(state.joint_pos_rad), state.joint_pos_rad, command.joint_target_rad)
        command = JointCommand(CommandKind.TRACK, frozen(here))
    return replace(GateMemory.fresh(command.joint_target_rad.size), command=command)


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
    bad_ticks = _count_bad_ticks(limits, memory, state)
    memory = replace(memory, bad_ticks=bad_ticks, now_s=now_s if ticking else memory.now_s)
    scalar = limits.scalar
    broken = {
        "now_s": not ticking,
        **_beyond_limits(limits, state),
        **dict(zip(PERSISTENT, bad_ticks >= scalar.fault_ticks, strict=True)),
        "request.joint_target_rad": _no_number(limits, request),
    }
    fault = strongest(
        memory.latched,
        _flag(limits, _REACTION[scalar.on_lost_sensing], _lost_sensing(limits, state, now_s)),
        _fallen(limits, state),
        _flag(limits, _REACTION[scalar.on_fault], broken),
    )
    base = _previous_target(limits, memory, state)
    if fault.level or request.kind is not CommandKind.TRACK:
        return _do_not_follow(memory, request, base, fault)
    moved, verdict = _follow(limits, memory, state, request, base, elapsed_s)
    if now_s - moved.limiting_since_s < scalar.sustained_limiting_s:
        return moved.command, moved, verdict
    sustained = _flag(limits, _REACTION[scalar.on_fault], {"limits.sustained_limiting_s": True})
    return _do_not_follow(memory, request, base, strongest(verdict, sustained))


def _previous_target(limits: GateLimits, memory: GateMemory, state: RobotState) -> Floats:
    """What the servos follow now; where they follow nothing, the measured posture."""
    following = memory.command.kind is CommandKind.TRACK
    here = memory.command.joint_target_rad if following else state.joint_pos_rad
    return np.clip(here, limits.position_min_rad, limits.position_max_rad)


def _count_bad_ticks(limits: GateLimits, memory: GateMemory, state: RobotState) -> NDArray[np.int64]:
    """Count on where a check fails; a health value that is no number fails."""
    scalar = limits.scalar
    bad = (
        ~(np.isfinite(state.temperature_c) & (state.temperature_c <= scalar.temperature_c)),
        ~(state.voltage_v >= scalar.voltage_min_v),
        ~(state.voltage_v <= scalar.voltage_max_v),
        state.hardware_error != 0,
        np.abs(memory.asked_rad - state.joint_pos_rad) > scalar.tracking_error_rad,
    )
    return np.where(np.stack(bad), memory.bad_ticks + 1, 0)


def _lost_sensing(limits: GateLimits, state: RobotState, now_s: float) -> Wrong:
    """What is not finite or not fresh, of the senses that the robot has."""
    since_s, scalar = abs(now_s - state.stamp_s), limits.scalar

    def stale(age_s: float, limit_s: float) -> bool:
        return not (age_s >= 0 and age_s + since_s <= limit_s)

    lost: dict[str, NDArray[np.bool_] | bool] = {
        "limits.joint_stale_s": ~(
            (state.joint_age_s >= 0) & (state.joint_age_s + since_s <= scalar.joint_stale_s)
        ),
        "joint_pos_rad": ~np.isfinite(state.joint_pos_rad),
        "joint_vel_rad_s": ~np.isfinite(state.joint_vel_rad_s),
    }
    if scalar.imu_stale_s is not None:
        lost["limits.imu_stale_s"] = stale(state.imu_age_s, scalar.imu_stale_s)
        lost["imu_quat"] = math.isnan(state.tilt_rad)
        lost["imu_gyro_rad_s"] = not np.isfinite(state.imu_gyro_rad_s).all()
        lost["imu_accel_m_s2"] = not np.isfinite(state.imu_accel_m_s2).all()
    if scalar.estimator_stale_s is not None:
        lost["limits.estimator_stale_s"] = stale(state.estimate_age_s, scalar.estimator_stale_s)
        lost["estimate"] = not all(np.isfinite(values).all() for values in state.estimate.values())
    return lost


def _fallen(limits: GateLimits, state: RobotState) -> Verdict:
    scalar = limits.scalar
    if scalar.tilt_rad is None or scalar.on_fall is None:  # there is no IMU
        return Verdict()
    return _flag(limits, _REACTION[scalar.on_fall], {"limits.tilt_rad": state.tilt_rad > scalar.tilt_rad})


def _beyond_limits(limits: GateLimits, state: RobotState) -> Wrong:
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
    limits: GateLimits,
    memory: GateMemory,
    state: RobotState,
    request: Request,
    base: Floats,
    elapsed_s: float,
) -> tuple[GateMemory, Verdict]:
    """Track the request within every limit."""
    if request.source != memory.source:
        memory = replace(memory, source=request.source, blend_from_rad=base, blend_since_s=memory.now_s)
    wish = request.joint_target_rad
    inside = np.clip(wish, limits.position_min_rad, limits.position_max_rad)
    weight = min((memory.now_s - memory.blend_since_s) / limits.scalar.blend_in_s, 1.0)
    asked = weight * inside + (1.0 - weight) * memory.blend_from_rad
    step = limits.scalar.command_speed_rad_s * elapsed_s
    low = np.maximum(limits.position_min_rad, base - step)
    high = np.minimum(limits.position_max_rad, base + step)
    rated = np.clip(asked, low, high)
    low = np.clip(state.joint_pos_rad - limits.torque_reach_rad, low, high)
    high = np.clip(state.joint_pos_rad + limits.torque_reach_rad, low, high)
    target = frozen(np.clip(rated, low, high))
    changed = {
        "joint.{}.position_min_rad": inside > wish + ROUNDING_RAD,
        "joint.{}.position_max_rad": inside < wish - ROUNDING_RAD,
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
        named = set(compress(limits.joint_names, bad) if isinstance(bad, np.ndarray) else [""] * bad)
        causes |= {cause.format(joint) for joint in named}
        joints |= named
    return Verdict(level if causes else Level.NONE, frozenset(causes), frozenset(joints - {""}))
