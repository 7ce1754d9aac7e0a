"""Copies of this process, made in the middle of something, that go on with it each in its own way."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from robotrl.errors import RobotrlError

Way = TypeVar("Way")


class Forks(Generic[Way]):
    """One process for each way to go on: a copy of this one for all but the last, which it goes itself.

    Args:
        ways: how to go on.
    """

    def __init__(self, ways: Sequence[Way]) -> None:
        self._ways = ways
        self._reports: list[Any] = []
        self._pipe = -1
        """Of a copy: where its report goes."""

    def run(self, journey: Callable[[], Any]) -> list[Any]:
        """Return what every process makes of a journey, in the order of the ways; only this one returns.

        Args:
            journey: calls `part` once; returns what JSON can hold.

        Raises:
            RobotrlError: a copy has failed; it has printed why.
        """
        try:
            report = journey()
            if self._pipe >= 0:
                with os.fdopen(self._pipe, "w") as pipe:
                    json.dump(report, pipe)
        finally:
            if self._pipe >= 0:
                _end_copy()
        return [*self._reports, report]

    def part(self) -> Way:
        """Return in every process, in one after the other, with the way that it has to go."""
        for way in self._ways[:-1]:
            reader, writer = os.pipe()
            if (pid := os.fork()) == 0:
                os.close(reader)
                self._pipe = writer
                return way
            os.close(writer)
            self._reports.append(_await(reader, pid))
        return self._ways[-1]


def _await(reader: int, pid: int) -> Any:  # noqa: ANN401 - JSON
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    if not text:
        raise RobotrlError("a copy of this process has failed")
    return json.loads(text)


def _end_copy() -> None:
    """End this process without what its original has to do at its own end."""
    if sys.exc_info()[0] is not None:
        traceback.print_exc()
    os._exit(0)
