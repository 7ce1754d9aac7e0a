"""What the robot is doing and what may follow: the transition table, and the targets of each mode."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

import numpy as np

from robotrl.errors import ModeError
from robotrl.spec.gate import Request
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, Floats


class Mode(Enum):
    """What the robot is doing."""

    LIMP = "limp"
    """Torque off."""
    RISE = "rise"
    """On the way to the default posture."""
    STAND = "stand"
    """In the default posture."""
    POLICY = "policy"
    PARK = "park"
    """On the way down to the park posture, then limp."""
    HOLD = "hold"
    """Stopped by the gate: the last targets are held."""
    DAMP = "damp"
    """Stopped by the gate: no stiffness."""


class Event(Enum):
    """What can change the mode."""

    STAND = "stand"
    POLICY = "policy"
    LIMP = "limp"
    REARM = "rearm"
    ESTOP = "estop"
    """Emergency stop, category 0 of IEC 60204-1: torque off at once, whatever the robot is doing."""
    ARRIVED = "arrived"
    """The ramp of RISE or PARK has reached its end."""
    GATE_HOLD = "gate hold"
    GATE_DAMP = "gate damp"
    GATE_LIMP = "gate limp"


TRANSITIONS: Mapping[tuple[Mode, Event], Mode] = MappingProxyType(
    {
        (Mode.LIMP, Event.STAND): Mode.RISE,
        (Mode.LIMP, Event.LIMP): Mode.LIMP,
        (Mode.LIMP, Event.REARM): Mode.LIMP,
        (Mode.LIMP, Event.GATE_LIMP): Mode.LIMP,
        (Mode.RISE, Event.ARRIVED): Mode.STAND,
        (Mode.RISE, Event.LIMP): Mode.PARK,
        (Mode.RISE, Event.GATE_HOLD): Mode.HOLD,
        (Mode.RISE, Event.GATE_DAMP): Mode.DAMP,
        (Mode.RISE, Event.GATE_LIMP): Mode.LIMP,
        (Mode.STAND, Event.POLICY): Mode.POLICY,
        (Mode.STAND, Event.LIMP): Mode.PARK,
        (Mode.STAND, Event.GATE_HOLD): Mode.HOLD,
        (Mode.STAND, Event.GATE_DAMP): Mode.DAMP,
        (Mode.STAND, Event.GATE_LIMP): Mode.LIMP,
        (Mode.POLICY, Event.STAND): Mode.RISE,
        (Mode.POLICY, Event.LIMP): Mode.PARK,
        (Mode.POLICY, Event.GATE_HOLD): Mode.HOLD,
        (Mode.POLICY, Event.GATE_DAMP): Mode.DAMP,
        (Mode.POLICY, Event.GATE_LIMP): Mode.LIMP,
        (Mode.PARK, Event.ARRIVED): Mode.LIMP,
        (Mode.PARK, Event.STAND): Mode.RISE,
        (Mode.PARK, Event.LIMP): Mode.PARK,
        (Mode.PARK, Event.GATE_HOLD): Mode.HOLD,
        (Mode.PARK, Event.GATE_DAMP): Mode.DAMP,
        (Mode.PARK, Event.GATE_LIMP): Mode.LIMP,
        (Mode.HOLD, Event.REARM): Mode.HOLD,
        (Mode.HOLD, Event.STAND): Mode.RISE,
        (Mode.HOLD, Event.LIMP): Mode.LIMP,
        (Mode.HOLD, Event.GATE_HOLD): Mode.HOLD,
        (Mode.HOLD, Event.GATE_DAMP): Mode.DAMP,
        (Mode.HOLD, Event.GATE_LIMP): Mode.LIMP,
        (Mode.DAMP, Event.REARM): Mode.DAMP,
        (Mode.DAMP, Event.STAND): Mode.RISE,
        (Mode.DAMP, Event.LIMP): Mode.LIMP,
        (Mode.DAMP, Event.GATE_DAMP): Mode.DAMP,
        (Mode.DAMP, Event.GATE_LIMP): Mode.LIMP,
        **{(mode, Event.ESTOP): Mode.LIMP for mode in Mode},
    }
)
"""What is not in here is refused. No answer of the gate leads to a stiffer mode, and a robot that the
gate has stopped is not moved to make it limp."""

GATE_EVENTS: Mapping[CommandKind, Event] = MappingProxyType(
    {
        CommandKind.TRACK: Event.GATE_HOLD,
        CommandKind.DAMP: Event.GATE_DAMP,
        CommandKind.LIMP: Event.GATE_LIMP,
    }
)
"""The event that a fault is, by the command that the gate gave because of it."""

OPERATOR_EVENTS = frozenset({Event.STAND, Event.POLICY, Event.LIMP, Event.REARM, Event.ESTOP})
"""What an operator may ask for."""


class ModeMachine:
    """The current mode and its ramp.

    Attributes:
        mode: what the robot is doing.
    """

    def __init__(self, robot: RobotSpec) -> None:
        self.mode = Mode.LIMP
        self._ends = {Mode.RISE: robot.default_rad, Mode.PARK: robot.park_rad}
        self._lasts_s = {Mode.RISE: robot.control.stand_s, Mode.PARK: robot.control.park_s}
        self._default_rad = robot.default_rad
        self._start_rad: Floats
        self._since_s: float  # of the ramp, if there is one

    def handle(self, event: Event, now_s: float, posture_rad: Floats) -> None:
        """Change the mode.

        Args:
            event: what happened.
            now_s: time of this tick.
            posture_rad: (n,) where a ramp starts: the targets being followed, or the measured posture.

        Raises:
            ModeError: the table has no such transition; nothing changed.
        """
        following = TRANSITIONS.get((self.mode, event))
        if following is None:
            known = sorted(e.value for m, e in TRANSITIONS if m is self.mode and e in OPERATOR_EVENTS)
            raise ModeError(
                f"{event.value!r} is not possible in mode {self.mode.value}; possible: {', '.join(known)}"
            )
        if following in self._ends and following is not self.mode:
            self._start_rad, self._since_s = posture_rad.copy(), now_s
        self.mode = following

    def arrived(self, now_s: float) -> bool:
        """Return whether the ramp of the current mode has reached its end."""
        return self.mode in self._ends and now_s - self._since_s >= self._lasts_s[self.mode]

    def request(self, now_s: float, held_rad: Floats, policy_rad: Floats | None) -> Request:
        """Return what the current mode asks of the gate.

        Args:
            now_s: time of this tick.
            held_rad: (n,) targets of the previous command.
            policy_rad: (n,) the policy's targets; needed in mode POLICY only.
        """
        name = self.mode.value
        if self.mode in self._ends:
            target = self._ramp(now_s)
        elif self.mode is Mode.STAND:
            target = self._default_rad
        elif self.mode is Mode.HOLD:
            target = held_rad
        elif self.mode is Mode.POLICY and policy_rad is not None:
            target = policy_rad
        else:
            kind = CommandKind.DAMP if self.mode is Mode.DAMP else CommandKind.LIMP
            return Request(kind, np.full_like(held_rad, np.nan), name)
        return Request(CommandKind.TRACK, target, name)

    def _ramp(self, now_s: float) -> Floats:
        """Smoothstep from start to end: no jump in speed at either end."""
        share = min((now_s - self._since_s) / self._lasts_s[self.mode], 1.0)
        weight = share * share * (3.0 - 2.0 * share)
        return self._start_rad + weight * (self._ends[self.mode] - self._start_rad)
