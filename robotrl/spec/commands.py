"""What a policy may command: the declared types, and the output of the graph that carries each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

GripperAxis = Literal["x", "y", "z", "opening"]
CommandType = Literal["joint_target", "gripper", "control"]
"""Target angles of joints with servos; displacement and opening of an arm's gripper; or the controls of a
simulated model's actuators, as the environment that `gymnasium.make` builds takes them."""

OUTPUTS: Mapping[CommandType, str] = MappingProxyType(
    {"joint_target": "joint_target", "gripper": "gripper_command", "control": "control"}
)
"""Command type -> name of the graph's first output: (n,) rad in spec order; (4,) m as `GRIPPER_AXES`; (nu,)
in the order of the model's actuators."""

UNITS: Mapping[CommandType, str] = MappingProxyType(
    {"joint_target": "rad", "gripper": "m", "control": "units of the task"}
)
"""Command type -> unit of its numbers."""

GRIPPER_AXES: tuple[GripperAxis, ...] = ("x", "y", "z", "opening")
"""Numbers of a `gripper_command`, all in m: how far the gripper is to move in this tick along the axes of the
world, and how far each finger is to move outwards."""
