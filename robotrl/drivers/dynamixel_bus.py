"""One DYNAMIXEL bus: transactions bounded in time, on a wire that may echo, lose, delay or garble bytes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers.dynamixel import Fault, StatusPacket
from robotrl.drivers.port import Port
from robotrl.drivers.xseries import Register
from robotrl.errors import DeviceError
from robotrl.spec.robot import BusSpec

Ints = NDArray[np.int64]

_BITS_PER_BYTE = 10  # 8N1
_TURNAROUND_S = 50e-6
"""A servo's pause before its answer with Return Delay Time 0, as measured on real buses."""
_TAIL = 1
"""Bytes read beyond the wanted ones when an answer to an earlier read may still be on its way."""
_PATIENCE_S = 0.05
"""Waits for the answer to a ping or a write, which may go to EEPROM; never used in a tick."""
_ATTEMPTS = 3
"""Of pings and writes."""


@dataclass(frozen=True, slots=True)
class Replies:
    """What a sync read brought, in the order of the bus's ids.

    Attributes:
        data: (n, size) bytes; rows that are not `fresh` hold zeros.
        error: (n,) error byte of each status.
        fresh: (n,) whether the servo answered.
    """

    data: dxl.Bytes2D
    error: NDArray[np.uint8]
    fresh: NDArray[np.bool_]

    def values(self, register: Register) -> Ints:
        """Return (n,) values of a read of exactly this register."""
        return self.data.view(register.dtype)[:, 0].astype(np.int64)


class DynamixelBus:
    """Talks to a fixed list of servos behind one port.

    A late answer, one to a read that was already given up, is told from the current one by its
    length: after every incomplete read the next one asks for one byte more, or again for one less.

    Args:
        port: where the bytes go; its `PortError` passes through every method.
        spec: baud rate, time-outs and retries.
        ids: the servos, in the order of all arrays.
    """

    def __init__(self, port: Port, spec: BusSpec, ids: Sequence[int]) -> None:
        self.ids = tuple(ids)
        self._port = port
        self._spec = spec
        self._row = {id_: row for row, id_ in enumerate(self.ids)}
        self._tail = 0
        self._silent = False

    def ping(self, id_: int) -> int | None:
        """Return a servo's model number, or None when it does not answer."""
        for _ in range(_ATTEMPTS):
            status = self._ask_one(dxl.ping(id_), id_, size=3)
            if status is not None:
                return int.from_bytes(status.params[:2], "little")
        return None

    def write(self, id_: int, register: Register, value: int) -> None:
        """Write one register of one servo and wait for its acknowledgement.

        Raises:
            DeviceError: the value is not allowed, the servo refuses it, or it does not answer.
        """
        _check_range(register, np.array([value]), (id_,))
        for _ in range(_ATTEMPTS):
            status = self._ask_one(dxl.write(id_, register.address, register.encode(value)), id_, size=0)
            if status is not None and status.fault not in (Fault.NONE, Fault.CRC):
                raise DeviceError(
                    f"servo {id_} refuses {register.name} ({register.address}) := {value}: "
                    f"{_fault_name(status.fault)}"
                )
            if status is not None and status.fault == Fault.NONE:
                return
        raise DeviceError(f"servo {id_} does not answer a write of {register.name} ({register.address})")

    def sync_write(self, register: Register, values: Ints) -> None:
        """Write one register of every servo; nobody answers.

        Args:
            register: the register.
            values: (n,) in the order of `ids`.

        Raises:
            DeviceError: a value is outside the register's range; nothing was sent.
        """
        _check_range(register, values, self.ids)
        data = values.astype(register.dtype).view(np.uint8).reshape(len(self.ids), register.size)
        self._port.write(dxl.sync_write(register.address, self.ids, data))

    def sync_read(self, address: int, size: int) -> Replies:
        """Read the same bytes of every servo, within the bus's time-out and retries.

        The first try is a fast sync read where robot.toml allows it; retries ask those that are
        missing by plain sync read, where every servo's answer stands for itself. A bus from which
        nothing at all came last time gets no retries, so that an unplugged cable costs little time.
        """
        n = len(self.ids)
        replies = Replies(np.zeros((n, size), np.uint8), np.zeros(n, np.uint8), np.zeros(n, np.bool_))
        fast = self._spec.fast_sync_read
        for _ in range(1 if self._silent else 1 + self._spec.retries_per_tick):
            for packet in self._ask_all(address, size, replies.fresh, fast=fast):
                self._store(packet, replies)
            if replies.fresh.all():
                break
            self._tail = _TAIL - self._tail
            fast = False
        self._silent = not replies.fresh.any()
        return replies

    def read_register(self, register: Register) -> Replies:
        """Read one register of every servo; see `sync_read`."""
        return self.sync_read(register.address, register.size)

    def _store(self, packet: StatusPacket, replies: Replies) -> None:
        row = self._row[packet.id]
        replies.data[row] = np.frombuffer(packet.params, np.uint8)[: replies.data.shape[1]]
        replies.error[row] = packet.error
        replies.fresh[row] = True

    def _ask_all(
        self, address: int, size: int, fresh: NDArray[np.bool_], *, fast: bool
    ) -> list[StatusPacket]:
        """One sync read of the servos that are not fresh: the valid answers to exactly this request."""
        size += self._tail
        ids = [id_ for id_, done in zip(self.ids, fresh, strict=True) if not done]
        answer = _FastAnswer(ids, size) if fast else _PlainAnswer(ids, size)
        self._send(dxl.sync_read(address, size, ids, fast=fast))
        deadline_s = self._deadline_s(14 + len(ids) + answer.expected_bytes, len(ids))
        while not answer.complete and (chunk := self._port.read(deadline_s)):
            answer.feed(chunk)
        return answer.finish()

    def _ask_one(self, request: bytes, id_: int, size: int) -> StatusPacket | None:
        """Send to one servo; return its answer of `size` parameters, or a refusal, or None."""
        parser = dxl.PacketParser()
        self._send(request)
        deadline_s = time.monotonic() + _PATIENCE_S
        while chunk := self._port.read(deadline_s):
            for packet in parser.feed(chunk):
                if isinstance(packet, StatusPacket) and packet.id == id_ and len(packet.params) in (size, 0):
                    return packet
        return None

    def _send(self, request: bytes) -> None:
        self._port.drain()
        self._port.write(request)

    def _deadline_s(self, wire_bytes: int, servos: int) -> float:
        wire_s = wire_bytes * _BITS_PER_BYTE / self._spec.baud_bd
        return time.monotonic() + wire_s + servos * _TURNAROUND_S + self._spec.reply_timeout_s


class _PlainAnswer:
    """Collects one status packet per servo, in any order, between echoes and noise."""

    def __init__(self, ids: Sequence[int], size: int) -> None:
        self.expected_bytes = len(ids) * (dxl.STATUS_OVERHEAD + size)
        self._parser = dxl.PacketParser()
        self._waiting = set(ids)
        self._size = size
        self._packets: list[StatusPacket] = []

    @property
    def complete(self) -> bool:
        return not self._waiting

    def feed(self, chunk: bytes) -> None:
        for packet in self._parser.feed(chunk):
            if self._belongs(packet):
                self._waiting.discard(packet.id)
                self._packets.append(packet)

    def _belongs(self, packet: dxl.Packet) -> TypeGuard[StatusPacket]:
        return (
            isinstance(packet, StatusPacket)
            and packet.id in self._waiting
            and packet.fault == Fault.NONE
            and len(packet.params) == self._size
        )

    def finish(self) -> list[StatusPacket]:
        return self._packets


class _FastAnswer:
    """Collects the one frame of a fast sync read; a broken frame keeps its sound beginning."""

    def __init__(self, ids: Sequence[int], size: int) -> None:
        self.expected_bytes = dxl.FAST_HEADER + len(ids) * (dxl.FAST_BLOCK_OVERHEAD + size)
        self._ids = ids
        self._size = size
        self._buffer = b""
        self._blocks: list[StatusPacket] = []

    @property
    def complete(self) -> bool:
        return len(self._blocks) == len(self._ids)

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk
        if len(self._buffer) >= self.expected_bytes:
            self._decode()

    def _decode(self) -> None:
        self._blocks = dxl.decode_fast_reply(self._buffer, len(self._ids), self._size)

    def finish(self) -> list[StatusPacket]:
        if not self.complete:
            self._decode()
        return [
            block
            for id_, block in zip(self._ids, self._blocks, strict=False)
            if block.id == id_ and block.fault == Fault.NONE
        ]


def _check_range(register: Register, values: Ints, ids: Sequence[int]) -> None:
    bad = np.flatnonzero((values < register.minimum) | (values > register.maximum))
    if bad.size:
        raise DeviceError(
            f"servo {ids[bad[0]]}: {register.name} ({register.address}) cannot be {values[bad[0]]}; "
            f"allowed: {register.minimum} to {register.maximum}"
        )


def _fault_name(fault: int) -> str:
    return Fault(fault).name.lower().replace("_", " ") if fault in set(Fault) else f"error {fault}"
