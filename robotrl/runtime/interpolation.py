"""A policy at its own rate inside a faster loop: asked on every k-th tick, interpolated between."""

from __future__ import annotations

from collections.abc import Mapping

from robotrl.runtime.parts import Policy
from robotrl.runtime.policy import channels_of
from robotrl.runtime.tally import Inference
from robotrl.spec.state import Floats, RobotState, frozen

_NO_ANSWER = frozen([])


class InterpolatedPolicy:
    """Joint targets for every tick of the loop.

    The policy is asked on the first of the k ticks of its step. In these its targets go linearly from its
    last answer to the new one, which they reach on the last tick; after `reset` there is no last answer,
    and the first one holds at once. What it does depends on the ticks alone and not on their times, so that
    a recording replays bit for bit.

    Args:
        policy: what is asked.
        ticks_per_step: k, as `ControlSpec.ticks_per_step`; with 1 every tick has the policy's own answer.
    """

    def __init__(self, policy: Policy, ticks_per_step: int) -> None:
        self._policy, self._ticks_per_step = policy, ticks_per_step
        self._tick = 0
        self._from_rad = self._to_rad = _NO_ANSWER

    def reset(self) -> None:
        """Set the policy's memory to its initial value; it is asked on the next tick."""
        self._policy.reset()
        self._tick = 0
        self._from_rad = self._to_rad = _NO_ANSWER

    def step(self, state: RobotState, commands: Mapping[str, Floats]) -> tuple[Floats, Inference | None]:
        """Return the targets of one tick.

        Args:
            state: what the robot measured.
            commands: what the operator asks of the policy, by channel.

        Returns:
            (n,) joint targets in rad, in an array that is not written to later, and what the policy was
            given and has answered where it was asked on this tick.
        """
        inference = self._ask(state, commands) if self._tick == 0 else None
        self._tick = (self._tick + 1) % self._ticks_per_step
        if self._tick == 0:
            return self._to_rad, inference
        share = self._tick / self._ticks_per_step
        return self._from_rad + share * (self._to_rad - self._from_rad), inference

    def _ask(self, state: RobotState, commands: Mapping[str, Floats]) -> Inference:
        channels = channels_of(state, commands)
        answer_rad = self._policy.step(channels)
        self._from_rad = self._to_rad if self._to_rad.size else answer_rad
        self._to_rad = answer_rad
        return Inference(channels, answer_rad)
