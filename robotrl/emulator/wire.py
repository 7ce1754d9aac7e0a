"""The serial lines: pseudo-terminals, time on the wire, and bytes cut into packets."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import struct
import termios
import time
import tty

from robotrl.drivers.framing import Framing
from robotrl.errors import PortError

BITS_PER_BYTE = 10
"""8N1: a start bit, eight data bits, a stop bit."""

_READ_SIZE = 4096
_TTY_BUFFER = 4000
_DELIVERY_LIMIT_S = 0.5

# Linux, <asm-generic/termbits.h>: four flag words, line discipline and control characters, two speeds.
_TERMIOS2 = struct.Struct("=4I20s2I")
_TCGETS2, _TCSETS2 = 0x802C542A, 0x402C542B
_CBAUD, _BOTHER = 0o010017, 0o010000


def wire_time_s(byte_count: int, baud_bd: int) -> float:
    """Return how long so many bytes take on the line."""
    return byte_count * BITS_PER_BYTE / baud_bd


class PseudoTerminal:
    """The computer's end of a serial adapter: a raw pseudo-terminal that never blocks.

    Its own slave end stays open, so that a host may close and reopen the port at will.

    Args:
        baud_bd: its speed until a host sets another one.

    Raises:
        PortError: the system has no pseudo-terminal left.
    """

    def __init__(self, baud_bd: int) -> None:
        try:
            self.fd, self._slave = os.openpty()
        except OSError as error:
            raise PortError(f"no pseudo-terminal can be opened: {error.strerror}") from error
        tty.setraw(self._slave)
        os.set_blocking(self.fd, False)
        self.path = os.ttyname(self._slave)
        self._set_baud(baud_bd)

    @property
    def baud_bd(self) -> int:
        """Speed that the host has set."""
        return int(_TERMIOS2.unpack(fcntl.ioctl(self._slave, _TCGETS2, bytes(_TERMIOS2.size)))[-1])

    def _set_baud(self, baud_bd: int) -> None:
        """Set any speed, also one without a constant of its own, as pyserial does on Linux."""
        settings = list(_TERMIOS2.unpack(fcntl.ioctl(self._slave, _TCGETS2, bytes(_TERMIOS2.size))))
        settings[2] = settings[2] & ~_CBAUD | _BOTHER
        settings[-2:] = [baud_bd, baud_bd]
        fcntl.ioctl(self._slave, _TCSETS2, _TERMIOS2.pack(*settings))

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
