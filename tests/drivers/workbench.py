"""A line with servos whose ids and speeds take effect, for what is done to one servo at a time."""

from __future__ import annotations

from robotrl.drivers import scs, sts
from robotrl.drivers.servo import Line, Servo
from robotrl.errors import PortError
from robotrl.spec.buses import ServoProtocol
from tests.drivers.fake_bus import FakeBus, FakeServo
from tests.drivers.fake_feetech import FakeFeetechBus, FakeFeetechServo

IDS = (11, 12, 13)
PROTOCOLS: tuple[ServoProtocol, ...] = ("dynamixel2", "feetech_sts", "feetech_scs")
BAUD_BD = 1000000


class Workbench:
    """Three servos of one protocol at 1 Mbit/s.

    Attributes:
        line: as the driver sees it.
        port: the fake line, with its faults.
        opened: speeds at which it was opened.
    """

    def __init__(self, protocol: ServoProtocol) -> None:
        self.line = Line("bench", protocol, BAUD_BD)
        self.opened: list[int] = []
        self.refused: set[int] = set()
        """Speeds that the adapter does not make."""
        self.port: FakeBus | FakeFeetechBus
        if protocol == "dynamixel2":
            self.port = FakeBus(IDS)
        else:
            table = sts.STS3215 if protocol == "feetech_sts" else scs.SCS0009
            self.port = FakeFeetechBus(table, IDS, has_sync_read=protocol == "feetech_sts")
        for id_ in IDS:
            self.servo(id_)[self.line.series.service.baud_rate] = 3 if protocol == "dynamixel2" else 0

    def servo(self, id_: int) -> FakeServo | FakeFeetechServo:
        """The servo that had this id at the start."""
        return self.port.servos[id_]

    def open(self, path: str, baud_bd: int) -> FakeBus | FakeFeetechBus:
        """Open the line at a speed."""
        assert path == "bench"
        if baud_bd in self.refused:
            raise PortError(f"port {path} does not work at {baud_bd} baud")
        self.opened.append(baud_bd)
        self.port.baud_bd = baud_bd
        return self.port

    def find(self, id_: int = 11) -> Servo:
        """The driver's view of one servo."""
        return Servo.find(self.open("bench", BAUD_BD), self.line, id_)

    def sent_writes(self) -> int:
        """How many writes of any kind have been sent."""
        return sum(packet.code in (0x03, 0x04, 0x83, 0x93) for packet in self.port.sent)
