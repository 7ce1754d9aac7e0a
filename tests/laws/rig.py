"""Robots of any number of joints, calm states of them, and a gate that remembers."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from robotrl.safety import GateMemory, guard
from robotrl.spec.gate import GateLimits, Request, Verdict
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import CommandKind, Floats, JointCommand, RobotState

QUAD12 = load_robot(Path(find_shipped("hardware", "quad12")))
TICK_S = 1.0 / QUAD12.control.rate_hz


def robot_with(joints: int, **limits: Any) -> RobotSpec:
    """The shipped robot with another number of joints and other safety limits."""
    many = [QUAD12.joint[i % len(QUAD12.joint)] for i in range(joints)]
    named = tuple(dataclasses.replace(joint, name=f"joint{i}", id=i) for i, joint in enumerate(many))
    return dataclasses.replace(QUAD12, joint=named, limits=dataclasses.replace(QUAD12.limits, **limits))


def calm(robot: RobotSpec, now_s: float, **changes: Any) -> RobotState:
    """A level robot in its default posture with nothing wrong, but for the changes."""
    n = len(robot.joint)
    state = RobotState(
        stamp_s=now_s,
        joint_pos_rad=robot.default_rad.copy(),
        joint_vel_rad_s=np.zeros(n),
        joint_load=np.zeros(n),
        voltage_v=np.full(n, 12.0),
        temperature_c=np.full(n, 40.0),
        hardware_error=np.zeros(n, dtype=np.int64),
        joint_age_s=np.zeros(n),
        imu_quat=np.array([1.0, 0.0, 0.0, 0.0]),
        imu_gyro_rad_s=np.zeros(3),
        imu_accel_m_s2=np.array([0.0, 0.0, 9.81]),
        imu_age_s=0.0,
    )
    return dataclasses.replace(state, **changes)


def track(target_rad: Floats, source: str = "policy") -> Request:
    """A request to follow targets."""
    return Request(CommandKind.TRACK, np.asarray(target_rad, dtype=np.float64), source)


def tilted(angle_rad: float, heading_rad: float, yaw_rad: float = 0.0) -> Floats:
    """Orientation after a turn about world up, then about a level axis in the given direction."""
    w, s = math.cos(angle_rad / 2), math.sin(angle_rad / 2)
    x, y = s * math.cos(heading_rad), s * math.sin(heading_rad)
    c, d = math.cos(yaw_rad / 2), math.sin(yaw_rad / 2)
    return np.array([w * c, x * c + y * d, y * c - x * d, w * d])


class Gate:
    """One robot's gate in a timeline: every call is one tick."""

    def __init__(self, robot: RobotSpec) -> None:
        self.robot = robot
        self.limits = GateLimits.of(robot)
        self.memory = GateMemory.fresh(len(robot.joint))
        self.now_s = 100.0

    def tick(self, request: Request | None = None, *, wait_s: float = TICK_S, **changes: Any) -> Verdict:
        """Let time pass, then guard a request (or the default posture) in a calm state with changes."""
        self.now_s += wait_s
        state = calm(self.robot, self.now_s, **changes)
        asked = track(self.robot.default_rad) if request is None else request
        _, self.memory, verdict = guard(self.limits, self.memory, state, asked, self.now_s)
        return verdict

    @property
    def command(self) -> JointCommand:
        """The last command."""
        return self.memory.command

    @property
    def target_rad(self) -> Floats:
        """Its targets."""
        return self.memory.command.joint_target_rad

    def settle(self) -> None:
        """Track the default posture until the blend-in is over."""
        for _ in range(math.ceil(self.robot.limits.blend_in_s / TICK_S) + 1):
            assert not self.tick().level
