"""Torque off by a second speaker: a shared view of a servo bus, for whoever must let its servos go."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from robotrl.drivers.port import Port, SerialPort
from robotrl.drivers.series import SERIES
from robotrl.errors import PortError
from robotrl.spec.buses import BusSpec

SILENCE_S = 0.001
"""Nobody speaks any more on a line on which nothing has come for this long."""
LONGEST_WAIT_S = 0.01
"""For silence; longer than the answers of a whole bus take at 1 MBd."""


class HeldPort(Port, Protocol):
    """A port that can be asked whether there is still a device behind it."""

    @property
    def gone(self) -> bool:
        """Whether it has vanished."""


OpenPort = Callable[[str, int], HeldPort]
"""Opens a device file at a baud rate."""


def open_shared(path: str, baud_bd: int) -> SerialPort:
    """Open a port that another process may have open, without locking it.

    Raises:
        PortError: see `SerialPort`.
    """
    return SerialPort(path, baud_bd, shared=True)


class SharedPort:
    """A port that another process owns: kept open beside it, without taking bytes until `read`.

    A device that has vanished is let go of by `refresh`: as long as anybody holds it, the system gives it
    another name when it comes back.

    Args:
        path: device file.
        baud_bd: bits per second, the same as the owner's.
        open_port: opens it without locking it.
    """

    def __init__(self, path: str, baud_bd: int, open_port: OpenPort = open_shared) -> None:
        self._path, self._baud_bd, self._open_port = path, baud_bd, open_port
        self._port: HeldPort | None = None

    def refresh(self) -> None:
        """Let go of a device that has vanished, and open one that is there.

        Raises:
            PortError: it is there but cannot be opened.
        """
        if self._port is not None and self._port.gone:
            self.close()
        if self._port is None and Path(self._path).exists():
            self._port = self._open_port(self._path, self._baud_bd)

    def write(self, data: bytes) -> None:
        """Send all of `data`; see `Port`."""
        with self._present() as port:
            port.write(data)

    def read(self, deadline_s: float) -> bytes:
        """Return what has arrived before the deadline; see `Port`."""
        with self._present() as port:
            return port.read(deadline_s)

    def drain(self) -> bytes:
        """Return all that has arrived; see `Port`."""
        with self._present() as port:
            return port.drain()

    def close(self) -> None:
        """Let go of it."""
        if self._port is not None:
            self._port.close()
        self._port = None

    @contextlib.contextmanager
    def _present(self) -> Iterator[HeldPort]:
        """The open port; closed when it fails, so that the next use opens it anew."""
        if self._port is None:
            self._port = self._open_port(self._path, self._baud_bd)
        try:
            yield self._port
        except PortError:
            self.close()
            raise


class TorqueSwitch:
    """The torque of all servos on one bus, which can only be turned off here.

    Args:
        spec: the bus; its port is shared with whoever drives the servos.
        ids: the servos.
        open_port: opens the port without locking it.
    """

    def __init__(self, spec: BusSpec, ids: Sequence[int], open_port: OpenPort = open_shared) -> None:
        series = SERIES[spec.protocol]
        self._port = SharedPort(spec.port, spec.baud_bd, open_port)
        self._bus = series.bus(self._port, spec, ids)
        self._torque = series.torque

    def refresh(self) -> None:
        """Keep the port open; see `SharedPort.refresh`.

        Raises:
            PortError: it is there but cannot be opened.
        """
        self._port.refresh()

    def turn_off(self) -> None:
        """Send torque off to every servo, as soon as nobody speaks on the line; nobody answers.

        Raises:
            PortError: the port has gone.
        """
        give_up_s = time.monotonic() + LONGEST_WAIT_S
        while self._port.read(time.monotonic() + SILENCE_S) and time.monotonic() < give_up_s:
            pass
        self._bus.sync_write(self._torque, np.zeros(len(self._bus.ids), np.int64))

    def is_off(self) -> bool:
        """Ask every servo; return whether all of them answer that their torque is off.

        Raises:
            PortError: the port has gone.
        """
        replies = self._bus.read_register(self._torque)
        return bool((replies.fresh & (replies.values(self._torque) == 0)).all())
