"""Emulated servos behind a pseudo-terminal, served by a thread: for programs that want a device file."""

from __future__ import annotations

import os
import select
import termios
import threading
from types import TracebackType
from typing import Self

from robotrl.drivers import feetech
from robotrl.emulator.feetech_servos import FeetechServos
from robotrl.emulator.plant import STEP_S
from robotrl.emulator.wire import PacketFramer, PseudoTerminal
from tests.emulator.feetech_host import FeetechHost

_SPEEDS = {termios.B1000000: 1000000, termios.B500000: 500000, termios.B115200: 115200}


class ServedServos:
    """The servos of a `FeetechHost` on a line whose speed the host sets.

    Every packet takes one firmware step, so nothing depends on the wall clock. `echo` sends the host's
    bytes back before the answer.
    """

    def __init__(self) -> None:
        self.host = FeetechHost()
        self.echo = False
        self.lost = 0
        """So many answers are lost from now on."""
        self._terminal = PseudoTerminal(1000000)
        self.path = self._terminal.path
        self._settings = os.open(self.path, os.O_RDWR | os.O_NOCTTY)
        self._wake, self._stop = os.pipe()
        self._framer = PacketFramer(feetech.FRAMING)
        self._thread = threading.Thread(target=self._serve)

    @property
    def bus(self) -> FeetechServos:
        """The firmware."""
        return self.host.bus

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._stop, b"x")
        self._thread.join()
        for fd in (self._wake, self._stop, self._settings):
            os.close(fd)
        self._terminal.close()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._terminal.fd, self._wake], [], [])
            if self._wake in ready:
                return
            for packet in self._framer.feed(self._terminal.read()):
                self._obey(packet)

    def _obey(self, packet: bytes) -> None:
        speed = termios.tcgetattr(self._settings)[5]
        self.bus.line_baud_bd = _SPEEDS.get(speed, 0)
        self.host.live(STEP_S)
        answer = b"".join(reply.data for reply in self.bus.receive(packet, self.host.now_s))
        if answer and self.lost:
            self.lost -= 1
            answer = b""
        self._terminal.write((packet if self.echo else b"") + answer)
