"""What a count of a measured register is in SI units: on the joints of a robot, or on bare servos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robotrl.drivers.models import MODELS
from robotrl.drivers.series import SERIES, Series
from robotrl.spec.robot import JointSpec, RobotSpec
from robotrl.spec.state import Floats


@dataclass(frozen=True)
class Scale:
    """Counts to SI units, on n servos.

    Attributes:
        zero: (n,) counts of the position at angle zero.
        unit: (5, n) of a count of position, velocity, load (a share of full drive), voltage and temperature;
            the first three with the joint's sign.
    """

    zero: Floats
    unit: Floats


def of_servos(series: Series, count: int) -> Scale:
    """Return the scale of servos as their manual has it."""
    of = series.measured
    units = [part.unit.scale for part in (of.position, of.velocity, of.load, of.voltage, of.temperature)]
    return Scale(np.zeros(count), np.repeat(np.array(units)[:, None], count, axis=1))


def of_joints(robot: RobotSpec, joints: Sequence[JointSpec]) -> Scale:
    """Return the scale of joints on one bus, as robot.toml has their servos."""
    series = SERIES[robot.bus[joints[0].bus].protocol]
    unit = of_servos(series, len(joints)).unit
    sign = np.array([float(joint.sign) for joint in joints])
    servos = [robot.servo_of(joint) for joint in joints]
    unit[0] = sign / [servo.counts_per_rad for servo in servos]
    unit[1] = sign * [servo.velocity_unit_rad_s for servo in servos]
    unit[2] = sign * [_share_of_drive(robot, series, joint) for joint in joints]
    return Scale(np.array([float(joint.zero_count) for joint in joints]), unit)


def _share_of_drive(robot: RobotSpec, series: Series, joint: JointSpec) -> float:
    """Load of one count; of models that have the current in its place, the share of the stall current."""
    load = series.measured.load
    table = MODELS.get(robot.servo_of(joint).model_number)
    own = load if table is None else table.registers[load.address]
    return own.unit.scale if own == load else own.unit.scale / robot.supply.stall_current_a[joint.servo]
