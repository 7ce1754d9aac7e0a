"""Delays between robot and policy: of goals by physics steps, of measurements by any time."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from robotrl.sim.saving import State, put_back


class ActionLatency:
    """A line of past goals: each world's servos follow the goal that was computed `delay_s` ago.

    A goal arrives at a physics step, so a delay counts to the nearest one: whole control ticks and
    the fractions of a tick that there are substeps for.

    Args:
        num: worlds B.
        joints: goals n of one world.
        period_s: control period.
        substeps: physics steps in it.
        longest_s: the longest delay that will be asked for; 0 makes the line free.
        device: where the goals lie.
    """

    def __init__(
        self,
        num: int,
        joints: int,
        period_s: float,
        substeps: int,
        longest_s: float,
        device: torch.device | str,
    ) -> None:
        self._timestep_s, self._substeps = period_s / substeps, substeps
        ticks = math.ceil(round(longest_s / self._timestep_s) / substeps)
        self._past = [torch.zeros((num, joints), device=device) for _ in range(ticks)]
        self._step = torch.arange(substeps, device=device)[:, None, None]

    def reset(self, ids: Tensor, target: Tensor) -> None:
        """Let the worlds `ids` (k,) have followed the goals `target` (k, n) since ever."""
        # Not in place: the goals in the line are the caller's.
        self._past = [past.index_copy(0, ids, target.to(past.dtype)) for past in self._past]

    def state(self) -> State:
        """The line, see `robotrl.sim.saving`."""
        return _numbered(self._past)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self._past = _restored(self._past, tensors)

    def goals(self, target: Tensor, delay_s: Tensor) -> Tensor:
        """Remember this tick's goals and return what the servos follow during it.

        Args:
            target: (B, n) rad, computed from the present measurement.
            delay_s: (B,) from 0 to `longest_s`.

        Returns:
            (substeps, B, n) rad, one row for each physics step.
        """
        goals = target.expand(self._substeps, *target.shape)
        if not self._past:
            return goals
        behind = torch.round(delay_s / self._timestep_s)[:, None] - self._step
        for age, past in enumerate(self._past):
            goals = torch.where(behind > age * self._substeps, past, goals)
        self._past = [target, *self._past[:-1]]
        return goals


class ObservationLatency:
    """A line of past measurements, read between two control ticks by linear interpolation.

    Quaternions among them come out a little short (by 1 - cos of half the turn of one tick) and are
    to be normalised.

    Args:
        num: worlds B.
        period_s: control period.
        longest_s: the longest delay that will be asked for; 0 makes the line free.
        device: where the measurements lie.
    """

    def __init__(self, num: int, period_s: float, longest_s: float, device: torch.device | str) -> None:
        self._num, self._period_s = num, period_s
        self.ticks = math.ceil(longest_s / period_s - 1e-9)
        """How many past measurements are remembered; 0 where nothing is ever delayed."""
        self._age = torch.arange(self.ticks + 1, device=device)[:, None]
        self._past: list[Tensor] = []

    def reset(self, ids: Tensor, value: Tensor) -> None:
        """Let the worlds `ids` (k,) have measured `value` (k, w) since ever."""
        if not self._past:
            self._past = self.ticks * [value.new_zeros((self._num, value.shape[1]))]
        self._past = [past.index_copy(0, ids, value) for past in self._past]

    def state(self) -> State:
        """The line, see `robotrl.sim.saving`."""
        return _numbered(self._past)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self._past = _restored(self._past, tensors)

    def delayed(self, value: Tensor, delay_s: Tensor) -> Tensor:
        """Remember this tick's measurement and return the one of `delay_s` ago.

        Args:
            value: (B, w) measured now.
            delay_s: (B,) from 0 to `longest_s`.

        Returns:
            (B, w); `value` itself where nothing is ever delayed.
        """
        if not self.ticks:
            return value
        line = [value, *(self._past or self.ticks * [value])]
        self._past = line[:-1]
        # Linear interpolation: the weight of a tick falls to 0 at a distance of one tick.
        weight = (1 - (delay_s / self._period_s - self._age).abs()).clamp_min(0.0)
        return (weight[..., None].to(value.dtype) * torch.stack(line)).sum(0)


def _numbered(line: list[Tensor]) -> State:
    return {f"past.{age}": value for age, value in enumerate(line)}


def _restored(line: list[Tensor], tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """A new line: tensors of the present one may be the same, or somebody else's."""
    fresh = [value.clone() for value in line]
    put_back(_numbered(fresh), tensors)
    return fresh
