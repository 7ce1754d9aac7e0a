"""The handshake with the servos of one bus: who is there, torque off, configuration written and read back.

EEPROM cells wear, so a register is written only where it differs from robot.toml.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag

import numpy as np

from robotrl.drivers.models import MODELS
from robotrl.drivers.registers import Area, Ints, Register
from robotrl.drivers.series import SERIES
from robotrl.drivers.servo_bus import ServoBus
from robotrl.errors import DeviceError
from robotrl.spec.robot import JointSpec, RobotSpec


def position_limits(joint: JointSpec, robot: RobotSpec) -> tuple[int, int]:
    """Return the joint's limits as lowest and highest count of its encoder."""
    counts_per_rad = robot.servo_of(joint).counts_per_rad
    ends = [
        round(joint.zero_count + joint.sign * angle * counts_per_rad)
        for angle in (joint.position_min_rad, joint.position_max_rad)
    ]
    return min(ends), max(ends)


def configuration(robot: RobotSpec, joints: Sequence[JointSpec]) -> list[tuple[Register, Ints]]:
    """Return what every servo must hold before torque goes on: (register, one value per joint).

    Args:
        robot: what they must be.
        joints: those of one bus.
    """
    series = SERIES[robot.bus[joints[0].bus].protocol]
    settings = [series.settings(robot.servo_of(joint)) for joint in joints]
    limits = [position_limits(joint, robot) for joint in joints]
    same = [(rows[0][0], np.array([value for _, value in rows])) for rows in zip(*settings, strict=True)]
    return [
        *same,
        (series.max_position, np.array([high for _, high in limits])),
        (series.min_position, np.array([low for low, _ in limits])),
    ]


def ram_settings(robot: RobotSpec, joints: Sequence[JointSpec]) -> list[tuple[Register, Ints]]:
    """Return that part of `configuration` which a restart undoes, but for the stiffness: arming sets that."""
    series = SERIES[robot.bus[joints[0].bus].protocol]
    sealed = [(register, np.full(len(joints), value)) for register, value in series.seal]
    return [
        (register, values)
        for register, values in [*configuration(robot, joints), *sealed]
        if register.area is Area.RAM and register is not series.stiffness
    ]


class Handshake:
    """One bus being checked and configured; every failure names bus, servo and joint.

    Args:
        bus: the servos.
        robot: what they must be.
        joints: their joints, in the order of the bus's ids.
        place: the bus's name and port, for errors.
    """

    def __init__(self, bus: ServoBus, robot: RobotSpec, joints: Sequence[JointSpec], place: str) -> None:
        self._bus = bus
        self._robot = robot
        self._series = SERIES[robot.bus[joints[0].bus].protocol]
        self._joints = joints
        self._place = place

    def run(self) -> None:
        """Leave every servo torque off, configured and healthy.

        Raises:
            DeviceError: a servo is missing, of another model, faulty, set up so that it measures in other
                units, or does not hold what was written.
            PortError: the port has gone.
        """
        self._check_models()
        for register, value in self._series.takeover:
            self._bus.sync_write(register, self._same(value))
        for register, value in self._series.takeover:
            self._settle(register, self._same(value))
        self._check_flags()
        for register, values in configuration(self._robot, self._joints):
            self._settle(register, values)
        for register, value in self._series.seal:
            self._settle(register, self._same(value))
        self._check_health()

    def _same(self, value: int) -> Ints:
        return np.full(len(self._joints), value)

    def _check_models(self) -> None:
        models = [self._bus.ping(id_) for id_ in self._bus.ids]
        missing = [j for j, model in zip(self._joints, models, strict=True) if model is None]
        if len(missing) == len(models):
            raise DeviceError(f"{self._place}: no servo answers; check power, cable, baud rate and ids")
        if missing:
            raise DeviceError(f"{self._place}: no answer from {', '.join(map(_called, missing))}")
        for joint, model in zip(self._joints, models, strict=True):
            expected = self._robot.servo_of(joint).model_number
            if model != expected:
                raise DeviceError(
                    f"{self._place}: {_called(joint)} has model number {model}; "
                    f"servo.{joint.servo}.model_number is {expected}"
                )

    def _settle(self, register: Register, values: Ints) -> None:
        """Make the register of every servo hold its value: write where it differs, then read back."""
        before = self._read(register)
        if (before == values).all():
            return
        for i in np.flatnonzero(before != values).tolist():
            self._bus.write(self._bus.ids[i], self._own(i, register), int(values[i]))
        after = self._read(register)
        for i in np.flatnonzero(after != values).tolist():
            raise DeviceError(
                f"{self._place}: {_called(self._joints[i])}: {register.name} ({register.address}) "
                f"was written as {values[i]} but reads {after[i]}"
            )

    def _own(self, i: int, register: Register) -> Register:
        """The register as a servo's model has it: with other limits, for some."""
        table = MODELS.get(self._robot.servo_of(self._joints[i]).model_number)
        return register if table is None else table[register]

    def _read(self, register: Register) -> Ints:
        """(n,) values of the register."""
        replies = self._bus.read_patiently(register)
        if replies.fresh.all():
            return replies.values(register)
        silent = [j for j, fresh in zip(self._joints, replies.fresh, strict=True) if not fresh]
        raise DeviceError(
            f"{self._place}: {', '.join(map(_called, silent))} did not answer a read of "
            f"{register.name} ({register.address})"
        )

    def _check_flags(self) -> None:
        for register, bits in self._series.flags:
            held = self._read(register)
            for i in np.flatnonzero(held & bits != bits).tolist():
                fix = f'robotrl bus write "{register.name}" {held[i] | bits} --id {self._joints[i].id}'
                raise DeviceError(
                    f"{self._place}: {_called(self._joints[i])}: {register.name} ({register.address}) is "
                    f"{held[i]}, without bits {bits}, so that it measures in other units; {fix}"
                )

    def _check_health(self) -> None:
        errors = self._read(self._series.health)
        for i in np.flatnonzero(errors).tolist():
            raise DeviceError(
                f"{self._place}: {_called(self._joints[i])} reports hardware error "
                f"{_error_names(self._series.health_bits, int(errors[i]))}; "
                "remove the cause, then cycle its power"
            )


def _called(joint: JointSpec) -> str:
    return f"servo {joint.id} ({joint.name})"


def _error_names(bits: type[IntFlag], error: int) -> str:
    named = [bit.name.lower().replace("_", " ") for bit in bits if error & bit and bit.name]
    return ", ".join(named) or str(error)
