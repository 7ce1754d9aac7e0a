"""A task is a frozen record: policy interface, commands, reset, reward terms, terminations.

Tasks are written once in batched torch and see a simulation only through `WorldView`, so they
never know which backend runs them. B is the number of worlds, n the number of joints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from robotrl.spec.commands import CommandType

S = TypeVar("S")
"""The task's own record of one control step, made by `Task.measure`."""


class WorldView(Protocol):
    """What a task may read of the simulated worlds after a control step, as (B, ...)."""

    @property
    def qpos(self) -> Tensor:
        """Generalised positions (B, nq)."""

    @property
    def qvel(self) -> Tensor:
        """Generalised velocities (B, nv)."""

    @property
    def actuator_force(self) -> Tensor:
        """Actuator forces (B, nu), N m for hinges."""

    def sensor(self, *names: str) -> Tensor:
        """Values of the named sensors of equal size, stacked: (B, len(names), size)."""

    def data(self, name: str) -> Tensor:
        """A derived `MjData` field by its MuJoCo name (B, ...), as `mj_step` left it."""


@dataclass(frozen=True)
class MemorySpec:
    """One flat vector that the policy carries from tick to tick."""

    name: str
    initial: tuple[float, ...]


@dataclass(frozen=True)
class PolicyInterface:
    """How a policy reads channels and moves joints; export writes exactly these functions.

    Attributes:
        channels: names in `robotrl.spec.channels.CHANNELS`, the policy's only inputs.
        memory: what is carried from tick to tick.
        observe: (channels, memory) -> observation (B, obs).
        advance: (channels, memory, action) -> next memory.
        target: (channels, action) -> the command: joint targets (B, n) rad, (B, 4) m of a gripper, or
            controls (B, nu) of a simulated model.
        action_scale_rad: joint angle that one unit of action stands for; the smallest where joints differ, 0
            where none is commanded.
        goal_size: numbers of the channel `goal`; 0 where it is not read.
        command: type of what `target` gives.
        gripper_scale_m: what one unit of action stands for along each of `GRIPPER_AXES`; empty where no
            gripper is commanded.
    """

    channels: tuple[str, ...]
    memory: tuple[MemorySpec, ...]
    observe: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
    advance: Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Tensor], dict[str, Tensor]]
    target: Callable[[Mapping[str, Tensor], Tensor], Tensor]
    action_scale_rad: float
    goal_size: int = 0
    command: CommandType = "joint_target"
    gripper_scale_m: tuple[float, ...] = ()


@dataclass(frozen=True)
class Mirror:
    """Left-right reflection of a vector: ``mirrored[i] = sign[i] * vector[source[i]]``."""

    source: tuple[int, ...]
    sign: tuple[float, ...]

    def __add__(self, other: Mirror) -> Mirror:
        """Reflect a concatenation part by part."""
        offset = len(self.source)
        return Mirror(self.source + tuple(i + offset for i in other.source), self.sign + other.sign)


@dataclass(frozen=True)
class Symmetry:
    """The reflections of everything a mirror-equivariant learner needs."""

    observation: Mirror
    privileged: Mirror
    action: Mirror


Value = Callable[[S], Tensor]
"""Step record -> components (B, k)."""


@dataclass(frozen=True)
class RewardTerm(Generic[S]):
    """One weighted term; the environment multiplies by the control period."""

    weight: float
    value: Value[S]
    shape: Literal["sum", "squares", "gaussian"]
    """What the components become: their sum, the sum of their squares, or exp(-sum of squares)."""


@dataclass(frozen=True)
class Task(Generic[S]):
    """Everything that defines what is to be learned.

    Attributes:
        name: the task's name.
        policy: what the actor reads and moves.
        episode_s: time-out.
        command_low: smallest command of each component.
        command_high: largest command of each component.
        command_every_s: commands are drawn anew after a uniform time in this range.
        sample_command: (count, generator) -> commands (count, 3).
        initial_memory: (count, generator) -> memory at the start of an episode; may be drawn more
            widely than the contract's initial values, which the robot starts from.
        reset: (count, generator) -> qpos (count, nq), qvel (count, nv).
        measure: (view, command, action, previous action, memory) -> step record. `memory` is the
            one that the action was computed from.
        privileged: step record -> what only the simulator knows, for the critic (B, p).
        rewards: named terms.
        reward_floor: lower bound of one step's reward per second, so that early exploration
            is not punished into standing still.
        failure_reward: added once where `failed`.
        failed: step record -> (B,) bool; ends the episode without bootstrap.
        metrics: step record -> named (B,) figures for evaluation.
        symmetry: reflections, for learners that use them.
    """

    name: str
    policy: PolicyInterface
    episode_s: float
    command_low: tuple[float, ...]
    command_high: tuple[float, ...]
    command_every_s: tuple[float, float]
    sample_command: Callable[[int, torch.Generator], Tensor]
    initial_memory: Callable[[int, torch.Generator], dict[str, Tensor]]
    reset: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
    measure: Callable[[WorldView, Tensor, Tensor, Tensor, Mapping[str, Tensor]], S]
    privileged: Callable[[S], Tensor]
    rewards: Mapping[str, RewardTerm[S]]
    reward_floor: float
    failure_reward: float
    failed: Callable[[S], Tensor]
    metrics: Callable[[S], dict[str, Tensor]]
    symmetry: Symmetry
