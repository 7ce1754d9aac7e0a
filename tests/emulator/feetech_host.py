"""A host at byte level: sends packets to emulated Feetech servos and decodes what they answer."""

from __future__ import annotations

from robotrl.drivers import feetech as ft
from robotrl.drivers.feetech import StatusPacket, StatusParser
from robotrl.drivers.registers import Register
from robotrl.emulator.feetech_servos import FeetechServos
from robotrl.spec.buses import ServoProtocol
from tests.emulator.still import StillServos
from tests.feetech_robot import feetech_robot

BUS = "legs"


class FeetechHost(StillServos[FeetechServos]):
    """Servos held still at given angles, a clock that the test moves, and packets to and from them."""

    def __init__(self, protocol: ServoProtocol = "feetech_sts") -> None:
        super().__init__(feetech_robot(protocol), 7.4, FeetechServos, BUS)

    def send(self, packet: bytes) -> list[StatusPacket]:
        """Let a packet arrive now; return the status packets that come back."""
        return StatusParser().feed(self.answer(packet))

    def write(self, id_: int, register: Register, value: int) -> int:
        """Write a register; return the error byte."""
        (status,) = self.send(ft.write(id_, register.address, register.encode(value)))
        return status.error

    def read(self, id_: int, register: Register) -> int:
        """Read a register."""
        (status,) = self.send(ft.read(id_, register.address, register.size))
        return register.decode(status.params)
