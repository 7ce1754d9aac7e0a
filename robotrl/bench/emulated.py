"""`robotrl emulate` as a child process: its ports, its cables, and what it reports."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from robotrl.bench.flight import Event
from robotrl.errors import DeviceError

PRIORITY = 40
"""Real-time priority of the emulator, below that of the loop that it answers."""

STOP_S = 20.0
"""Longest wait for the emulator to write its record and end."""


class EmulatedRobot(contextlib.AbstractContextManager["EmulatedRobot"]):
    """An emulated robot on the wall clock; use as a context manager.

    Attributes:
        ports: line (a bus of robot.toml, or `imu`) -> path of its serial port.
        events: what the emulator has reported so far, oldest first.

    Args:
        robot: name or path, as for `robotrl emulate`.
        truth: where the emulator writes what really happened, when it ends.

    Raises:
        DeviceError: it did not start.
    """

    def __init__(self, robot: str, truth: Path) -> None:
        command = [sys.executable, "-m", "robotrl", "emulate", robot, "--clock", "wall"]
        self._process = subprocess.Popen(
            [*command, "--truth", str(truth)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands: IO[str] = self._process.stdin
        first = self._process.stdout.readline()
        if not first:
            with self._process:  # closes the pipes and waits
                pass
            raise DeviceError(f"the emulator ended with exit code {self._process.returncode}")
        self.ports: dict[str, str] = json.loads(first)["ports"]
        # Hardware is never late because a computer is busy; where it is allowed, neither is this.
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(self._process.pid, os.SCHED_FIFO, os.sched_param(PRIORITY))
        self.events: list[Event] = []
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def send(self, command: str) -> None:
        """Give the emulator a command, such as `unplug legs`."""
        self._commands.write(command + "\n")
        self._commands.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it and wait until its record is written."""
        with self._process:
            with contextlib.suppress(BrokenPipeError):
                self._commands.close()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._reader.join()

    def _read(self, reports: IO[str]) -> None:
        for line in reports:
            report = json.loads(line)
            name = f"{report['event']} {report['id']}" if "id" in report else report["event"]
            self.events.append(Event(report.get("stamp_s", time.monotonic()), name))
