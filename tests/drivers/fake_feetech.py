"""Feetech servos on a fake line: memory, lock, and answers that never tell of a refusal."""

from __future__ import annotations

from collections.abc import Iterable

from robotrl.drivers import feetech as ft
from robotrl.drivers import sts
from robotrl.drivers.feetech import BROADCAST_ID, Code, InstructionPacket, InstructionParser, StatusPacket
from robotrl.drivers.registers import Access, Area, ControlTable, Register
from robotrl.spec.buses import BAUD_RATES
from tests.drivers.fake_line import FakeLine

MEMORY = 96


class FakeFeetechServo:
    """One memory table; `error` is what every status packet says."""

    def __init__(self, table: ControlTable, id_: int) -> None:
        self.table = table
        self.memory = bytearray(MEMORY)
        for register in table.registers.values():
            self[register] = register.initial
        self[sts.ID] = id_
        self._lock = table.named("Lock")
        self._stored = bytes(self.memory)
        self.error = 0
        self.stuck: dict[Register, int] = {}
        """Registers that take every write and keep this value."""

    def __getitem__(self, register: Register) -> int:
        return register.decode(bytes(self.memory[register.address : register.end]))

    def __setitem__(self, register: Register, value: int) -> None:
        self.memory[register.address : register.end] = register.encode(value)

    def write(self, address: int, data: bytes) -> None:
        """Write one register as the firmware does: what is not allowed is not taken."""
        register = self.table.registers[address]
        value = register.decode(data)
        if register.access is Access.RW and register.minimum <= value <= register.maximum:
            self[register] = self.stuck.get(register, value)
            if register.area is Area.EEPROM and self[self._lock] == 0:
                self.store(register)

    def store(self, register: Register) -> None:
        """Let a register's value outlast the power."""
        at, end = register.address, register.end
        self._stored = self._stored[:at] + self.memory[at:end] + self._stored[end:]

    def power_cycle(self) -> None:
        """Take the power away and give it back: unlocked writes to EEPROM are kept, nothing else."""
        self.memory = bytearray(self._stored)

    def status(self, params: bytes = b"") -> bytes:
        """A status packet of this servo."""
        return StatusPacket(self[sts.ID], self.error, params).encode()


class FakeFeetechBus(FakeLine[InstructionPacket]):
    """Servos of one table; SCS servos do not know sync read."""

    def __init__(self, table: ControlTable, ids: Iterable[int], *, has_sync_read: bool) -> None:
        super().__init__()
        self.servos = {id_: FakeFeetechServo(table, id_) for id_ in ids}
        self._table = table
        self._has_sync_read = has_sync_read
        self._parser = InstructionParser()

    def writes(self) -> list[str]:
        """Registers of all sync writes since `sent` was cleared, in order; of reads as `?Name`."""
        names = []
        for packet in self.sent:
            name = self._table.registers[packet.params[0]].name
            names.append(name if packet.code in (Code.SYNC_WRITE, Code.WRITE) else "?" + name)
        self.sent.clear()
        return names

    def _parse(self, data: bytes) -> list[InstructionPacket]:
        return self._parser.feed(data)

    def _is_answered(self, packet: InstructionPacket) -> bool:
        return packet.code != Code.SYNC_WRITE

    def _answer(self, packet: InstructionPacket) -> bytes:
        if packet.id == BROADCAST_ID:
            return self._answer_all(packet)
        return b"".join(self._answer_of(servo, packet) for servo in self._hearing(packet.id))

    def _hearing(self, id_: int) -> list[FakeFeetechServo]:
        """The servos that an id addresses at the line's speed."""
        rates = BAUD_RATES["feetech_sts"]
        return [
            servo
            for servo in self.servos.values()
            if servo[sts.ID] == id_ and (not self.baud_bd or rates[servo[sts.BAUD_RATE]] == self.baud_bd)
        ]

    def _answer_of(self, servo: FakeFeetechServo, packet: InstructionPacket) -> bytes:
        if packet.code == Code.READ:
            address, size, _ = ft.split_read(packet.params)
            return servo.status(bytes(servo.memory[address : address + size]))
        status = servo.status()
        if packet.code == Code.WRITE:
            servo.write(*ft.split_write(packet.params))
        return status

    def _answer_all(self, packet: InstructionPacket) -> bytes:
        if packet.code == Code.SYNC_WRITE:
            address, ids, rows = ft.split_sync_write(packet.params)
            for id_, row in zip(ids, rows, strict=True):
                for servo in self._hearing(id_):
                    servo.write(address, row.tobytes())
            return b""
        assert packet.code == Code.SYNC_READ
        address, size, ids = ft.split_read(packet.params)
        if not self._has_sync_read:
            return b""
        here = [servo for id_ in ids for servo in self._hearing(id_)]
        return b"".join(servo.status(bytes(servo.memory[address : address + size])) for servo in here)
