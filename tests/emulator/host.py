"""A host at byte level: sends packets to emulated servos and decodes what they answer."""

from __future__ import annotations

import dataclasses

import numpy as np

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers.dynamixel import PacketParser, StatusPacket
from robotrl.drivers.registers import Register
from robotrl.emulator.dynamixel_servos import DynamixelServos
from robotrl.emulator.plant import STEP_S
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped

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


class Host:
    """Servos held still at given angles, a clock that the test moves, and packets to and from them."""

    def __init__(self, robot: RobotSpec | None = None) -> None:
        self.robot = robot or quad12()
        self.position_rad = self.robot.default_rad.copy()
        self.velocity_rad_s = np.zeros(len(self.robot.joint))
        self.supply_v = 12.0
        self.bus = DynamixelServos(self.robot, BUS, self.position_rad)
        self.ids = self.bus.ids
        self.steps = 0
        self.live(0.02)

    @property
    def now_s(self) -> float:
        """The time of the last firmware step."""
        return (self.steps - 1) * STEP_S

    def live(self, duration_s: float) -> None:
        """Let the firmware run."""
        for _ in range(round(duration_s / STEP_S)):
            self.bus.step(self.steps * STEP_S, self.position_rad, self.velocity_rad_s, self.supply_v)
            self.steps += 1

    def send(self, packet: bytes) -> list[StatusPacket]:
        """Let a packet arrive now; return the status packets that come back."""
        answer = b"".join(reply.data for reply in self.bus.receive(packet, self.now_s))
        return [p for p in PacketParser().feed(answer) if isinstance(p, StatusPacket)]

    def write(self, id_: int, register: Register, value: int) -> int:
        """Write a register; return the error byte."""
        (status,) = self.send(dxl.write(id_, register.address, register.encode(value)))
        return status.error

    def read(self, id_: int, register: Register) -> int:
        """Read a register that must be readable."""
        (status,) = self.send(dxl.read(id_, register.address, register.size))
        assert status.fault == 0
        return register.decode(status.params)
