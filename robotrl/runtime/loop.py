"""One tick: read, sense, infer, guard, write, record; and a safe end on every path."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from time import perf_counter

import numpy as np

from robotrl.errors import ModeError
from robotrl.runtime.clock import Clock, Pacer, Wake
from robotrl.runtime.interpolation import InterpolatedPolicy
from robotrl.runtime.modes import GATE_EVENTS, Event, Mode, ModeMachine
from robotrl.runtime.operator import Operator
from robotrl.runtime.parts import Body, Policy, Recorder
from robotrl.runtime.realtime import StopSignals, prompt_switches, quiet_collector
from robotrl.runtime.sensing import await_sensing
from robotrl.runtime.tally import Happening, LoopReport, Tally, Tick
from robotrl.safety import estop, guard, rearm
from robotrl.spec.gate import GateLimits, GateMemory, Level, Verdict
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, Floats, JointCommand, RobotState

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
        self._robot, self._body, self._operator, self._clock = robot, body, operator, clock
        self._policy = InterpolatedPolicy(policy, robot.control.ticks_per_step)
        self._armed, self._recorder = armed, recorder
        self._period_s = robot.control.period_s
        self._limits = GateLimits.of(robot)
        self._memory = GateMemory.fresh(len(robot.joint))
        self._modes = ModeMachine(robot)
        self._tally = Tally()
        self._verdict = Verdict()
        self._index = 0
        self._start_s = 0.0

    def run(self, duration_s: float = math.inf) -> LoopReport:
        """Run to the end.

        Args:
            duration_s: park after this long.

        Raises:
            DeviceError: no complete measurement within `SENSING_TIMEOUT_S`.
            RobotrlError: whatever body, policy or recorder raise; the robot is limp by then.
        """
        with StopSignals() as signals, quiet_collector(), prompt_switches():
            try:
                self._body.open()
                pacer = Pacer(self._clock, self._period_s)
                try:
                    await_sensing(self._robot, self._body, self._clock, pacer)
                    self._operator.heed(orders=True)
                    self._serve(pacer, signals, duration_s)
                finally:
                    self._end_safe(pacer, signals)
            finally:
                self._body.close()
        return self._tally.report(self._modes.mode)

    def _serve(self, pacer: Pacer, signals: StopSignals, duration_s: float) -> None:
        wake = pacer.wait()
        self._start_s = self._clock.now_s()
        end_s = self._start_s + duration_s
        while True:
            self._tick(self._poll(), wake)
            finished = self._operator.finished() and self._modes.mode is not Mode.PARK
            if finished or signals.stop or self._clock.now_s() + self._period_s > end_s:
                return  # before the next deadline is taken: it is the end's
            wake = pacer.wait()

    def _poll(self) -> list[Event]:
        return self._operator.poll(self._clock.now_s() - self._start_s)

    def _end_safe(self, pacer: Pacer, signals: StopSignals) -> None:
        """Lower the robot if it follows targets and nothing is wrong, then torque off.

        On the way down the operator may still ask for an emergency stop, and for nothing else; one who is
        gone by then is none.
        """
        try:
            self._operator.heed(orders=False)
            lowering = self._memory.command.kind is CommandKind.TRACK and not self._memory.latched.level
            events = [Event.LIMP]
            while lowering and not signals.urgent:
                wake = pacer.wait()
                self._tick([*events, *(event for event in self._poll() if event is Event.ESTOP)], wake)
                lowering, events = self._modes.mode is Mode.PARK, []
        finally:
            nothing = np.full(len(self._limits.joint_names), np.nan)
            self._body.write(JointCommand(CommandKind.LIMP, nothing))

    def _tick(self, events: Iterable[Event], wake: Wake) -> None:
        marks = [perf_counter()]
        now_s = self._clock.now_s()
        state = self._body.read(now_s)
        marks.append(perf_counter())
        done = self._sense(events, state, now_s)
        marks.append(perf_counter())
        mode, policy_rad, asked, commands = self._modes.mode, None, None, self._operator.commands
        if mode is Mode.POLICY:
            policy_rad, asked = self._policy.step(state, commands)
        marks.append(perf_counter())
        request = self._modes.request(now_s, self._memory.command.joint_target_rad, policy_rad)
        command, self._memory, verdict = guard(self._limits, self._memory, state, request, now_s)
        self._obey(command, verdict, now_s)
        marks.append(perf_counter())
        self._body.write(command)
        marks.append(perf_counter())
        phases_s = tuple(end - start for start, end in pairwise(marks))
        answer = (request, command, verdict)
        before = (mode, commands, Event.REARM in done, Event.POLICY in done)
        tick = Tick(self._index, now_s, state, *before, *answer, wake, phases_s, asked, Event.ESTOP in done)
        if self._recorder is not None:
            self._recorder.tick(tick)
        self._tally.add(tick, perf_counter() - marks[-1])
        self._index += 1

    def _sense(self, events: Iterable[Event], state: RobotState, now_s: float) -> set[Event]:
        """Do what is asked for, and see whether a ramp has ended; return what was done and still holds."""
        done = {event for event in events if self._handle(event, state, now_s)}
        if self._modes.arrived(now_s):
            self._change_mode(Event.ARRIVED, state.joint_pos_rad, now_s)
        return done if self._memory.latched.level else done - {Event.ESTOP}

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
        if event is Event.ESTOP:
            self._memory = estop(self._memory)
        if event is Event.POLICY:
            self._policy.reset()
        if event is Event.REARM:
            self._body.rearm()
            self._memory = rearm(self._limits, self._memory, state, now_s)
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
