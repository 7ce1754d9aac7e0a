"""Robots of any number of joints, calm states of them, and a gate that remembers."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from robotrl.bench import gate_storm
from robotrl.bench.gate_storm import of_size
from robotrl.safety import guard, rearm
from robotrl.spec.gate import GateLimits, GateMemory, Request, Verdict
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import CommandKind, Floats, JointCommand, RobotState

QUAD12 = load_robot(Path(find_shipped("hardware", "quad12")))
TICK_S = 1.0 / QUAD12.control.rate_hz


def robot_with(joints: int, **limits: Any) -> RobotSpec:
    """The shipped robot with another number of joints and other safety limits.

    A calm state's joints stand still whatever they are sent to, so that by default that is no fault.
    """
    many, limits = of_size(QUAD12, joints), {"stuck_nm": None} | limits
    return dataclasses.replace(many, limits=dataclasses.replace(many.limits, **limits))


def calm(robot: RobotSpec, now_s: float, **changes: Any) -> RobotState:
    """A level robot in its default posture with nothing wrong, but for the changes."""
    return dataclasses.replace(gate_storm.calm(robot, now_s), **changes)


def track(target_rad: Floats, source: str = "policy") -> Request:
    """A request to follow targets."""
    return Request(CommandKind.TRACK, np.asarray(target_rad, dtype=np.float64), source)


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

    def rearm(self, **changes: Any) -> None:
        """Re-arm in a calm state with changes, between two ticks."""
        state = calm(self.robot, self.now_s, **changes)
        self.memory = rearm(self.limits, self.memory, state, self.now_s)

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
