"""Firmware of the X-series servos on one Dynamixel bus: what they hear, what they do then, and what they say.

Source: ROBOTIS e-Manual, "Protocol 2.0" and "XC430-W240-T". What the manual leaves open is marked as
an assumption where it is decided. Time is always an argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel import Code, Fault, InstructionPacket, Reset, StatusPacket
from robotrl.drivers.dynamixel_group import Span, split_bulk_read, split_bulk_write
from robotrl.emulator.dynamixel_control import DynamixelControl
from robotrl.emulator.firmware import RETURN_DELAY_UNIT_S, TURNAROUND_S, Floats, Reply, collided
from robotrl.errors import ProtocolError
from robotrl.spec.robot import RobotSpec

FAST_TURNAROUND_S = 10e-6
"""A servo's own time inside the one frame of a fast sync read."""

_ANSWER_READS = 1
_ANSWER_ALL = 2

_KEPT: Mapping[Reset, frozenset[int]] = MappingProxyType(
    {
        Reset.ALL: frozenset(),
        Reset.EXCEPT_ID: frozenset((x.ID.address,)),
        Reset.EXCEPT_ID_AND_BAUD_RATE: frozenset((x.ID.address, x.BAUD_RATE.address)),
    }
)
"""Addresses of what a factory reset leaves as it is."""


class DynamixelServos(DynamixelControl):
    """All servos on one Dynamixel bus, as `DynamixelControl`, with their ears and voices."""

    def __init__(self, robot: RobotSpec, bus: str, joint_pos_rad: Floats) -> None:
        super().__init__(robot, bus, joint_pos_rad)
        self._called = self.ids
        self._parser = dxl.PacketParser()
        self._registered: dict[int, tuple[int, bytes]] = {}
        """Row -> address and data of the reg write that waits for an action."""

    def power_cycle(self, row: int) -> None:
        """Start a servo anew: torque off, RAM initial, errors cleared, goal where the shaft is."""
        super().power_cycle(row)
        self._registered.pop(row, None)

    def _forget(self) -> None:
        self._parser.reset()

    def _obey(self, data: bytes, time_s: float) -> list[Reply]:
        packets = self._parser.feed(data)
        replies = [
            reply
            for packet in packets
            if isinstance(packet, InstructionPacket)
            for reply in self._execute(packet, time_s)
        ]
        return replies if packets else self._complain_of_crc(data)

    def _execute(self, packet: InstructionPacket, time_s: float) -> list[Reply]:
        # A new id or baud rate holds from the next instruction on. Assumption: the manual does not say.
        self._called = self.ids
        self._listeners = self.listeners()
        self._watchdogs.heard(time_s, self._rows(dxl.BROADCAST_ID))
        self._refresh(time_s)
        try:
            replies = self._dispatch(packet)
        except ProtocolError:
            replies = self._statuses(packet.id, Fault.DATA_LENGTH)
        self._watchdogs.arm()
        return replies

    def _dispatch(self, packet: InstructionPacket) -> list[Reply]:
        instructions = {
            Code.PING: self._ping,
            Code.READ: self._read,
            Code.WRITE: self._write,
            Code.REG_WRITE: self._reg_write,
            Code.ACTION: self._action,
            Code.FACTORY_RESET: self._factory_reset,
            Code.REBOOT: self._reboot,
            Code.CLEAR: self._clear,
            Code.SYNC_READ: self._sync_read,
            Code.FAST_SYNC_READ: self._fast_sync_read,
            Code.SYNC_WRITE: self._sync_write,
            Code.BULK_READ: self._bulk_read,
            Code.BULK_WRITE: self._bulk_write,
        }
        obey = next((obey for code, obey in instructions.items() if code == packet.code), None)
        return self._statuses(packet.id, Fault.INSTRUCTION) if obey is None else obey(packet)

    def _status(self, row: int, fault: Fault, params: bytes = b"") -> StatusPacket:
        alert = dxl.ErrorBit.ALERT if self.tables.of(x.HARDWARE_ERROR_STATUS, row) else 0
        return StatusPacket(self._called[row], int(fault) | int(alert), params)

    def _reply(self, row: int, fault: Fault, params: bytes = b"") -> Reply:
        return Reply(self._status(row, fault, params).encode(), TURNAROUND_S + self._return_delay_s(row))

    def _return_delay_s(self, row: int) -> float:
        return RETURN_DELAY_UNIT_S * self.tables.of(x.RETURN_DELAY_TIME, row)

    def _answers(self, row: int, level: int) -> bool:
        return not self.mute[row] and self.tables.of(x.STATUS_RETURN_LEVEL, row) >= level

    def _statuses(self, id_: int, fault: Fault) -> list[Reply]:
        """A status packet without data from the addressed servo; none to a broadcast."""
        return self._acknowledge(id_, dict.fromkeys(self._rows(id_), fault))

    def _acknowledge(self, id_: int, faults: Mapping[int, Fault]) -> list[Reply]:
        """A status packet without data from every servo of an id, by row; none to a broadcast."""
        if id_ == dxl.BROADCAST_ID:
            return []
        answering = {row: fault for row, fault in faults.items() if self._answers(row, _ANSWER_ALL)}
        return collided([self._reply(row, fault) for row, fault in answering.items()])

    def _complain_of_crc(self, data: bytes) -> list[Reply]:
        """The addressed servo's CRC Error, if the bytes are a whole packet for one servo."""
        whole = data.startswith(dxl.HEADER) and len(data) >= dxl.OVERHEAD
        return self._statuses(data[4], Fault.CRC) if whole else []

    def _ping(self, packet: InstructionPacket) -> list[Reply]:
        """Answered at any Status Return Level, by all servos when broadcast."""
        ids = self._listeners if packet.id == dxl.BROADCAST_ID else [packet.id]
        return [reply for each in ids for reply in collided([self._pong(row) for row in self._heard(each)])]

    def _pong(self, row: int) -> Reply:
        model = x.MODEL_NUMBER.encode(self.tables.of(x.MODEL_NUMBER, row))
        firmware = x.FIRMWARE_VERSION.encode(self.tables.of(x.FIRMWARE_VERSION, row))
        return self._reply(row, Fault.NONE, model + firmware)

    def _heard(self, id_: int, level: int = 0) -> list[int]:
        """The servos of an id that hear, and answer at a Status Return Level."""
        return [row for row in self._listeners.get(id_, []) if self._answers(row, level)]

    def _read(self, packet: InstructionPacket) -> list[Reply]:
        address, size, _ = dxl.split_span(packet.params)
        rows = self._heard(packet.id, _ANSWER_READS)
        return collided([self._data_reply(row, address, size) for row in rows])

    def _data_reply(self, row: int, address: int, size: int) -> Reply:
        block = self.tables.block(address, size)
        if isinstance(block, Fault):
            return self._reply(row, block)
        return self._reply(row, Fault.NONE, block[row].tobytes())

    def _write(self, packet: InstructionPacket) -> list[Reply]:
        address, data = dxl.split_write(packet.params)
        faults = {row: self.tables.write(row, address, data) for row in self._rows(packet.id)}
        return self._acknowledge(packet.id, faults)

    def _reg_write(self, packet: InstructionPacket) -> list[Reply]:
        """Keep a write, in place of an earlier one. That it is checked at once is an assumption."""
        address, data = dxl.split_write(packet.params)
        faults = {row: self.tables.refusal(row, address, data) for row in self._rows(packet.id)}
        for row, fault in faults.items():
            if not fault:
                self._registered[row] = address, data
                self._note_registered(row)
        return self._acknowledge(packet.id, faults)

    def _action(self, packet: InstructionPacket) -> list[Reply]:
        """Carry out the kept write, if there is one and it is still allowed."""
        faults = dict.fromkeys(self._rows(packet.id), Fault.NONE)
        for row in faults:
            if row in self._registered:
                faults[row] = self.tables.write(row, *self._registered.pop(row))
                self._note_registered(row)
        return self._acknowledge(packet.id, faults)

    def _note_registered(self, row: int) -> None:
        self.tables.values[x.REGISTERED_INSTRUCTION.address][row] = row in self._registered

    def _sync_write(self, packet: InstructionPacket) -> list[Reply]:
        """Write to the listed servos; nobody answers, and a refused value is just not taken."""
        address, size, rest = dxl.split_span(packet.params)
        for at in range(0, len(rest) - size, 1 + size):
            self._take(rest[at], address, rest[at + 1 : at + 1 + size])
        return []

    def _bulk_write(self, packet: InstructionPacket) -> list[Reply]:
        """As sync write, to each servo its own registers."""
        for write in split_bulk_write(packet.params):
            self._take(write.id, write.address, write.data)
        return []

    def _take(self, id_: int, address: int, data: bytes) -> None:
        for row in self._listeners.get(id_, ()):
            self.tables.write(row, address, data)

    def _chain(self, ids: bytes) -> list[list[int]]:
        """The servos that answer a sync read, by id: each waits for the one before it in the list.

        So the first that is missing, or told not to answer, silences the rest. Assumption from the
        manual's "in order"; it says nothing of gaps.
        """
        chain = []
        for id_ in ids:
            if not (rows := self._heard(id_, _ANSWER_READS)):
                break
            chain.append(rows)
        return chain

    def _sync_read(self, packet: InstructionPacket) -> list[Reply]:
        address, size, ids = dxl.split_span(packet.params)
        return self._read_in_turn([Span(id_, address, size) for id_ in ids])

    def _bulk_read(self, packet: InstructionPacket) -> list[Reply]:
        return self._read_in_turn(split_bulk_read(packet.params))

    def _read_in_turn(self, spans: Sequence[Span]) -> list[Reply]:
        chain = self._chain(bytes(span.id for span in spans))
        return [
            reply
            for span, rows in zip(spans, chain, strict=False)  # the chain may break off
            for reply in collided([self._data_reply(row, span.address, span.size) for row in rows])
        ]

    def _fast_sync_read(self, packet: InstructionPacket) -> list[Reply]:
        address, size, ids = dxl.split_span(packet.params)
        chain = self._chain(ids)
        if not chain or len(dxl.HEADER) + len(ids) * size > dxl.MAX_LENGTH:
            return []
        block = self.tables.block(address, size)
        fault = block if isinstance(block, Fault) else Fault.NONE
        data = np.zeros((len(self.ids), size), np.uint8) if isinstance(block, Fault) else block
        replies = []
        # Servos of one id send their blocks at once: one frame with the first of each, one with the second.
        for turn in range(max(map(len, chain))):
            rows = [same[min(turn, len(same) - 1)] for same in chain]
            # The header announces all servos asked; blocks end where the chain does.
            frame = dxl.encode_fast_reply(
                [self._status(row, fault, data[row].tobytes()) for row in rows]
                + [StatusPacket(id_, 0, bytes(size)) for id_ in ids[len(rows) :]]
            )
            sent = dxl.FAST_HEADER + len(rows) * (dxl.FAST_BLOCK_OVERHEAD + size)
            gap_s = self._return_delay_s(rows[0]) + FAST_TURNAROUND_S * len(rows)
            replies.append(Reply(frame[:sent], gap_s))
        return collided(replies)

    def _reboot(self, packet: InstructionPacket) -> list[Reply]:
        """Answer, then start again."""
        replies = self._statuses(packet.id, Fault.NONE)
        for row in self._rows(packet.id):
            self.power_cycle(row)
        return replies

    def _factory_reset(self, packet: InstructionPacket) -> list[Reply]:
        """Answer, then forget the settings and start again; everything of all servos is never reset.

        That it works under torque, which it ends, is an assumption.
        """
        if len(packet.params) != 1:
            return self._statuses(packet.id, Fault.DATA_LENGTH)
        (option,) = packet.params
        if option not in _KEPT:
            return self._statuses(packet.id, Fault.DATA_RANGE)
        if packet.id == dxl.BROADCAST_ID and option == Reset.ALL:
            return []
        replies = self._statuses(packet.id, Fault.NONE)
        for row in self._rows(packet.id):
            self.tables.factory_reset(row, _KEPT[Reset(option)])
            self.power_cycle(row)
        return replies

    def _clear(self, packet: InstructionPacket) -> list[Reply]:
        """Bring Present Position into one turn; only a servo that stands still can."""
        if packet.params != dxl.CLEAR_TURNS:
            return self._statuses(packet.id, Fault.DATA_RANGE)
        moving = self.tables.values[x.MOVING.address]
        faults = {row: Fault.RESULT_FAIL if moving[row] else Fault.NONE for row in self._rows(packet.id)}
        for row, fault in faults.items():
            if not fault:
                self._forget_turns(row)
        return self._acknowledge(packet.id, faults)
