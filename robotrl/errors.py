"""The exception tree: everything robotrl raises on purpose is a `RobotrlError`.

RobotrlError
├── BadInputError          a file or argument given by the user is wrong; nothing was done
│   ├── ConfigError        a TOML file: robot, run or script
│   ├── PolicyError        a policy file: unreadable, or for another robot
│   ├── RecordingError     a recording that cannot be read
│   └── CheckpointError    a training run that cannot be resumed
├── DivergedError          a training run whose numbers are not finite any more
├── GroupError             processes of a training run that lost each other
├── VerificationError      an exported policy that does not equal the trained one
├── PortError              a serial port that is missing, busy, or has just gone away
├── ScreenError            no screen to open a window on, or no OpenGL library to draw with
├── ProtocolError          bytes that no device of this protocol would send
├── DeviceError            a servo or IMU that answers, but with something wrong
├── ModeError              a mode change that the transition table does not contain
└── SimulationError        a world that left the finite numbers, or a model without a needed part
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class RobotrlError(Exception):
    """Root of every exception that robotrl raises on purpose."""


class BadInputError(RobotrlError):
    """A file or argument of the user's is wrong: one sentence with file, key, value, allowed set.

    Args:
        problem: what is wrong, as the start of a sentence.
        file: the file it is in.
        key: dotted key inside the file.
        value: the offending value.
        allowed: what would be accepted, as a phrase or as a collection of values.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: object = None,
        key: str | None = None,
        value: object = None,
        allowed: str | Iterable[object] | None = None,
    ) -> None:
        """Build the sentence."""
        self.file, self.key, self.value = file, key, value
        place = ""
        if file is not None:
            place = f"{file}: "
        if key is not None:
            place += f"{key}: "
        sentence = place + problem
        if value is not None:
            sentence += f", got {value!r}"
        if allowed is not None:
            listed = allowed if isinstance(allowed, str) else ", ".join(str(a) for a in allowed)
            sentence += f"; allowed: {listed}"
        super().__init__(sentence)


class ConfigError(BadInputError):
    """A TOML file (robot, run, script) has an unknown, missing, ill-typed or impossible entry."""


class PolicyError(BadInputError):
    """A policy file cannot be read, or does not fit the robot it is asked to drive."""


class RecordingError(BadInputError):
    """A recording cannot be read."""


class CheckpointError(BadInputError):
    """A training run cannot be resumed from its folder."""


class DivergedError(RobotrlError):
    """A training run's figures or parameters are not finite any more.

    Args:
        sentence: what happened.
        statistics: of the batch on which it happened: quantity -> column -> value.
    """

    def __init__(self, sentence: str, statistics: Mapping[str, Mapping[str, float]]) -> None:
        """Keep the table beside the sentence."""
        self.statistics = statistics
        super().__init__(sentence)


class GroupError(RobotrlError):
    """Processes of a training run that lost each other: one did not start, or ended early."""


class VerificationError(RobotrlError):
    """An exported policy differs from the trained one by more than the stated tolerance."""


class PortError(RobotrlError):
    """A serial port is missing, busy, or has gone away."""


class ScreenError(RobotrlError):
    """There is no screen to open a window on, or no OpenGL library to draw with."""


class ProtocolError(RobotrlError):
    """A packet violates its protocol."""


class DeviceError(RobotrlError):
    """A device answers, but with the wrong model, a wrong read-back or an error status."""


class ModeError(RobotrlError):
    """A mode change that the transition table does not contain."""


class SimulationError(RobotrlError):
    """A simulated world is not finite, or a model lacks a part that a task needs."""
