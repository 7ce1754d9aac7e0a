"""The gripper's gate in bad weather, and its laws written down a second time, one axis at a time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from robotrl.bench.gate_faults import SLACK, Findings
from robotrl.bench.storm import ODD, Storm, around
from robotrl.safety_gripper import GripperMemory, estop, guard, rearm
from robotrl.spec.arm import ArmSpec
from robotrl.spec.gate import Level, Verdict
from robotrl.spec.gripper import ArmState, GripperCommand
from robotrl.spec.state import Floats

ROUNDING_M = 1e-6
"""By how much a request may be changed without a word."""

_SIZES = {"gripper_pos_m": 3, "gripper_vel_m_s": 3, "finger_pos_m": 2, "finger_vel_m_s": 2}
_CHANNELS = {name: name.removesuffix("_m").removesuffix("_m_s") for name in _SIZES}


class GripperWitness:
    """Watches one arm's gate from its first tick on, with books of its own."""

    def __init__(self, arm: ArmSpec) -> None:
        self._limits = arm.limits
        spans = (arm.limits.workspace_x_m, arm.limits.workspace_y_m, arm.limits.workspace_z_m)
        self._low, self._high = ([span[end] for span in spans] for end in (0, 1))
        self._latched, self._last_s, self._limiting_since_s = Verdict(), -math.inf, math.inf

    def estop(self) -> None:
        """The operator has pressed the emergency stop."""
        self._latched = Verdict(Level.HOLD, self._latched.causes | {"estop"})

    def rearm(self) -> None:
        """The operator has re-armed."""
        self._latched, self._limiting_since_s = Verdict(), math.inf

    def tick(
        self, state: ArmState, wish_m: Floats | None, now_s: float, command: GripperCommand, verdict: Verdict
    ) -> list[str]:
        """Judge one tick.

        Args:
            state: what was measured.
            wish_m: (4,) what was asked for, m; None to stop.
            now_s: when.
            command: what the gate gave.
            verdict: what it said.

        Returns:
            The laws that were broken, in words; none for a good gate.
        """
        found = self._faults(state, wish_m, now_s)
        self._last_s = now_s if self._last_s < now_s < math.inf else self._last_s
        if found.sure or wish_m is None:
            self._limiting_since_s, due = math.inf, None
        else:
            due = self._limited(found, state, wish_m)
            self._limiting_since_s = min(self._limiting_since_s, now_s) if verdict.causes else math.inf
            if now_s - self._limiting_since_s >= self._limits.sustained_limiting_s:
                found.add("limits.sustained_limiting_s", Level.HOLD)
                self._limiting_since_s, due = math.inf, None
        self._latched = verdict if verdict.level >= Level.HOLD else Verdict()
        return [*found.broken_by(verdict), *self._sent(command, due)]

    def _faults(self, state: ArmState, wish_m: Floats | None, now_s: float) -> Findings:
        found = Findings()
        for cause in self._latched.causes:
            found.add(cause, Level.HOLD)
        if not self._last_s < now_s < math.inf:
            found.add("now_s", Level.HOLD)
        if not (state.age_s >= 0.0 and state.age_s + abs(now_s - state.stamp_s) <= self._limits.stale_s):
            found.add("limits.stale_s", Level.HOLD)
        for field, channel in _CHANNELS.items():
            if not all(map(math.isfinite, getattr(state, field).tolist())):
                found.add(channel, Level.HOLD)
        margin = self._limits.workspace_margin_m
        for pos, low, high in zip(state.gripper_pos_m.tolist(), self._low, self._high, strict=True):
            if low - pos > margin or pos - high > margin:
                found.add("limits.workspace_margin_m", Level.HOLD)
        wishes = [0.0] * 4 if wish_m is None else wish_m.ravel().tolist()
        if (wish_m is not None and wish_m.shape != (4,)) or not all(map(math.isfinite, wishes)):
            found.add("request.gripper_command", Level.HOLD)
        return found

    def _limited(self, found: Findings, state: ArmState, wish_m: Floats) -> list[float]:
        """Work out what is sent, and which limits are named for it."""
        due, most = [], self._limits.displacement_m
        columns = (wish_m.tolist(), state.gripper_pos_m.tolist(), self._low, self._high)
        for axis, wish, pos, low, high in zip("xyz", *columns, strict=False):
            inside = min(max(wish, low - pos), high - pos)
            due.append(min(max(inside, -most), most))
            found.beyond(abs(inside - wish) - ROUNDING_M, f"limits.workspace_{axis}_m", Level.LIMITING)
            found.beyond(abs(due[-1] - inside) - ROUNDING_M, "limits.displacement_m", Level.LIMITING)
        shut, wide = self._limits.opening_m
        due.append(min(max(float(wish_m[3]), shut), wide))
        found.beyond(abs(due[3] - float(wish_m[3])) - ROUNDING_M, "limits.opening_m", Level.LIMITING)
        return due

    def _sent(self, command: GripperCommand, due: list[float] | None) -> Iterator[str]:
        """No further than in one tick, no wider than its range, and nothing but a stop where that is due."""
        if due is None or command.move_m is None:
            if due is not None or command.move_m is not None:
                yield f"{command} where {due} is due"
            return
        most, (shut, wide) = self._limits.displacement_m, self._limits.opening_m
        sent = command.move_m.tolist()
        if len(sent) != len(due) or command.move_m.flags.writeable:
            yield "a command that can be changed, or of another shape"
        if not all(abs(move) <= most for move in sent[:3]) or not shut <= sent[3] <= wide:
            yield f"{sent} is further than one tick allows"
        if not all(abs(move - wanted) <= SLACK for move, wanted in zip(sent, due, strict=True)):
            yield f"{sent} where {due} is due"


class GripperStorm(Storm):
    """An arm, its gate and the gate's witness."""

    def __init__(self, arm: ArmSpec, seed: int) -> None:
        super().__init__(arm.name, seed)
        self._arm, self._limits = arm, arm.limits
        self._period_s = 1.0 / arm.controller.rate_hz
        self._begin()

    def _begin(self) -> None:
        self._memory, self._witness = GripperMemory(), GripperWitness(self._arm)
        low, high = self._limits.workspace_m
        self._pos, self._now_s, self._scale = self._noise.uniform(low, high), 100.0, 0.01
        self._past = [self._true(self._now_s)]

    def _tick(self) -> list[str]:
        now_s = self._clock()
        state = self._measure(now_s)
        if self._memory.latched.level and self._luck(0.2):
            self._memory = rearm(self._memory)
            self._witness.rearm()
        if self._luck(0.001):
            self._memory = estop(self._memory)
            self._witness.estop()
        wish_m = self._ask()
        command, self._memory, verdict = guard(self._limits, self._memory, state, wish_m, now_s)
        self.seen[verdict.level.name] += 1
        self.seen.update(verdict.causes)
        if command.move_m is not None:
            self._pos = self._pos + command.move_m[:3]
        return self._witness.tick(state, wish_m, now_s, command, verdict)

    def _clock(self) -> float:
        if self._luck(0.005):
            return self._random.choice((self._now_s, self._now_s - self._period_s, *ODD[:3]))
        self._now_s += self._period_s * (self._random.choice((1e-6, 0.3, 40.0)) if self._luck(0.05) else 1.0)
        return self._now_s

    def _true(self, now_s: float) -> ArmState:
        return ArmState(now_s, self._pos.copy(), np.zeros(3), np.zeros(2), np.zeros(2), 0.0)

    def _measure(self, now_s: float) -> ArmState:
        """What the controller tells: true, or old, out of order, of another time, elsewhere or no number."""
        state = self._true(now_s)
        self._past = [*self._past[-5:], state]
        if not self._luck(0.04):
            return state
        choose, stale_s = self._random.choice, self._limits.stale_s
        field = choose((*_SIZES, "gripper_pos_m", "age_s", "stamp_s", "past"))
        if field == "past":
            return choose(self._past)
        if field == "age_s":
            return dataclasses.replace(state, age_s=choose((*around(stale_s), *around(0.0), *ODD)))
        if field == "stamp_s":
            return dataclasses.replace(state, stamp_s=now_s + choose((*around(stale_s), *ODD)))
        values = np.array(getattr(state, field))
        axis, margin = self._random.randrange(values.size), self._limits.workspace_margin_m
        ends = [float(corner[axis]) for corner in self._limits.workspace_m]
        edges = (*around(ends[0] - margin), *around(ends[1] + margin), *around(ends[0]), *around(ends[1]))
        values[axis] = choose((*edges, *ODD) if field == "gripper_pos_m" else ODD)
        changes: dict[str, Any] = {field: values}
        return dataclasses.replace(state, **changes)

    def _ask(self) -> Floats | None:
        """Mostly displacements near or far; rarely a stop, no number, or another shape."""
        if self._luck(0.03):
            self._scale = self._random.choice((0.0, 0.01, 0.03, 0.1, 10.0, 1e30))
        wish_m = self._scale * self._noise.normal(size=4)
        if not self._limits.opening_m[0] < self._limits.opening_m[1] and self._luck(0.7):
            wish_m[3] = self._limits.opening_m[0]
        if self._luck(0.02):
            wish_m[self._random.randrange(3)] = self._random.choice(around(self._limits.displacement_m))
        elif self._luck(0.003):
            wish_m[self._random.randrange(4)] = self._random.choice(ODD)
        elif self._luck(0.002):
            wish_m = np.zeros(self._random.choice((3, 5, 0)))
        return None if self._luck(0.02) else wish_m
