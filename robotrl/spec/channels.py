"""The named sensor and command channels that a policy may read: shape, unit, frame, source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

JOINTS, PASSIVE, POINTS, GOAL, OBSERVED = "n", "p", "s", "k", "o"
"""In a channel's shape: the robot's number of joints with servos in spec order, of joints without, and of
points, the latter two as its estimator is told in robot.toml; the size of the policy's goals; and that of a
simulated task's observation."""


class Source(Enum):
    """Where a channel's value comes from on a real robot, or that only a simulation has it."""

    JOINTS = "joints"
    IMU = "imu"
    OPERATOR = "operator"
    ESTIMATOR = "estimator"
    CONTROLLER = "controller"
    SIMULATION = "simulation"


@dataclass(frozen=True)
class Channel:
    """One named input of a policy.

    Attributes:
        name: the input's name in the policy graph.
        shape: sizes; the letters above stand for numbers of the robot's or the policy's.
        unit: SI unit, or `1`.
        frame: what the numbers are expressed in.
        source: which part of a real robot delivers it.
    """

    name: str
    shape: tuple[int | str, ...]
    unit: str
    frame: str
    source: Source

    def shape_on(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shape where the letters stand for `sizes`."""
        return tuple(sizes[part] if isinstance(part, str) else part for part in self.shape)


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
            Channel("goal", (GOAL,), "of the task", "of the task", Source.OPERATOR),
            Channel("base_lin_vel", (3,), "m/s", "body", Source.ESTIMATOR),
            Channel("passive_joint_pos", (PASSIVE,), "rad", "joint", Source.ESTIMATOR),
            Channel("passive_joint_vel", (PASSIVE,), "rad/s", "joint", Source.ESTIMATOR),
            Channel("point_pos", (POINTS, 3), "m", "world", Source.ESTIMATOR),
            Channel("gripper_pos", (3,), "m", "world", Source.CONTROLLER),
            Channel("gripper_vel", (3,), "m/s", "world", Source.CONTROLLER),
            Channel("finger_pos", (2,), "m", "joint", Source.CONTROLLER),
            Channel("finger_vel", (2,), "m/s", "joint", Source.CONTROLLER),
            Channel("observation", (OBSERVED,), "of the task", "of the task", Source.SIMULATION),
        )
    }
)

OPERATOR_CHANNELS = tuple(c.name for c in CHANNELS.values() if c.source is Source.OPERATOR)
"""What an operator may be asked for."""
