"""`robotrl run --dashboard`: the printed page shows an emulated robot, stands it up and stops it."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from robotrl.cli.dashboard import place_of
from robotrl.cli.main import WRONG_USE, main
from robotrl.runtime.dashboard.feed import DEFAULT_PLACE, split_place
from tests.emulator.process import emulator

PATIENCE_S = 60.0


def frames(place: str) -> Iterator[dict[str, Any]]:
    """What a browser is shown."""
    with contextlib.closing(http.client.HTTPConnection(place, timeout=PATIENCE_S)) as connection:
        connection.request("GET", "/stream")
        for line in connection.getresponse():
            if line.startswith(b'data: {"now_s"'):
                yield json.loads(line.removeprefix(b"data: "))


def order(place: str, token: str, **what: object) -> None:
    """Press a button."""
    with contextlib.closing(http.client.HTTPConnection(place, timeout=PATIENCE_S)) as connection:
        connection.request("POST", "/order", json.dumps(what), {"Authorization": f"Bearer {token}"})
        assert connection.getresponse().status == 204


def test_a_page_stands_the_emulated_robot_up_and_stops_it() -> None:
    with emulator("--clock", "bus") as robot:
        ports = [part for name, port in robot.ports.items() for part in ("--port", f"{name}={port}")]
        options = ["--clock", "bus", "--dashboard", "127.0.0.1:0", "--arm", "--json"]
        command = [sys.executable, "-m", "robotrl", "run", "quad12_walk", *ports, *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
            assert run.stderr is not None
            url = run.stderr.readline().removeprefix("dashboard: http://").strip()
            place, _, token = url.partition("/#")
            shown = frames(place)
            assert next(shown)["mode"] == "limp"
            order(place, token, event="stand")
            stands = next(frame for frame in shown if frame["mode"] == "stand")
            assert None not in stands["joint_pos_rad"] + stands["joint_target_rad"] + stands["imu_quat"]
            order(place, token, event="estop")
            stopped = next(frame for frame in shown if frame["mode"] == "limp")
            assert "estop" in stopped["causes"]
            run.send_signal(signal.SIGINT)
            told, complaints = run.communicate(timeout=PATIENCE_S)
    report = json.loads(told)
    assert (run.returncode, complaints) == (1, "")
    assert "estop" in report["causes"]
    assert report["last_mode"] == "limp"


def test_by_default_it_is_of_this_computer_alone() -> None:
    assert split_place(place_of(()))[0] == "127.0.0.1"
    assert place_of(()) == DEFAULT_PLACE
    assert place_of(("0.0.0.0:80",)) == "0.0.0.0:80"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("quad12_walk", "--dashboard", "8080"), "--dashboard: is no place for a page, got '8080'"),
        (("quad12_walk", "--dashboard", "a:1", "b:2"), "--dashboard: is one place, got 'a:1 b:2'"),
        (("fetch_reach", "--dashboard"), "--dashboard: is not an option for an arm"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], sentence: str
) -> None:
    assert main(["run", *options]) == WRONG_USE
    assert sentence in capsys.readouterr().err
