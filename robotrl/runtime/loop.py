"""One tick: read, sense, infer, guard, write, record; and a safe end on every path."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from time import perf_counter

import numpy as np

from robotrl.errors import DeviceError, ModeError
from robotrl.runtime.clock import Clock, Pacer, Wake
from robotrl.runtime.modes import GATE_EVENTS, Event, Mode, ModeMachine
from robotrl.runtime.operator import Operator
from robotrl.runtime.parts import Body, Policy, Recorder
from robotrl.runtime.policy import channels_of
from robotrl.runtime.realtime import StopSignals, quiet_collector
from robotrl.runtime.tally import Happening, LoopReport, Tally, Tick
from robotrl.safety import GateMemory, guard, rearm
from robotrl.spec.gate import GateLimits, Level, Verdict
from robotrl.spec.robot import ESTIMATOR_LINE, IMU_LINE, RobotSpec
from robotrl.spec.state import CommandKind, Floats, JointCommand, RobotState

SENSING_TIMEOUT_S = 2.0
"""How long the first complete measurement may take after the body is open."""

MOVING_EVENTS = frozenset({Event.STAND, Event.POLICY, Event.REARM})
"""What an operator may ask for only of an armed robot."""


class Loop:
    """Drives one robot until the operator is done, time is up, a signal comes or something fails.

    Whatever ends it, the robot is lowered if the gate still lets it move, then limp, then closed.
    """

    def __init__(
        self,
        robot: RobotSpec,
        body: Body,
        policy: Policy,
        operator: Operator,
        clock: Clock,
        *,
        armed: bool,
        recorder: Recorder | None = None,
    ) -> None:
        """Connect the parts; nothing is opened yet.

        Args:
            robot: the robot that `body` is.
            body: how it is reached.
            policy: what walks it; already checked against `robot`.
            operator: who commands it.
            clock: what the deadlines are kept on.
            armed: without it the robot stays limp whatever the operator asks for.
            recorder: what keeps the flight.
        """
        self._body, self._policy, self._operator, self._clock = body, policy, operator, clock
        self._armed, self._recorder = armed, recorder
        self._period_s = 1.0 / robot.control.rate_hz
        self._limits = GateLimits.of(robot)
        self._memory = GateMemory.fresh(len(robot.joint))
        self._sensor_lines = [line for line in robot.lines if line not in robot.bus]
        self._modes = ModeMachine(robot)
        self._tally = Tally()
        self._verdict = Verdict()
        self._index = 0

    def run(self, duration_s: float = math.inf) -> LoopReport:
        """Run to the end.

        Args:
            duration_s: park after this long.

        Raises:
            DeviceError: no complete measurement within `SENSING_TIMEOUT_S`.
            RobotrlError: whatever body, policy or recorder raise; the robot is limp by then.
        """
        with StopSignals() as signals, quiet_collector():
            try:
                self._body.open()
                pacer = Pacer(self._clock, self._period_s)
                try:
                    self._await_sensing(pacer)
                    self._serve(pacer, signals, duration_s)
                finally:
                    self._end_safe(pacer, signals)
            finally:
                self._body.close()
        return self._tally.report(self._modes.mode)

    def _await_sensing(self, pacer: Pacer) -> None:
        """Read until every joint and every sensor have answered: before that there is nothing to judge."""
        give_up_s = self._clock.now_s() + SENSING_TIMEOUT_S
        while silent := self._silent(self._body.read(self._clock.now_s())):
            if self._clock.now_s() >= give_up_s:
                raise DeviceError(f"no measurement within {SENSING_TIMEOUT_S} s from {', '.join(silent)}")
            pacer.wait()

    def _silent(self, state: RobotState) -> list[str]:
        ages = zip(self._limits.joint_names, state.joint_age_s, strict=True)
        joints = [f"joint {name}" for name, age_s in ages if math.isinf(age_s)]
        silent = {
            IMU_LINE: ["the IMU"] * math.isinf(state.imu_age_s),
            ESTIMATOR_LINE: ["the estimator"] * math.isinf(state.estimate_age_s),
        }
        return sum((silent[line] for line in self._sensor_lines), joints)

    def _serve(self, pacer: Pacer, signals: StopSignals, duration_s: float) -> None:
        wake = pacer.wait()
        start_s = self._clock.now_s()
        while not signals.stop and (elapsed_s := self._clock.now_s() - start_s) < duration_s:
            self._tick(self._operator.poll(elapsed_s), wake)
            if self._operator.finished() and self._modes.mode is not Mode.PARK:
                return
            wake = pacer.wait()

    def _end_safe(self, pacer: Pacer, signals: StopSignals) -> None:
        """Lower the robot if it follows targets and nothing is wrong, then torque off."""
        try:
            lowering = self._memory.command.kind is CommandKind.TRACK and not self._memory.latched.level
            events = [Event.LIMP]
            while lowering and not signals.urgent:
                self._tick(events, pacer.wait())
                lowering, events = self._modes.mode is Mode.PARK, []
        finally:
            nothing = np.full(len(self._limits.joint_names), np.nan)
            self._body.write(JointCommand(CommandKind.LIMP, nothing))

    def _tick(self, events: Iterable[Event], wake: Wake) -> None:
        marks = [perf_counter()]
        now_s = self._clock.now_s()
        state = self._body.read(now_s)
        marks.append(perf_counter())
        rearmed, policy_reset = self._sense(events, state, now_s)
        marks.append(perf_counter())
        mode, policy_rad, commands = self._modes.mode, None, self._operator.commands
        if mode is Mode.POLICY:
            policy_rad = self._policy.step(channels_of(state, commands))
        marks.append(perf_counter())
        request = self._modes.request(now_s, self._memory.command.joint_target_rad, policy_rad)
        command, self._memory, verdict = guard(self._limits, self._memory, state, request, now_s)
        self._obey(command, verdict, now_s)
        marks.append(perf_counter())
        self._body.write(command)
        marks.append(perf_counter())
        phases_s = tuple(end - start for start, end in pairwise(marks))
        answer = (request, command, verdict)
        tick = Tick(self._index, now_s, state, mode, commands, rearmed, policy_reset, *answer, wake, phases_s)
        if self._recorder is not None:
            self._recorder.tick(tick)
        self._tally.add(tick, perf_counter() - marks[-1])
        self._index += 1

    def _sense(self, events: Iterable[Event], state: RobotState, now_s: float) -> tuple[bool, bool]:
        """Do what is asked for, and see whether a ramp has ended; return (re-armed, policy reset)."""
        done = {event for event in events if self._handle(event, state, now_s)}
        if self._modes.arrived(now_s):
            self._change_mode(Event.ARRIVED, state.joint_pos_rad, now_s)
        return Event.REARM in done, Event.POLICY in done

    def _handle(self, event: Event, state: RobotState, now_s: float) -> bool:
        """Do what the operator asks for, or note why not."""
        latched = self._memory.latched
        try:
            if event in MOVING_EVENTS and not self._armed:
                raise ModeError(f"{event.value!r} needs an armed robot")
            if latched.level and event in (Event.STAND, Event.POLICY):
                raise ModeError(f"{event.value!r} needs a re-arm first: {latched}")
            following = self._memory.command.kind is CommandKind.TRACK
            posture_rad = self._memory.command.joint_target_rad if following else state.joint_pos_rad
            self._change_mode(event, posture_rad, now_s)
        except ModeError as error:
            self._note("refused", str(error), now_s)
            return False
        if event is Event.POLICY:
            self._policy.reset()
        if event is Event.REARM:
            self._body.rearm()
            self._memory = rearm(self._memory, state)
            self._note("rearm", "faults cleared", now_s)
        return True

    def _obey(self, command: JointCommand, verdict: Verdict, now_s: float) -> None:
        """Change to the mode that the gate's answer to a fault means."""
        if verdict.level >= Level.HOLD:
            self._change_mode(GATE_EVENTS[command.kind], command.joint_target_rad, now_s)
            if verdict != self._verdict:
                self._note("gate", str(verdict), now_s)
        self._verdict = verdict

    def _change_mode(self, event: Event, posture_rad: Floats, now_s: float) -> None:
        before = self._modes.mode
        self._modes.handle(event, now_s, posture_rad)
        if self._modes.mode is not before:
            self._note("mode", f"{before.value} -> {self._modes.mode.value}", now_s)

    def _note(self, name: str, text: str, now_s: float) -> None:
        happening = Happening(now_s, name, text)
        self._tally.events.append(happening)
        if self._recorder is not None:
            self._recorder.event(happening)
