"""The named sensor and command channels that a policy may read: shape, unit, frame, source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

JOINTS = "n"
"""In a channel's shape: the robot's number of joints, in spec order."""


class Source(Enum):
    """Where a channel's value comes from on a real robot."""

    JOINTS = "joints"
    IMU = "imu"
    OPERATOR = "operator"
    ESTIMATOR = "estimator"


@dataclass(frozen=True)
class Channel:
    """One named input of a policy.

    Attributes:
        name: the input's name in the policy graph.
        shape: sizes; `"n"` stands for the robot's number of joints.
        unit: SI unit, or `1`.
        frame: what the numbers are expressed in.
        source: which part of a real robot delivers it.
    """

    name: str
    shape: tuple[int | str, ...]
    unit: str
    frame: str
    source: Source

    def size(self, joint_count: int) -> int:
        """Return the number of values for a robot with `joint_count` joints."""
        total = 1
        for part in self.shape:
            total *= joint_count if part == JOINTS else int(part)
        return total


CHANNELS: Mapping[str, Channel] = MappingProxyType(
    {
        c.name: c
        for c in (
            Channel("joint_pos", (JOINTS,), "rad", "joint", Source.JOINTS),
            Channel("joint_vel", (JOINTS,), "rad/s", "joint", Source.JOINTS),
            Channel("imu_quat", (4,), "1", "wxyz, world <- body", Source.IMU),
            Channel("imu_gyro", (3,), "rad/s", "body", Source.IMU),
            Channel("imu_accel", (3,), "m/s^2", "body", Source.IMU),
            Channel("velocity_command", (3,), "m/s, m/s, rad/s", "body, yaw about world up", Source.OPERATOR),
            Channel("base_lin_vel", (3,), "m/s", "body", Source.ESTIMATOR),
        )
    }
)
