"""A process that goes on in several ways: each once, in order, and only the original one comes back."""

from __future__ import annotations

import os

import pytest

from robotrl.bench.forks import Forks
from robotrl.errors import RobotrlError


def test_every_way_is_gone_once_and_reported_in_order() -> None:
    forks, before = Forks((1, 2, 3)), [10]

    def journey() -> dict[str, object]:
        way = forks.part()
        before.append(way)  # of this copy alone
        return {"way": way, "seen": before, "process": os.getpid()}

    reports = forks.run(journey)
    assert [report["way"] for report in reports] == [1, 2, 3]
    assert [report["seen"] for report in reports] == [[10, 1], [10, 2], [10, 3]]
    assert len({report["process"] for report in reports}) == 3
    assert reports[-1]["process"] == os.getpid()


def test_a_single_way_needs_no_copy() -> None:
    forks = Forks(("only",))
    assert forks.run(lambda: [forks.part(), os.getpid()]) == [["only", os.getpid()]]


def test_a_copy_that_fails_fails_the_original(capfd: pytest.CaptureFixture[str]) -> None:
    forks = Forks((0, 1))
    with pytest.raises(RobotrlError, match="has failed"):
        forks.run(lambda: 1 / forks.part())
    assert "ZeroDivisionError" in capfd.readouterr().err
