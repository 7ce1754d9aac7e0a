"""True state -> measured channels: zero offsets, mounting error, bias, noise and quantisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from robotrl.spec.records import Between
from robotrl.spec.robot import RobotSpec

NonNegative = Annotated[float, Between(0.0)]

_GYRO_UNIT_RAD_S = 2000 / 32768 * torch.pi / 180
"""WT901: 16 bits over +-2000 deg/s."""


@dataclass(frozen=True)
class SensingParams:
    """The `[sensing]` table of a run. Uniform quantities span +- the value; noise is normal."""

    joint_zero_rad: NonNegative
    """Calibration error of each joint's zero, drawn per episode."""
    joint_pos_noise_rad: NonNegative
    joint_vel_noise_rad_s: NonNegative
    gyro_bias_rad_s: NonNegative
    """Drawn per episode."""
    gyro_noise_rad_s: NonNegative
    imu_tilt_rad: NonNegative
    """Mounting error about each axis, drawn per episode."""
    attitude_noise_rad: NonNegative
    """Orientation noise of the IMU's filter about each axis."""


EXACT = SensingParams(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""A robot whose sensors only quantise."""


class Sensing:
    """What the robot of each world would read off its own bus and IMU."""

    def __init__(self, robot: RobotSpec, params: SensingParams, num: int) -> None:
        joints = len(robot.joint)
        servos = [robot.servo_of(j) for j in robot.joint]
        self._params = params
        self._angle_unit = torch.tensor([1 / s.counts_per_rad for s in servos], dtype=torch.float32)
        self._speed_unit = torch.tensor([s.velocity_unit_rad_s for s in servos], dtype=torch.float32)
        self.joint_zero = torch.zeros((num, joints))
        """Measured minus true joint angle (B, n) rad; it shifts the targets as well."""
        self._gyro_bias = torch.zeros((num, 3))
        self._imu_tilt = torch.zeros((num, 3))

    def redraw(self, ids: Tensor, generator: torch.Generator) -> None:
        """Draw the constant errors of the worlds `ids` anew."""
        p, count = self._params, len(ids)

        def uniform(span: float, size: int) -> Tensor:
            return (2 * torch.rand((count, size), generator=generator) - 1) * span

        self.joint_zero[ids] = uniform(p.joint_zero_rad, self.joint_zero.shape[1])
        self._gyro_bias[ids] = uniform(p.gyro_bias_rad_s, 3)
        self._imu_tilt[ids] = uniform(p.imu_tilt_rad, 3)

    def measure(
        self, ids: Tensor | slice, qpos: Tensor, qvel: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Read the sensors of the worlds `ids` in the given state (k, nq), (k, nv)."""
        p, count, joints = self._params, qpos.shape[0], self.joint_zero.shape[1]
        noise = torch.randn((count, 2 * joints + 6), generator=generator)
        angle = qpos[:, 7:] + self.joint_zero[ids] + p.joint_pos_noise_rad * noise[:, :joints]
        speed = qvel[:, 6:] + p.joint_vel_noise_rad_s * noise[:, joints : 2 * joints]
        gyro = qvel[:, 3:6] + self._gyro_bias[ids] + p.gyro_noise_rad_s * noise[:, -6:-3]
        tilt = self._imu_tilt[ids] + p.attitude_noise_rad * noise[:, -3:]
        return {
            "joint_pos": torch.round(angle / self._angle_unit) * self._angle_unit,
            "joint_vel": torch.round(speed / self._speed_unit) * self._speed_unit,
            "imu_quat": _rotate_slightly(qpos[:, 3:7], tilt),
            "imu_gyro": torch.round(gyro / _GYRO_UNIT_RAD_S) * _GYRO_UNIT_RAD_S,
        }


def _rotate_slightly(quat: Tensor, angles: Tensor) -> Tensor:
    """Compose wxyz quaternions (B, 4) with small body-frame rotations (B, 3) rad."""
    w, xyz, half = quat[:, :1], quat[:, 1:], angles / 2
    turned: Tensor = torch.cat(
        (w - (xyz * half).sum(-1, keepdim=True), xyz + w * half + torch.linalg.cross(xyz, half)), dim=-1
    )
    return torch.nn.functional.normalize(turned, dim=-1)
