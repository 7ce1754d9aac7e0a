"""Laws of the keyboard: every key at once, and a terminal that is as before on every way out."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from robotrl.errors import BadInputError
from robotrl.runtime.keyboard import HELP, KEYS, Keyboard
from robotrl.runtime.modes import Event
from tests.runtime.devices import PATIENCE_S, Keys

VELOCITY = "velocity_command"
RANGES = {VELOCITY: ((-0.4, -0.2, -1.0), (0.8, 0.2, 1.0))}
GOALS = {"goal": ((-1.0, 0.0), (1.0, 0.5))}
UP, DOWN, RIGHT, LEFT = (b"\x1b[" + letter for letter in (b"A", b"B", b"C", b"D"))
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGTTIN, signal.SIGTTOU, signal.SIGINT)


@pytest.fixture
def keys() -> Iterator[Keys]:
    with Keys(RANGES) as keys:
        yield keys


def velocity(keys: Keys) -> list[float]:
    """What is asked for."""
    return [round(float(value), 6) for value in keys.source.commands[VELOCITY]]


def pressed(keys: Keys, typed: bytes) -> list[Event]:
    """What is asked for by keys."""
    keys.type(typed)
    return keys.source.poll(0.0)


@pytest.mark.parametrize(("key", "event"), list(KEYS.items()))
def test_a_key_asks_for_its_event_without_enter(keys: Keys, key: bytes, event: Event) -> None:
    assert pressed(keys, key) == [event]
    assert keys.source.poll(0.0) == []
    assert keys.source.finished() is (key == b"q")


@pytest.mark.parametrize("key", [b" ", b"\x1a", b"\x1c"])
def test_an_emergency_stop_is_alone_whatever_is_typed_with_it(keys: Keys, key: bytes) -> None:
    assert pressed(keys, b"r" + key + b"sp") == [Event.ESTOP]
    assert pressed(keys, b"\x1b[" + key) == [Event.ESTOP]


def test_keys_come_in_order_and_others_mean_nothing(keys: Keys) -> None:
    assert pressed(keys, b"rxs\tA[\xffp") == [Event.REARM, Event.STAND, Event.POLICY]


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        (UP, [0.06, 0.0, 0.0]),
        (UP * 3 + DOWN, [0.12, 0.0, 0.0]),
        (b"\x1bOA", [0.06, 0.0, 0.0]),
        (b"\x1b[1;5A", [0.06, 0.0, 0.0]),
        (LEFT, [0.0, 0.0, 0.1]),
        (RIGHT * 2, [0.0, 0.0, -0.2]),
        (b",", [0.0, 0.02, 0.0]),
        (b"..", [0.0, -0.04, 0.0]),
        (UP * 40, [0.8, 0.0, 0.0]),
        (DOWN * 40, [-0.4, 0.0, 0.0]),
        (UP + LEFT + b"0", [0.0, 0.0, 0.0]),
        (UP + b"p", [0.0, 0.0, 0.0]),
        (UP + b" ", [0.0, 0.0, 0.0]),
        (UP + b"x", [0.06, 0.0, 0.0]),
        (b"\x1b[Z\x1b[3~", [0.0, 0.0, 0.0]),
    ],
)
def test_arrows_steer_within_the_trained_range_and_other_keys_stop(
    keys: Keys, typed: bytes, asked: list[float]
) -> None:
    pressed(keys, typed)
    assert velocity(keys) == asked


@pytest.mark.parametrize("cut", [1, 2, 4, 5, 6])
def test_half_an_arrow_waits_for_the_rest(keys: Keys, cut: int) -> None:
    typed = UP + LEFT + b"s"
    asked = pressed(keys, typed[:cut]) + pressed(keys, typed[cut:])
    assert asked == [Event.STAND]
    pressed(keys, UP[:1])
    pressed(keys, UP[1:2])
    pressed(keys, UP[2:])
    assert velocity(keys) == [0.06, 0.0, 0.0]


def test_an_escape_swallows_no_key_after_it(keys: Keys) -> None:
    assert pressed(keys, b"\x1b") == []
    assert pressed(keys, b"l") == [Event.LIMP]


def test_a_policy_without_velocity_is_not_steered() -> None:
    with Keys(GOALS) as keys:
        assert pressed(keys, UP + b"," + b"s") == [Event.STAND]
        assert np.isnan(keys.source.commands["goal"]).all()


@pytest.mark.parametrize(("typed", "stops"), [(b"s", True), (UP, True), (b"x", False), (b"sl", False)])
def test_a_terminal_that_is_gone_stops_what_it_has_commanded(keys: Keys, typed: bytes, stops: bool) -> None:
    pressed(keys, typed)
    assert not keys.source.finished()
    keys.hang_up()
    assert keys.source.poll(0.0) == [Event.ESTOP] * stops
    assert keys.source.finished()
    assert keys.source.poll(0.0) == []


def test_the_emergency_stop_is_heard_after_the_end_was_asked_for(keys: Keys) -> None:
    assert pressed(keys, b"q") == pressed(keys, b"q") == [Event.LIMP]
    assert pressed(keys, b" ") == [Event.ESTOP]
    assert keys.source.finished()


def fail_with_keys_at_once(terminal: int) -> None:
    """Take a terminal over, look at it, and fail."""
    with Keyboard(RANGES, fd=terminal):
        during = termios.tcgetattr(terminal)
        assert not during[3] & (termios.ICANON | termios.ECHO)
        assert during[3] & termios.ISIG
        assert during[6][termios.VINTR] == b"\x03"
        raise ZeroDivisionError


def test_terminal_and_signals_are_as_before_also_after_an_error() -> None:
    master, terminal = pty.openpty()
    before, handlers = termios.tcgetattr(terminal), [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ZeroDivisionError):
        fail_with_keys_at_once(terminal)
    assert termios.tcgetattr(terminal) == before
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    os.close(master)
    os.close(terminal)


def test_what_was_typed_before_is_forgotten() -> None:
    master, terminal = pty.openpty()
    os.write(master, b"sp\n")
    assert select.select([terminal], [], [], PATIENCE_S)[0]
    with Keyboard(RANGES, fd=terminal) as keyboard:
        assert keyboard.poll(0.0) == []
    os.close(master)
    os.close(terminal)


@pytest.mark.parametrize(
    ("typed", "events", "ends"),
    [
        (UP * 200 + b"sp\x1b[", [], False),
        (b"s p", [Event.ESTOP], False),
        (b"sq", [Event.LIMP], True),
        (b" q", [Event.ESTOP], True),
    ],
)
def test_before_the_loop_is_ready_only_a_stop_and_the_end_are_heard(
    keys: Keys, typed: bytes, events: list[Event], ends: bool
) -> None:
    keys.type(typed)
    while struct.unpack("i", fcntl.ioctl(keys.terminal, termios.FIONREAD, bytes(4))) < (len(typed),):
        continue  # the kernel may still be handing them on
    keys.source.heed(orders=True)
    assert keys.source.poll(0.0) == events
    assert velocity(keys) == [0.0, 0.0, 0.0]
    assert keys.source.finished() is ends
    keys.hang_up()
    assert keys.source.poll(0.0) == []


def test_without_a_terminal_it_is_refused() -> None:
    read, write = os.pipe()
    with pytest.raises(BadInputError, match="--keyboard: needs a terminal"):
        Keyboard(RANGES, fd=read).__enter__()
    os.close(read)
    os.close(write)


def test_the_help_names_every_key() -> None:
    assert {f" {key.decode()} " in HELP for key in KEYS} == {True}


CHILD = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
from robotrl.errors import BadInputError
from robotrl.runtime.keyboard import Keyboard
if sys.argv[1] == "background":
    group = os.fork()
    if group == 0:
        os.setpgid(0, 0)
        try:
            Keyboard({}).__enter__()
        except BadInputError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(group, os.WUNTRACED)
else:
    with Keyboard({}):
        print("open", flush=True)
        while True:
            os.read(0, 1)
"""


@contextmanager
def child(how: str, terminal: int) -> Iterator[subprocess.Popen[str]]:
    """A process whose controlling terminal this is; it ends with the block."""
    arguments = [sys.executable, "-c", CHILD, how]
    pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(arguments, stdin=terminal, start_new_session=True, **pipe) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_loop_has_begun_leaves_the_terminal_as_it_was(number: signal.Signals) -> None:
    master, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    with child("wait", terminal) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        assert termios.tcgetattr(terminal) != before
        process.send_signal(number)
        assert process.wait(PATIENCE_S) != 0
    assert termios.tcgetattr(terminal) == before
    os.close(master)
    os.close(terminal)


def test_a_job_in_the_background_is_refused_and_not_stopped() -> None:
    master, terminal = pty.openpty()
    with child("background", terminal) as process:
        assert process.communicate(timeout=PATIENCE_S)[0].strip() == (
            "--keyboard: needs the foreground of its terminal"
        )
    os.close(master)
    os.close(terminal)
