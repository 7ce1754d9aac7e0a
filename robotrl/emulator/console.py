"""The other side of an emulator's process: commands in, a line each, and JSON lines out."""

from __future__ import annotations

import json
import os
from typing import IO


class Console:
    """Where commands come from and reports go.

    Args:
        commands: file descriptor of the command input.
        report: where JSON lines go.

    Attributes:
        fd: readable when there are commands.
        ended: whether the input is at its end, which means `stop`.
    """

    def __init__(self, commands: int, report: IO[str]) -> None:
        self.fd, self._report = commands, report
        self.ended = False
        self._typed = b""

    def take(self) -> list[list[str]]:
        """Read what there is; return the words of each whole line."""
        data = os.read(self.fd, 4096)
        self.ended = not data
        *lines, self._typed = (self._typed + data).split(b"\n")
        return [line.decode(errors="replace").split() for line in lines]

    def say(self, line: dict[str, object]) -> None:
        """Report something.

        Raises:
            BrokenPipeError: nobody reads the reports any more.
        """
        self._report.write(json.dumps(line) + "\n")
        self._report.flush()
