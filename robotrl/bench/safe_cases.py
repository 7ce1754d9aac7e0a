"""What strikes the robot, and how it gets into the mode in which that happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from robotrl.emulator.faults import (
    DuplicateId,
    FaultScript,
    LineFault,
    Noise,
    Overheat,
    ServoFault,
    Window,
    WrongBaud,
)
from robotrl.runtime.modes import Event, Mode
from robotrl.spec.robot import IMU_LINE, RobotSpec

Strike = Callable[[RobotSpec, float, float], FaultScript]
"""The fault on a robot, from and until which emulated second."""


@dataclass(frozen=True)
class Fault:
    """One thing that happens to the robot.

    Attributes:
        name: as the table calls it.
        strike: what goes wrong.
        lasts_s: for how long.
        events: what the operator asks for when it strikes.
        senses: what the gate knows it by, where that is not the bus.
        tolerable: the gate may have nothing to say of it.
    """

    name: str
    strike: Strike
    lasts_s: float = 0.4
    events: tuple[Event, ...] = ()
    senses: Literal["bus", "imu", "tilt"] = "bus"
    tolerable: bool = False


def _line(robot: RobotSpec) -> str:
    return next(iter(robot.bus))


def _servo(robot: RobotSpec) -> int:
    """The servo that is struck: in the middle of the bus, so that others wait behind it."""
    ids = [joint.id for joint in robot.joint if joint.bus == _line(robot)]
    return ids[len(ids) // 3]


def _noise(**rates: float) -> Strike:
    return lambda robot, start_s, end_s: FaultScript(noise=(Noise(_line(robot), start_s, end_s, **rates),))


def _on_servo(script: Callable[[tuple[ServoFault]], FaultScript]) -> Strike:
    return lambda robot, start_s, end_s: script((ServoFault(_line(robot), _servo(robot), start_s, end_s),))


def _on_line(script: Callable[[tuple[LineFault]], FaultScript], line: str | None = None) -> Strike:
    return lambda robot, start_s, end_s: script((LineFault(line or _line(robot), start_s, end_s),))


def _on_imu(script: Callable[[tuple[Window]], FaultScript]) -> Strike:
    return lambda _robot, start_s, end_s: script((Window(start_s, end_s),))


def _nothing(_robot: RobotSpec, _start_s: float, _end_s: float) -> FaultScript:
    return FaultScript()


def _same_id(robot: RobotSpec, start_s: float, end_s: float) -> FaultScript:
    last = robot.joint[-1]
    return FaultScript(duplicate_id=(DuplicateId(last.bus, last.id, _servo(robot), start_s, end_s),))


def _wrong_baud(robot: RobotSpec, start_s: float, end_s: float) -> FaultScript:
    return FaultScript(wrong_baud=(WrongBaud(_line(robot), _servo(robot), 115200, start_s, end_s),))


def _overheat(temperature_c: float) -> Strike:
    return lambda robot, start_s, end_s: FaultScript(
        overheat=(Overheat(_line(robot), _servo(robot), temperature_c, start_s, end_s),)
    )


ONE_TICK_S = 0.02
"""Hits one tick of a robot at 50 Hz, wherever in it the fault begins."""

FAULTS = (
    Fault("bus cable out for a tick", _on_line(lambda f: FaultScript(cut=f)), ONE_TICK_S, tolerable=True),
    Fault("bus cable out", _on_line(lambda f: FaultScript(cut=f))),
    Fault("bus adapter out of the computer", _on_line(lambda f: FaultScript(eject=f))),
    Fault("bus shorted", _on_line(lambda f: FaultScript(short=f))),
    Fault("1 % of the packets damaged", _noise(damage=0.01), 2.0, tolerable=True),
    Fault("packets dropped", _noise(drop=1.0)),
    Fault("packets damaged", _noise(damage=1.0)),
    Fault("packets truncated", _noise(truncate=1.0)),
    Fault("packets merged", _noise(merge=1.0), tolerable=True),
    Fault("packets 3 ms late", _noise(delay=1.0, delay_s=0.003), tolerable=True),
    Fault("packets 12 ms late", _noise(delay=1.0, delay_s=0.012)),
    Fault("packets with a pause of 3 ms inside", _noise(split=1.0, delay_s=0.003)),
    Fault("packets twice", _noise(duplicate=1.0), tolerable=True),
    Fault("packets reordered", _noise(reorder=1.0), tolerable=True),
    Fault("half of the bytes dropped", _noise(byte_drop=0.5)),
    Fault("a bit flipped in each byte", _noise(byte_flip=1.0)),
    Fault("half of the bytes twice", _noise(byte_duplicate=0.5)),
    Fault("half of the bytes swapped", _noise(byte_swap=0.5)),
    Fault(
        "servo silent for a tick",
        _on_servo(lambda f: FaultScript(servo_silence=f)),
        ONE_TICK_S,
        tolerable=True,
    ),
    Fault("servo silent", _on_servo(lambda f: FaultScript(servo_silence=f))),
    Fault("two servos with one id", _same_id),
    Fault("servo at another baud rate", _wrong_baud),
    Fault("servo restarts", _on_servo(lambda f: FaultScript(brown_out=f)), ONE_TICK_S, tolerable=True),
    Fault("servo without power", _on_servo(lambda f: FaultScript(brown_out=f))),
    Fault("servo hotter than `limits.temperature_c`", _overheat(75.0)),
    Fault("servo hotter than its own limit", _overheat(95.0)),
    Fault("encoder stuck", _on_servo(lambda f: FaultScript(stuck_encoder=f)), 3.0, tolerable=True),
    Fault(
        "IMU cable out for a tick",
        _on_line(lambda f: FaultScript(cut=f), IMU_LINE),
        ONE_TICK_S,
        senses="imu",
        tolerable=True,
    ),
    Fault("IMU cable out", _on_line(lambda f: FaultScript(cut=f), IMU_LINE), senses="imu"),
    Fault(
        "IMU adapter out of the computer", _on_line(lambda f: FaultScript(eject=f), IMU_LINE), senses="imu"
    ),
    Fault("IMU shorted", _on_line(lambda f: FaultScript(short=f), IMU_LINE), senses="imu"),
    Fault("IMU silent", _on_imu(lambda f: FaultScript(imu_silence=f)), senses="imu"),
    Fault("IMU frozen", _on_imu(lambda f: FaultScript(imu_freeze=f)), senses="imu"),
    Fault("IMU sends no numbers", _on_imu(lambda f: FaultScript(imu_nan=f)), senses="imu"),
    Fault("IMU upside down", _on_imu(lambda f: FaultScript(imu_upside_down=f)), senses="tilt"),
)
"""Every kind in `robotrl.emulator.faults.FaultScript` but the push, which is no fault."""

ESTOP = Fault("emergency stop", _nothing, events=(Event.ESTOP,))


@dataclass(frozen=True)
class Approach:
    """How the robot gets into a mode. Times are seconds since the loop's first deadline.

    Attributes:
        mode: the mode.
        ready_s: when the robot is in the middle of it.
        wishes: what the operator asks for, and when.
        earlier: the fault that leads there, if one does; it lasts for `EARLIER_S`.
        senses: of the faults that may follow; the gate has no second name for those that are left out.
    """

    mode: Mode
    ready_s: float
    wishes: tuple[tuple[float, Event], ...] = ((0.0, Event.STAND),)
    earlier: Strike = _nothing
    senses: frozenset[str] = frozenset({"bus", "imu", "tilt"})

    def faults(self, robot: RobotSpec, start_s: float) -> FaultScript:
        """Return what goes wrong on the way, for a loop that begins at `start_s`."""
        from_s, until_s = EARLIER_S
        return self.earlier(robot, start_s + from_s, start_s + until_s)


EARLIER_S = (0.6, 0.76)

APPROACHES = (
    Approach(Mode.LIMP, 0.3, ()),
    Approach(Mode.RISE, 1.0),
    Approach(Mode.STAND, 2.3),
    Approach(Mode.POLICY, 3.6, ((0.0, Event.STAND), (2.1, Event.POLICY))),
    Approach(Mode.PARK, 3.1, ((0.0, Event.STAND), (2.1, Event.LIMP))),
    Approach(
        Mode.HOLD,
        1.0,
        earlier=_on_imu(lambda f: FaultScript(imu_freeze=f)),
        senses=frozenset({"bus", "tilt"}),
    ),
    Approach(
        Mode.HOLD, 1.0, earlier=_on_servo(lambda f: FaultScript(servo_silence=f)), senses=frozenset({"imu"})
    ),
    Approach(
        Mode.DAMP,
        1.0,
        earlier=_on_imu(lambda f: FaultScript(imu_upside_down=f)),
        senses=frozenset({"bus", "imu"}),
    ),
    Approach(Mode.DAMP, 1.0, earlier=_overheat(75.0), senses=frozenset({"tilt"})),
)
