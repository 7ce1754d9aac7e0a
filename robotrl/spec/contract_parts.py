"""The records that a policy's contract is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from robotrl.spec.commands import GripperAxis
from robotrl.spec.records import Between

Values = tuple[float, ...]


@dataclass(frozen=True)
class ContractChannel:
    """One input of the graph, as it was defined when the policy was trained.

    `low`, `median` and `high` are the 0.1, 50 and 99.9 % quantiles of each element over the
    recorded ticks, in `unit`, flattened.
    """

    name: str
    shape: tuple[Annotated[int, Between(1)], ...]
    unit: str
    frame: str
    source: Literal["joints", "imu", "operator", "estimator", "controller", "simulation"]
    low: Values
    median: Values
    high: Values

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class ContractMemory:
    """One vector that the graph carries from tick to tick: input `name`, output `next_<name>`."""

    name: str
    initial: Values


@dataclass(frozen=True)
class ContractJoint:
    """One joint of the trained robot, in the order of `joint_target`."""

    name: str
    servo: str
    """Key in the contract's `servo`."""
    default_rad: float
    position_min_rad: float
    position_max_rad: float
    stiffness_nm_rad: float
    """Servo stiffness at nominal voltage."""
    target_min_rad: float
    """Lowest target over the recorded ticks."""
    target_max_rad: float


@dataclass(frozen=True)
class ContractAxis:
    """One number of a gripper command, in m."""

    name: GripperAxis
    scale_m: float
    """What one unit of the network's action stands for; 0 where it is not heeded."""
    command_min_m: float
    """Lowest command over the recorded ticks."""
    command_max_m: float


@dataclass(frozen=True)
class ContractControl:
    """One control of a simulated model, in the unit of the task."""

    name: str
    """Of its actuator."""
    low: float
    """What -1 of the network's action stands for; what is beyond does as much."""
    high: float
    """What 1 of the network's action stands for, likewise."""
    command_min: float
    """Lowest command over the recorded ticks."""
    command_max: float


@dataclass(frozen=True)
class Provenance:
    """Where the policy comes from: enough to train it again."""

    config: str
    """Text of the run's TOML file."""
    seed: int
    git_commit: str
    """Empty where the code was not in a git checkout."""
    steps: Annotated[int, Between(0)]
    """Control steps of experience."""
    versions: dict[str, str]
    scores: dict[str, float]
    origin: str = ""
    """The foreign file whose network this is, with its SHA-256; empty where robotrl trained it."""


@dataclass(frozen=True)
class GoldenTick:
    """One recorded tick: what went into the trained policy and what it answered."""

    channels: dict[str, Values]
    memory: dict[str, Values]
    joint_target: Values
    """(n,) rad; empty where the policy commands something else."""
    next_memory: dict[str, Values]
    gripper_command: Values = ()
    """(4,) m; empty where the policy commands something else."""
    control: Values = ()
    """(nu,) in the unit of the task; empty where the policy commands something else."""

    @property
    def command(self) -> Values:
        """What the policy commanded, of whichever type."""
        return self.joint_target or self.gripper_command or self.control
