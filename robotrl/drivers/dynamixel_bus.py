"""One DYNAMIXEL bus: transactions bounded in time, on a wire that may echo, lose, delay or garble bytes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers.dynamixel import Fault, StatusPacket
from robotrl.drivers.port import Port
from robotrl.drivers.registers import Register
from robotrl.drivers.replies import Replies
from robotrl.errors import DeviceError
from robotrl.spec.robot import BusSpec

Ints = NDArray[np.int64]

_BITS_PER_BYTE = 10  # 8N1
_TURNAROUND_S = 50e-6
"""A servo's pause before its answer with Return Delay Time 0, as measured on real buses."""
_TAIL = 1
"""Bytes read beyond the wanted ones when an answer to an earlier read may still be on its way."""
_SILENT_READS = 3
"""Reads without any answer after which a bus counts as dead."""
_PATIENCE_S = 0.05
"""Waits for an answer outside the control loop; writes to EEPROM take their time."""
_ATTEMPTS = 3
"""Of pings, writes and patient reads."""


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
        self._silent_reads = 0

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
        nothing at all has come for three reads gets no retries: an unplugged cable costs little time.
        """
        dead = self._silent_reads >= _SILENT_READS
        retries = 0 if dead else self._spec.retries_per_tick
        return self._read(address, size, retries, self._spec.reply_timeout_s)

    def read_register(self, register: Register) -> Replies:
        """Read one register of every servo; see `sync_read`."""
        return self.sync_read(register.address, register.size)

    def read_patiently(self, register: Register) -> Replies:
        """Read one register of every servo outside the control loop: no answer is given up early."""
        for _ in range(_ATTEMPTS):
            replies = self._read(register.address, register.size, 1, _PATIENCE_S)
            if replies.fresh.all():
                break
        return replies

    def _read(self, address: int, size: int, retries: int, timeout_s: float) -> Replies:
        """Ask until every servo has answered or the retries are used up."""
        answers = _Answers(self.ids, size + self._tail)
        fast = self._spec.fast_sync_read
        self._port.drain()
        for attempt in range(1 + retries):
            self._ask(answers, address, timeout_s, fast=fast and attempt == 0)
            if not answers.missing:
                break
        if answers.missing or attempt > 0:
            self._tail = _TAIL - self._tail  # what is still to come must not answer the next read
        self._silent_reads = 0 if answers.packets else self._silent_reads + 1
        return self._replies(answers.packets, size)

    def _ask(self, answers: _Answers, address: int, timeout_s: float, *, fast: bool) -> None:
        """One request to those missing; returns when all are there or the time is over."""
        ids = list(answers.missing)
        request = dxl.sync_read(address, answers.size, ids, fast=fast)
        wire_s = (len(request) + answers.expect(fast=fast)) * _BITS_PER_BYTE / self._spec.baud_bd
        self._port.write(request)
        deadline_s = time.monotonic() + wire_s + len(ids) * _TURNAROUND_S + timeout_s
        while answers.missing and (chunk := self._port.read(deadline_s)):
            answers.feed(chunk)
        answers.look()

    def _replies(self, packets: list[StatusPacket], size: int) -> Replies:
        replies = Replies.none_of(len(self.ids), size)
        for packet in packets:
            replies.put(self._row[packet.id], packet.error, packet.params[:size])
        return replies

    def _ask_one(self, request: bytes, id_: int, size: int) -> StatusPacket | None:
        """Send to one servo; return its answer of `size` parameters, or a refusal, or None."""
        parser = dxl.PacketParser()
        self._port.drain()
        self._port.write(request)
        deadline_s = time.monotonic() + _PATIENCE_S
        while chunk := self._port.read(deadline_s):
            for packet in parser.feed(chunk):
                if isinstance(packet, StatusPacket) and packet.id == id_ and len(packet.params) in (size, 0):
                    return packet
        return None


class _Answers:
    """Gathers the answers to one read and its retries from all bytes that have come since.

    An answer to the first try that arrives during a retry is as good as the retry's.
    """

    def __init__(self, ids: Sequence[int], size: int) -> None:
        self.size = size
        self.missing = list(ids)
        self.packets: list[StatusPacket] = []
        self._received = b""
        self._fast_ids: list[int] = []
        self._plain_from: int | None = None
        self._enough = 0

    def expect(self, *, fast: bool) -> int:
        """Note that those missing are being asked; return the bytes of their whole answer."""
        count = len(self.missing)
        if fast:
            self._fast_ids = list(self.missing)
            expected = dxl.FAST_HEADER + count * (dxl.FAST_BLOCK_OVERHEAD + self.size)
        else:
            self._plain_from = len(self._received)
            expected = count * (dxl.STATUS_OVERHEAD + self.size)
        self._enough = 0 if self._received or self._enough else expected
        return expected

    def feed(self, chunk: bytes) -> None:
        """Take bytes in; the answer to a first try is looked for when it can be complete."""
        self._received += chunk
        if len(self._received) >= self._enough:
            self.look()

    def look(self) -> None:
        """Find what has come: a fast frame, its sound beginning, status packets in any order."""
        if self._fast_ids:
            blocks = dxl.decode_fast_reply(self._received, len(self._fast_ids), self.size)
            self._take([b for id_, b in zip(self._fast_ids, blocks, strict=False) if b.id == id_])
        if self._plain_from is not None:
            packets = dxl.PacketParser().feed(self._received[self._plain_from :])
            self._take([p for p in packets if isinstance(p, StatusPacket)])

    def _take(self, packets: list[StatusPacket]) -> None:
        for packet in packets:
            if packet.id in self.missing and packet.fault == Fault.NONE and len(packet.params) == self.size:
                self.missing.remove(packet.id)
                self.packets.append(packet)


def _check_range(register: Register, values: Ints, ids: Sequence[int]) -> None:
    bad = np.flatnonzero((values < register.minimum) | (values > register.maximum))
    if bad.size:
        raise DeviceError(
            f"servo {ids[bad[0]]}: {register.name} ({register.address}) cannot be {values[bad[0]]}; "
            f"allowed: {register.minimum} to {register.maximum}"
        )


def _fault_name(fault: int) -> str:
    return Fault(fault).name.lower().replace("_", " ") if fault in set(Fault) else f"error {fault}"
