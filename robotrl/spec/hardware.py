"""What a policy may drive: a robot of joints with servos, an arm with a controller, or a simulated task."""

from __future__ import annotations

from pathlib import Path

from robotrl.spec.arm import CONTROLLER, ArmSpec, read_arm
from robotrl.spec.commands import CommandType
from robotrl.spec.records import load_toml
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.simulated import SimulatedTask

Hardware = RobotSpec | ArmSpec
"""What a robot.toml may describe."""
Driven = Hardware | SimulatedTask
"""What a policy may command."""


def load_hardware(file: Path) -> Hardware:
    """Read and check a robot.toml of either kind; one with a table `controller` is an arm's.

    Raises:
        ConfigError: anything unknown, missing, ill-typed, out of range or impossible.
    """
    table = load_toml(file)
    return read_arm(table, file) if CONTROLLER in table else load_robot(file)


def rate_hz(driven: Driven) -> float:
    """Return the rate of the control loop."""
    if isinstance(driven, SimulatedTask):
        return driven.rate_hz
    return driven.controller.rate_hz if isinstance(driven, ArmSpec) else driven.control.rate_hz


def command_of(driven: Driven) -> CommandType:
    """Return the type of the commands that it takes."""
    if isinstance(driven, SimulatedTask):
        return "control"
    return "gripper" if isinstance(driven, ArmSpec) else "joint_target"
