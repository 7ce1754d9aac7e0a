"""Where commands come from: a script of timed steps, every velocity inside the policy's trained range."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike

from robotrl.errors import ConfigError
from robotrl.runtime.modes import Event
from robotrl.spec.records import Between, load_toml, read_record
from robotrl.spec.state import Floats, frozen

VELOCITY_SIZE = 3


class Operator(Protocol):
    """Whoever commands the robot."""

    @property
    def velocity_command(self) -> Floats:
        """(3,) forward m/s, left m/s, yaw rate rad/s."""
        ...

    def poll(self, elapsed_s: float) -> list[Event]:
        """Return what is asked for since the last call, in order.

        Args:
            elapsed_s: time since the first tick.
        """
        ...

    def finished(self) -> bool:
        """Return whether the last wish was to be limp, with none to follow."""
        ...


@dataclass(frozen=True)
class Step:
    """One `[[step]]` of a script: any of re-arm, mode and velocity, done in this order."""

    at_s: Annotated[float, Between(0.0)]
    """Time since the first tick."""
    rearm: bool = False
    """Clear latched faults and tripped servo watchdogs."""
    mode: Literal["keep", "stand", "policy", "limp"] = "keep"
    velocity: tuple[float, ...] = ()
    """Forward m/s, left m/s, yaw rate rad/s; empty keeps the last one."""


@dataclass(frozen=True)
class _ScriptFile:
    step: tuple[Step, ...]


class Script:
    """Steps done when their time has come.

    Attributes:
        velocity_command: (3,) the current command, zero at first.
        clipped: the steps whose velocity lay outside the range.
    """

    def __init__(self, steps: Iterable[Step], low: ArrayLike, high: ArrayLike) -> None:
        """Keep the steps.

        Args:
            steps: in order of time.
            low: (3,) lower ends of the policy's trained commands.
            high: (3,) upper ends.
        """
        self._low, self._high = frozen(low), frozen(high)
        self._left = list(steps)
        self.clipped = [s for s in self._left if s.velocity and not np.array_equal(self._clip(s), s.velocity)]
        self.velocity_command = frozen(np.zeros(VELOCITY_SIZE))
        self._mode = ""

    def poll(self, elapsed_s: float) -> list[Event]:
        """Return the events of every step that is due."""
        events: list[Event] = []
        while self._left and self._left[0].at_s <= elapsed_s:
            step = self._left.pop(0)
            events += [Event.REARM] * step.rearm
            if step.mode != "keep":
                events.append(Event(step.mode))
                self._mode = step.mode
            if step.velocity:
                self.velocity_command = self._clip(step)
        return events

    def finished(self) -> bool:
        """Return whether every step is done and the last mode was limp."""
        return not self._left and self._mode == "limp"

    def _clip(self, step: Step) -> Floats:
        return frozen(np.clip(step.velocity, self._low, self._high))


def load_steps(file: Path) -> tuple[Step, ...]:
    """Read a script: a TOML file of `[[step]]` tables in order of time.

    Raises:
        ConfigError: not such a file, steps out of order, or a velocity that is not three numbers.
    """
    steps = read_record(_ScriptFile, load_toml(file), file=file).step
    before_s = 0.0
    for i, step in enumerate(steps):
        if step.at_s < before_s:
            raise ConfigError(
                "is earlier than the step before",
                file=file,
                key=f"step[{i}].at_s",
                value=step.at_s,
                allowed=f"{before_s} or more",
            )
        if len(step.velocity) not in (0, VELOCITY_SIZE):
            raise ConfigError(
                "has the wrong length",
                file=file,
                key=f"step[{i}].velocity",
                value=list(step.velocity),
                allowed="forward m/s, left m/s, yaw rate rad/s",
            )
        before_s = step.at_s
    return steps


def constant_steps(velocity: tuple[float, ...], stand_s: float) -> tuple[Step, ...]:
    """Return the steps of a run at one velocity: stand up, settle for half a second, walk.

    Args:
        velocity: forward m/s, left m/s, yaw rate rad/s.
        stand_s: time that standing up takes.
    """
    return (Step(0.0, mode="stand"), Step(stand_s + 0.5, mode="policy", velocity=velocity))
