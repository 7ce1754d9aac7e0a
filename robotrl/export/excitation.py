"""Made-up sensor readings that move through what a robot may do, for a policy whose training left none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robotrl.spec.channels import CHANNELS, OPERATOR_CHANNELS
from robotrl.spec.robot import RobotSpec

Floats = NDArray[np.float64]

WAVES = 3
"""Sines that each joint angle is the sum of."""

SHARE = 0.5
"""Of the way from the default posture to a joint's limit that its motion takes."""

COMMAND_S = 2.0
"""How long one operator command lasts."""

GRAVITY_M_S2 = 9.81


def excitation(
    channels: Sequence[str],
    robot: RobotSpec,
    command_range: tuple[Sequence[float], Sequence[float]],
    ticks: int,
) -> Mapping[str, NDArray[np.float32]]:
    """Make up channels that belong together.

    Joints move smoothly about the default posture, the body tilts up to half the robot's limit, and every
    `COMMAND_S` there is another operator command.

    Args:
        channels: names of the wanted ones.
        robot: whose limits to stay within.
        command_range: lowest and highest operator command, the operator's channels one after the other.
        ticks: control periods T.

    Returns:
        Channel -> (T, ...) in its unit; the same for the same arguments.
    """
    rng = np.random.default_rng(0)
    t_s = np.arange(ticks)[:, None] / robot.control.rate_hz
    made = _joints(robot, t_s, rng)
    if robot.limits.tilt_rad is not None:
        made |= _imu(robot.limits.tilt_rad, t_s, rng)
    for name in channels:
        if name in OPERATOR_CHANNELS:  # there is one that a foreign policy may read
            made[name] = _commands(robot, command_range, ticks, rng)
        elif name not in made:
            made[name] = rng.uniform(-1.0, 1.0, (ticks, *CHANNELS[name].shape_on(robot.sizes)))
    return {name: made[name].astype(np.float32) for name in channels}


def _waves(t_s: Floats, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Smooth signals (T, count) within -1 to 1, and their rates of change."""
    omega = 2 * np.pi * rng.uniform(0.2, 2.0, (WAVES, count))
    angle = omega * t_s[:, None] + rng.uniform(0.0, 2 * np.pi, (WAVES, count))
    return np.sin(angle).mean(1), (omega * np.cos(angle)).mean(1)


def _joints(robot: RobotSpec, t_s: Floats, rng: np.random.Generator) -> dict[str, Floats]:
    wave, rate = _waves(t_s, len(robot.joint), rng)
    room = np.minimum(robot.position_max_rad - robot.default_rad, robot.default_rad - robot.position_min_rad)
    return {"joint_pos": robot.default_rad + SHARE * room * wave, "joint_vel": SHARE * room * rate}


def _imu(tilt_rad: float, t_s: Floats, rng: np.random.Generator) -> dict[str, Floats]:
    """Roll and pitch in waves, yaw all round; rates as of small tilts, gravity alone as acceleration."""
    wave, rate = _waves(t_s, 3, rng)
    reach = SHARE * tilt_rad * np.array([0.7, 0.7, 0.0]) + np.array([0.0, 0.0, np.pi])
    (roll, pitch, _), half = (reach * wave).T, 0.5 * reach * wave
    (cr, cp, cy), (sr, sp, sy) = np.cos(half).T, np.sin(half).T
    quat = np.stack(
        (
            cr * cp * cy + sr * sp * sy,
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
        ),
        axis=1,
    )
    up = np.stack((-np.sin(pitch), np.sin(roll) * np.cos(pitch), np.cos(roll) * np.cos(pitch)), axis=1)
    return {"imu_quat": quat, "imu_gyro": reach * rate, "imu_accel": GRAVITY_M_S2 * up}


def _commands(
    robot: RobotSpec,
    command_range: tuple[Sequence[float], Sequence[float]],
    ticks: int,
    rng: np.random.Generator,
) -> Floats:
    low, high = (np.array(end, np.float64) for end in command_range)
    each = max(1, round(COMMAND_S * robot.control.rate_hz))
    drawn = rng.uniform(low, high, (ticks // each + 1, len(low)))
    return np.repeat(drawn, each, axis=0)[:ticks]
