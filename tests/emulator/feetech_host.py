"""A host at byte level: sends packets to emulated Feetech servos and decodes what they answer."""

from __future__ import annotations

import numpy as np

from robotrl.drivers import feetech as ft
from robotrl.drivers.feetech import StatusPacket, StatusParser
from robotrl.drivers.registers import Register
from robotrl.emulator.feetech_servos import FeetechServos
from robotrl.emulator.plant import STEP_S
from robotrl.spec.buses import ServoProtocol
from tests.feetech_robot import feetech_robot

BUS = "legs"


class FeetechHost:
    """Servos held still at given angles, a clock that the test moves, and packets to and from them."""

    def __init__(self, protocol: ServoProtocol = "feetech_sts") -> None:
        self.robot = feetech_robot(protocol)
        self.position_rad = self.robot.default_rad.copy()
        self.velocity_rad_s = np.zeros(len(self.robot.joint))
        self.supply_v = 7.4
        self.bus = FeetechServos(self.robot, BUS, self.position_rad)
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
        return StatusParser().feed(answer)

    def write(self, id_: int, register: Register, value: int) -> int:
        """Write a register; return the error byte."""
        (status,) = self.send(ft.write(id_, register.address, register.encode(value)))
        return status.error

    def read(self, id_: int, register: Register) -> int:
        """Read a register."""
        (status,) = self.send(ft.read(id_, register.address, register.size))
        return register.decode(status.params)
