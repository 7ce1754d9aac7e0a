"""An emulated robot on the bus clock, in a thread of this process: exactly repeatable, and open to view."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import IO, Self

import numpy as np

from robotrl.drivers.arm import ArmBody
from robotrl.drivers.body import SerialBody
from robotrl.emulator.arm import ArmMachine
from robotrl.emulator.arm_process import ArmEmulator
from robotrl.emulator.faults import FaultScript
from robotrl.emulator.machine import Machine
from robotrl.emulator.process import Emulator
from robotrl.errors import RobotrlError
from robotrl.runtime.arm_loop import with_patient_controller
from robotrl.runtime.clock import with_patient_buses
from robotrl.spec.arm import ArmSpec
from robotrl.spec.gripper import ArmState, GripperCommand
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import Floats, JointCommand, RobotState


class _Lockstep(contextlib.AbstractContextManager["_Lockstep"]):
    """An emulator in a thread; use as a context manager.

    Attributes:
        ports: line -> path of its pseudo-terminal.

    Args:
        build: makes the emulator, given the descriptor of its commands and where it reports.

    Raises:
        RobotrlError: at the end, what ended the emulation early.
    """

    def __init__(self, build: Callable[[int, IO[str]], Emulator | ArmEmulator]) -> None:
        commands, self._commands = os.pipe()
        reports, report = os.pipe()
        self._report = os.fdopen(report, "w")
        self._emulator = build(commands, self._report)
        self._input, self._reports = commands, os.fdopen(reports)
        self._thread = threading.Thread(target=self._serve, name="emulator")
        self._failure: RobotrlError | None = None
        self.ports: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Start, and learn the ports."""
        self._thread.start()
        self.ports = json.loads(self._reports.readline())["ports"]
        # Whatever else it reports is read, so that it never waits for a reader.
        self._reader = threading.Thread(target=self._reports.read, name="reports")
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it: the end of its input."""
        os.close(self._commands)
        self._thread.join()
        self._reader.join()
        self._reports.close()
        os.close(self._input)
        if self._failure is not None and error is None:
            raise self._failure

    def _serve(self) -> None:
        with self._report:
            try:
                self._emulator.run()
            except RobotrlError as error:
                self._failure = error


class LockstepRobot(_Lockstep):
    """The emulator of `robotrl emulate --clock bus`; use as a context manager.

    Attributes:
        machine: what is behind its ports. It stands still from an answer of its own to the next byte for it.

    Args:
        robot: the robot.
        seed: of everything random.
    """

    def __init__(self, robot: RobotSpec, seed: int = 0) -> None:
        self.machine = Machine(robot, FaultScript(), seed, log=False)
        super().__init__(lambda commands, report: Emulator(self.machine, "bus", commands, report))


class LockstepArm(_Lockstep):
    """The same of an arm; see `LockstepRobot`."""

    def __init__(self, arm: ArmSpec) -> None:
        self.machine = ArmMachine(arm)
        super().__init__(lambda commands, report: ArmEmulator(self.machine, "bus", commands, report))


class WitnessedArm:
    """The driver of an emulated arm, with what was true when it last read.

    Attributes:
        qpos: (nq,) of the emulated world, at the end of the last read.
        qvel: (nv,)
    """

    def __init__(self, arm: ArmSpec, emulated: LockstepArm) -> None:
        self._body = ArmBody(with_patient_controller(arm), emulated.ports)
        self._world = emulated.machine.world
        self.qpos: Floats = np.full_like(self._world.data.qpos, np.nan)
        self.qvel: Floats = np.full_like(self._world.data.qvel, np.nan)
        self._start: tuple[Floats, Floats] | None = None

    def open(self) -> None:
        """See `ArmBody`."""
        self._body.open()

    def read(self, now_s: float) -> ArmState:
        """See `ArmBody`; note what is true, then put the world where it is to be."""
        state = self._body.read(now_s)
        self.qpos, self.qvel = self._world.data.qpos.copy(), self._world.data.qvel.copy()
        if self._start:
            self._world.place(*self._start)
            self._start = None
        return state

    def place(self, qpos: Floats, qvel: Floats) -> None:
        """Put the emulated world into a state (nq,), (nv,) at the end of the next read."""
        self._start = qpos, qvel

    def write(self, command: GripperCommand) -> None:
        """See `ArmBody`."""
        self._body.write(command)

    def close(self) -> None:
        """See `ArmBody`."""
        self._body.close()


class WitnessedBody:
    """The driver of an emulated robot, with what was true when it last read.

    Attributes:
        qpos: (nq,) of the emulated world, at the end of the last read.
        qvel: (nv,)
        torque_nm: (n,) of the motors, in the physics step before.
        sensordata: of the world's model, as that step found them.
    """

    def __init__(self, robot: RobotSpec, emulated: LockstepRobot) -> None:
        self._body = SerialBody(with_patient_buses(robot), emulated.ports)
        self._data = emulated.machine.plant.data
        self.qpos: Floats = np.full_like(self._data.qpos, np.nan)
        self.qvel: Floats = np.full_like(self._data.qvel, np.nan)
        self.torque_nm: Floats = np.full_like(self._data.ctrl, np.nan)
        self.sensordata: Floats = np.full_like(self._data.sensordata, np.nan)
        self._start: tuple[Floats, Floats] | None = None

    def open(self) -> None:
        """See `SerialBody`."""
        self._body.open()

    def read(self, now_s: float) -> RobotState:
        """See `SerialBody`; note what is true."""
        state = self._body.read(now_s)
        if self._start:
            self._data.qpos[:], self._data.qvel[:] = self._start
            self._start = None
        self.qpos, self.qvel = self._data.qpos.copy(), self._data.qvel.copy()
        self.torque_nm, self.sensordata = self._data.ctrl.copy(), self._data.sensordata.copy()
        return state

    def place(self, qpos: Floats, qvel: Floats) -> None:
        """Put the emulated world into a state (nq,), (nv,) at the end of the next read."""
        self._start = qpos, qvel

    def write(self, command: JointCommand) -> None:
        """See `SerialBody`."""
        self._body.write(command)

    def rearm(self) -> None:
        """See `SerialBody`."""
        self._body.rearm()

    def close(self) -> None:
        """See `SerialBody`."""
        self._body.close()
