"""`robotrl run --rt` and `--realtime` where the system permits no real-time priority."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from robotrl.cli.operators import Operators
from robotrl.cli.run import Run
from robotrl.errors import BadInputError, PortError

REFUSALS = ["SCHED_FIFO 50 is not permitted", "locking memory is not permitted"]
PORTS = ("legs=/dev/nothing", "imu=/dev/nothing")


@pytest.fixture(autouse=True)
def no_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that refuses it."""
    monkeypatch.setattr("robotrl.runtime.realtime.request_realtime", lambda: list(REFUSALS))


def test_insisting_ends_with_every_reason_before_a_port_is_touched() -> None:
    with pytest.raises(BadInputError) as refused:
        Run("quad12_walk", rt=True, port=PORTS).run()
    assert str(refused.value) == f"--rt: {'; '.join(REFUSALS)}"


@pytest.mark.parametrize(
    "more",
    [
        {"operators": Operators(gamepad=Path("/nowhere/js0"))},
        {"dashboard": ("203.0.113.1:80",)},
        {"record": Path("/nowhere/run.mcap")},
    ],
    ids=lambda more: str(*more),
)
def test_insisting_comes_before_anything_that_can_be_opened(more: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match=r"^--rt: SCHED_FIFO 50 is not permitted"):
        Run("quad12_walk", rt=True, **more).run()
    with pytest.raises(BadInputError, match=r"cannot be (opened|served at|written)"):
        Run("quad12_walk", realtime=True, **more).run()


@pytest.mark.parametrize("realtime", [False, True])
def test_asking_alone_goes_on_without(realtime: bool) -> None:
    with pytest.raises(PortError, match="/dev/nothing does not exist"):
        Run("quad12_walk", realtime=realtime, port=PORTS).run()
