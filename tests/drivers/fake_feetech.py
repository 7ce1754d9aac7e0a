"""Feetech servos on a fake line: memory, lock, and answers that never tell of a refusal."""

from __future__ import annotations

from collections.abc import Iterable

from robotrl.drivers import feetech as ft
from robotrl.drivers import sts
from robotrl.drivers.feetech import BROADCAST_ID, Code, InstructionPacket, InstructionParser, StatusPacket
from robotrl.drivers.registers import Access, ControlTable, Register
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
        servo = self.servos.get(packet.id)
        if servo is None:
            return b""
        if packet.code == Code.READ:
            address, size, _ = ft.split_read(packet.params)
            return servo.status(bytes(servo.memory[address : address + size]))
        assert packet.code == Code.WRITE
        servo.write(*ft.split_write(packet.params))
        return servo.status()

    def _answer_all(self, packet: InstructionPacket) -> bytes:
        if packet.code == Code.SYNC_WRITE:
            address, ids, rows = ft.split_sync_write(packet.params)
            for id_, row in zip(ids, rows, strict=True):
                if id_ in self.servos:
                    self.servos[id_].write(address, row.tobytes())
            return b""
        assert packet.code == Code.SYNC_READ
        address, size, ids = ft.split_read(packet.params)
        if not self._has_sync_read:
            return b""
        here = [self.servos[id_] for id_ in ids if id_ in self.servos]
        return b"".join(servo.status(bytes(servo.memory[address : address + size])) for servo in here)
