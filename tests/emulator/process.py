"""An emulator process under test: started by its command line, told by its input, heard by its output."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE_S = 60.0
"""Before a test gives up on a busy machine; nothing is ever waited for that does not come."""


class Emulator:
    """The running process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._buffer = b""
        self.events: list[dict[str, Any]] = []
        self.ports: dict[str, str] = self.line()["ports"]

    def line(self) -> dict[str, Any]:
        """The next JSON line."""
        stream = self.process.stdout
        assert stream is not None
        while b"\n" not in self._buffer:
            assert select.select([stream], [], [], PATIENCE_S)[0], "the emulator says nothing"
            data = stream.read1(65536)  # type: ignore[attr-defined]
            assert data, "the emulator has ended"
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        return found

    def tell(self, command: str) -> dict[str, Any]:
        """Send a command and wait for its acknowledgement; events on the way go to `events`."""
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        while not (line := self.line())["event"].endswith(command):
            self.events.append(line)
        return line

    def stop(self) -> int:
        """Send `stop`; return the exit code, with all events in `events`."""
        out, _ = self.process.communicate(b"stop\n", timeout=PATIENCE_S)
        self.events += [json.loads(line) for line in (self._buffer + out).splitlines()]
        self._buffer = b""
        return self.process.returncode


@contextmanager
def emulator(*options: str) -> Iterator[Emulator]:
    """Run `robotrl emulate quad12` with more options; it is gone afterwards."""
    command = [sys.executable, "-m", "robotrl", "emulate", "quad12", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Emulator(process)
        finally:
            process.kill()
