"""The fault script: what goes wrong on the wires, in the servos, with the robot, and when, as a TOML file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

from robotrl.errors import ConfigError
from robotrl.spec.buses import BAUD_RATES
from robotrl.spec.records import Between, load_toml, read_record
from robotrl.spec.robot import IMU_LINE, RobotSpec

Seconds = Annotated[float, Between(0.0)]
Share = Annotated[float, Between(0.0, 1.0)]
ServoId = Annotated[int, Between(0, 253)]


class Spell(Protocol):
    """Whatever lasts from one moment to another; the end is excluded."""

    @property
    def from_s(self) -> float:
        """When it begins."""

    @property
    def until_s(self) -> float:
        """When it is over."""


SpellT = TypeVar("SpellT", bound=Spell)


@dataclass(frozen=True)
class Window:
    """A time in which something is wrong with the IMU."""

    from_s: Seconds
    until_s: Seconds


@dataclass(frozen=True)
class LineFault:
    """A time in which something is wrong with one line."""

    line: str
    from_s: Seconds
    until_s: Seconds


@dataclass(frozen=True)
class Noise:
    """Packets on one line, both ways, vanish or arrive damaged, late, twice or in another order."""

    line: str
    from_s: Seconds
    until_s: Seconds
    drop: Share = 0.0
    """Probability that a packet vanishes."""
    damage: Share = 0.0
    """Probability that a packet arrives with a flipped bit, a byte missing or a byte too many."""
    truncate: Share = 0.0
    """Probability that a packet's end is missing."""
    merge: Share = 0.0
    """Probability that a packet waits for the next one of its direction and arrives in one piece with it."""
    delay: Share = 0.0
    """Probability that a packet arrives `delay_s` later."""
    delay_s: Seconds = 0.0
    duplicate: Share = 0.0
    """Probability that a packet arrives twice."""
    reorder: Share = 0.0
    """Probability that a packet changes places with the next one of its direction."""
    split: Share = 0.0
    """Probability that a packet's end arrives `delay_s` later."""
    byte_drop: Share = 0.0
    """Probability that a byte vanishes."""
    byte_flip: Share = 0.0
    """Probability that one bit of a byte is flipped."""
    byte_duplicate: Share = 0.0
    """Probability that a byte arrives twice."""
    byte_swap: Share = 0.0
    """Probability that a byte changes places with the next one."""


@dataclass(frozen=True)
class ServoFault:
    """A time in which something is wrong with one servo."""

    line: str
    id: ServoId
    from_s: Seconds
    until_s: Seconds


@dataclass(frozen=True)
class DuplicateId:
    """A servo has the id of another one on its bus: both obey it and answer at once."""

    line: str
    id: ServoId
    like: ServoId
    """The other servo's."""
    from_s: Seconds
    until_s: Seconds


@dataclass(frozen=True)
class WrongBaud:
    """A servo is set to another baud rate than its bus."""

    line: str
    id: ServoId
    baud_bd: int
    from_s: Seconds
    until_s: Seconds


@dataclass(frozen=True)
class Overheat:
    """A servo is at least this hot."""

    line: str
    id: ServoId
    temperature_c: Annotated[float, Between(-20.0, 200.0)]
    from_s: Seconds
    until_s: Seconds


@dataclass(frozen=True)
class Push:
    """Somebody shoves the trunk: its velocity changes at once."""

    at_s: Seconds
    velocity_m_s: tuple[float, float]
    """World x and y added to the trunk's velocity."""


OnServo = ServoFault | DuplicateId | WrongBaud | Overheat
OnLine = LineFault | Noise


@dataclass(frozen=True)
class FaultScript:
    """Everything that goes wrong, in emulated seconds since start."""

    cut: tuple[LineFault, ...] = ()
    """The cable is out: bytes vanish both ways while the port stays open."""
    eject: tuple[LineFault, ...] = ()
    """The serial adapter is out of the computer: its port is gone, an open one reads an I/O error."""
    short: tuple[LineFault, ...] = ()
    """The line is shorted: endless garbage reaches the host, nothing reaches the devices."""
    noise: tuple[Noise, ...] = ()
    servo_silence: tuple[ServoFault, ...] = ()
    """The servo hears and obeys but its answers do not come."""
    duplicate_id: tuple[DuplicateId, ...] = ()
    wrong_baud: tuple[WrongBaud, ...] = ()
    brown_out: tuple[ServoFault, ...] = ()
    """The servo has no power; when it is back it starts anew, its RAM registers at their initial values."""
    overheat: tuple[Overheat, ...] = ()
    stuck_encoder: tuple[ServoFault, ...] = ()
    """The encoder goes on giving the count that it gave last."""
    imu_silence: tuple[Window, ...] = ()
    """The IMU sends nothing although its cable is in."""
    imu_freeze: tuple[Window, ...] = ()
    """It sends the same measurement over and over."""
    imu_nan: tuple[Window, ...] = ()
    """It sends no numbers: NaN where its format has them, else the most negative count of every value."""
    imu_upside_down: tuple[Window, ...] = ()
    """It hangs upside down, turned by half a turn about the trunk's x axis."""
    push: tuple[Push, ...] = ()

    @property
    def on_lines(self) -> dict[str, tuple[OnLine, ...]]:
        """Key -> faults of whole lines."""
        return {"cut": self.cut, "eject": self.eject, "short": self.short, "noise": self.noise}

    @property
    def on_servos(self) -> dict[str, tuple[OnServo, ...]]:
        """Key -> faults of single servos."""
        return {
            "servo_silence": self.servo_silence,
            "duplicate_id": self.duplicate_id,
            "wrong_baud": self.wrong_baud,
            "brown_out": self.brown_out,
            "overheat": self.overheat,
            "stuck_encoder": self.stuck_encoder,
        }

    @property
    def on_imu(self) -> dict[str, tuple[Window, ...]]:
        """Key -> faults of the IMU."""
        return {
            "imu_silence": self.imu_silence,
            "imu_freeze": self.imu_freeze,
            "imu_nan": self.imu_nan,
            "imu_upside_down": self.imu_upside_down,
        }


def load_faults(file: Path, robot: RobotSpec) -> FaultScript:
    """Read and check a fault script.

    Raises:
        ConfigError: an unknown, ill-typed or out-of-range entry, a line or servo that the robot does not
            have, a window that ends before it begins, or a fault that is none.
    """
    script = read_record(FaultScript, load_toml(file), file=file)
    check = _Checker(file, robot)
    for key, on_lines in script.on_lines.items():
        check.lines(key, on_lines)
    for key, on_servos in script.on_servos.items():
        check.servos(key, on_servos)
    for key, windows in {**script.on_lines, **script.on_servos, **script.on_imu}.items():
        check.windows(key, windows)
    check.imu(script)
    check.delays(script.noise)
    check.duplicates(script.duplicate_id)
    check.bauds(script.wrong_baud)
    return script


class _Checker:
    """Refuses what a fault script asks for and the robot cannot suffer."""

    def __init__(self, file: Path, robot: RobotSpec) -> None:
        self._file = file
        self._robot = robot
        self._lines = sorted(robot.lines)

    def _refuse(self, problem: str, key: str, value: object, allowed: str | Iterable[object]) -> None:
        raise ConfigError(problem, file=self._file, key=key, value=value, allowed=allowed)

    def _ids(self, line: str) -> list[int]:
        return sorted(joint.id for joint in self._robot.joint if joint.bus == line)

    def lines(self, key: str, faults: Iterable[OnLine]) -> None:
        for i, fault in enumerate(faults):
            if fault.line not in self._lines:
                self._refuse("names no line", f"{key}[{i}].line", fault.line, self._lines)

    def servos(self, key: str, faults: Iterable[OnServo]) -> None:
        for i, fault in enumerate(faults):
            if fault.line not in self._robot.bus:
                self._refuse("names no servo bus", f"{key}[{i}].line", fault.line, sorted(self._robot.bus))
            if fault.id not in (ids := self._ids(fault.line)):
                self._refuse(f"names no servo of bus {fault.line}", f"{key}[{i}].id", fault.id, ids)

    def windows(self, key: str, windows: Iterable[Spell]) -> None:
        for i, window in enumerate(windows):
            if window.until_s <= window.from_s:
                self._refuse(
                    "is not after from_s", f"{key}[{i}].until_s", window.until_s, f"above {window.from_s}"
                )

    def imu(self, script: FaultScript) -> None:
        used = [key for key, windows in script.on_imu.items() if windows]
        if used and IMU_LINE not in self._lines:
            self._refuse("is of an IMU and the robot has none", used[0], None, self._lines)

    def delays(self, noises: Iterable[Noise]) -> None:
        for i, noise in enumerate(noises):
            if (noise.delay or noise.split) and not noise.delay_s:
                self._refuse("delays by nothing", f"noise[{i}].delay_s", noise.delay_s, "above 0")

    def duplicates(self, faults: Sequence[DuplicateId]) -> None:
        for i, fault in enumerate(faults):
            if fault.like == fault.id or fault.like not in self._ids(fault.line):
                others = [id_ for id_ in self._ids(fault.line) if id_ != fault.id]
                self._refuse("names no other servo of the bus", f"duplicate_id[{i}].like", fault.like, others)
        self._apart("duplicate_id", faults)

    def bauds(self, faults: Sequence[WrongBaud]) -> None:
        for i, fault in enumerate(faults):
            bus = self._robot.bus[fault.line]
            others = sorted(rate for rate in BAUD_RATES[bus.protocol] if rate != bus.baud_bd)
            if fault.baud_bd not in others:
                self._refuse(
                    "is no other baud rate of the servo", f"wrong_baud[{i}].baud_bd", fault.baud_bd, others
                )
        self._apart("wrong_baud", faults)

    def _apart(self, key: str, faults: Sequence[DuplicateId | WrongBaud]) -> None:
        """Refuse two settings at once for one servo."""
        order = sorted(faults, key=lambda fault: (fault.line, fault.id, fault.from_s))
        for first, second in pairwise(order):
            same = (first.line, first.id) == (second.line, second.id)
            if same and second.from_s < first.until_s:
                at = f"{key}[{faults.index(second)}].from_s"
                self._refuse(
                    "begins while the servo has that fault", at, second.from_s, f"from {first.until_s}"
                )


def open_at(spells: Iterable[SpellT], time_s: float) -> list[SpellT]:
    """Return those of the windows that are open at `time_s`; the end is excluded."""
    return [spell for spell in spells if spell.from_s <= time_s < spell.until_s]
