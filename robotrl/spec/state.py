"""What crosses between body, gate and policy each tick: measured state and joint command."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

UNIT_TOLERANCE = 0.05
"""A quaternion whose length differs more from 1 is no measurement."""


def frozen(values: ArrayLike) -> Floats:
    """Return a copy that cannot be written to, so that records may share it."""
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True)
class RobotState:
    """Everything the robot measured, in spec joint order and SI units.

    Shapes: (n,) per joint unless said otherwise. Values that never arrived are NaN and their age
    is infinite; so are those of an IMU or estimator that the robot does not have. `hardware_error`
    holds the servo's alert: 0 is healthy.
    """

    stamp_s: float
    """Host monotonic time at which this state was assembled."""
    joint_pos_rad: Floats
    joint_vel_rad_s: Floats
    joint_load: Floats
    """Motor drive the servo reports, as a share of full drive, -1 to 1."""
    voltage_v: Floats
    temperature_c: Floats
    hardware_error: NDArray[np.int64]
    joint_age_s: Floats
    """Seconds between each joint's measurement and `stamp_s`."""
    imu_quat: Floats
    """(4,) unit quaternion w x y z, world <- body."""
    imu_gyro_rad_s: Floats
    """(3,) angular velocity in the body frame."""
    imu_accel_m_s2: Floats
    """(3,) proper acceleration in the body frame (+g upwards at rest)."""
    imu_age_s: float
    estimate: Mapping[str, Floats] = field(default_factory=dict)
    """Channels of the robot's estimator by name, each of its shape."""
    estimate_age_s: float = math.inf

    @property
    def tilt_rad(self) -> float:
        """Angle between body up and world up, the rotation's third column; NaN where `imu_quat` is none."""
        w, x, y, z = map(float, self.imu_quat.tolist())
        if not abs(math.hypot(w, x, y, z) - 1.0) <= UNIT_TOLERANCE:  # so that NaN is none
            return math.nan
        return math.atan2(2 * math.hypot(x * z + w * y, y * z - w * x), w * w - x * x - y * y + z * z)


class CommandKind(IntEnum):
    """What the servos are asked to do, from weakest to strongest intervention."""

    TRACK = 0
    """Follow `joint_target_rad` with the gains of robot.toml."""
    DAMP = 1
    """No stiffness: motor terminals shorted or D-gain only, so the robot sinks slowly."""
    LIMP = 2
    """Torque off."""


@dataclass(frozen=True, slots=True)
class JointCommand:
    """What is written to the servos: a kind and, for TRACK, the targets in spec joint order."""

    kind: CommandKind
    joint_target_rad: Floats
    """(n,) rad; ignored unless `kind` is TRACK."""
