"""The serial lines: pseudo-terminals, time on the wire, cables that come out and noise."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import termios
import time
import tty

import numpy as np

from robotrl.drivers.framing import Framing
from robotrl.emulator.faults import Cut, FaultScript, Noise, in_window
from robotrl.errors import PortError

BITS_PER_BYTE = 10
"""8N1: a start bit, eight data bits, a stop bit."""

_READ_SIZE = 4096
_TTY_BUFFER = 4000
_DELIVERY_LIMIT_S = 0.5


def wire_time_s(byte_count: int, baud_bd: int) -> float:
    """Return how long so many bytes take on the line."""
    return byte_count * BITS_PER_BYTE / baud_bd


class Cable:
    """One line's cable, with the faults of the script on it; time is an argument.

    Args:
        line: its name: a bus of robot.toml or `imu`.
        script: the faults; those of other lines are ignored.
        rng: drawn from only while a noise window is open, so that a quiet line costs no numbers.
    """

    def __init__(self, line: str, script: FaultScript, rng: np.random.Generator) -> None:
        self._cuts: tuple[Cut, ...] = tuple(c for c in script.cut if c.line == line)
        self._noise: tuple[Noise, ...] = tuple(n for n in script.noise if n.line == line)
        self._rng = rng
        self._pulled = False

    def unplug(self) -> None:
        """Pull the cable until `plug`."""
        self._pulled = True

    def plug(self) -> None:
        """Put the cable back in; a scripted cut still holds."""
        self._pulled = False

    def cut(self, time_s: float) -> bool:
        """Return whether the script has the cable out."""
        return in_window(self._cuts, time_s)

    def connected(self, time_s: float) -> bool:
        """Return whether bytes can pass."""
        return not (self._pulled or self.cut(time_s))

    def carry(self, packet: bytes, time_s: float) -> bytes:
        """Return what arrives at the other end of a packet: itself, something damaged, or nothing."""
        if not self.connected(time_s):
            return b""
        for noise in self._noise:
            if noise.from_s <= time_s < noise.until_s:
                packet = self._disturb(packet, noise)
        return packet

    def _disturb(self, packet: bytes, noise: Noise) -> bytes:
        luck = self._rng.random(2)
        if luck[0] < noise.drop:
            return b""
        if luck[1] < noise.damage and packet:
            return _damaged(packet, self._rng)
        return packet


def _damaged(packet: bytes, rng: np.random.Generator) -> bytes:
    """Flip a bit, lose a byte or gain one, each as likely, anywhere."""
    at = int(rng.integers(len(packet)))
    kind = int(rng.integers(3))
    if kind == 0:
        flipped = packet[at] ^ (1 << int(rng.integers(8)))
        return packet[:at] + bytes([flipped]) + packet[at + 1 :]
    if kind == 1:
        return packet[:at] + packet[at + 1 :]
    return packet[:at] + bytes([int(rng.integers(256))]) + packet[at:]


class PseudoTerminal:
    """The computer's end of a serial adapter: a raw pseudo-terminal that never blocks.

    Its own slave end stays open, so that a host may close and reopen the port at will.

    Raises:
        PortError: the system has no pseudo-terminal left.
    """

    def __init__(self) -> None:
        try:
            self.fd, self._slave = os.openpty()
        except OSError as error:
            raise PortError(f"no pseudo-terminal can be opened: {error.strerror}") from error
        tty.setraw(self._slave)
        os.set_blocking(self.fd, False)
        self.path = os.ttyname(self._slave)

    def read(self) -> bytes:
        """Return the bytes that the host has written since the last call."""
        try:
            return os.read(self.fd, _READ_SIZE)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> None:
        """Send bytes to the host; what its full receive buffer cannot hold is lost, as in a UART."""
        with contextlib.suppress(BlockingIOError):
            os.write(self.fd, data)

    def write_through(self, data: bytes) -> None:
        """Send bytes and return only once the host can read them.

        A pseudo-terminal passes bytes on from a kernel worker. Without this, a reply written later
        on another line could be readable earlier, and two runs would differ.
        """
        before = self._readable()
        self.write(data)
        deadline = time.monotonic() + _DELIVERY_LIMIT_S
        while self._readable() < min(before + len(data), _TTY_BUFFER) and time.monotonic() < deadline:
            time.sleep(0)

    def _readable(self) -> int:
        count = array.array("i", [0])
        fcntl.ioctl(self._slave, termios.FIONREAD, count)
        return count[0]

    def close(self) -> None:
        """Take the port away; a host that still holds it reads an I/O error."""
        os.close(self.fd)
        os.close(self._slave)


class PacketFramer:
    """Cuts a host's bytes into packets by header and length alone.

    Wire time and faults apply to whole packets, also to those whose checksum is wrong. Bytes that belong
    to no packet come out as a piece of their own.

    Args:
        framing: of the line's protocol.
    """

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; return the pieces that are complete."""
        self._buffer += data
        pieces = []
        while piece := self._next_piece():
            pieces.append(piece)
            self._buffer = self._buffer[len(piece) :]
        return pieces

    def _next_piece(self) -> bytes:
        start = self._buffer.find(self._framing.start)
        if start != 0:
            return self._stray(start)
        size = self._framing.measure(self._buffer)
        if size == 0:
            return self._buffer[:1]
        return self._buffer[:size] if len(self._buffer) >= size else b""

    def _stray(self, start: int) -> bytes:
        """Bytes before the next header; the end may be the beginning of one, so it waits."""
        if start > 0:
            return self._buffer[:start]
        header = self._framing.start
        keep = max(k for k in range(len(header)) if k == 0 or self._buffer.endswith(header[:k]))
        return self._buffer[: len(self._buffer) - keep]
