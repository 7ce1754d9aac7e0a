"""Servos and an IMU behind fake ports: they speak bytes, and faults strike between them and the host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel import (
    BROADCAST_ID,
    Code,
    Fault,
    InstructionPacket,
    PacketParser,
    StatusPacket,
    encode_fast_reply,
    split_span,
)
from robotrl.drivers.imu import SCALE, Kind, encode
from robotrl.drivers.registers import Access, Area, Register
from robotrl.errors import PortError
from tests.drivers.fake_line import FakeLine

TABLE_END = 148
ANSWERS_ALL = 2
"""Of Status Return Level (68)."""
BAUD_RATES = (9600, 57600, 115200, 1000000, 2000000, 3000000, 4000000, 4500000)
"""By their code."""


class FakeServo:
    """One control table, with the rules that a driver may stumble over."""

    def __init__(self, id_: int, model: int = 1080) -> None:
        self.memory = bytearray(TABLE_END)
        for register in x.REGISTERS.values():
            self[register] = register.initial
        self[x.ID], self[x.MODEL_NUMBER] = id_, model
        self[x.PRESENT_POSITION] = self[x.GOAL_POSITION] = 2048
        self.stuck: dict[Register, int] = {}
        """Registers that take every write and keep this value."""

    def __getitem__(self, register: Register) -> int:
        return register.decode(bytes(self.memory[register.address : register.end]))

    def __setitem__(self, register: Register, value: int) -> None:
        self.memory[register.address : register.end] = register.encode(value)

    def restart(self) -> None:
        """Forget what is in RAM."""
        for register in x.REGISTERS.values():
            if register.area is Area.RAM and register.access is Access.RW:
                self[register] = register.initial

    def write(self, address: int, data: bytes) -> Fault:
        """Write one register as the firmware does."""
        register = x.REGISTERS[address]
        value = register.decode(data)
        tripped = self[x.BUS_WATCHDOG] == x.WATCHDOG_TRIPPED
        if register.access is Access.R or (register.area is Area.EEPROM and self[x.TORQUE_ENABLE]):
            return Fault.ACCESS
        if not register.minimum <= value <= register.maximum:
            return Fault.DATA_RANGE
        if tripped and register in (x.GOAL_POSITION, x.GOAL_PWM, x.GOAL_VELOCITY):
            return Fault.DATA_RANGE
        limits = self[x.MIN_POSITION_LIMIT], self[x.MAX_POSITION_LIMIT]
        if register is x.GOAL_POSITION and not limits[0] <= value <= limits[1]:
            return Fault.DATA_LIMIT
        self[register] = self.stuck.get(register, value)
        return Fault.NONE

    def status(self, params: bytes = b"", fault: int = 0) -> StatusPacket:
        """A status packet of this servo."""
        alert = 0x80 if self[x.HARDWARE_ERROR_STATUS] else 0
        return StatusPacket(self[x.ID], fault | alert, params)


class FakeBus(FakeLine[InstructionPacket]):
    """Dynamixel servos on a fake line."""

    def __init__(self, ids: Iterable[int]) -> None:
        super().__init__()
        self.servos = {id_: FakeServo(id_) for id_ in ids}
        self._parser = PacketParser()

    def trip(self) -> None:
        """Let every bus watchdog have tripped."""
        for servo in self.servos.values():
            servo[x.BUS_WATCHDOG] = x.WATCHDOG_TRIPPED

    def writes(self) -> list[str]:
        """Registers of all sync writes since `sent` was cleared, in order; of sync reads as `?Name`."""
        names = []
        for packet in self.sent:
            if packet.id == BROADCAST_ID:
                name = x.REGISTERS[split_span(packet.params)[0]].name
                names.append(name if packet.code == Code.SYNC_WRITE else "?" + name)
        self.sent.clear()
        return names

    def _parse(self, data: bytes) -> list[InstructionPacket]:
        packets = self._parser.feed(data)
        assert all(isinstance(packet, InstructionPacket) for packet in packets)
        return cast("list[InstructionPacket]", packets)

    def _is_answered(self, packet: InstructionPacket) -> bool:
        return packet.code != Code.SYNC_WRITE

    def _answer(self, packet: InstructionPacket) -> bytes:
        if packet.id == BROADCAST_ID:
            return self._answer_all(packet)
        return b"".join(self._answer_of(servo, packet) for servo in self._hearing(packet.id))

    def _hearing(self, id_: int) -> list[FakeServo]:
        """The servos that an id addresses at the line's speed."""
        return [
            servo
            for servo in self.servos.values()
            if (servo[x.ID] == id_ or id_ == BROADCAST_ID)
            and (not self.baud_bd or BAUD_RATES[servo[x.BAUD_RATE]] == self.baud_bd)
        ]

    def _answer_of(self, servo: FakeServo, packet: InstructionPacket) -> bytes:
        if packet.code == Code.PING:
            return servo.status(bytes(servo.memory[0:2] + servo.memory[6:7])).encode()
        status = servo.status()
        if packet.code == Code.REBOOT:
            servo.restart()
            return status.encode()
        assert packet.code == Code.WRITE
        acknowledges = servo[x.STATUS_RETURN_LEVEL] == ANSWERS_ALL
        address = int.from_bytes(packet.params[:2], "little")
        fault = servo.write(address, packet.params[2:])
        return StatusPacket(status.id, status.error | fault).encode() if acknowledges else b""

    def _answer_all(self, packet: InstructionPacket) -> bytes:
        if packet.code == Code.PING:
            return b"".join(self._answer_of(servo, packet) for servo in self._hearing(BROADCAST_ID))
        address, size, rest = split_span(packet.params)
        if packet.code == Code.SYNC_WRITE:
            for at in range(0, len(rest), size + 1):
                for servo in self._hearing(rest[at]):
                    servo.write(address, rest[at + 1 : at + 1 + size])
            return b""
        here = [servo for id_ in rest for servo in self._hearing(id_)]
        replies = [s.status(bytes(s.memory[address : address + size])) for s in here]
        if packet.code == Code.SYNC_READ:
            return b"".join(reply.encode() for reply in replies)
        frame = encode_fast_reply([self._stand_in(id_, replies, size) for id_ in rest])
        missing = [k for k, id_ in enumerate(rest) if not self._hearing(id_)]
        return frame[: 8 + missing[0] * (4 + size)] if missing else frame

    def _stand_in(self, id_: int, replies: list[StatusPacket], size: int) -> StatusPacket:
        return next((r for r in replies if r.id == id_), StatusPacket(id_, 0, bytes(size)))


class FakeImu:
    """A `Port` behind which a WT901 sends one sample per drain, once its content is configured."""

    def __init__(self, *, configured: bool = True) -> None:
        self.sending = configured
        self.obeys = True
        self.quat = (1.0, 0.0, 0.0, 0.0)
        self.gyro_rad_s = (0.0, 0.0, 0.0)
        self.accel_m_s2 = (0.0, 0.0, 9.80665)
        self.written = b""
        self.gone = False
        self.closed = False
        self._samples = 0

    def write(self, data: bytes) -> None:
        """Take commands."""
        self.written += data
        self.sending |= self.obeys and data.startswith(b"\xff\xaa\x02")

    def read(self, deadline_s: float) -> bytes:
        """Return one sample."""
        return self.drain()

    def drain(self) -> bytes:
        """Return one sample."""
        if self.gone:
            raise PortError("port fake has gone away")
        if not self.sending:
            return b""
        # No two samples are alike, as noise has it: here by one count of one component.
        self._samples += 1
        x, y, z = self.accel_m_s2
        return (
            encode(Kind.ACCEL, (x, y, z + self._samples % 2 * SCALE[Kind.ACCEL]))
            + encode(Kind.GYRO, self.gyro_rad_s)
            + encode(Kind.QUATERNION, self.quat)
        )

    def close(self) -> None:
        """Note that it happened."""
        self.closed = True
