"""A byte port with deadlines: the protocol every driver talks through, and the serial port behind it."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import termios
import time
from collections.abc import Callable
from typing import Protocol

import serial
from serial.tools import list_ports

from robotrl.errors import PortError

_CHUNK = 4096
_DRAIN_CHUNKS = 16
"""Bounds `drain` in time: more than a kernel buffers for a serial port."""
_WRITE_TIMEOUT_S = 0.05
"""A port that takes no bytes for this long hangs; longer than any packet needs on the wire."""
_REOPEN_INTERVAL_S = 0.2


class Port(Protocol):
    """Bytes out, bytes in before a deadline; every method raises `PortError` if the port has gone."""

    def write(self, data: bytes) -> None:
        """Send all of `data`."""

    def read(self, deadline_s: float) -> bytes:
        """Return what has arrived; wait for the first byte until `time.monotonic()` is `deadline_s`."""

    def drain(self) -> bytes:
        """Return all that has arrived, without waiting."""

    def close(self) -> None:
        """Release the port; never raises."""


class SerialPort:
    """A serial line, raw 8N1, with the adapter's latency timer lowered if it has one.

    Args:
        path: device file.
        baud_bd: bits per second.
        shared: open it even where another program has it; by default it is locked, and refused if it is so.

    Raises:
        PortError: missing, busy, not permitted or no serial port; one sentence that says which.
    """

    def __init__(self, path: str, baud_bd: int, *, shared: bool = False) -> None:
        self.path = path
        try:
            self._serial = _Joining(path, baud_bd, timeout=0) if shared else _locked(path, baud_bd)
        except ValueError as error:  # a speed that this adapter cannot make
            raise PortError(f"port {path} does not work at {baud_bd} baud ({error})") from error
        except (OSError, termios.error) as error:  # pyserial's own, and what it lets through: see `_why`
            raise PortError(_why(path, error)) from error
        with contextlib.suppress(ValueError, NotImplementedError, OSError):  # adapters without the knob
            self._serial.set_low_latency_mode(True)
        self._fd: int = self._serial.fileno()

    @property
    def gone(self) -> bool:
        """Whether the device behind it has vanished; takes no bytes away from whoever shares the line."""
        poll = select.poll()
        poll.register(self._fd, 0)
        return bool(poll.poll(0))

    def write(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            PortError: the port has gone, or takes no bytes.
        """
        sent = 0
        while sent < len(data):
            try:
                sent += os.write(self._fd, data[sent:])
            except BlockingIOError:
                self._wait_writable()
            except OSError as error:
                raise self._gone(error) from error

    def read(self, deadline_s: float) -> bytes:
        """Return what has arrived, waiting for the first byte until `deadline_s` of `time.monotonic`.

        Returns:
            The bytes; empty when none came in time.

        Raises:
            PortError: the port has gone.
        """
        try:
            if not self.wait_readable(max(0.0, deadline_s - time.monotonic())):
                return b""
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return b""
        except (OSError, ValueError) as error:
            raise self._gone(error) from error
        if not data:  # readable without bytes: the other side has hung up
            raise PortError(f"port {self.path} has gone away")
        return data

    def drain(self) -> bytes:
        """Return all that has arrived, without waiting.

        Raises:
            PortError: the port has gone.
        """
        data = b""
        for _ in range(_DRAIN_CHUNKS):  # a terminal hands out one byte less than asked for, with more behind
            if not (chunk := self.read(0.0)):
                break
            data += chunk
        return data

    def wait_readable(self, timeout_s: float) -> bool:
        """Return whether there is something to read, after this long at the latest."""
        return bool(select.select([self._fd], [], [], timeout_s)[0])

    def close(self) -> None:
        """Release the port; a second call, or a port that has gone, does no harm."""
        self._fd = -1  # its number may soon belong to another file
        with contextlib.suppress(OSError, serial.SerialException):
            self._serial.close()

    def _wait_writable(self) -> None:
        if not select.select([], [self._fd], [], _WRITE_TIMEOUT_S)[1]:
            raise PortError(f"port {self.path} takes no bytes; is its adapter stuck?")

    def _gone(self, error: Exception) -> PortError:
        return PortError(f"port {self.path} has gone away ({error})")


class ReopeningPort:
    """A port that comes back by itself when its adapter does: after a `PortError` it is opened anew.

    Until that succeeds every call raises `PortError`; attempts are spaced so that they cost no ticks.

    Args:
        opener: opens the port; called at once, so that a wrong port is known at the start.

    Raises:
        PortError: the port cannot be opened now.
    """

    def __init__(self, opener: Callable[[], Port]) -> None:
        self._opener = opener
        self._port: Port | None = opener()
        self._next_try_s = 0.0

    def write(self, data: bytes) -> None:
        """Send all of `data`; see `Port`."""
        try:
            self._present().write(data)
        except PortError:
            self._drop()
            raise

    def read(self, deadline_s: float) -> bytes:
        """Return what has arrived before the deadline; see `Port`."""
        try:
            return self._present().read(deadline_s)
        except PortError:
            self._drop()
            raise

    def drain(self) -> bytes:
        """Return all that has arrived; see `Port`."""
        try:
            return self._present().drain()
        except PortError:
            self._drop()
            raise

    def close(self) -> None:
        """Release the port for good."""
        self._next_try_s = math.inf
        self._drop()

    def _present(self) -> Port:
        """The port, opened anew if it has gone and it is time to try."""
        if self._port is None:
            now_s = time.monotonic()
            if now_s < self._next_try_s:
                raise PortError("the port has gone away and is not back yet")
            self._next_try_s = now_s + _REOPEN_INTERVAL_S
            self._port = self._opener()
        return self._port

    def _drop(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None


class _Joining(serial.Serial):  # type: ignore[misc]  # pyserial has no types
    """A port that is opened beside its owner, for whom the bytes that wait in it are."""

    def _reset_input_buffer(self) -> None:
        """Keep them; opening calls this."""


def _locked(path: str, baud_bd: int) -> serial.Serial:
    return serial.Serial(path, baud_bd, timeout=0, exclusive=True)


def _why(path: str, error: OSError | termios.error) -> str:
    """One sentence for a port that cannot be opened.

    A device that vanishes while it is being opened makes `serial.Serial` raise whatever its system call
    did: a plain `OSError`, or `termios.error`, which is none.
    """
    reasons = {
        errno.ENOENT: f"does not exist; serial ports here: {_ports_here()}",
        errno.EACCES: "may not be opened by this user; on Linux the group is usually dialout",
        errno.EBUSY: "is in use by another program",
        errno.EAGAIN: "is in use by another program",
        errno.ENXIO: "has no device behind it",
        errno.EIO: "has no device behind it",
    }
    number = error.errno if isinstance(error, OSError) else error.args[0]
    return f"port {path} {reasons.get(number or 0, 'is not a usable serial port (' + str(error) + ')')}"


def _ports_here() -> str:
    return ", ".join(sorted(p.device for p in list_ports.comports())) or "none"
