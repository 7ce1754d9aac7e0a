"""A fake port with devices behind it: faults strike between them and the host, and time stands still."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from robotrl.errors import PortError

Packet = TypeVar("Packet")
Damage = Callable[[bytes], bytes]


class FakeLine(ABC, Generic[Packet]):
    """A `Port` with servos behind it; replies are there at once, and waiting takes no time.

    `sent` holds every instruction in order. `faults` are applied to the replies of the coming
    instructions, one each: bytes in, bytes that reach the host out.
    """

    def __init__(self) -> None:
        self.sent: list[Packet] = []
        self.faults: list[Damage] = []
        self.echo = False
        self.baud_bd = 0
        """Speed of the line; only servos set to it hear anything. At 0 all do."""
        self.gone = False
        self.closed = False
        self._incoming = b""
        self._late: list[tuple[int, bytes]] = []
        """Held replies, and before which instruction's own reply they arrive."""
        self._replied = 0

    @abstractmethod
    def _parse(self, data: bytes) -> list[Packet]:
        """The instructions completed by these bytes."""

    @abstractmethod
    def _is_answered(self, packet: Packet) -> bool:
        """Whether somebody may answer the instruction."""

    @abstractmethod
    def _answer(self, packet: Packet) -> bytes:
        """What the servos send."""

    def write(self, data: bytes) -> None:
        """Take instructions and queue the answers."""
        self._check()
        if self.echo:
            self._incoming += data
        for packet in self._parse(data):
            self.sent.append(packet)
            reply = self._answer(packet)
            if reply or self._is_answered(packet):
                self._deliver(reply)

    def read(self, deadline_s: float) -> bytes:
        """Return what is queued; time stands still here."""
        self._check()
        data, self._incoming = self._incoming, b""
        return data

    def drain(self) -> bytes:
        """Return what is queued."""
        return self.read(0.0)

    def close(self) -> None:
        """Note that it happened."""
        self.closed = True

    def hold_back(self, by: int = 1) -> None:
        """Let the next reply arrive only before the one to the `by`-th request after it."""
        self.faults.append(lambda reply: self._keep(reply, by))

    def silence(self, count: int) -> None:
        """Lose the replies to the next `count` instructions."""
        self.faults += [lambda _: b""] * count

    def _check(self) -> None:
        if self.gone:
            raise PortError("port fake has gone away")

    def _keep(self, reply: bytes, by: int) -> bytes:
        self._late.append((self._replied + by, reply))
        return b""

    def _deliver(self, reply: bytes) -> None:
        self._replied += 1
        due = [data for at, data in self._late if at <= self._replied]
        self._late = [(at, data) for at, data in self._late if at > self._replied]
        self._incoming += b"".join(due) + (self.faults.pop(0)(reply) if self.faults else reply)
