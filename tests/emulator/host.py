"""A host at byte level: sends packets to emulated servos and decodes what they answer."""

from __future__ import annotations

import dataclasses

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers.dynamixel import PacketParser, StatusPacket
from robotrl.drivers.registers import Register
from robotrl.emulator.dynamixel_servos import DynamixelServos
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from tests.emulator.still import StillServos

BUS = "legs"


def quad12() -> RobotSpec:
    """The shipped robot."""
    return load_robot(find_shipped("hardware", "quad12"))


def many_servos(count: int, baud_bd: int) -> RobotSpec:
    """A robot with `count` servos, ids 1 to count, on one bus of that speed."""
    robot = quad12()
    joints = tuple(dataclasses.replace(robot.joint[0], name=f"joint{i}", id=i) for i in range(1, count + 1))
    bus = dataclasses.replace(robot.bus[BUS], baud_bd=baud_bd)  # type: ignore[arg-type]
    return dataclasses.replace(robot, joint=joints, bus={BUS: bus})


class Host(StillServos[DynamixelServos]):
    """Servos held still at given angles, a clock that the test moves, and packets to and from them."""

    def __init__(self, robot: RobotSpec | None = None) -> None:
        super().__init__(robot or quad12(), 12.0, DynamixelServos, BUS)
        self.ids = self.bus.ids

    def send(self, packet: bytes) -> list[StatusPacket]:
        """Let a packet arrive now; return the status packets that come back."""
        return [p for p in PacketParser().feed(self.answer(packet)) if isinstance(p, StatusPacket)]

    def write(self, id_: int, register: Register, value: int) -> int:
        """Write a register; return the error byte."""
        (status,) = self.send(dxl.write(id_, register.address, register.encode(value)))
        return status.error

    def read(self, id_: int, register: Register) -> int:
        """Read a register that must be readable."""
        (status,) = self.send(dxl.read(id_, register.address, register.size))
        assert status.fault == 0
        return register.decode(status.params)
