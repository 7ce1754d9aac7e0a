"""The terms of a foreign policy as torch functions: channels to observation, action to joint targets."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from robotrl.export.foreign import (
    GRAVITY,
    LAST_ACTION,
    PHASE,
    ActionSpec,
    ForeignSpec,
    TermSpec,
    channels_of,
    each,
    term_size,
)
from robotrl.spec.channels import CHANNELS, JOINTS
from robotrl.spec.robot import RobotSpec
from robotrl.tasks.task import MemorySpec, PolicyInterface
from robotrl.tasks.velocity import rotate_into_body

STARTED = "started"
"""Memory of whether there was a tick before: 0 at first."""

TORQUE_SHARE = 0.95
"""Targets stay so close to the measured angle that the servo's torque is at most this share of the limit."""

DOWN = (0.0, 0.0, -1.0)


def interface_of(spec: ForeignSpec, robot: RobotSpec) -> PolicyInterface:
    """Build the functions from channels to observation and from action to joint targets.

    Args:
        spec: the description, checked against the robot.
        robot: the robot to drive.
    """
    n = len(spec.joints)
    order = torch.tensor([robot.joint_names.index(name) for name in spec.joints])
    terms = [_Term(term, i, n, order) for i, term in enumerate(spec.term)]
    remembered = [term for term in terms if term.spec.history > 1]
    clocks = [term for term in terms if term.spec.name == PHASE]
    action, back = _Action(spec.action, n), torch.argsort(order)
    low = torch.tensor(robot.position_min_rad, dtype=torch.float32)
    high = torch.tensor(robot.position_max_rad, dtype=torch.float32)
    reach = TORQUE_SHARE * robot.limits.torque_nm / torch.tensor(robot.stiffness_nm_rad, dtype=torch.float32)

    def observe(channels: Mapping[str, Tensor], memory: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([term.stacked(channels, memory) for term in terms], dim=-1)

    def advance(
        channels: Mapping[str, Tensor], memory: Mapping[str, Tensor], answer: Tensor
    ) -> dict[str, Tensor]:
        histories = {term.memory: term.stacked(channels, memory)[:, term.size :] for term in remembered}
        started = {STARTED: torch.ones_like(memory[STARTED])} if remembered else {}
        phases = {
            term.phase: torch.frac(memory[term.phase] + 1 / (term.spec.period_s * spec.rate_hz))
            for term in clocks
        }
        return {LAST_ACTION: action.clipped(answer)} | started | histories | phases

    def target(channels: Mapping[str, Tensor], answer: Tensor) -> Tensor:
        # As robotrl's own policies do: a target beyond reach would only saturate the servo.
        wanted, measured = action.target(answer)[:, back], channels["joint_pos"]
        return wanted.clamp(measured - reach, measured + reach).clamp(low, high)

    memory = [MemorySpec(LAST_ACTION, (0.0,) * n)]
    memory += [MemorySpec(STARTED, (0.0,))] if remembered else []
    memory += [MemorySpec(term.memory, (0.0,) * (term.size * (term.spec.history - 1))) for term in remembered]
    memory += [MemorySpec(term.phase, (0.0,)) for term in clocks]
    scale = min(abs(value) for value in spec.action.scale_rad)
    return PolicyInterface(channels_of(spec), tuple(memory), observe, advance, target, scale)


class _Term:
    """One term as torch computes it.

    Attributes:
        spec: its description.
        size: components of one tick.
        memory: name of what it carries from tick to tick, where it has a history.
        phase: name of the cycles that its clock has run, less the whole ones, where it is one.
    """

    def __init__(self, spec: TermSpec, index: int, joints: int, order: Tensor) -> None:
        self.spec, self.size = spec, term_size(spec, joints)
        self.memory, self.phase = f"history_{index}_{spec.name}", f"phase_{index}"
        self._offset, self._scale = torch.tensor(spec.offset), torch.tensor(spec.scale)
        of_joints = spec.name in CHANNELS and CHANNELS[spec.name].shape == (JOINTS,)
        self._order = order if of_joints else torch.arange(self.size)

    def stacked(self, channels: Mapping[str, Tensor], memory: Mapping[str, Tensor]) -> Tensor:
        """Past and present (B, size * history), oldest first; at the first tick the present one repeated."""
        now, before = self._value(channels, memory), self.spec.history - 1
        if not before:
            return now
        past = torch.where(memory[STARTED] > 0, memory[self.memory], now.repeat(1, before))
        return torch.cat((past, now), dim=-1)

    def _value(self, channels: Mapping[str, Tensor], memory: Mapping[str, Tensor]) -> Tensor:
        """One tick of it (B, size)."""
        if self.spec.name == LAST_ACTION:
            raw = memory[LAST_ACTION]
        elif self.spec.name == PHASE:
            angle = 2 * math.pi * memory[self.phase]
            raw = torch.cat((torch.sin(angle), torch.cos(angle)), dim=-1)
        elif self.spec.name == GRAVITY:
            raw = rotate_into_body(channels["imu_quat"], torch.tensor([DOWN]))
        else:
            raw = channels[self.spec.name]
        shifted = raw[:, self._order] - self._offset
        return (shifted.clamp(*self.spec.clip) if self.spec.clip else shifted) * self._scale


class _Action:
    """The action as torch turns it into targets, all (B, n) in the policy's order of joints."""

    def __init__(self, spec: ActionSpec, joints: int) -> None:
        self._clip = spec.clip
        self._scale = torch.tensor(each(spec.scale_rad, joints))
        self._offset = torch.tensor(each(spec.offset_rad, joints))

    def clipped(self, answer: Tensor) -> Tensor:
        """What counts as the action."""
        return answer.clamp(*self._clip) if self._clip else answer

    def target(self, answer: Tensor) -> Tensor:
        """Joint targets, rad."""
        return self._offset + self._scale * self.clipped(answer)
