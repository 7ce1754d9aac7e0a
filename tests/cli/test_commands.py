"""Laws for every command: help with an example, exit code 2 for wrong use, one line for bad input."""

from __future__ import annotations

import dataclasses
import os
import shlex
import socket
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from robotrl.cli import main as cli
from robotrl.errors import BadInputError, DeviceError, PortError


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_shows_an_example_that_parses_as_this_command(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert f"robotrl {name}" in capsys.readouterr().out.partition("Example:")[2]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_an_unknown_option_is_wrong_use(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--no-such-option"])
    assert ended.value.code == cli.WRONG_USE
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["no-such-command"]])
def test_no_or_unknown_command_is_wrong_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == cli.WRONG_USE
    assert "report" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["bench", "table"]])
def test_a_reader_that_has_gone_is_no_problem_to_tell_of(arguments: list[str]) -> None:
    """As behind `| head`, which closes its end when it has its lines."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "robotrl", *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (cli.PROBLEM, b"")


def test_a_reader_at_a_socket_may_go_too_and_there_may_be_none() -> None:
    reader, writer = socket.socketpair()
    reader.close()
    command = [sys.executable, "-m", "robotrl", "bench", "table"]
    with writer:
        done = subprocess.run(command, stdout=writer.fileno(), stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (cli.PROBLEM, b"")
    closed = subprocess.run(["sh", "-c", f"exec {shlex.join(command)} >&-"], capture_output=True, check=False)
    assert (closed.returncode, closed.stderr) == (cli.FINE, b"")


def test_a_broken_pipe_of_our_own_is_not_taken_for_a_reader_that_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(_: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(cli, "_run", run)
    with (
        Path(os.devnull).open("w", encoding="utf-8") as read,
        redirect_stdout(read),
        pytest.raises(BrokenPipeError),
    ):
        cli.main(["check"])


@dataclasses.dataclass(frozen=True)
class _Ending:
    """A command that ends in a given way."""

    def run(self) -> int:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (
            BadInputError("unknown key", file="robot.toml", key="a.b"),
            2,
            "robotrl: robot.toml: a.b: unknown key\n",
        ),
        (PortError("/dev/none: no such port"), 2, "robotrl: /dev/none: no such port\n"),
        (DeviceError("servo 11 is another model"), 1, "robotrl: servo 11 is another model\n"),
        (
            ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"),
            2,
            "robotrl: this command needs torch: pip install 'robotrl[train]'\n",
        ),
        (
            ModuleNotFoundError("No module named 'warp'", name="warp"),
            2,
            "robotrl: this command needs warp: pip install 'robotrl[gpu]'\n",
        ),
        (
            ModuleNotFoundError("No module named 'stable_baselines3'", name="stable_baselines3"),
            2,
            "robotrl: this command needs stable_baselines3: pip install 'robotrl[bench-learn]'\n",
        ),
        (KeyboardInterrupt(), 130, "robotrl: interrupted\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_becomes_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def end(_: object) -> int:
        raise error

    monkeypatch.setattr(_Ending, "run", end)
    monkeypatch.setattr(cli, "COMMANDS", {"ending": _Ending, "other": _Ending})
    assert cli.main(["ending"]) == code
    assert capsys.readouterr().err == sentence


def test_ctrl_c_while_the_arguments_are_read_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(_: object) -> cli.Command:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_parse", end)
    assert cli.main(["check"]) == cli.INTERRUPTED
    assert capsys.readouterr().err == "robotrl: interrupted\n"


def test_a_module_that_robotrl_should_have_is_not_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing base package is a broken install, and its traceback says more than our sentence."""

    def end(_: object) -> int:
        raise ModuleNotFoundError(name="numpy")

    monkeypatch.setattr(_Ending, "run", end)
    monkeypatch.setattr(cli, "COMMANDS", {"ending": _Ending, "other": _Ending})
    with pytest.raises(ModuleNotFoundError):
        cli.main(["ending"])
