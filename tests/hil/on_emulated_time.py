"""The real driver, the gate and the emulated robot in one process, all on emulated time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import mujoco
import numpy as np

from robotrl.bench.emulated_time import EmulatedPort, EmulatedTime, on_emulated_time
from robotrl.drivers.body import SerialBody
from robotrl.emulator.faults import FaultScript
from robotrl.emulator.machine import Machine
from robotrl.emulator.plant import Plant
from robotrl.safety import guard, rearm
from robotrl.spec.gate import GateLimits, GateMemory, Request, Verdict
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, Floats, JointCommand, RobotState


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
        self.period_s = spec.control.period_s
        paths = {line: line for line in spec.lines}
        self.body = SerialBody(spec, paths, lambda path, baud: EmulatedPort(time, path, baud), guarded=True)
        self.body.open()
        self.limits = GateLimits.of(spec)
        self.memory = GateMemory.fresh(len(spec.joint))
        self.ticks = round(time.elapsed_s / self.period_s) + 1
        self.longest_read_s = self.longest_tick_s = 0.0
        self.truth_rad: Floats = np.full((2, len(spec.joint)), np.nan)
        """(2, n) lowest and highest true angle while the last tick read its state."""
        self.state = self.body.read(time.elapsed_s)
        self.target_rad: Floats = np.clip(
            self.state.joint_pos_rad, spec.position_min_rad, spec.position_max_rad
        )

    def tick(self) -> tuple[RobotState, Verdict]:
        """Wait for the next deadline, read, let the gate judge, and write."""
        self.ticks = max(self.ticks + 1, math.ceil(self.time.elapsed_s / self.period_s - 1e-6))
        self.time.sleep_until(self.ticks * self.period_s)
        now_s = self.ticks * self.period_s
        before_rad = self.machine.plant.joint_pos_rad().copy()
        self.state = self.body.read(now_s)
        self.longest_read_s = max(self.longest_read_s, self.time.elapsed_s - now_s)
        self.truth_rad = np.sort([before_rad, self.machine.plant.joint_pos_rad()], axis=0)
        request = Request(CommandKind.TRACK, self.target_rad, "test")
        command, self.memory, verdict = guard(self.limits, self.memory, self.state, request, now_s)
        self.body.write(command)
        self.longest_tick_s = max(self.longest_tick_s, self.time.elapsed_s - now_s)
        return self.state, verdict

    def rearm(self) -> None:
        """Do what the runtime does when the operator re-arms."""
        self.body.rearm()
        self.memory = rearm(self.limits, self.memory, self.state, self.time.elapsed_s)

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
    with on_emulated_time(time):
        robot = Robot(spec, machine, time)
        yield robot
        robot.body.close()
