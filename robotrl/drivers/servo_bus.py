"""A servo bus of any protocol: transactions bounded in time, on a wire that may lose or garble bytes."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from robotrl.drivers.port import Port
from robotrl.drivers.registers import Block, Bytes2D, Ints, Register
from robotrl.drivers.replies import Replies
from robotrl.errors import DeviceError
from robotrl.spec.buses import BusSpec

ATTEMPTS = 3
"""Of pings, writes and patient reads."""
PATIENCE_S = 0.05
"""Waits for an answer outside the control loop; writes to EEPROM take their time."""

_BITS_PER_BYTE = 10  # 8N1
_TURNAROUND_S = 50e-6
"""A servo's pause before its answer with a return delay of 0, as measured on real buses."""
_TAIL = 1
"""Bytes read beyond the wanted ones when an answer to an earlier read may still be on its way."""
_SILENT_READS = 3
"""Reads without any answer after which a bus counts as dead."""


@dataclass(frozen=True, slots=True)
class Request:
    """One instruction, and how the answers to it are found.

    Attributes:
        packet: its bytes.
        ids: the servos that answer.
        expected: bytes of their whole answer.
        decode: given all that has come since it was sent, the answers in the order of `ids`.
    """

    packet: bytes
    ids: tuple[int, ...]
    expected: int
    decode: Callable[[bytes], Replies]


class ServoBus(ABC):
    """Talks to a fixed list of servos behind one port.

    A late answer, one to a read that was already given up, is told from the current one by its
    length, as neither protocol numbers its packets: after every incomplete read the next one asks
    for one byte more, or again for one less. An answer two reads late has the right length again; it
    would have to arrive between the request and the current answer, as older bytes are drained.

    Args:
        port: where the bytes go; its `PortError` passes through every method.
        spec: baud rate, time-outs and retries.
        ids: the servos, in the order of all arrays.
    """

    def __init__(self, port: Port, spec: BusSpec, ids: Sequence[int]) -> None:
        self.ids = tuple(ids)
        self._port = port
        self._spec = spec
        self._tail = 0
        self._silent_reads = 0
        self._order = self.ids

    @abstractmethod
    def ping(self, id_: int) -> int | None:
        """Return a servo's model number, or None when it does not answer."""

    @abstractmethod
    def write(self, id_: int, register: Register, value: int) -> None:
        """Write one register of one servo and wait for its acknowledgement.

        Raises:
            DeviceError: the value is not allowed, the servo refuses it, or it does not answer.
        """

    @abstractmethod
    def _sync_write_packet(self, address: int, data: Bytes2D) -> bytes:
        """Encode a sync write of one row of bytes for every servo."""

    @abstractmethod
    def _requests(self, address: int, size: int, ids: tuple[int, ...], *, first: bool) -> list[Request]:
        """Return the instructions that read the same bytes of these servos; `first` unless it is a retry."""

    def sync_write(self, register: Register, values: Ints) -> None:
        """Write one register of every servo; nobody answers.

        Args:
            register: the register.
            values: (n,) in the order of `ids`.

        Raises:
            DeviceError: a value is outside the register's range; nothing was sent.
        """
        check_range(register, values, self.ids)
        self._port.write(
            self._sync_write_packet(register.address, _block(register).encode(values[:, np.newaxis]))
        )

    def sync_read(self, address: int, size: int) -> Replies:
        """Read the same bytes of every servo, within the bus's time-out and retries.

        A bus from which nothing at all has come for three reads gets no retries: an unplugged cable
        costs little time.
        """
        dead = self._silent_reads >= _SILENT_READS
        retries = 0 if dead else self._spec.retries_per_tick
        return self._read(address, size, retries, self._spec.reply_timeout_s)

    def read_register(self, register: Register) -> Replies:
        """Read one register of every servo; see `sync_read`."""
        return self.sync_read(register.address, register.size)

    def read_patiently(self, register: Register) -> Replies:
        """Read one register of every servo outside the control loop: no answer is given up early."""
        for _ in range(ATTEMPTS):
            replies = self._read(register.address, register.size, 1, PATIENCE_S)
            if replies.fresh.all():
                break
        return replies

    def _read(self, address: int, size: int, retries: int, timeout_s: float) -> Replies:
        """Ask until every servo has answered or the waits are used up.

        Those silent last time are asked last: others may wait behind them for their turn on the line.
        """
        answers = _Answers(self.ids, size + self._tail)
        self._port.drain()
        waits = 1 + retries
        first = True
        while waits and not answers.complete:
            ids = tuple(id_ for id_ in self._order if not answers.has((id_,)))
            for request in self._requests(address, answers.size, ids, first=first):
                waits -= not self._ask(request, answers, timeout_s)
                if not waits:
                    break
            first = False
        if not answers.complete or waits <= retries:
            self._tail = _TAIL - self._tail  # what is still to come must not answer the next read
        self._silent_reads = 0 if answers.any else self._silent_reads + 1
        self._order = self._next_order(answers)
        return answers.replies(size)

    def _next_order(self, answers: _Answers) -> tuple[int, ...]:
        """Return the order in which the next read asks: that of `ids` while all answer, or none does."""
        whole = answers.complete or not answers.any
        return self.ids if whole else answers.silent_last(self._order)

    def _ask(self, request: Request, answers: _Answers, timeout_s: float) -> bool:
        """Send one request; return when all answers are there, or that they have not come in time."""
        answers.expect(request)
        self._port.write(request.packet)
        wire_s = (len(request.packet) + request.expected) * _BITS_PER_BYTE / self._spec.baud_bd
        deadline_s = time.monotonic() + wire_s + len(request.ids) * _TURNAROUND_S + timeout_s
        while not answers.has(request.ids) and (chunk := self._port.read(deadline_s)):
            answers.feed(chunk)
        answers.look()
        return answers.has(request.ids)


@cache
def _block(register: Register) -> Block:
    return Block((register,))


class _Answers:
    """Gathers the answers to one read and its retries from all bytes that have come since.

    An answer to the first try that arrives during a retry is as good as the retry's.
    """

    def __init__(self, ids: Sequence[int], size: int) -> None:
        self.size = size
        self._ids = tuple(ids)
        self._row = {id_: row for row, id_ in enumerate(ids)}
        self._replies = Replies.none_of(len(self._ids), size)
        self._received = b""
        self._asked: list[tuple[Request, int]] = []
        """Requests, and how much had been received before each."""
        self._enough = 0

    @property
    def complete(self) -> bool:
        """Whether every servo has answered."""
        return bool(self._replies.fresh.all())

    @property
    def any(self) -> bool:
        """Whether some servo has answered."""
        return bool(self._replies.fresh.any())

    def silent_last(self, order: Sequence[int]) -> tuple[int, ...]:
        """Return all ids with those that have not answered at the end, the first of them last of all.

        Where servos wait for each other it may be the only one that is missing.
        """
        spoke = [id_ for id_ in order if self.has((id_,))]
        silent = [id_ for id_ in order if not self.has((id_,))]
        return (*spoke, *silent[1:], *silent[:1])

    def has(self, ids: Sequence[int]) -> bool:
        """Whether all of these servos have answered."""
        return all(self._replies.fresh[self._row[id_]] for id_ in ids)

    def expect(self, request: Request) -> None:
        """Note what is being asked; without leftovers, nothing is looked for until it can be complete."""
        clean = not self._asked or self.has(self._asked[-1][0].ids)
        self._enough = len(self._received) + request.expected if clean else 0
        self._asked.append((request, len(self._received)))

    def feed(self, chunk: bytes) -> None:
        """Take bytes in."""
        self._received += chunk
        if len(self._received) >= self._enough:
            self.look()

    def look(self) -> None:
        """Find what has come: to the present request, and late to earlier ones of this read."""
        for request, start in self._asked:
            if not self.has(request.ids):
                self._take(request.ids, request.decode(self._received[start:]))

    def _take(self, ids: tuple[int, ...], found: Replies) -> None:
        if ids == self._ids and found.fresh.all():
            self._replies = found
            return
        for i in np.flatnonzero(found.fresh).tolist():
            row = self._row[ids[i]]
            if not self._replies.fresh[row]:
                self._replies.put(row, int(found.error[i]), found.data[i].tobytes())

    def replies(self, size: int) -> Replies:
        """Return what was gathered, without the bytes that only told it from late answers."""
        return Replies(self._replies.data[:, :size], self._replies.error, self._replies.fresh)


def check_range(register: Register, values: Ints, ids: Sequence[int]) -> None:
    """Refuse values outside a register's range.

    Raises:
        DeviceError: a value is outside; names servo, register and range.
    """
    bad = np.flatnonzero((values < register.minimum) | (values > register.maximum))
    if bad.size:
        raise DeviceError(
            f"servo {ids[bad[0]]}: {register.name} ({register.address}) cannot be {values[bad[0]]}; "
            f"allowed: {register.minimum} to {register.maximum}"
        )
