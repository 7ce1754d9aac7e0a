"""True state -> measured channels: zero offsets, backlash, mounting error, bias, noise, quantisation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from robotrl.sim.saving import State, put_back
from robotrl.spec.records import Between, Within, check_bounds
from robotrl.spec.robot import RobotSpec

NonNegative = Annotated[float, Between(0.0)]

_GYRO_COUNTS = 32768
_GYRO_UNIT_RAD_S = math.radians(2000) / _GYRO_COUNTS
"""WT901: 16 bits over +-2000 deg/s, beyond which it saturates."""


@dataclass(frozen=True)
class SensingParams:
    """The `[sensing]` table of a run. Uniform quantities span +- the value; noise is normal.

    What is 0 draws nothing and costs nothing.
    """

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
    backlash_rad: Annotated[tuple[float, float], Within(0.0, 0.5)] = (0.0, 0.0)
    """[low, high] of each joint's play between servo and link, from flank to flank, drawn per episode."""


EXACT = SensingParams(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""A robot whose sensors only quantise."""


class Sensing:
    """What the robot of each world would read off its own bus and IMU.

    *Joints.* Angles and speeds are rounded to the servo's counts. An angle is measured at the
    servo's output shaft, where the encoder of an X-series servo sits, relative to a wrong zero.

    *Backlash.* Between that shaft and the link (horn, screws, linkage) there is play of width b.
    The shaft leads the link by a lag-free `lead` in [-b/2, b/2], and the servo regulates the shaft,
    so the lead moves both its reading and, the other way, its goal. It follows quasi-statically,
    once a control step, from the torque f that the servo transmits: against its own friction f0 the
    shaft moves until the servo's torque is used up or a flank stops it,
    ``lead <- clip(lead + (f - clip(f, +-f0)) / stiffness, +-b/2)``. A load therefore hangs on the
    flank that carries it, a turning load loses b of motion, and below f0 the shaft stays where it
    is. Limits of the model: no time is spent crossing the play and no blow ends it; within it the
    link still feels up to f0; play between motor and encoder, inside the gearbox, is not modelled.

    *IMU.* Attitude and rates are those of a frame that is turned a little against the body, to first
    order in the angle; the attitude is noisy as a filter's is, the gyro has bias, counts and a range.

    Args:
        robot: the robot.
        params: sizes of the errors.
        num: worlds B.
        device: where the worlds' tensors lie.
        vertical: (B, 4) live w x y z rotations world <- level where gravity is tilted
            (`Randomizer.vertical`): the IMU measures against gravity, not against the floor.

    Raises:
        ConfigError: a size that is out of order or out of range.
    """

    def __init__(
        self,
        robot: RobotSpec,
        params: SensingParams,
        num: int,
        device: torch.device | str = "cpu",
        vertical: Tensor | None = None,
    ) -> None:
        check_bounds(params, "sensing")
        servos = [robot.servo_of(joint) for joint in robot.joint]
        self._params, self._joints, self._vertical = params, len(servos), vertical

        def row(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        # Joint angles, joint speeds and rates are one row of 2n + 3 numbers; errors have 3 more, the tilt.
        n, p = len(servos), params
        angles, speeds = [1 / s.counts_per_rad for s in servos], [s.velocity_unit_rad_s for s in servos]
        self._unit = row([*angles, *speeds, *3 * [_GYRO_UNIT_RAD_S]])
        self._least = row([*2 * n * [-math.inf], *3 * [float(-_GYRO_COUNTS)]])
        self._most = row([*2 * n * [math.inf], *3 * [_GYRO_COUNTS - 1.0]])
        sizes = (p.joint_pos_noise_rad, p.joint_vel_noise_rad_s, p.gyro_noise_rad_s, p.attitude_noise_rad)
        self._noise = row(
            [size for size, count in zip(sizes, (n, n, 3, 3), strict=True) for _ in range(count)]
        )
        self._noisy, self._tilted = any(sizes), bool(p.imu_tilt_rad or p.attitude_noise_rad)
        self._bias = torch.zeros((num, 2 * n + 6), device=device)
        self.joint_zero = torch.zeros((num, n), device=device)
        """Measured minus true angle (B, n) rad that the calibration is wrong by."""
        self._product, self._conjugate = _left_factors(device), row([1.0, -1.0, -1.0, -1.0])
        self._stiffness = row([s.stiffness_nm_rad for s in servos])
        self._friction = row([s.friction_nm for s in servos])
        self._half_play = torch.zeros((num, n), device=device)
        self._lead = torch.zeros((num, n), device=device)

    @property
    def target_offset(self) -> Tensor:
        """Reading minus true angle (B, n) rad; a goal lies that much lower in the model's angles."""
        return self._bias[:, : self._joints]

    def redraw(self, ids: Tensor, generator: torch.Generator) -> None:
        """Draw the constant errors of the worlds `ids` (k,) anew."""
        p, n = self._params, self._joints

        def uniform(low: float, high: float, size: int) -> Tensor:
            unit = torch.rand((len(ids), size), generator=generator, device=generator.device)
            return low + (high - low) * unit

        if p.joint_zero_rad:
            zero = uniform(-p.joint_zero_rad, p.joint_zero_rad, n)
            self.joint_zero[ids] = zero
            self._bias[ids, :n] = zero
        if p.gyro_bias_rad_s:
            self._bias[ids, 2 * n : 2 * n + 3] = uniform(-p.gyro_bias_rad_s, p.gyro_bias_rad_s, 3)
        if p.imu_tilt_rad:
            self._bias[ids, 2 * n + 3 :] = uniform(-p.imu_tilt_rad, p.imu_tilt_rad, 3)
        if p.backlash_rad[1]:
            self._half_play[ids] = uniform(*p.backlash_rad, n) / 2
            self._lead[ids] = 0.0
            self._bias[ids, :n] = self.joint_zero[ids]

    def measure(
        self, ids: Tensor | slice, qpos: Tensor, qvel: Tensor, force: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Read the sensors of the worlds `ids`, once a control step.

        Args:
            ids: (k,) worlds, or a slice of them.
            qpos: (k, nq) their state.
            qvel: (k, nv)
            force: (k, nu) torques that the servos transmit, N m; only backlash asks for them.
            generator: of the noise.

        Returns:
            Channels joint_pos and joint_vel (k, n), imu_quat (k, 4), imu_gyro (k, 3).
        """
        n = self._joints
        if self._params.backlash_rad[1]:
            self._follow_flanks(ids, force)
        error, rates = self._bias[ids], qvel[:, 3:6]
        if self._params.imu_tilt_rad:
            rates = rates + torch.linalg.cross(rates, error[:, -3:])
        if self._noisy:
            noise = torch.randn((len(qpos), 2 * n + 6), generator=generator, device=generator.device)
            error = torch.addcmul(error, noise, self._noise)
        value = torch.cat((qpos[:, 7:], qvel[:, 6:], rates), dim=-1) + error[:, :-3]
        counts = torch.round(value / self._unit).clamp(self._least, self._most)
        angle, speed, gyro = torch.split(counts * self._unit, [n, n, 3], dim=-1)
        attitude = self._attitude(ids, qpos[:, 3:7], error[:, -3:])
        return {"joint_pos": angle, "joint_vel": speed, "imu_quat": attitude, "imu_gyro": gyro}

    def state(self) -> State:
        """Constant errors and backlash of all worlds, see `robotrl.sim.saving`."""
        return {
            "bias": self._bias,
            "joint_zero": self.joint_zero,
            "half_play": self._half_play,
            "lead": self._lead,
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        put_back(self.state(), tensors)

    def _attitude(self, ids: Tensor | slice, quat: Tensor, tilt: Tensor) -> Tensor:
        """What the IMU says of true attitudes (k, 4), turned in its own frame by small angles (k, 3)."""
        if self._vertical is not None:
            level = (self._vertical[ids] * self._conjugate) @ self._product
            quat = torch.bmm(level.view(-1, 4, 4), quat[..., None])[..., 0]
        if self._tilted:
            # To first order a rotation by the vector v is the quaternion (1, v / 2).
            matrix = (quat @ self._product).view(-1, 4, 4)
            quat = torch.baddbmm(quat[..., None], matrix[..., 1:], tilt[..., None], alpha=0.5)[..., 0]
        length: Tensor = torch.linalg.vector_norm(quat, dim=-1, keepdim=True)
        return quat / length

    def _follow_flanks(self, ids: Tensor | slice, force: Tensor) -> None:
        """Let the shafts move in their play until friction holds them or a flank stops them."""
        driving = force - torch.minimum(torch.maximum(force, -self._friction), self._friction)
        half = self._half_play[ids]
        lead = self._lead[ids] + driving / self._stiffness
        lead = torch.minimum(torch.maximum(lead, -half), half)
        self._lead[ids] = lead
        self._bias[ids, : self._joints] = self.joint_zero[ids] + lead


def _left_factors(device: torch.device | str) -> Tensor:
    """(4, 16) such that ``(left @ factors).view(-1, 4, 4)`` times `right` is left times right, wxyz."""
    # Row i, column j of Hamilton's product: the left component that multiplies right's j in component i.
    source = ((0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0))
    sign = ((1.0, -1.0, -1.0, -1.0), (1.0, 1.0, -1.0, 1.0), (1.0, 1.0, 1.0, -1.0), (1.0, -1.0, 1.0, 1.0))
    factors = torch.zeros((4, 4, 4))
    for i in range(4):
        for j in range(4):
            factors[source[i][j], i, j] = sign[i][j]
    return factors.view(4, 16).to(device)
