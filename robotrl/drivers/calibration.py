"""Encoder zeros and reach of one built robot, from joints that a hand guides while torque is off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from robotrl.drivers.port import Port
from robotrl.drivers.registers import Ints, Register
from robotrl.drivers.servo import Line
from robotrl.errors import ConfigError, DeviceError
from robotrl.spec.robot import JointSpec, RobotSpec
from robotrl.spec.state import Floats
from robotrl.spec.unit import SCHEMA, JointUnit, UnitSpec, check_unit

STILL_COUNTS = 4
"""A joint held still for a calibration stays within so many counts: a third of a degree of an X servo."""

_GONE_ROUND = 0.5
"""Between two looks nobody turns a joint this far, in turns: the encoder has gone through its end."""


class GuidedJoints:
    """The joints on one bus, torque off, watched while a hand moves them.

    Args:
        port: where the bytes go; its `PortError` passes through every method.
        line: the port's protocol and speed.
        joints: those of the bus.
        robot: what they are.
    """

    def __init__(self, port: Port, line: Line, joints: Sequence[JointSpec], robot: RobotSpec) -> None:
        self.joints = tuple(joints)
        self._robot = robot
        self._bus = line.bus(port, tuple(joint.id for joint in joints))
        self._series = line.series
        self._turn = np.array([robot.servo_of(joint).counts_per_rev for joint in joints])
        self._last: Ints | None = None
        self.low: Ints = np.full(len(joints), np.iinfo(np.int64).max)
        """(n,) lowest counts seen since `forget`."""
        self.high: Ints = np.full(len(joints), np.iinfo(np.int64).min)
        """(n,) highest counts seen."""

    def require_limp(self) -> None:
        """Refuse servos that hold torque: a hand would fight them.

        Raises:
            DeviceError: one does, or does not answer.
        """
        for joint, torque in zip(self.joints, self._read(self._series.torque), strict=True):
            if torque:
                fix = f'robotrl bus write "{self._series.torque.name}" 0 --id {joint.id}'
                raise DeviceError(f"servo {joint.id} ({joint.name}) holds torque; hold the joint, then {fix}")

    def require_counting(self) -> None:
        """Refuse servos whose counts will mean something else as soon as the robot runs.

        Raises:
            DeviceError: one has an offset, a direction or a mode of its own, or does not answer.
        """
        for register in self._series.counting:
            for joint, held in zip(self.joints, self._read(register), strict=True):
                wanted = dict(self._series.settings(self._robot.servo_of(joint)))[register]
                if held != wanted:
                    fix = f'robotrl bus write "{register.name}" {wanted} --id {joint.id}, then calibrate'
                    what = f"{register.name} ({register.address}) is {held}"
                    raise DeviceError(
                        f"servo {joint.id} ({joint.name}): {what}, which robotrl sets to {wanted}; {fix}"
                    )

    def look(self) -> Ints:
        """Return (n,) counts now; they widen the range seen.

        Raises:
            DeviceError: a servo does not answer, or a joint went through its encoder's end.
        """
        counts = self._read(self._series.measured.position)
        if self._last is not None:
            jumped = np.flatnonzero(abs(counts - self._last) > _GONE_ROUND * self._turn)
            if jumped.size:
                joint = self.joints[jumped[0]]
                raise DeviceError(
                    f"servo {joint.id} ({joint.name}) went through the end of its encoder; "
                    "mount its horn so that the joint's whole range lies inside one turn"
                )
        self._last = counts
        self.low, self.high = np.minimum(self.low, counts), np.maximum(self.high, counts)
        return counts

    def hold_still(self, looks: int) -> Ints:
        """Return (n,) counts of joints that are held still, the middle of several looks.

        Raises:
            DeviceError: a joint moves meanwhile.
        """
        seen = np.array([self.look() for _ in range(looks)])
        moved = np.flatnonzero(np.ptp(seen, axis=0) > STILL_COUNTS)
        if moved.size:
            joint = self.joints[moved[0]]
            spread = int(np.ptp(seen[:, moved[0]]))
            raise DeviceError(f"servo {joint.id} ({joint.name}) moved by {spread} counts; hold it still")
        middle: Ints = np.rint(np.median(seen, axis=0)).astype(np.int64)
        return middle

    def angles_rad(self, counts: Ints, zero_counts: Ints) -> Floats:
        """Return (n,) joint angles of counts."""
        sign = np.array([joint.sign for joint in self.joints])
        per_rad = np.array([self._robot.servo_of(joint).counts_per_rad for joint in self.joints])
        angles: Floats = sign * (counts - zero_counts) / per_rad
        return angles

    def zero_counts(self, counts: Ints, posture_rad: Mapping[str, float]) -> Ints:
        """Return (n,) counts at angle zero, of joints that are in a known posture.

        Args:
            counts: (n,) there.
            posture_rad: joint name -> angle there.
        """
        offsets = [
            joint.sign * posture_rad[joint.name] * self._robot.servo_of(joint).counts_per_rad
            for joint in self.joints
        ]
        zeros: Ints = np.rint(counts - np.array(offsets)).astype(np.int64)
        return zeros

    def _read(self, register: Register) -> Ints:
        replies = self._bus.read_patiently(register)
        for joint, fresh in zip(self.joints, replies.fresh, strict=True):
            if not fresh:
                raise DeviceError(f"servo {joint.id} ({joint.name}) does not answer")
        return replies.values(register)


def joint_units(guided: GuidedJoints, zero_counts: Ints) -> dict[str, JointUnit]:
    """Return what was measured on one bus, by joint."""
    rows = zip(guided.joints, zero_counts, guided.low, guided.high, strict=True)
    return {joint.name: JointUnit(int(zero), int(low), int(high)) for joint, zero, low, high in rows}


def calibrated(robot: RobotSpec, serial: str, measured: Mapping[str, JointUnit], file: Path) -> UnitSpec:
    """Return the unit that was measured on all buses, in spec order.

    Raises:
        ConfigError: it cannot be: a count is negative, a posture out of reach, a zero off the encoder.
        DeviceError: a joint was not moved.
    """
    for name, of in measured.items():
        if of.count_max - of.count_min <= STILL_COUNTS:
            raise DeviceError(f"{name} was not moved; guide every joint from end to end")
        if of.zero_count < 0:
            problem, key = "lies below the encoder's turn: turn the horn", f"joint.{name}.zero_count"
            raise ConfigError(problem, file=file, key=key, value=of.zero_count, allowed="0 or more")
    joints = {name: measured[name] for name in robot.joint_names}
    unit = UnitSpec(SCHEMA, robot.name, serial, joints)
    check_unit(unit, robot, file)
    return unit


def short_of_limits(robot: RobotSpec, unit: UnitSpec) -> list[str]:
    """Return a sentence for each joint whose limits in robot.toml a hand did not reach."""
    sentences = []
    for joint in robot.joint:
        of, per_rad = unit.joint[joint.name], robot.servo_of(joint).counts_per_rad
        ends = sorted(
            joint.sign * (count - of.zero_count) / per_rad for count in (of.count_min, of.count_max)
        )
        margin = STILL_COUNTS / per_rad
        if ends[0] > joint.position_min_rad + margin or ends[1] < joint.position_max_rad - margin:
            sentences.append(
                f"{joint.name} reached {ends[0]:.3f} to {ends[1]:.3f} rad; robot.toml allows "
                f"{joint.position_min_rad:.3f} to {joint.position_max_rad:.3f}"
            )
    return sentences
