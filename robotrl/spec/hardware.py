"""What a robot.toml may describe: a robot of joints with servos, or an arm with a controller of its own."""

from __future__ import annotations

from pathlib import Path

from robotrl.spec.arm import CONTROLLER, ArmSpec, read_arm
from robotrl.spec.records import load_toml
from robotrl.spec.robot import RobotSpec, load_robot

Hardware = RobotSpec | ArmSpec


def load_hardware(file: Path) -> Hardware:
    """Read and check a robot.toml of either kind; one with a table `controller` is an arm's.

    Raises:
        ConfigError: anything unknown, missing, ill-typed, out of range or impossible.
    """
    table = load_toml(file)
    return read_arm(table, file) if CONTROLLER in table else load_robot(file)


def rate_hz(hardware: Hardware) -> float:
    """Return the rate of the control loop."""
    return hardware.controller.rate_hz if isinstance(hardware, ArmSpec) else hardware.control.rate_hz
