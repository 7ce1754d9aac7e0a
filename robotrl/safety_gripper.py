"""The gripper's gate: one pure function between every policy and every arm; deny by default.

Faults stop the arm where it is, and are latched until `rearm`: a clock that stands still; measurements not
finite or not fresh; a gripper measured outside the workspace; a request that is no number.

Without a fault the request is limited: first to where the workspace lets the gripper go from where it is
measured, then to the largest displacement of one tick, and the opening to its range. So a displacement never
exceeds that of one tick, and leads out of the workspace at most from outside, on the way in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from robotrl.spec.arm import ArmLimits
from robotrl.spec.gate import Level, Verdict, strongest
from robotrl.spec.gripper import ArmState, GripperCommand
from robotrl.spec.state import Floats, frozen

ROUNDING_M = 1e-6
"""A request changed by less is not called limited: policies compute in float32."""

STOP = GripperCommand(None)


@dataclass(frozen=True, slots=True)
class GripperMemory:
    """What the gate carries from tick to tick: start from the default, clear faults with `rearm`."""

    limiting_since_s: float = math.inf
    """Infinite while the gate is not limiting."""
    latched: Verdict = field(default_factory=Verdict)
    now_s: float = -math.inf


def rearm(memory: GripperMemory) -> GripperMemory:
    """Clear every latched fault; one whose cause is still there latches again in the next tick."""
    return replace(memory, latched=Verdict(), limiting_since_s=math.inf)


def estop(memory: GripperMemory) -> GripperMemory:
    """Latch the operator's emergency stop: the arm stays where it is until `rearm`."""
    return replace(memory, latched=strongest(memory.latched, Verdict(Level.HOLD, frozenset({"estop"}))))


def guard(
    limits: ArmLimits, memory: GripperMemory, state: ArmState, wish_m: Floats | None, now_s: float
) -> tuple[GripperCommand, GripperMemory, Verdict]:
    """Decide what is sent to the controller in this tick.

    Args:
        limits: the arm's limits.
        memory: what the previous call returned.
        state: the newest measurement.
        wish_m: what is asked for, (4,) as `GRIPPER_AXES`; None to stop.
        now_s: time of this tick, on the clock of `state.stamp_s`.

    Returns:
        The command to send, the memory for the next call, and what was done and why.
    """
    ticking = memory.now_s < now_s < math.inf
    memory = replace(memory, now_s=now_s if ticking else memory.now_s)
    wrong = {
        "now_s": not ticking,
        **_lost_sensing(limits, state, now_s),
        "limits.workspace_margin_m": _astray(limits, state),
        "request.gripper_command": wish_m is not None and not _is_command(wish_m),
    }
    fault = strongest(memory.latched, _flag(Level.HOLD, wrong))
    if fault.level or wish_m is None:
        return STOP, replace(memory, latched=fault, limiting_since_s=math.inf), fault
    move_m, verdict = _limited(limits, state, wish_m)
    since_s = min(memory.limiting_since_s, now_s) if verdict.level else math.inf
    if now_s - since_s >= limits.sustained_limiting_s:
        fault = strongest(verdict, Verdict(Level.HOLD, frozenset({"limits.sustained_limiting_s"})))
        return STOP, replace(memory, latched=fault), fault
    return GripperCommand(move_m), replace(memory, limiting_since_s=since_s), verdict


def _lost_sensing(limits: ArmLimits, state: ArmState, now_s: float) -> dict[str, bool]:
    """What is not finite or not fresh."""
    since_s = abs(now_s - state.stamp_s)
    lost = {"limits.stale_s": not (state.age_s >= 0 and state.age_s + since_s <= limits.stale_s)}
    return lost | {name: not np.isfinite(values).all() for name, values in state.channels.items()}


def _astray(limits: ArmLimits, state: ArmState) -> bool:
    """Whether the gripper is far outside the workspace; one that is nowhere is lost, not astray."""
    low, high = limits.workspace_m
    outside_m = np.maximum(low - state.gripper_pos_m, state.gripper_pos_m - high)
    return bool((outside_m > limits.workspace_margin_m).any())


def _is_command(wish_m: Floats) -> bool:
    return wish_m.shape == (4,) and bool(np.isfinite(wish_m).all())


def _limited(limits: ArmLimits, state: ArmState, wish_m: Floats) -> tuple[Floats, Verdict]:
    """Return the wish within every limit, (4,), and what was changed."""
    wanted, opening = wish_m[:3], wish_m[3]
    low, high = (corner - state.gripper_pos_m for corner in limits.workspace_m)
    inside = np.clip(wanted, low, high)
    moved = np.clip(inside, -limits.displacement_m, limits.displacement_m)
    opened = np.clip(opening, *limits.opening_m)
    changed: dict[str, bool] = {
        f"limits.workspace_{axis}_m": bool(abs(change) > ROUNDING_M)
        for axis, change in zip("xyz", inside - wanted, strict=True)
    }
    changed["limits.displacement_m"] = bool((np.abs(moved - inside) > ROUNDING_M).any())
    changed["limits.opening_m"] = bool(abs(opened - opening) > ROUNDING_M)
    return frozen(np.append(moved, opened)), _flag(Level.LIMITING, changed)


def _flag(level: Level, wrong: Mapping[str, bool]) -> Verdict:
    """Return `level` with the causes that apply, or a clear verdict."""
    causes = frozenset(cause for cause, applies in wrong.items() if applies)
    return Verdict(level if causes else Level.NONE, causes)
