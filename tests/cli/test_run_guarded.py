"""`robotrl run` and the guardian: there is one unless it is declined or time is the emulator's."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from robotrl.cli.main import main
from robotrl.errors import DeviceError
from robotrl.runtime import guarded
from robotrl.runtime.guarded import GuardedBody
from robotrl.spec.robot import RobotSpec

ASKED = "a guardian was asked for"


@pytest.mark.parametrize(
    ("options", "guardian"),
    [((), True), (("--no-guardian",), False), (("--clock", "bus"), False)],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_real_clock_has_a_guardian(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    guardian: bool,
) -> None:
    def refuse(robot: RobotSpec, ports: Mapping[str, str]) -> GuardedBody:
        assert (robot.name, ports) == ("quad12", {"legs": "/dev/null/legs"})
        raise DeviceError(ASKED)

    monkeypatch.setattr(guarded, "guarded_body", refuse)
    assert main(["run", "quad12_walk", "--port", "legs=/dev/null/legs", *options]) != 0
    said = capsys.readouterr().err
    assert (ASKED in said) is guardian
    assert (
        "/dev/null/legs" in said
    ) is not guardian  # without one, the missing port is the first to be missed
