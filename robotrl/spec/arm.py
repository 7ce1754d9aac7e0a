"""ArmSpec, read from the robot.toml of an arm that its own controller moves: gripper in space, not joints."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from robotrl.errors import ConfigError
from robotrl.spec.channels import Source
from robotrl.spec.limits import Positive
from robotrl.spec.records import Between, Within
from robotrl.spec.robot import find_model, read_hardware
from robotrl.spec.state import Floats, frozen

CONTROLLER = "controller"
"""The table that tells an arm's robot.toml from a robot's with servos; also the name of its serial line."""

Span = Annotated[tuple[float, float], Within(-10.0, 10.0)]


@dataclass(frozen=True)
class ControllerSpec:
    """The arm's controller behind a serial port; its protocol is in `robotrl.drivers.arm`."""

    port: str
    baud_bd: Literal[115200, 230400, 460800, 921600, 1000000]
    rate_hz: Positive
    """Of the control loop: one command a tick."""
    reply_timeout_s: Annotated[float, Between(0.001, 0.1)]
    """How long one read waits for its answer."""


@dataclass(frozen=True)
class ArmLimits:
    """The numbers of the gripper's gate; see `robotrl.safety_gripper` for the order of checks."""

    displacement_m: Positive
    """Furthest that the gripper may be asked to move along an axis in one tick."""
    workspace_x_m: Span
    """Where the gripper may be asked to go, in the world frame."""
    workspace_y_m: Span
    workspace_z_m: Span
    workspace_margin_m: Positive
    """A gripper measured this far outside the workspace is a fault."""
    opening_m: Span
    """Furthest that each finger may be asked to move inwards (negative) and outwards in one tick."""
    sustained_limiting_s: Positive
    """Limiting on every tick for this long is a fault."""
    stale_s: Positive
    """An older measurement is none."""

    @cached_property
    def workspace_m(self) -> tuple[Floats, Floats]:
        """(3,) lowest and (3,) highest corner."""
        low, high = zip(self.workspace_x_m, self.workspace_y_m, self.workspace_z_m, strict=True)
        return frozen(low), frozen(high)


@dataclass(frozen=True)
class ArmSpec:
    """Everything robotrl knows about an arm whose controller takes gripper commands."""

    schema: int
    name: str
    model: str
    """MJCF file of the simulated arm: as `RobotSpec.model`."""
    controller: ControllerSpec
    limits: ArmLimits
    file: str = dataclasses.field(default="", repr=False)
    """Path it was read from; set by `load_arm`, not a key."""

    @property
    def model_file(self) -> Path:
        """The MJCF file.

        Raises:
            ConfigError: it is that of a package which is not installed, or lacks the file.
        """
        return find_model(self.model, Path(self.file))

    @property
    def sources(self) -> frozenset[Source]:
        """The channel sources that this arm has."""
        return frozenset({Source.CONTROLLER, Source.OPERATOR})

    @property
    def sizes(self) -> Mapping[str, int]:
        """What the letters in the channels' shapes stand for: there are no joints to count."""
        return {}

    @cached_property
    def policy_hash(self) -> str:
        """SHA-256 over the parts of the arm that a trained policy depends on."""
        facts = {"rate_hz": self.controller.rate_hz, "displacement_m": self.limits.displacement_m}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_arm(table: Mapping[str, Any], file: Path) -> ArmSpec:
    """Check the parsed robot.toml of an arm.

    Args:
        table: what the file holds.
        file: where it came from.

    Raises:
        ConfigError: anything unknown, missing, ill-typed, out of range or impossible.
    """
    arm = read_hardware(ArmSpec, table, file)
    _check_possible(arm, file)
    return arm


def _check_possible(arm: ArmSpec, file: Path) -> None:
    """Refuse what parses but cannot be."""
    limits, tick_s = arm.limits, 1.0 / arm.controller.rate_hz
    for name in ("stale_s", "sustained_limiting_s"):
        value_s = getattr(limits, name)
        if value_s < tick_s:
            raise ConfigError(
                "is shorter than one control period", file=file, key=f"limits.{name}", value=value_s,
                allowed=f"{tick_s} or more",
            )  # fmt: skip
    if arm.controller.reply_timeout_s > tick_s / 2:
        raise ConfigError(
            "is longer than half a control period", file=file, key="controller.reply_timeout_s",
            value=arm.controller.reply_timeout_s, allowed=f"up to {tick_s / 2}",
        )  # fmt: skip
    for axis in ("x", "y", "z"):
        low, high = getattr(limits, f"workspace_{axis}_m")
        if high - low < 2 * limits.displacement_m:
            raise ConfigError(
                "is narrower than two displacements", file=file, key=f"limits.workspace_{axis}_m",
                value=[low, high], allowed=f"ends at least {2 * limits.displacement_m} apart",
            )  # fmt: skip
    if not limits.opening_m[0] <= 0.0 <= limits.opening_m[1]:
        raise ConfigError(
            "does not let the fingers stay where they are", file=file, key="limits.opening_m",
            value=list(limits.opening_m), allowed="[low, high] with low <= 0 <= high",
        )  # fmt: skip
