"""Where commands come from: a script or several sources together, every value inside its trained range."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike

from robotrl.errors import ConfigError
from robotrl.runtime.modes import Event
from robotrl.spec.records import Between, load_toml, read_record
from robotrl.spec.state import Floats, frozen

VELOCITY, GOAL = "velocity_command", "goal"
"""Channels that a step can set."""
VELOCITY_SIZE = 3

Ranges = Mapping[str, tuple[ArrayLike, ArrayLike]]
"""Operator channel of the policy -> lowest and highest values that it was trained on."""


class Operator(Protocol):
    """Whoever commands the robot."""

    @property
    def commands(self) -> Mapping[str, Floats]:
        """What is asked of the policy now: values of each operator channel that it reads."""
        ...

    def poll(self, elapsed_s: float) -> list[Event]:
        """Return what is asked for since the last call, in order.

        Args:
            elapsed_s: time since the first tick.
        """
        ...

    def heed(self, *, orders: bool) -> None:
        """Learn that the loop is ready to obey, or that the run is over; an emergency stop counts always.

        Args:
            orders: ready: what was asked for before is forgotten, but for an emergency stop, which the next
                `poll` returns. Over: nobody is missed any more, so that only who asks for a stop gets one.
        """
        ...

    def finished(self) -> bool:
        """Return whether the last wish was to be limp, with none to follow."""
        ...


class Source(Operator, Protocol):
    """An operator that can be joined with others."""

    @property
    def notes(self) -> Sequence[str]:
        """A sentence for everything that was not done as it was asked."""
        ...


class Setpoint:
    """What is asked of the policy, channel by channel, inside the trained ranges.

    Attributes:
        ranges: lowest and highest values of each channel.
        values: at first no velocity, and of a goal, which has no such value, NaN. Every change is a new
            mapping with a new array, so that the last tick's may still be looked at.
    """

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = {name: (frozen(low), frozen(high)) for name, (low, high) in ranges.items()}
        self.values: dict[str, Floats] = {
            name: frozen(np.full_like(low, np.nan if name == GOAL else 0.0))
            for name, (low, _) in self.ranges.items()
        }

    def clip(self, name: str, values: ArrayLike) -> Floats:
        """Return the values inside the range of a channel."""
        return frozen(np.clip(values, *self.ranges[name]))

    def set(self, name: str, values: ArrayLike) -> None:
        """Ask for values, clipped."""
        self.values = self.values | {name: self.clip(name, values)}

    @property
    def walks(self) -> bool:
        """Whether a velocity is asked for."""
        return VELOCITY in self.values and bool(self.values[VELOCITY].any())

    def stop(self) -> None:
        """Ask for no velocity; a goal stays."""
        if VELOCITY in self.values:
            self.values = self.values | {VELOCITY: frozen(np.zeros_like(self.values[VELOCITY]))}


class Together:
    """Several sources as one operator: each channel is what was last asked for by any of them.

    An emergency stop drops everything else that is asked for in the same tick. After one of a source that is
    no script, no script re-arms before such a source has done so. The first source that is finished ends the
    run.

    Attributes:
        commands: what is asked for now.
    """

    def __init__(self, sources: Sequence[Source], ranges: Ranges) -> None:
        """Join them.

        Args:
            sources: where two ask for the same channel in one tick, the later of them counts.
            ranges: what the policy reads.
        """
        self._sources = sources
        self._seen = [source.commands for source in sources]
        self.commands: Mapping[str, Floats] = Setpoint(ranges).values
        self._early = self._withheld = 0
        self._stopped = False

    @property
    def notes(self) -> list[str]:
        """A sentence for everything that was not done as it was asked."""
        early = f"'policy' was asked for {self._early} times before there was a goal"
        withheld = f"'rearm' of a script was withheld {self._withheld} times, as somebody else had stopped"
        notes = [note for source in self._sources for note in source.notes]
        return notes + [early] * (self._early > 0) + [withheld] * (self._withheld > 0)

    def poll(self, elapsed_s: float) -> list[Event]:
        """Return what all of them ask for, in order, and take over what they ask of the policy."""
        asked = [(source, event) for source in self._sources for event in source.poll(elapsed_s)]
        for i, source in enumerate(self._sources):
            self._take(self._seen[i], source.commands)
            self._seen[i] = source.commands
        live = [event for source, event in asked if not isinstance(source, Script)]
        if Event.ESTOP in live or Event.REARM in live:
            self._stopped = Event.ESTOP in live
        events = [event for _, event in asked]
        if Event.ESTOP in events:
            return [Event.ESTOP]
        return [event for event in events if self._possible(event)]

    def heed(self, *, orders: bool) -> None:
        """Tell all of them."""
        for source in self._sources:
            source.heed(orders=orders)

    def finished(self) -> bool:
        """Return whether any of them is finished."""
        return any(source.finished() for source in self._sources)

    def _take(self, before: Mapping[str, Floats], after: Mapping[str, Floats]) -> None:
        """Take over what is not the same array any more."""
        changed = {name: values for name, values in after.items() if values is not before[name]}
        if changed:
            self.commands = {**self.commands, **changed}

    def _possible(self, event: Event) -> bool:
        """A policy without its goal would answer with no number; no script undoes a watcher's stop."""
        early = event is Event.POLICY and any(np.isnan(values).any() for values in self.commands.values())
        withheld = event is Event.REARM and self._stopped
        self._early += early
        self._withheld += withheld
        return not (early or withheld)


@dataclass(frozen=True)
class Step:
    """One `[[step]]` of a script: any of re-arm, mode and commands, done in this order."""

    at_s: Annotated[float, Between(0.0)]
    """Time since the first tick."""
    rearm: bool = False
    """Clear latched faults and tripped servo watchdogs."""
    mode: Literal["keep", "stand", "policy", "limp", "estop"] = "keep"
    velocity: tuple[float, ...] = ()
    """Forward m/s, left m/s, yaw rate rad/s; empty keeps the last one."""
    goal: tuple[float, ...] = ()
    """As the policy's task defines it; empty keeps the last one."""

    @property
    def asked(self) -> dict[str, tuple[float, ...]]:
        """What it sets, by channel."""
        every = {VELOCITY: self.velocity, GOAL: self.goal}
        return {name: values for name, values in every.items() if values}


@dataclass(frozen=True)
class _ScriptFile:
    step: tuple[Step, ...]


class Script:
    """Steps done when their time has come.

    Attributes:
        notes: a sentence for each command that lay outside its range.
    """

    def __init__(self, steps: Iterable[Step], ranges: Ranges, *, file: Path | None = None) -> None:
        """Keep the steps.

        Args:
            steps: in order of time.
            ranges: what the policy reads.
            file: where the steps come from; without one, a wrong command is that of an option.

        Raises:
            ConfigError: a step sets what the policy does not read, or with another number of values, or
                starts a policy that has no goal yet.
        """
        self._left = list(steps)
        self._setpoint = Setpoint(ranges)
        _check_steps(self._left, self._setpoint.ranges, file)
        self.notes = [
            f"{name} {list(values)} at {step.at_s} s is cut to the trained range"
            for step in self._left
            for name, values in step.asked.items()
            if not np.array_equal(self._setpoint.clip(name, values), values)
        ]
        self._mode = ""

    @property
    def commands(self) -> Mapping[str, Floats]:
        """What is asked for now; at first no velocity, and of a goal, which has no such value, NaN."""
        return self._setpoint.values

    def poll(self, elapsed_s: float) -> list[Event]:
        """Return the events of every step that is due."""
        events: list[Event] = []
        while self._left and self._left[0].at_s <= elapsed_s:
            step = self._left.pop(0)
            events += [Event.REARM] * step.rearm
            if step.mode != "keep":
                events.append(Event(step.mode))
                self._mode = step.mode
            for name, values in step.asked.items():
                self._setpoint.set(name, values)
        return events

    def heed(self, *, orders: bool) -> None:
        """Nothing to do: no step is due before the first tick."""

    def finished(self) -> bool:
        """Return whether every step is done and the last mode was limp, or an emergency stop."""
        return not self._left and self._mode in ("limp", "estop")


def _check_steps(steps: list[Step], ranges: Mapping[str, tuple[Floats, Floats]], file: Path | None) -> None:
    has_goal = GOAL not in ranges
    for i, step in enumerate(steps):
        for name, values in step.asked.items():
            option = "goal" if name == GOAL else "velocity"
            key = f"step[{i}].{option}" if file else f"--{option}"
            if name not in ranges:
                raise ConfigError(
                    "is not what the policy reads",
                    file=file,
                    key=key,
                    value=list(values),
                    allowed=ranges or "nothing",
                )
            if len(values) != len(ranges[name][0]):
                raise ConfigError(
                    "has the wrong length",
                    file=file,
                    key=key,
                    value=list(values),
                    allowed=f"{len(ranges[name][0])} values",
                )
        has_goal |= GOAL in step.asked
        if step.mode == "policy" and not has_goal:
            if file is None:
                allowed = f"{len(ranges[GOAL][0])} values"
                raise ConfigError("is missing, and the policy reads it", key="--goal", allowed=allowed)
            raise ConfigError(
                "needs a goal first",
                file=file,
                key=f"step[{i}].mode",
                value=step.mode,
                allowed="a goal in this step or before",
            )


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


def constant_steps(
    stand_s: float, velocity: tuple[float, ...] = (), goal: tuple[float, ...] = ()
) -> tuple[Step, ...]:
    """Return the steps of a run with one command: stand up, settle for half a second, obey it.

    Args:
        stand_s: time that standing up takes.
        velocity: forward m/s, left m/s, yaw rate rad/s; empty for policies that read none.
        goal: empty for policies that read none.
    """
    return (Step(0.0, mode="stand"), Step(stand_s + 0.5, mode="policy", velocity=velocity, goal=goal))
