"""Unit actions for learners: whatever box an environment takes its actions from, +-1 spans it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from robotrl.sim.saving import State


class Stepped(Protocol):
    """What one action of B worlds gave, whatever the environment."""

    @property
    def reward(self) -> Tensor:
        """Reward (B,)."""

    @property
    def terminated(self) -> Tensor:
        """(B,) bool: no bootstrap."""

    @property
    def truncated(self) -> Tensor:
        """(B,) bool: bootstrap from the last observation."""

    @property
    def final_ids(self) -> Tensor:
        """(k,) worlds that were reset in this step."""

    @property
    def final_observation(self) -> Tensor:
        """(k, obs) their last observation before the reset."""


class BoxTransition(Stepped, Protocol):
    """The same of environments with box actions; as `robotrl.sim.direct.DirectTransition` says."""

    @property
    def final_privileged(self) -> Tensor:
        """Last critic observation before the reset (k, p)."""

    @property
    def final_return(self) -> Tensor:
        """(k,) sum of the rewards of the episode that ended."""

    @property
    def final_length(self) -> Tensor:
        """(k,) its number of actions."""


class BoxEnv(Protocol):
    """B worlds that reset themselves, with actions in a box."""

    num: int
    action_low: Tensor
    """(n,)"""
    action_high: Tensor
    """(n,)"""

    @property
    def observation(self) -> Tensor:
        """What the next action is computed from (B, obs)."""

    @property
    def privileged(self) -> Tensor:
        """What only the critic sees besides (B, p)."""

    def restart(self) -> None:
        """Start every world anew."""

    def step(self, action: Tensor) -> BoxTransition:
        """Apply actions (B, n)."""

    def take_statistics(self) -> dict[str, float]:
        """Means since the last call."""

    def state(self) -> State:
        """Everything that decides how the worlds go on; empty if they cannot tell."""

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""


class UnitBox:
    """Maps actions from [-1, 1] onto a box and clips them to it.

    A component without two finite ends is not scaled, only clipped.
    """

    def __init__(self, low: Tensor, high: Tensor) -> None:
        self._low, self._high = low, high
        bounded = torch.isfinite(low) & torch.isfinite(high)
        self._middle = torch.where(bounded, (low + high) / 2, 0.0)
        self._half = torch.where(bounded, (high - low) / 2, 1.0)

    def __call__(self, action: Tensor) -> Tensor:
        """Map actions (B, n), of which -1 and 1 are the box's ends."""
        return torch.addcmul(self._middle, action, self._half).clamp(self._low, self._high)


class UnitActions:
    """A `BoxEnv` whose actions are mapped from [-1, 1] onto its box and clipped to it."""

    def __init__(self, env: BoxEnv) -> None:
        self.inner, self.num = env, env.num
        self.box = UnitBox(env.action_low, env.action_high)
        self.action_size = len(env.action_low)

    @property
    def observation(self) -> Tensor:
        """What the next action is computed from (B, obs)."""
        return self.inner.observation

    @property
    def privileged(self) -> Tensor:
        """What only the critic sees besides (B, p)."""
        return self.inner.privileged

    def restart(self) -> None:
        """Start every world anew."""
        self.inner.restart()

    def step(self, action: Tensor) -> BoxTransition:
        """Apply actions (B, n), of which -1 and 1 are the box's ends."""
        return self.inner.step(self.box(action))

    def take_statistics(self) -> dict[str, float]:
        """Means since the last call."""
        return self.inner.take_statistics()

    def state(self) -> State:
        """Everything that decides how the worlds go on; empty if they cannot tell."""
        return self.inner.state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self.inner.load_state(tensors)
