"""The fault script: what goes wrong on the wires and with the robot, and when, as a TOML file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from robotrl.errors import ConfigError
from robotrl.spec.records import Between, load_toml, read_record
from robotrl.spec.robot import RobotSpec

IMU_LINE = "imu"
"""Name of the IMU's serial line; servo lines are named after their bus."""

Seconds = Annotated[float, Between(0.0)]
Share = Annotated[float, Between(0.0, 1.0)]


@dataclass(frozen=True)
class Cut:
    """The cable of one line is out: bytes vanish both ways while the port stays open."""

    line: str
    from_s: Seconds
    until_s: Seconds


@dataclass(frozen=True)
class Noise:
    """Packets on one line, both ways, vanish or arrive damaged."""

    line: str
    from_s: Seconds
    until_s: Seconds
    drop: Share = 0.0
    """Probability that a packet vanishes."""
    damage: Share = 0.0
    """Probability that a packet arrives with a flipped bit, a byte missing or a byte too many."""


@dataclass(frozen=True)
class Silence:
    """The IMU sends nothing although its cable is in."""

    from_s: Seconds
    until_s: Seconds


@dataclass(frozen=True)
class Push:
    """Somebody shoves the trunk: its velocity changes at once."""

    at_s: Seconds
    velocity_m_s: tuple[float, float]
    """World x and y added to the trunk's velocity."""


@dataclass(frozen=True)
class FaultScript:
    """Everything that goes wrong, in emulated seconds since start."""

    cut: tuple[Cut, ...] = ()
    noise: tuple[Noise, ...] = ()
    imu_silence: tuple[Silence, ...] = ()
    push: tuple[Push, ...] = ()


def load_faults(file: Path, robot: RobotSpec) -> FaultScript:
    """Read and check a fault script.

    Raises:
        ConfigError: an unknown, ill-typed or out-of-range entry, a line that the robot does not
            have, or a window that ends before it begins.
    """
    script = read_record(FaultScript, load_toml(file), file=file)
    lines = sorted((*robot.bus, IMU_LINE))
    _check_lines(file, "cut", [cut.line for cut in script.cut], lines)
    _check_lines(file, "noise", [noise.line for noise in script.noise], lines)
    _check_windows(file, "cut", script.cut)
    _check_windows(file, "noise", script.noise)
    _check_windows(file, "imu_silence", script.imu_silence)
    return script


def _check_lines(file: Path, key: str, used: Iterable[str], lines: Iterable[str]) -> None:
    for i, line in enumerate(used):
        if line not in lines:
            raise ConfigError("names no line", file=file, key=f"{key}[{i}].line", value=line, allowed=lines)


def _check_windows(file: Path, key: str, windows: Iterable[Cut | Noise | Silence]) -> None:
    for i, window in enumerate(windows):
        if window.until_s <= window.from_s:
            raise ConfigError(
                "is not after from_s",
                file=file,
                key=f"{key}[{i}].until_s",
                value=window.until_s,
                allowed=f"above {window.from_s}",
            )


def in_window(windows: Iterable[Cut | Silence], time_s: float) -> bool:
    """Return whether any of the windows is open at `time_s`; the end is excluded."""
    return any(w.from_s <= time_s < w.until_s for w in windows)
