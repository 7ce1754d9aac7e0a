"""One tick of an arm: read, sense, infer, guard, write; and a gripper that stays where it is at the end."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Protocol

from robotrl.errors import DeviceError
from robotrl.runtime.clock import PATIENCE_S, Clock, Pacer, Wake
from robotrl.runtime.modes import Event, Mode
from robotrl.runtime.operator import Operator
from robotrl.runtime.parts import Policy
from robotrl.runtime.policy import Array32
from robotrl.runtime.realtime import StopSignals, quiet_collector
from robotrl.runtime.tally import Happening, LoopReport, Tally
from robotrl.safety_gripper import GripperMemory, estop, guard, rearm
from robotrl.spec.arm import CONTROLLER, ArmSpec
from robotrl.spec.gate import Level, Verdict
from robotrl.spec.gripper import ArmState, GripperCommand
from robotrl.spec.state import Floats

SENSING_TIMEOUT_S = 2.0
"""How long the first measurement may take after the body is open."""


MOVING_EVENTS = frozenset({Event.POLICY, Event.REARM})
"""What an operator may ask for only of an armed arm."""


@dataclass(frozen=True, slots=True)
class ArmTick:
    """Everything that went through one tick."""

    index: int
    now_s: float
    state: ArmState
    mode: Mode
    """HOLD or POLICY."""
    commands: Mapping[str, Floats]
    """What the operator asked of the policy, by channel."""
    wish_m: Floats | None
    """(4,) what the policy asked for; None: to stop."""
    command: GripperCommand
    verdict: Verdict
    wake: Wake
    phases_s: tuple[float, ...]
    """Durations of read, sense, infer, guard and write."""


class ArmBody(Protocol):
    """The arm, as `robotrl.drivers.arm.ArmBody` reaches it."""

    def open(self) -> None:
        """Reach the controller; nothing moves."""

    def read(self, now_s: float) -> ArmState:
        """Measure; without an answer values and age are those of the last one."""

    def write(self, command: GripperCommand) -> None:
        """Send one command."""

    def close(self) -> None:
        """Let go of the port."""


class ArmWatcher(Protocol):
    """Whoever wants to see every tick."""

    def tick(self, tick: ArmTick) -> None:
        """See one tick."""


class ArmLoop:
    """Drives one arm until the operator is done, time is up, a signal comes or something fails.

    There are two modes: HOLD, in which the gripper stays where it is, and POLICY. What a robot with servos
    understands as `stand` or `limp` is HOLD here, and so is `estop`, which latches. Whatever ends the loop,
    the gripper is stopped, then the port closed.

    Args:
        arm: the arm that `body` is.
        body: how it is reached.
        policy: what moves it; already checked against `arm`.
        operator: who commands it.
        clock: what the deadlines are kept on.
        armed: without it the arm stays where it is whatever the operator asks for.
        watcher: sees every tick.
    """

    def __init__(
        self,
        arm: ArmSpec,
        body: ArmBody,
        policy: Policy,
        operator: Operator,
        clock: Clock,
        *,
        armed: bool,
        watcher: ArmWatcher | None = None,
    ) -> None:
        self._body, self._policy, self._operator, self._clock = body, policy, operator, clock
        self._armed, self._watcher = armed, watcher
        self._period_s = 1.0 / arm.controller.rate_hz
        self._limits, self._memory = arm.limits, GripperMemory()
        self._mode, self._verdict = Mode.HOLD, Verdict()
        self._tally = Tally()
        self._index = 0

    def run(self, duration_s: float = math.inf) -> LoopReport:
        """Run to the end.

        Args:
            duration_s: stop after this long.

        Raises:
            DeviceError: no measurement within `SENSING_TIMEOUT_S`.
            RobotrlError: whatever body or policy raise; the gripper is stopped by then.
        """
        with StopSignals() as signals, quiet_collector():
            try:
                self._body.open()
                try:
                    pacer = Pacer(self._clock, self._period_s)
                    self._await_sensing(pacer)
                    self._operator.heed(orders=True)
                    self._serve(pacer, signals, duration_s)
                finally:
                    self._body.write(GripperCommand(None))
            finally:
                self._body.close()
        return self._tally.report(self._mode)

    def _await_sensing(self, pacer: Pacer) -> None:
        give_up_s = self._clock.now_s() + SENSING_TIMEOUT_S
        while math.isinf(self._body.read(self._clock.now_s()).age_s):
            if self._clock.now_s() >= give_up_s:
                raise DeviceError(f"no measurement within {SENSING_TIMEOUT_S} s from the {CONTROLLER}")
            pacer.wait()

    def _serve(self, pacer: Pacer, signals: StopSignals, duration_s: float) -> None:
        wake = pacer.wait()
        start_s = self._clock.now_s()
        while not signals.stop and (elapsed_s := self._clock.now_s() - start_s) < duration_s:
            self._tick(self._operator.poll(elapsed_s), wake)
            if self._operator.finished():
                return
            wake = pacer.wait()

    def _tick(self, events: Iterable[Event], wake: Wake) -> None:
        marks = [perf_counter()]
        now_s = self._clock.now_s()
        state = self._body.read(now_s)
        marks.append(perf_counter())
        for event in events:
            self._handle(event, now_s)
        mode, wish_m, commands = self._mode, None, self._operator.commands
        marks.append(perf_counter())
        if mode is Mode.POLICY:
            wish_m = self._policy.step(channels_of(state, commands))
        marks.append(perf_counter())
        command, self._memory, verdict = guard(self._limits, self._memory, state, wish_m, now_s)
        self._obey(verdict, now_s)
        marks.append(perf_counter())
        self._body.write(command)
        marks.append(perf_counter())
        phases_s = tuple(end - start for start, end in pairwise(marks))
        tick = ArmTick(self._index, now_s, state, mode, commands, wish_m, command, verdict, wake, phases_s)
        if self._watcher is not None:
            self._watcher.tick(tick)
        self._tally.add(tick, perf_counter() - marks[-1])
        self._index += 1

    def _handle(self, event: Event, now_s: float) -> None:
        """Do what the operator asks for, or note why not."""
        if refusal := self._refusal(event):
            self._note("refused", refusal, now_s)
        elif event is Event.REARM:
            self._memory = rearm(self._memory)
            self._note("rearm", "faults cleared", now_s)
        elif event is Event.POLICY:
            self._policy.reset()
            self._change_mode(Mode.POLICY, now_s)
        else:
            self._memory = estop(self._memory) if event is Event.ESTOP else self._memory
            self._change_mode(Mode.HOLD, now_s)

    def _refusal(self, event: Event) -> str:
        """Why an event cannot be; empty when it can."""
        if event in MOVING_EVENTS and not self._armed:
            return f"{event.value!r} needs an armed robot"
        if event is Event.POLICY and self._memory.latched.level:
            return f"{event.value!r} needs a re-arm first: {self._memory.latched}"
        return ""

    def _obey(self, verdict: Verdict, now_s: float) -> None:
        """Hold from a fault on."""
        if verdict.level >= Level.HOLD:
            self._change_mode(Mode.HOLD, now_s)
            if verdict != self._verdict:
                self._note("gate", str(verdict), now_s)
        self._verdict = verdict

    def _change_mode(self, mode: Mode, now_s: float) -> None:
        if mode is not self._mode:
            self._note("mode", f"{self._mode.value} -> {mode.value}", now_s)
        self._mode = mode

    def _note(self, name: str, text: str, now_s: float) -> None:
        self._tally.events.append(Happening(now_s, name, text))


def with_patient_controller(arm: ArmSpec) -> ArmSpec:
    """Return the arm with a long reply time-out; see `robotrl.runtime.clock.with_patient_buses`."""
    patient = dataclasses.replace(arm.controller, reply_timeout_s=PATIENCE_S)
    return dataclasses.replace(arm, controller=patient)


def channels_of(state: ArmState, commands: Mapping[str, Floats]) -> dict[str, Array32]:
    """Return every channel that arm and operator deliver, ready for `Policy.step`."""
    return {name: values.astype("float32") for name, values in {**state.channels, **commands}.items()}
