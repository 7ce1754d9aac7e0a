"""Who commands on `robotrl run`: what is refused, what is joined, and when the robot may move."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from robotrl.cli.main import WRONG_USE, main
from robotrl.cli.operators import Operators
from robotrl.errors import BadInputError
from robotrl.runtime.modes import Event
from robotrl.runtime.operator import Script, Step
from tests.runtime.devices import PATIENCE_S, Pad

RANGES = {"velocity_command": ((-0.4, -0.2, -1.0), (0.4, 0.2, 1.0))}
GOALS = {"goal": ((-1.0, 0.0), (1.0, 0.5))}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--keyboard"], "--keyboard: needs a terminal"),
        (["--gamepad", "/nowhere/js0"], "--gamepad: cannot be opened"),
        (["--gamepad", "/dev/null"], "--gamepad: is no joystick, got '/dev/null'; allowed: /dev/input/js0"),
        (["--udp", "port"], "--udp: is no address, got 'port'; allowed: [HOST:]PORT"),
        (["--udp", "127.0.0.1:"], "--udp: is no address"),
        (["--udp", "0"], "--udp: is no address"),
        (["--udp", "65536"], "--udp: is no address"),
        (["--udp", "0.0.0.0:9870"], "--udp: can be reached by others and needs a token"),
        (["--udp", "203.0.113.1:9870", "--udp-token", "t"], "--udp: cannot be bound"),
        (["--udp", "\u00e4..b:9870", "--udp-token", "t"], "--udp: cannot be bound (encoding"),
        (["--udp", "9870", "--link-timeout-s", "nan"], "--link-timeout-s: is no time, got nan"),
        (["--link-timeout-s", "0"], "--link-timeout-s: is no time, got 0.0; allowed: above 0"),
        (["--velocity", "nan", "0", "0"], "--velocity: is no command, got (nan, 0.0, 0.0); allowed: finite"),
        (["--goal", "0.1", "inf"], "--goal: is no command, got (0.1, inf); allowed: finite"),
        (["--duration-s", "nan"], "--duration-s: is no time, got nan; allowed: above 0"),
        (["--duration-s", "-5"], "--duration-s: is no time, got -5.0; allowed: above 0"),
        (["--udp-token", "sesame"], "--udp-token: is for a run with --udp"),
        (["--script", "s.toml", "--velocity", "0.1", "0", "0"], "--velocity: is for a run without a script"),
        (["--script", "s.toml", "--goal", "0.1"], "--goal: is for a run without a script, got (0.1,)"),
    ],
)
def test_an_operator_that_cannot_be_had_is_refused_before_any_port_is_opened(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: False)
    assert main(["run", "quad12_walk", *options]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert said in sentence


def free_port() -> int:
    """A port of UDP that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


def test_script_and_datagrams_command_together(tmp_path: Path) -> None:
    script, port = tmp_path / "walk.toml", free_port()
    script.write_text('[[step]]\nat_s = 0.0\nmode = "stand"\nvelocity = [0.1, 0.0, 0.0]\n')
    with contextlib.ExitStack() as stack, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as remote:
        operators = Operators(script=script, udp=f"{port}", udp_token="sesame", link_timeout_s=2.0)
        operator = operators.join(stack, RANGES, stand_s=1.0)
        assert operator.poll(0.0) == [Event.STAND]
        remote.sendto(b'{"event": "policy", "velocity": [9, 0, 0], "token": "sesame"}', ("127.0.0.1", port))
        events = operator.poll(1.0)
        while not events:
            events = operator.poll(1.0)
        assert events == [Event.POLICY]
        assert operator.commands["velocity_command"].tolist() == [0.4, 0.0, 0.0]
        assert operator.poll(3.0) == []
        assert operator.poll(3.1) == [Event.ESTOP]
    again = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    again.bind(("127.0.0.1", port))
    again.close()


def test_alone_a_constant_command_is_obeyed_and_with_others_nothing_stands_up_by_itself() -> None:
    with contextlib.ExitStack() as stack:
        alone = Operators(velocity=(0.2, 0.0, 0.0)).join(stack, RANGES, stand_s=1.0)
        assert (alone.poll(0.0), alone.poll(1.5)) == ([Event.STAND], [Event.POLICY])
        pad = stack.enter_context(Pad(GOALS))
        joined = Operators(goal=(0.5, 9.0)).join(stack, GOALS, stand_s=1.0, further=[pad.source])
        assert [joined.poll(s) for s in (0.0, 1.5, 9.0)] == [[], [], []]
        assert joined.commands["goal"].tolist() == [0.5, 0.5]
        assert joined.notes == ["goal [0.5, 9.0] at 0.0 s is cut to the trained range"]
        with pytest.raises(BadInputError, match="--velocity: is for a run without another operator"):
            Operators(velocity=(0.2, 0.0, 0.0)).join(stack, RANGES, stand_s=1.0, further=[pad.source])


def test_a_further_operator_is_joined_like_any_other() -> None:
    with contextlib.ExitStack() as stack:
        page = Script((Step(1.0, mode="estop"),), RANGES)
        assert Operators().join(stack, RANGES, stand_s=1.0, further=[page]).poll(1.0) == [Event.ESTOP]


ASK = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from robotrl.cli.operators import ask_to_arm
for _ in range(5):
    print(ask_to_arm("quad12"), flush=True)
"""


def test_a_terminal_is_asked_and_only_the_word_arms() -> None:
    """Enter, another word, a longer one, the word itself, and an end of the input."""
    master, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", ASK],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        os.write(master, b"\nyes\narms\narm\n\x04")
        out, err = process.communicate(timeout=PATIENCE_S)
    assert out.split() == ["False", "False", "False", "True", "False"]
    assert err == 5 * "Type arm to let quad12 move, or Enter to run it without motion: "
    assert not select.select([terminal], [], [], 0)[0]
    os.close(master)
    os.close(terminal)


def test_without_a_terminal_nothing_is_asked_and_nothing_armed() -> None:
    code = "from robotrl.cli.operators import ask_to_arm; print(ask_to_arm('quad12'))"
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("False\n", "")
