"""Laws of `robotrl emulate` as a command: it serves any robot until it is told to stop, shown or not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from robotrl.cli.main import WRONG_USE, main
from robotrl.drivers.port import SerialPort
from robotrl.drivers.servo import Line, Servo
from robotrl.spec.buses import ServoProtocol
from tests.emulator.process import Emulator
from tests.feetech_robot import SERVOS, table
from tests.spec.toml_text import to_toml


@pytest.fixture
def _no_input(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An input that has ended, which means `stop`; signals are as before afterwards."""
    read, write = os.pipe()
    os.close(write)
    before = signal.getsignal(signal.SIGTERM)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("protocol", SERVOS)
def test_a_feetech_robot_prints_its_ports_and_answers_until_it_is_stopped(
    protocol: ServoProtocol, tmp_path: Path
) -> None:
    file = tmp_path / "robot.toml"
    file.write_text(to_toml(table(protocol)), encoding="utf-8")
    command = [sys.executable, "-m", "robotrl", "emulate", str(file), "--clock", "bus"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        robot = Emulator(process)
        assert set(robot.ports) == {"legs", "imu"}
        port = SerialPort(robot.ports["legs"], 1000000)
        servo = Servo.find(port, Line(robot.ports["legs"], protocol, 1000000), 11)
        assert servo.table.model_number == SERVOS[protocol]["model_number"]
        port.close()
        assert process.poll() is None
        assert robot.stop() == 0


@pytest.mark.usefixtures("_no_input")
def test_without_a_screen_view_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["emulate", "--view"]) == WRONG_USE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("robotrl: the viewer needs a screen")
    assert err.count("\n") == 1


class FakeWindow(contextlib.AbstractContextManager["FakeWindow"]):
    """Counts pictures; closed by its user after the first."""

    def __init__(self) -> None:
        self.pictures = 0
        self.gone = False

    def is_running(self) -> bool:
        return self.pictures < 1

    def sync(self) -> None:
        self.pictures += 1

    def __exit__(self, *error: object) -> None:
        self.gone = True


@pytest.mark.usefixtures("_no_input")
def test_the_viewer_is_kept_up_to_date_until_it_is_closed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    window = FakeWindow()
    monkeypatch.setattr("robotrl.bench.opengl.check_screen", lambda: None)
    monkeypatch.setattr("robotrl.bench.window.open_window", lambda model, data, on_key: window)
    monkeypatch.setattr("robotrl.cli.emulate.FRAME_S", 0.0)
    assert main(["emulate", "--view"]) == 0
    assert '"ports"' in capsys.readouterr().out
    assert (window.pictures, window.gone) == (1, True)
