"""The laws of the gate, written down a second time: one joint at a time, in plain Python, from its promises.

A `Witness` sees what goes into one robot's gate and what comes out, keeps its own books, and says which law a
tick has broken. Nothing here is shared with `robotrl.safety` but the records that it takes and gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from robotrl.bench.gate_faults import SLACK, Findings, Judge
from robotrl.spec.gate import Level, Request, Verdict
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, JointCommand, RobotState

ROUNDING_RAD = 1e-6
"""By how much a request may be changed without a word."""

SUSTAINED = "limits.sustained_limiting_s"

KINDS = {
    Level.HOLD: CommandKind.TRACK,
    Level.DAMP: CommandKind.DAMP,
    Level.LIMP: CommandKind.LIMP,
}
"""What the servos are asked at most, by the level of a fault."""


@dataclass(frozen=True)
class Reach:
    """Where one joint may be sent in one tick, all in rad."""

    name: str
    wish: float
    inside: float
    """The wish within the position limits."""
    asked: float
    """That, blended in."""
    blended: bool
    """Whether blending in is over."""
    base: float
    step: float
    rated: float
    """The nearest to `asked` that the rate allows."""
    low: float
    high: float
    """The part of what the rate allows that is nearest to the torque bound."""


class Witness:
    """Watches one robot's gate from its first tick on."""

    def __init__(self, robot: RobotSpec) -> None:
        self._judge, self._limits = Judge(robot), robot.limits
        self._names = robot.joint_names
        self._low, self._high = robot.position_min_rad.tolist(), robot.position_max_rad.tolist()
        self._reach = (robot.limits.torque_nm / robot.stiffness_nm_rad).tolist()
        self._period_s = robot.control.period_s
        self._nothing = [math.nan] * len(self._names)
        self._kind, self._target = CommandKind.LIMP, self._nothing
        self._forget()

    def _forget(self) -> None:
        self._latched, self._last_s = Verdict(), -math.inf
        self._asked, self._limiting_since_s = self._nothing, math.inf
        self._source: str | None = None
        self._from, self._since_s = self._nothing, 0.0
        self._judge.forget()

    def estop(self) -> None:
        """The operator has pressed the emergency stop."""
        causes = self._latched.causes | {"estop"}
        self._latched = Verdict(Level.LIMP, causes, self._latched.joints)

    def rearm(self, state: RobotState, now_s: float) -> None:
        """The operator has re-armed: joints that are held and well measured are held where they are."""
        found = Findings()
        self._judge.joints(found, state, now_s)
        here = state.joint_pos_rad.tolist()
        if self._kind is CommandKind.TRACK:
            held = zip(self._names, self._target, here, self._low, self._high, strict=True)
            self._target = [
                target if name in found.joints else min(max(pos, low), high)
                for name, target, pos, low, high in held
            ]
        self._forget()

    def tick(
        self, state: RobotState, request: Request, now_s: float, command: JointCommand, verdict: Verdict
    ) -> list[str]:
        """Judge one tick.

        Args:
            state: what was measured.
            request: what was asked for.
            now_s: when.
            command: what the gate gave.
            verdict: what it said.

        Returns:
            The laws that were broken, in words; none for a good gate.
        """
        found = Findings()
        for cause in self._latched.causes:
            found.add(cause, self._latched.level)
        found.joints |= self._latched.joints
        if not self._last_s < now_s < math.inf:
            found.add("now_s", self._judge.on_fault)
        self._judge.tick(found, state, request, self._asked, now_s)
        base = self._base(state)
        elapsed_s = min(now_s - self._last_s, self._period_s)
        self._last_s = now_s if self._last_s < now_s < math.inf else self._last_s
        sane = not found.sure and not verdict.causes & found.maybe.keys()
        if sane and request.kind is CommandKind.TRACK:
            window = self._window(state, request, now_s, base, elapsed_s)
            self._limiting(found, verdict, window, now_s)
            broken = [*found.broken_by(verdict)]
        else:
            window, broken = None, [*found.broken_by(verdict)]
        if window is None or SUSTAINED in found.sure:
            broken += self._stopped(request, command, verdict, base)
        else:
            broken += self._followed(window, command)
        broken += self._always(request, command)
        self._kind, self._target = command.kind, command.joint_target_rad.tolist()
        return broken

    def _base(self, state: RobotState) -> list[float]:
        """What the servos follow; where they follow nothing, the measured posture."""
        here = self._target if self._kind is CommandKind.TRACK else state.joint_pos_rad.tolist()
        return [min(max(pos, low), high) for pos, low, high in zip(here, self._low, self._high, strict=True)]

    def _window(
        self, state: RobotState, request: Request, now_s: float, base: list[float], elapsed_s: float
    ) -> list[Reach]:
        """Work out where each joint may be sent."""
        if request.source != self._source:
            self._source, self._from, self._since_s = request.source, base, now_s
        weight = min((now_s - self._since_s) / self._limits.blend_in_s, 1.0)
        step = self._limits.command_speed_rad_s * elapsed_s
        window = []
        columns = (request.joint_target_rad.tolist(), state.joint_pos_rad.tolist(), base, self._from)
        for name, low, high, reach, wish, pos, here, start in zip(
            self._names, self._low, self._high, self._reach, *columns, strict=True
        ):
            inside = min(max(wish, low), high)
            asked = start + weight * (inside - start) if weight < 1.0 else inside
            slow, fast = max(low, here - step), min(high, here + step)
            weak, strong = (min(max(pos + side, slow), fast) for side in (-reach, reach))
            rated = min(max(asked, slow), fast)
            window.append(Reach(name, wish, inside, asked, weight == 1.0, here, step, rated, weak, strong))
        return window

    def _limiting(self, found: Findings, verdict: Verdict, window: Iterable[Reach], now_s: float) -> None:
        """Whatever of a request is not granted is said, and not for long."""
        for at in window:
            name, weaker = at.name, min(max(at.rated, at.low), at.high)
            changes = {
                f"joint.{name}.position_min_rad": at.inside - at.wish,
                f"joint.{name}.position_max_rad": at.wish - at.inside,
                "limits.command_speed_rad_s": abs(at.asked - at.rated),
                "limits.torque_nm": abs(at.rated - weaker),
            }
            for cause, change in changes.items():
                found.beyond(change - ROUNDING_RAD, cause, Level.LIMITING, name)
        self._limiting_since_s = min(self._limiting_since_s, now_s) if verdict.causes else math.inf
        if now_s - self._limiting_since_s >= self._limits.sustained_limiting_s:
            found.add(SUSTAINED, self._judge.on_fault)

    def _stopped(
        self, request: Request, command: JointCommand, verdict: Verdict, base: list[float]
    ) -> Iterator[str]:
        """Nothing but what the verdict calls for, and never stiffer than before or than asked for."""
        kind = request.kind
        if verdict.level >= Level.HOLD:
            kind = max(kind, self._kind, KINDS[verdict.level])
        if command.kind is not kind:
            yield f"{command.kind.name} where {kind.name} is due"
        held = command.kind is CommandKind.TRACK
        if held and command.joint_target_rad.tolist() != base:
            yield "a held robot's targets have changed"
        self._latched = verdict if verdict.level >= Level.HOLD else Verdict()
        self._source, self._limiting_since_s = None, math.inf
        self._asked = command.joint_target_rad.tolist() if held else self._nothing

    def _followed(self, window: Iterable[Reach], command: JointCommand) -> Iterator[str]:
        """As near to what is asked for as rate and torque permit, and bit for bit where they do."""
        if command.kind is not CommandKind.TRACK:
            yield f"{command.kind.name} without a fault"
        for at, target in zip(window, command.joint_target_rad.tolist(), strict=True):
            if abs(target - at.base) > at.step + SLACK:
                yield f"{at.name} is sent {target - at.base} rad further in one tick"
            nearest = min(max(at.asked, at.low), at.high)
            if abs(target - nearest) > SLACK:
                yield f"{at.name} is sent to {target}, not {nearest}"
            free = at.blended and at.inside == at.wish and at.low + SLACK < at.wish < at.high - SLACK
            if free and target != at.wish:
                yield f"{at.name} is sent to {target}, though {at.wish} is allowed"
        self._asked = [at.asked for at in window]

    def _always(self, request: Request, command: JointCommand) -> Iterator[str]:
        """What holds whatever comes in."""
        targets = command.joint_target_rad
        if targets.flags.writeable or targets.shape != (len(self._names),):
            yield "targets that can be changed, or of another shape"
        if command.kind < request.kind:
            yield f"{command.kind.name} where only {request.kind.name} was asked for"
        if command.kind is not CommandKind.TRACK:
            if not all(map(math.isnan, targets.tolist())):
                yield f"targets with {command.kind.name}"
            return
        for name, target, low, high in zip(self._names, targets.tolist(), self._low, self._high, strict=True):
            if not low <= target <= high:
                yield f"{name} is sent to {target}, outside {low} to {high}"
