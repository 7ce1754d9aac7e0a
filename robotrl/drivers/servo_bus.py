"""A servo bus of any protocol: transactions bounded in time, on a wire that may lose or garble bytes."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from robotrl.drivers.lengths import Lengths
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
_PREPARED = 16
"""Requests that are kept encoded: those of a few registers, with and without the servos that are silent."""
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


@dataclass(frozen=True, slots=True)
class Started:
    """A read whose first request is on its way.

    Attributes:
        requests: of the first try; the first of them has been sent.
        address: first byte that is read.
        length: bytes that are read of each servo.
        wanted: those of them that were asked for; the others only tell the answers from late ones.
        retries: how often what is missing may be asked for again.
        timeout_s: of each request.
        due_s: when the first one is answered if all goes well.
    """

    requests: Sequence[Request]
    address: int
    length: int
    wanted: slice
    retries: int
    timeout_s: float
    due_s: float


class ServoBus(ABC):
    """Talks to a fixed list of servos behind one port.

    A late answer, one to a read that was already given up, is told from the current one by its
    length: see `Lengths`. Bytes that arrive between two reads are drained.

    Args:
        port: where the bytes go; its `PortError` passes through every method.
        spec: baud rate, time-outs and retries.
        ids: the servos, in the order of all arrays.
    """

    _table_end: int
    """First address behind the registers that all servos of the protocol have."""

    def __init__(self, port: Port, spec: BusSpec, ids: Sequence[int]) -> None:
        self.ids = tuple(ids)
        self._port = port
        self._spec = spec
        self._lengths = Lengths()
        self._silent_reads = 0
        self._order = self.ids
        self._prepared: dict[tuple[int, int, tuple[int, ...]], Sequence[Request]] = {}

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
    def reboot(self, id_: int) -> None:
        """Restart one servo: torque goes off, RAM to its initial values, and hardware errors are forgotten.

        Raises:
            DeviceError: it refuses, does not come back, or servos of this protocol cannot be restarted.
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
        data = _block(register).pack(values[:, np.newaxis])  # its range is within what its bytes hold
        self._port.write(self._sync_write_packet(register.address, data))

    def sync_read(self, address: int, size: int) -> Replies:
        """Read the same bytes of every servo, within the bus's time-out and retries.

        A bus from which nothing at all has come for three reads gets no retries: an unplugged cable
        costs little time.
        """
        return self.collect(self.begin_read(address, size))

    def begin_read(self, address: int, size: int) -> Started:
        """Send the request of a `sync_read` and return at once, so that several buses work side by side.

        Nothing else may be asked of this bus before `collect`.
        """
        dead = self._silent_reads >= _SILENT_READS
        retries = 0 if dead else self._spec.retries_per_tick
        return self._begin(address, size, retries, self._spec.reply_timeout_s)

    def collect(self, started: Started) -> Replies:
        """Return what a `begin_read` brought, after retries if need be; see `sync_read`.

        Those silent last time are asked last: others may wait behind them for their turn on the line.
        """
        answers = _Answers(self.ids, started.length)
        retries = started.retries
        # Many answers that are each only a little late use the time up as one does that never comes.
        spare_s = (1 + retries) * started.timeout_s
        spare_s -= self._await(started.requests[0], answers, started.due_s, started.timeout_s)
        waits = 1 + retries - (not answers.has(started.requests[0].ids))
        requests: Sequence[Request] = started.requests[1:]
        while waits and not answers.complete:
            for request in requests:
                due_s = self._send(request)
                spare_s -= self._await(request, answers, due_s, min(started.timeout_s, max(0.0, spare_s)))
                waits -= not answers.has(request.ids)
                if not waits:
                    break
            if not answers.complete:
                ids = tuple(id_ for id_ in self._order if not answers.has((id_,)))
                requests = self._requests(started.address, started.length, ids, first=False)
        if waits <= retries or not answers.complete:
            self._lengths.leave(started.length)
        self._silent_reads = 0 if answers.any else self._silent_reads + 1
        self._order = self._next_order(answers)
        return answers.replies(started.wanted)

    def read_once(self, address: int, size: int) -> Replies:
        """Read the same bytes of every servo without retries: whoever asks can ask again in the next tick."""
        return self.collect(self._begin(address, size, 0, self._spec.reply_timeout_s))

    def read_register(self, register: Register) -> Replies:
        """Read one register of every servo; see `sync_read`."""
        return self.sync_read(register.address, register.size)

    def read_patiently(self, register: Register) -> Replies:
        """Read one register of every servo outside the control loop: no answer is given up early."""
        for _ in range(ATTEMPTS):
            replies = self.collect(self._begin(register.address, register.size, 1, PATIENCE_S))
            if replies.fresh.all():
                break
        return replies

    def _begin(self, address: int, size: int, retries: int, timeout_s: float) -> Started:
        """Send the first request of a read; until it is answered it may be retried so many times."""
        self._port.drain()
        length = self._lengths.pick(size, self._table_end)
        lead = min(length - size, max(0, address + length - self._table_end))
        requests = self._first_requests(address - lead, length)
        wanted = slice(lead, lead + size)
        return Started(requests, address - lead, length, wanted, retries, timeout_s, self._send(requests[0]))

    def _first_requests(self, address: int, size: int) -> Sequence[Request]:
        """The requests of a first try; as a rule the same as in the tick before."""
        key = (address, size, self._order)
        if key not in self._prepared:
            if len(self._prepared) >= _PREPARED:
                self._prepared.clear()
            self._prepared[key] = self._requests(address, size, self._order, first=True)
        return self._prepared[key]

    def _next_order(self, answers: _Answers) -> tuple[int, ...]:
        """Return the order in which the next read asks: that of `ids` while all answer, or none does."""
        whole = answers.complete or not answers.any
        return self.ids if whole else answers.silent_last(self._order)

    def _send(self, request: Request) -> float:
        """Send one request; return when it is answered if all goes well."""
        self._port.write(request.packet)
        wire_s = (len(request.packet) + request.expected) * _BITS_PER_BYTE / self._spec.baud_bd
        return time.monotonic() + wire_s + len(request.ids) * _TURNAROUND_S

    def _await(self, request: Request, answers: _Answers, due_s: float, timeout_s: float) -> float:
        """Take in what comes, until all answers are there or have not come within `timeout_s` of `due_s`.

        Returns:
            How much later than `due_s` it is.
        """
        answers.expect(request)
        while not answers.has(request.ids):
            chunk = self._port.read(due_s + timeout_s)
            if not chunk:
                answers.look()
                break
            answers.feed(chunk)
        return max(0.0, time.monotonic() - due_s)


@cache
def _block(register: Register) -> Block:
    return Block((register,))


class _Answers:
    """Gathers the answers to one read and its retries from all bytes that have come since.

    An answer to the first try that arrives during a retry is as good as the retry's.
    """

    def __init__(self, ids: tuple[int, ...], size: int) -> None:
        self._size = size
        self._ids = ids
        self._replies: Replies | None = None
        """None before the first answer."""
        self.complete = False
        """Whether every servo has answered."""
        self._received = b""
        self._asked: list[tuple[Request, int]] = []
        """Requests, and how much had been received before each."""
        self._enough = 0

    @property
    def any(self) -> bool:
        """Whether some servo has answered."""
        return self._replies is not None

    def silent_last(self, order: Sequence[int]) -> tuple[int, ...]:
        """Return all ids with those that have not answered at the end, the first of them last of all.

        Where servos wait for each other it may be the only one that is missing.
        """
        spoke = [id_ for id_ in order if self.has((id_,))]
        silent = [id_ for id_ in order if not self.has((id_,))]
        return (*spoke, *silent[1:], *silent[:1])

    def has(self, ids: Sequence[int]) -> bool:
        """Whether all of these servos have answered."""
        if self.complete or self._replies is None:
            return self.complete
        return all(self._replies.fresh[self._ids.index(id_)] for id_ in ids)

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
            self._replies, self.complete = found, True
            return
        for i in np.flatnonzero(found.fresh).tolist():
            if self._replies is None:
                self._replies = Replies.none_of(len(self._ids), self._size)
            row = self._ids.index(ids[i])
            if not self._replies.fresh[row]:
                self._replies.put(row, int(found.error[i]), found.data[i].tobytes())
        self.complete = self._replies is not None and bool(self._replies.fresh.all())

    def replies(self, wanted: slice) -> Replies:
        """Return what was gathered, without the bytes that only told it from late answers."""
        found = self._replies or Replies.none_of(len(self._ids), self._size)
        return Replies(found.data[:, wanted], found.error, found.fresh)


def check_range(register: Register, values: Ints, ids: Sequence[int]) -> None:
    """Refuse values outside a register's range.

    Raises:
        DeviceError: a value is outside; names servo, register and range.
    """
    few = values.tolist()  # of so few numbers Python's own extremes are found sooner than numpy's
    if min(few) < register.minimum or max(few) > register.maximum:
        bad = next(i for i, value in enumerate(few) if not register.minimum <= value <= register.maximum)
        raise DeviceError(
            f"servo {ids[bad]}: {register.name} ({register.address}) cannot be {few[bad]}; "
            f"allowed: {register.minimum} to {register.maximum}"
        )
