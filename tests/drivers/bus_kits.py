"""Three servos behind each kind of bus, so that one law is tested on all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import pytest

from robotrl.drivers import scs, sts
from robotrl.drivers import xseries as x
from robotrl.drivers.registers import Register
from robotrl.drivers.series import SERIES
from robotrl.drivers.servo_bus import ServoBus
from robotrl.spec.buses import BusSpec, ServoProtocol
from tests.drivers.fake_bus import FakeBus
from tests.drivers.fake_feetech import FakeFeetechBus

IDS = (11, 13, 12)
ALL = [1100, 1300, 1200]


class Servo(Protocol):
    """What a law does to a servo behind a bus."""

    def __getitem__(self, register: Register) -> int:
        """Read a register."""

    def __setitem__(self, register: Register, value: int) -> None:
        """Set a register."""


@dataclass(frozen=True)
class Kit:
    """A bus, the servos behind it, and registers that each kind of servo has.

    Attributes:
        port: the line with its faults.
        bus: the driver.
        servos: those behind it; servo i measures position 100 i.
        position: Present Position.
        goal: Goal Position.
        torque: Torque Enable.
        model: what a ping returns.
        per_read: instructions that a read of all servos takes.
        whole: bytes of the whole answer to a read of `position`.
    """

    port: FakeBus | FakeFeetechBus
    bus: ServoBus
    servos: Mapping[int, Servo]
    position: Register
    goal: Register
    torque: Register
    model: int
    per_read: int
    whole: int

    def positions(self) -> list[int | None]:
        """Present Position by servo; None where none came."""
        replies = self.bus.read_register(self.position)
        values = replies.values(self.position)
        return [int(v) if fresh else None for v, fresh in zip(values, replies.fresh, strict=True)]

    def move(self, position: int) -> None:
        """Turn every servo to the same place."""
        for servo in self.servos.values():
            servo[self.position] = position


def spec(protocol: ServoProtocol, *, fast: bool = False, retries: int = 0) -> BusSpec:
    """A bus at 1 Mbit/s."""
    return BusSpec(protocol, "fake", 1000000, fast, 0.001, retries, 0.1, "guardian")


def kit(kind: str, retries: int = 0) -> Kit:
    """The bus of that kind: `sync` and `fast` of Dynamixel, `sts`, `scs`."""
    port: FakeBus | FakeFeetechBus
    if kind in ("sync", "fast"):
        port = FakeBus(IDS)
        bus = SERIES["dynamixel2"].bus(port, spec("dynamixel2", fast=kind == "fast", retries=retries), IDS)
        whole = 8 + 3 * 8 if kind == "fast" else 3 * 15
        made = Kit(
            port, bus, port.servos, x.PRESENT_POSITION, x.GOAL_POSITION, x.TORQUE_ENABLE, 1080, 1, whole
        )
    elif kind == "sts":
        port = FakeFeetechBus(sts.STS3215, IDS, has_sync_read=True)
        bus = SERIES["feetech_sts"].bus(port, spec("feetech_sts", retries=retries), IDS)
        names = (sts.PRESENT_POSITION, sts.GOAL_POSITION, sts.TORQUE_ENABLE)
        made = Kit(port, bus, port.servos, *names, 777, 1, 3 * 8)
    else:
        port = FakeFeetechBus(scs.SCS0009, IDS, has_sync_read=False)
        bus = SERIES["feetech_scs"].bus(port, spec("feetech_scs", retries=retries), IDS)
        names = (scs.PRESENT_POSITION, scs.GOAL_POSITION, scs.TORQUE_ENABLE)
        made = Kit(port, bus, port.servos, *names, 1284, 3, 8)
    for id_, servo in made.servos.items():
        servo[made.position] = 100 * id_
    return made


KINDS = ("sync", "fast", "sts", "scs")
EVERY = pytest.mark.parametrize("kind", KINDS)
AT_ONCE = pytest.mark.parametrize("kind", ["sync", "fast", "sts"])
"""Those that ask all servos by one instruction."""
