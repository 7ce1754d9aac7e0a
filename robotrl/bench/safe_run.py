"""Faults in one mode: loop, gate and driver with an emulated robot, and what its servos' registers hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robotrl.bench.emulated_time import EmulatedPort, EmulatedTime, on_emulated_time
from robotrl.bench.safe_cases import Approach, Fault
from robotrl.drivers import xseries as x
from robotrl.drivers.body import SerialBody
from robotrl.emulator.dynamixel_servos import DynamixelServos
from robotrl.emulator.faults import FaultScript
from robotrl.emulator.machine import Machine
from robotrl.errors import BadInputError
from robotrl.runtime.loop import Loop
from robotrl.runtime.modes import Event, Mode
from robotrl.runtime.operator import VELOCITY
from robotrl.runtime.policy import Policy
from robotrl.runtime.tally import Happening, Tick
from robotrl.spec.gate import Verdict
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, Floats, JointCommand, RobotState

START_S = 1.0
"""Emulated time at which the loop's deadlines begin; opening the body takes less."""
SETTLE_S = 0.25
"""From the end of a fault to the re-arm: an adapter that is back is looked for five times a second."""
RISING_S = 0.4
"""How long the robot is watched after the re-arm."""
WALK = (0.25, 0.0, 0.0)
"""Asked of the policy: m/s forward, m/s left, rad/s."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Decision:
    """What the gate decided in one tick, and when: the first byte of it is sent at that moment."""

    time_s: float
    mode: Mode
    kind: CommandKind
    target_rad: Floats
    """(n,) what TRACK asks for."""
    verdict: Verdict
    stale_s: float
    """Age of the oldest measurement of joints and IMU."""


@dataclass(frozen=True)
class Registers:
    """What the servos' registers hold at one moment; arrays (n,) in spec order."""

    time_s: float
    torque: Flags
    """Torque Enable; of a servo without power, none."""
    stiff: Flags
    """A position gain that is not zero."""
    tripped: Flags
    """The servo's own watchdog has stopped it: it holds where it is, whatever it is asked for."""
    goal_rad: Floats

    @property
    def driven(self) -> Flags:
        """(n,) whether the servo follows its goal."""
        return self.torque & self.stiff


@dataclass(frozen=True)
class Watched:
    """What was seen of a run, oldest first.

    Attributes:
        struck_s: emulated time of the fault.
        rearm_s: when the operator re-armed the robot and asked it to stand up.
        decisions: all of them.
        registers: from the fault on.
    """

    struck_s: float
    rearm_s: float
    decisions: Sequence[Decision]
    registers: Sequence[Registers]


class Wishes:
    """The operator who asks for events at times of the robot's clock; done after the emergency stop.

    Attributes:
        commands: the same velocity all the time.
        left: times and events to come, in order.
    """

    def __init__(self, now_s: Callable[[], float], wishes: Sequence[tuple[float, Event]]) -> None:
        self._now_s = now_s
        self.left = list(wishes)
        self._ended = False
        self.commands = {VELOCITY: np.array(WALK)}

    def poll(self, elapsed_s: float) -> list[Event]:
        """Return the events that are due."""
        del elapsed_s
        due = [event for time_s, event in self.left if time_s <= self._now_s()]
        self.left = self.left[len(due) :]
        self._ended = Event.ESTOP in due and not self.left
        return due

    def heed(self, *, orders: bool) -> None:
        """Nothing to do: nothing is asked for before the first `poll`."""

    def finished(self) -> bool:
        """Return whether the last wish was the emergency stop."""
        return self._ended


class _Witness:
    """The body and the recorder of a loop, with eyes on the emulated servos.

    Args:
        robot: the robot.
        script: what goes wrong at first.
        strike_s: when `strike` is called, once.
        strike: lets something happen to the robot.
    """

    def __init__(
        self, robot: RobotSpec, script: FaultScript, strike_s: float, strike: Callable[[], None]
    ) -> None:
        self.machine = Machine(robot, script, 0, log=False)
        self.clock = EmulatedTime(self.machine, self._look)
        self._body = SerialBody(robot, {line: line for line in robot.lines}, self._port)
        self._buses = [_dynamixel(name, bus) for name, bus in self.machine.buses.items()]
        self._strike_s, self._strike, self._struck = strike_s, strike, False
        self._decided_s = 0.0
        self.decisions: list[Decision] = []
        self.registers: list[Registers] = []

    def _port(self, line: str, baud_bd: int) -> EmulatedPort:
        return EmulatedPort(self.clock, line, baud_bd)

    def _look(self, now_s: float) -> None:
        if now_s < self._strike_s:
            return
        if not self._struck:
            self._struck = True
            self._strike()
        self.registers.append(self._registers(now_s))

    def _registers(self, now_s: float) -> Registers:
        count = len(self.machine.robot.joint)
        torque, stiff, tripped = (np.zeros(count, np.bool_) for _ in range(3))
        goal_rad = np.empty(count)
        for bus in self._buses:
            torque[bus.index] = bus.torque_enabled & bus.powered
            stiff[bus.index] = bus.tables.values[x.POSITION_P_GAIN.address] != 0
            tripped[bus.index] = bus.watchdog_tripped
            goal_rad[bus.index] = bus.goal_rad
        return Registers(now_s, torque, stiff, tripped, goal_rad)

    def open(self) -> None:
        """See `SerialBody`; then wait until `START_S`."""
        self._body.open()
        self.clock.sleep_until(START_S)

    def read(self, now_s: float) -> RobotState:
        """See `SerialBody`."""
        return self._body.read(now_s)

    def write(self, command: JointCommand) -> None:
        """See `SerialBody`; the gate has just decided."""
        self._decided_s = self.clock.elapsed_s
        self._body.write(command)

    def rearm(self) -> None:
        """See `SerialBody`."""
        self._body.rearm()

    def close(self) -> None:
        """See `SerialBody`."""
        self._body.close()

    def tick(self, tick: Tick) -> None:
        """Keep what the gate decided."""
        stale_s = max(float(tick.state.joint_age_s.max()), tick.state.imu_age_s)
        asked = (tick.command.kind, tick.command.joint_target_rad)
        self.decisions.append(Decision(self._decided_s, tick.mode, *asked, tick.verdict, stale_s))

    def event(self, happening: Happening) -> None:
        """Nothing is kept of events."""


def _dynamixel(name: str, bus: object) -> DynamixelServos:
    """Return an emulated bus whose registers are known here.

    Raises:
        BadInputError: it is of another protocol.
    """
    if not isinstance(bus, DynamixelServos):
        raise BadInputError("is no Dynamixel bus", key=name, allowed="robots with protocol dynamixel2")
    return bus


def watch_run(robot: RobotSpec, policy: Policy, approach: Approach, fault: Callable[[], Fault]) -> Watched:
    """Bring an emulated robot into a mode with the real loop, gate and driver, and let something happen.

    Afterwards it is re-armed and asked to stand up, and in the end stopped.

    Args:
        robot: the robot, with Dynamixel servos.
        policy: may drive it.
        approach: how it gets into the mode.
        fault: called when the robot is there, half a period after a tick; returns what happens then.

    Raises:
        BadInputError: the servos are others.
    """
    rearm_s = 0.0

    def strike() -> None:
        nonlocal rearm_s
        now_s, struck = clock.now_s(), fault()
        witness.machine.follow(struck.strike(robot, now_s, now_s + struck.lasts_s))
        rearm_s = now_s + struck.lasts_s + SETTLE_S
        after = ((rearm_s, Event.REARM), (rearm_s, Event.STAND), (rearm_s + RISING_S, Event.ESTOP))
        operator.left = [*((now_s, event) for event in struck.events), *after]

    struck_s = START_S + approach.ready_s + robot.control.period_s / 2
    witness = _Witness(robot, approach.faults(robot, START_S), struck_s, strike)
    clock = witness.clock
    operator = Wishes(clock.now_s, [(START_S + time_s, event) for time_s, event in approach.wishes])
    with on_emulated_time(clock):
        Loop(robot, witness, policy, operator, clock, armed=True, recorder=witness).run()
    return Watched(witness.registers[0].time_s, rearm_s, witness.decisions, witness.registers)
