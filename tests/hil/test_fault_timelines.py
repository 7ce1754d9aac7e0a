"""Every fault of the script: what driver and gate say of it, in which tick, and what brings the robot back.

Tick 0 is the first one in which the fault is there. A robot holds its posture all the while. Everything
that is reported is in the table: a report that is missing, late, or not in it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest

from robotrl.bench.emulated_time import EmulatedPort
from robotrl.drivers.dynamixel_bus import DynamixelBus
from robotrl.drivers.servos import TORQUE_LOST
from robotrl.drivers.xseries import HardwareError
from robotrl.emulator.faults import (
    DuplicateId,
    LineFault,
    Noise,
    Overheat,
    ServoFault,
    Window,
    WrongBaud,
)
from robotrl.spec.robot import RobotSpec
from tests.emulator.host import quad12
from tests.feetech_robot import feetech_robot
from tests.hil.on_emulated_time import Robot, emulated_robot
from tests.hil.timelines import follows, run_until_strike, shifted, watch

Kind = Literal["xc430", "sts", "scs"]

ID = 22
"""The servo that is struck; it is the fifth in the order in which they are asked."""
IDS = [joint.id for joint in quad12().joint]
BEHIND = IDS[IDS.index(ID) + 1 :]
AFTER = 8
"""Ticks that are watched when the fault is over."""
ON = 1_000_000
"""Last tick of a report that goes on to the end."""
OVERHEATED = int(HardwareError.OVERHEATING)
"""Has the same bit in Feetech servos."""


class Recovery(Enum):
    """What brings the robot back to following its targets."""

    BY_ITSELF = "nothing is needed"
    REARM = "re-arm"
    REBOOT = "`robotrl bus reboot`, then a new start"


Says = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Timeline:
    """One fault that lasts some ticks, and the first and last tick of every report."""

    name: str
    faults: Mapping[str, Any]
    ticks: int
    says: Says
    recovery: Recovery
    kind: Kind = "xc430"
    swing_rad: float = 0.0
    """How far the target of the struck servo moves in each tick."""
    more: Says = field(default_factory=dict)


def line(name: str = "legs") -> tuple[LineFault]:
    return (LineFault(name, 0.0, 1.0),)


def noise(**rates: float) -> dict[str, Any]:
    return {"noise": (Noise("legs", 0.0, 1.0, **rates),)}


def servo() -> tuple[ServoFault]:
    return (ServoFault("legs", ID, 0.0, 1.0),)


def alone(ticks: int) -> Says:
    """The struck servo is not heard; in the first tick those that wait for it are not either."""
    return {f"old {ID}": (0, ticks - 1)} | {f"old {id_}": (0, 0) for id_ in BEHIND}


def only(ticks: int) -> Says:
    """The struck servo is not heard; every servo is asked by itself."""
    return {f"old {ID}": (0, ticks - 1)}


ALL_LOST: Says = {"old all": (0, 9), "HOLD limits.joint_stale_s": (1, ON)}
IMU_LOST: Says = {"old imu": (1, 9), "HOLD limits.imu_stale_s": (3, ON)}
STALE: Says = {"HOLD limits.joint_stale_s": (1, ON)}
WINDOW = (Window(0.0, 1.0),)
NOTHING: Says = {}

TIMELINES = [
    # Cables and adapters: a missed tick costs nothing, a servo's watchdog (0.1 s) or staleness a re-arm.
    Timeline("cable out for a tick", {"cut": line()}, 1, {"old all": (0, 0)}, Recovery.BY_ITSELF),
    Timeline("cable out", {"cut": line()}, 10, ALL_LOST, Recovery.REARM),
    Timeline("cable out, no watchdog", {"cut": line()}, 10, ALL_LOST, Recovery.REARM, "sts"),
    Timeline("cable out, servos read one by one", {"cut": line()}, 10, ALL_LOST, Recovery.REARM, "scs"),
    Timeline("imu's cable out for a tick", {"cut": line("imu")}, 1, NOTHING, Recovery.BY_ITSELF),
    Timeline("imu's cable out", {"cut": line("imu")}, 10, IMU_LOST, Recovery.REARM),
    Timeline("adapter out", {"eject": line()}, 10, ALL_LOST, Recovery.REARM),
    Timeline("adapter out, no watchdog", {"eject": line()}, 10, ALL_LOST, Recovery.REARM, "sts"),
    # What had arrived is lost with the adapter, and its port is looked for only five times a second.
    Timeline(
        "imu's adapter out",
        {"eject": line("imu")},
        10,
        {"old imu": (0, 12), "HOLD limits.imu_stale_s": (2, ON)},
        Recovery.REARM,
    ),
    Timeline("shorted for a tick", {"short": line()}, 1, {"old all": (0, 0)}, Recovery.BY_ITSELF),
    Timeline("shorted", {"short": line()}, 10, ALL_LOST, Recovery.REARM),
    Timeline("shorted, weak checksum", {"short": line()}, 10, ALL_LOST, Recovery.REARM, "sts"),
    Timeline("imu shorted", {"short": line("imu")}, 10, IMU_LOST, Recovery.REARM),
    # Noise at full rate. What only comes twice or a little late is heard all the same.
    Timeline("packets dropped", noise(drop=1.0), 10, ALL_LOST, Recovery.REARM),
    Timeline("packets damaged", noise(damage=1.0), 10, ALL_LOST, Recovery.REARM),
    Timeline("packets truncated", noise(truncate=1.0), 10, ALL_LOST, Recovery.REARM),
    Timeline("packets merged", noise(merge=1.0), 1, NOTHING, Recovery.BY_ITSELF),
    Timeline("packets merged, sts", noise(merge=1.0), 1, NOTHING, Recovery.BY_ITSELF, "sts"),
    Timeline("packets reordered", noise(reorder=1.0), 1, NOTHING, Recovery.BY_ITSELF),
    Timeline("packets reordered, sts", noise(reorder=1.0), 1, NOTHING, Recovery.BY_ITSELF, "sts"),
    Timeline("packets a bit late", noise(delay=1.0, delay_s=0.003), 10, NOTHING, Recovery.BY_ITSELF),
    Timeline("packets too late", noise(delay=1.0, delay_s=0.012), 10, ALL_LOST, Recovery.REARM),
    Timeline("packets in two pieces", noise(split=1.0, delay_s=0.001), 10, NOTHING, Recovery.BY_ITSELF),
    Timeline("a pause in each packet", noise(split=1.0, delay_s=0.003), 10, ALL_LOST, Recovery.REARM),
    Timeline("packets twice", noise(duplicate=1.0), 10, NOTHING, Recovery.BY_ITSELF),
    Timeline("packets twice, sts", noise(duplicate=1.0), 10, NOTHING, Recovery.BY_ITSELF, "sts"),
    Timeline("bytes dropped", noise(byte_drop=0.5), 10, ALL_LOST, Recovery.REARM),
    Timeline("bytes flipped", noise(byte_flip=1.0), 10, ALL_LOST, Recovery.REARM),
    Timeline("bytes twice", noise(byte_duplicate=0.5), 10, ALL_LOST, Recovery.REARM),
    Timeline("bytes swapped", noise(byte_swap=0.5), 10, ALL_LOST, Recovery.REARM),
    # Servos.
    Timeline("servo silent for a tick", {"servo_silence": servo()}, 1, alone(1), Recovery.BY_ITSELF),
    Timeline("servo silent", {"servo_silence": servo()}, 10, STALE, Recovery.REARM, more=alone(10)),
    Timeline(
        "servo silent, scs", {"servo_silence": servo()}, 10, STALE, Recovery.REARM, "scs", more=only(10)
    ),
    Timeline(
        "servo at another baud rate",
        {"wrong_baud": (WrongBaud("legs", ID, 115200, 0.0, 1.0),)},
        10,
        STALE,
        Recovery.REARM,
        more=alone(10),
    ),
    Timeline(
        "two servos of one id",
        {"duplicate_id": (DuplicateId("legs", 43, ID, 0.0, 1.0),)},
        10,
        STALE | {f"old {ID}": (0, 9), "old 43": (0, 9)},
        Recovery.REARM,
    ),
    # A servo that has restarted has no torque and has forgotten its gains: never taken for a healthy one.
    Timeline(
        "brown-out of a tick",
        {"brown_out": servo()},
        1,
        {f"error {ID}: {TORQUE_LOST}": (1, 5), "DAMP hardware_error": (5, ON)},
        Recovery.REARM,
        more=alone(1),
    ),
    Timeline(
        "brown-out",
        {"brown_out": servo()},
        4,
        {
            "HOLD limits.joint_stale_s": (1, 7),
            f"error {ID}: {TORQUE_LOST}": (4, 8),
            "DAMP hardware_error": (8, ON),
            "DAMP limits.joint_stale_s": (8, ON),
        },
        Recovery.REARM,
        more=alone(4),
    ),
    Timeline(
        "brown-out, scs",
        {"brown_out": servo()},
        1,
        {f"error {ID}: {TORQUE_LOST}": (1, 5), "DAMP hardware_error": (5, ON)},
        Recovery.REARM,
        "scs",
        more=only(1),
    ),
    Timeline(
        "servo hotter than the gate's limit",
        {"overheat": (Overheat("legs", ID, 75.0, 0.0, 1.0),)},
        10,
        {"DAMP limits.temperature_c": (4, ON)},
        Recovery.REARM,
    ),
    Timeline(
        "servo hotter than its own limit",
        {"overheat": (Overheat("legs", ID, 95.0, 0.0, 1.0),)},
        10,
        {
            f"error {ID}: {OVERHEATED}": (0, ON),
            "DAMP limits.temperature_c": (4, ON),
            "DAMP hardware_error": (4, ON),
        },
        Recovery.REBOOT,
    ),
    Timeline(
        "servo hot for a moment lets go, sts",
        {"overheat": (Overheat("legs", ID, 75.0, 0.0, 1.0),)},
        3,
        {
            f"error {ID}: {OVERHEATED}": (0, 2),
            f"error {ID}: {TORQUE_LOST}": (3, 4),
            "DAMP hardware_error": (4, ON),
        },
        Recovery.REARM,
        "sts",
    ),
    Timeline(
        "encoder stuck on the move",
        {"stuck_encoder": servo()},
        40,
        {
            "LIMITING limits.torque_nm": (10, 12),
            "DAMP limits.stuck_nm": (13, ON),
        },
        Recovery.REARM,
        swing_rad=-0.04,
    ),
    # The IMU.
    Timeline("imu silent", {"imu_silence": WINDOW}, 10, IMU_LOST, Recovery.REARM),
    Timeline("imu frozen", {"imu_freeze": WINDOW}, 10, IMU_LOST, Recovery.REARM),
    Timeline(
        "imu sends no numbers",
        {"imu_nan": WINDOW},
        10,
        {"old imu": (0, 9), "HOLD limits.imu_stale_s": (2, ON)},
        Recovery.REARM,
    ),
    Timeline(
        "imu upside down", {"imu_upside_down": WINDOW}, 10, {"DAMP limits.tilt_rad": (0, ON)}, Recovery.REARM
    ),
]


@cache
def spec_of(kind: Kind) -> RobotSpec:
    makers: dict[Kind, Callable[[], RobotSpec]] = {
        "xc430": quad12,
        "sts": lambda: feetech_robot("feetech_sts"),
        "scs": lambda: feetech_robot("feetech_scs"),
    }
    return makers[kind]()


def reboot(robot: Robot) -> None:
    """Close, restart the servo with the class behind `robotrl bus reboot`, and open again."""
    robot.body.close()
    bus = robot.spec.bus["legs"]
    DynamixelBus(EmulatedPort(robot.time, "legs", bus.baud_bd), bus, IDS).reboot(ID)
    robot.body.open()
    robot.ticks = round(robot.time.elapsed_s / robot.period_s) + 1
    robot.tick()
    robot.rearm()


@pytest.mark.parametrize("timeline", TIMELINES, ids=lambda timeline: timeline.name)
def test_timeline(timeline: Timeline) -> None:
    spec = spec_of(timeline.kind)
    script = shifted(timeline.faults, 0, timeline.ticks, 1.0 / spec.control.rate_hz)
    with emulated_robot(spec, script) as robot:
        run_until_strike(robot)
        held_rad = robot.target_rad.copy()
        swing_rad = np.where(np.array(IDS) == ID, timeline.swing_rad, 0.0)
        seen = watch(robot, timeline.ticks, step_rad=swing_rad)
        robot.target_rad = held_rad
        seen = watch(robot, AFTER, timeline.ticks, seen)
        end = timeline.ticks + AFTER - 1
        expected = {
            said: (first, min(last, end)) for said, (first, last) in (timeline.says | timeline.more).items()
        }
        assert seen == expected
        assert robot.longest_tick_s < 1.25 * robot.period_s
        assert (robot.memory.latched.level > 0) == (timeline.recovery is not Recovery.BY_ITSELF)
        if timeline.recovery is not Recovery.BY_ITSELF:
            robot.rearm()
        if timeline.recovery is Recovery.REBOOT:
            assert not follows(robot)
            reboot(robot)
        assert follows(robot)
