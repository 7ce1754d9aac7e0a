"""The real driver, the gate and the emulated robot in one process, all on emulated time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import mujoco
import numpy as np

from robotrl.drivers import body as body_module
from robotrl.drivers import dynamixel, dynamixel_bus, feetech, feetech_bus, imu, port, servo_bus
from robotrl.drivers.body import SerialBody
from robotrl.emulator.faults import FaultScript
from robotrl.emulator.machine import Machine
from robotrl.emulator.plant import Plant
from robotrl.emulator.wire import PacketFramer
from robotrl.errors import PortError
from robotrl.safety import GateMemory, guard, rearm
from robotrl.spec.gate import GateLimits, Request, Verdict
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, Floats, JointCommand, RobotState

_TIMED = (body_module, dynamixel_bus, feetech_bus, imu, port, servo_bus)
"""Driver modules that look at the clock."""
_FRAMINGS = {
    "dynamixel2": dynamixel.FRAMING,
    "feetech_sts": feetech.FRAMING,
    "feetech_scs": feetech.FRAMING,
}
_STEP_S = 1e-6


class EmulatedTime:
    """Stands in for the module `time`: waiting lets the emulated robot live on, nothing else does."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.now_s = 0.0
        self.arrived = dict.fromkeys(machine.cables, b"")

    def monotonic(self) -> float:
        """Now."""
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        """Let time pass."""
        self.live_until(self.now_s + duration_s)

    def live_until(self, time_s: float) -> None:
        """Let the robot live on, and collect what reaches the host."""
        self.now_s = max(self.now_s, time_s)
        self.machine.run_until(self.now_s)
        for delivery in self.machine.released(self.now_s):
            self.arrived[delivery.line] += delivery.data


class EmulatedPort:
    """A `Port` on one line of the machine, gone while its adapter is out."""

    def __init__(self, time: EmulatedTime, line: str, baud_bd: int) -> None:
        self._time, self._line = time, line
        bus = time.machine.robot.bus.get(line)
        self._framer = PacketFramer(_FRAMINGS[bus.protocol]) if bus else None
        self._check()
        time.machine.set_host_baud(line, baud_bd)
        time.arrived[line] = b""

    def write(self, data: bytes) -> None:
        """Send all of `data`; the adapter's buffer takes it at once."""
        self._check()
        for packet in self._framer.feed(data) if self._framer else [data]:
            self._time.machine.transmit(self._line, packet, self._time.now_s)

    def read(self, deadline_s: float) -> bytes:
        """Live until something arrives, or until the deadline."""
        self._check()
        time = self._time
        while not time.arrived[self._line] and time.now_s < deadline_s:
            time.live_until(min(max(time.machine.pending_s(), time.now_s + _STEP_S), deadline_s))
        self._check()
        data, time.arrived[self._line] = time.arrived[self._line], b""
        return data

    def drain(self) -> bytes:
        """Return what has arrived."""
        return self.read(0.0)

    def close(self) -> None:
        """Nothing to release."""

    def _check(self) -> None:
        if not self._time.machine.port_exists(self._line, self._time.now_s):
            raise PortError(f"port {self._line} has gone away")


class Robot:
    """An opened robot that holds the posture in which it lies, ticked at its control rate.

    Args:
        spec: the robot.
        machine: it, emulated.
        time: its clock, which the driver must be on too: see `emulated_robot`.
    """

    def __init__(self, spec: RobotSpec, machine: Machine, time: EmulatedTime) -> None:
        self.spec = spec
        self.machine = machine
        self.time = time
        self.period_s = 1.0 / spec.control.rate_hz
        paths = {line: line for line in spec.lines}
        self.body = SerialBody(spec, paths, lambda path, baud: EmulatedPort(time, path, baud), guarded=True)
        self.body.open()
        self.limits = GateLimits.of(spec)
        self.memory = GateMemory.fresh(len(spec.joint))
        self.ticks = round(time.now_s / self.period_s) + 1
        self.longest_read_s = self.longest_tick_s = 0.0
        self.truth_rad: Floats = np.full((2, len(spec.joint)), np.nan)
        """(2, n) lowest and highest true angle while the last tick read its state."""
        self.state = self.body.read(time.now_s)
        self.target_rad: Floats = np.clip(
            self.state.joint_pos_rad, spec.position_min_rad, spec.position_max_rad
        )

    def tick(self) -> tuple[RobotState, Verdict]:
        """Wait for the next deadline, read, let the gate judge, and write."""
        self.ticks = max(self.ticks + 1, math.ceil(self.time.now_s / self.period_s - 1e-6))
        self.time.live_until(self.ticks * self.period_s)
        now_s = self.ticks * self.period_s
        before_rad = self.machine.plant.joint_pos_rad().copy()
        self.state = self.body.read(now_s)
        self.longest_read_s = max(self.longest_read_s, self.time.now_s - now_s)
        self.truth_rad = np.sort([before_rad, self.machine.plant.joint_pos_rad()], axis=0)
        request = Request(CommandKind.TRACK, self.target_rad, "test")
        command, self.memory, verdict = guard(self.limits, self.memory, self.state, request, now_s)
        self.body.write(command)
        self.longest_tick_s = max(self.longest_tick_s, self.time.now_s - now_s)
        return self.state, verdict

    def rearm(self) -> None:
        """Do what the runtime does when the operator re-arms."""
        self.body.rearm()
        self.memory = rearm(self.memory, self.state)

    def limp(self) -> None:
        """Torque off."""
        self.body.write(JointCommand(CommandKind.LIMP, self.target_rad))


_LYING: dict[tuple[str, int], Floats] = {}
"""State of the physics of robots that have lain down, by what they are and seed."""
_lie_down = Plant._lie_down


def _lie_down_once(plant: Plant, robot: RobotSpec, seed: int) -> None:
    """Lie down as a robot does at the start; the second time the first one's end is put in its place."""
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    key = (robot.policy_hash, seed)
    if key not in _LYING:
        _lie_down(plant, robot, seed)
        _LYING[key] = np.empty(mujoco.mj_stateSize(plant.model, kind))
        mujoco.mj_getState(plant.model, plant.data, _LYING[key], kind)
    mujoco.mj_setState(plant.model, plant.data, _LYING[key], kind)


@contextmanager
def emulated_robot(spec: RobotSpec, script: FaultScript, seed: int = 0) -> Iterator[Robot]:
    """Open a robot whose driver lives on emulated time until the end of the block."""
    with patch.object(Plant, "_lie_down", _lie_down_once):
        machine = Machine(spec, script, seed, log=False)
    time = EmulatedTime(machine)
    patches = [patch.object(module, "time", time) for module in _TIMED]
    for each in patches:
        each.start()
    try:
        robot = Robot(spec, machine, time)
        yield robot
        robot.body.close()
    finally:
        for each in patches:
            each.stop()
