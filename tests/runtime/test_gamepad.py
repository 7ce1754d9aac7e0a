"""Laws of the gamepad: nothing walks unless the dead-man button is held; bytes are the kernel's."""

from __future__ import annotations

import fcntl
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robotrl.errors import BadInputError
from robotrl.runtime.gamepad import FULL, JS_EVENT, Gamepad
from robotrl.runtime.modes import OPERATOR_EVENTS, Event
from tests.runtime.devices import Pad

VELOCITY = "velocity_command"
RANGES = {VELOCITY: ((-0.4, -0.2, -1.0), (0.8, 0.2, 1.0))}
GOALS = {"goal": ((-1.0, 0.0), (1.0, 0.5))}
STAND, ESTOP, LIMP, REARM, DEAD_MAN, POLICY = range(6)


@pytest.fixture
def pad() -> Iterator[Pad]:
    with Pad(RANGES) as pad:
        yield pad


def velocity(pad: Pad) -> list[float]:
    """What is asked for after a poll."""
    pad.source.poll(0.0)
    return [round(float(value), 6) for value in pad.source.commands[VELOCITY]]


def test_an_event_is_eight_bytes_of_the_kernels() -> None:
    """Button 1 down after 258 ms, and axis 3 at its end, as `linux/joystick.h` lays them out."""
    with Pad(RANGES) as pad:
        pad.raw(bytes([2, 1, 0, 0, 0x01, 0x80, 0x02, 3]) + bytes([2, 1, 0, 0, 1, 0, 0x01, 1]))
        assert pad.source.poll(0.0) == [Event.ESTOP]
        pad.button(DEAD_MAN)
        assert velocity(pad) == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("stick", "value", "asked"),
    [
        (1, -FULL, [0.8, 0.0, 0.0]),
        (1, FULL, [-0.4, 0.0, 0.0]),
        (0, -FULL, [0.0, 0.2, 0.0]),
        (0, FULL, [0.0, -0.2, 0.0]),
        (3, -FULL, [0.0, 0.0, 1.0]),
        (3, FULL, [0.0, 0.0, -1.0]),
        (3, -FULL - 1, [0.0, 0.0, 1.0]),
        (2, FULL, [0.0, 0.0, 0.0]),
        (1, -round(0.1 * FULL), [0.0, 0.0, 0.0]),
        (1, -round(0.55 * FULL), [0.4, 0.0, 0.0]),
        (0, -round(0.55 * FULL), [0.0, 0.1, 0.0]),
        (3, round(0.55 * FULL), [0.0, 0.0, -0.5]),
    ],
)
def test_a_stick_asks_for_a_share_of_the_trained_range(
    pad: Pad, stick: int, value: int, asked: list[float]
) -> None:
    pad.button(DEAD_MAN)
    pad.stick(stick, value)
    assert velocity(pad) == pytest.approx(asked, abs=1e-4)


def test_there_is_no_jump_at_the_edge_of_the_middle(pad: Pad) -> None:
    pad.button(DEAD_MAN)
    forward = []
    for value in range(0, FULL, 64):
        pad.stick(1, -value)
        forward.append(velocity(pad)[0])
    assert np.diff(forward).min() >= 0.0
    assert np.diff(forward).max() < 0.8 * 64 / FULL / 0.9 + 1e-5
    assert forward[int(0.1 * FULL / 64)] == 0.0
    assert forward[-1] == pytest.approx(0.8, abs=2e-3)


def test_nothing_walks_unless_the_dead_man_button_is_held(pad: Pad) -> None:
    pad.stick(1, -FULL)
    assert velocity(pad) == [0.0, 0.0, 0.0]
    pad.button(DEAD_MAN)
    assert velocity(pad) == [0.8, 0.0, 0.0]
    pad.button(DEAD_MAN, down=False)
    assert velocity(pad) == [0.0, 0.0, 0.0]
    pad.stick(3, FULL)
    assert velocity(pad) == [0.0, 0.0, 0.0]


def test_taking_hold_and_letting_go_are_commands_even_at_rest(pad: Pad) -> None:
    """So that another operator's walk ends with them."""
    for down in (True, False):
        before = pad.source.commands[VELOCITY]
        pad.button(DEAD_MAN, down=down)
        pad.source.poll(0.0)
        assert pad.source.commands[VELOCITY] is not before
    kept = pad.source.commands[VELOCITY]
    pad.stick(1, -FULL)
    pad.source.poll(0.0)
    assert pad.source.commands[VELOCITY] is kept


@pytest.mark.parametrize(
    ("button", "event", "free"),
    [
        (STAND, Event.STAND, False),
        (POLICY, Event.POLICY, False),
        (REARM, Event.REARM, False),
        (LIMP, Event.LIMP, True),
        (ESTOP, Event.ESTOP, True),
    ],
)
def test_what_starts_a_motion_needs_the_button_and_what_ends_it_does_not(
    pad: Pad, button: int, event: Event, free: bool
) -> None:
    pad.button(button)
    pad.button(button, down=False)
    assert pad.source.poll(0.0) == [event] * free
    pad.button(DEAD_MAN)
    pad.button(button)
    pad.button(button, down=False)
    assert pad.source.poll(0.0) == [event]


def test_what_is_down_at_opening_starts_nothing_but_may_stop(pad: Pad) -> None:
    for button in (DEAD_MAN, STAND, POLICY, REARM, LIMP):
        pad.button(button, initial=True)
    pad.stick(1, -FULL)
    assert pad.source.poll(0.0) == []
    assert velocity(pad) == [0.0, 0.0, 0.0]
    pad.button(ESTOP, initial=True)
    assert pad.source.poll(0.0) == [Event.ESTOP]


def test_after_lost_events_the_kernels_summary_keeps_a_held_button_and_sees_it_released(pad: Pad) -> None:
    pad.button(DEAD_MAN)
    pad.stick(1, -FULL)
    pad.button(DEAD_MAN, initial=True)
    assert velocity(pad) == [0.8, 0.0, 0.0]
    pad.button(DEAD_MAN, down=False, initial=True)
    assert velocity(pad) == [0.0, 0.0, 0.0]


def test_an_emergency_stop_leaves_no_velocity(pad: Pad) -> None:
    pad.button(DEAD_MAN)
    pad.stick(1, -FULL)
    pad.button(ESTOP)
    assert velocity(pad) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("kind", [0x00, 0x03, 0x04, 0x83])
def test_a_kind_of_event_that_is_not_known_means_nothing(pad: Pad, kind: int) -> None:
    pad.raw(JS_EVENT.pack(0, 1, kind, ESTOP) + JS_EVENT.pack(0, 1, kind, DEAD_MAN))
    pad.stick(1, -FULL)
    assert pad.source.poll(0.0) == []
    assert velocity(pad) == [0.0, 0.0, 0.0]


def test_a_pad_that_asked_for_rest_may_be_pulled_out_and_leaves_no_velocity(pad: Pad) -> None:
    pad.button(DEAD_MAN)
    pad.stick(1, -FULL)
    assert velocity(pad) == [0.8, 0.0, 0.0]
    pad.button(LIMP)
    assert pad.source.poll(0.0) == [Event.LIMP]
    pad.pull_out()
    assert pad.source.poll(0.0) == []
    assert velocity(pad) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("cut", range(1, 24))
def test_half_an_event_waits_for_the_rest(pad: Pad, cut: int) -> None:
    data = b"".join(JS_EVENT.pack(0, *event) for event in ((1, 1, DEAD_MAN), (-FULL, 2, 1), (1, 1, POLICY)))
    pad.raw(data[:cut])
    events = pad.source.poll(0.0)
    pad.raw(data[cut:])
    assert events + pad.source.poll(0.0) == [Event.POLICY]
    assert velocity(pad) == [0.8, 0.0, 0.0]


@pytest.mark.parametrize("walks", [False, True])
def test_a_pad_that_is_pulled_out_stops_what_it_has_commanded_once(pad: Pad, walks: bool) -> None:
    if walks:
        pad.button(DEAD_MAN)
        pad.stick(1, -FULL)
        assert velocity(pad) == [0.8, 0.0, 0.0]
    pad.pull_out()
    assert not pad.source.finished()
    assert pad.source.poll(0.0) == [Event.ESTOP] * walks
    assert pad.source.finished()
    assert velocity(pad) == [0.0, 0.0, 0.0]
    assert pad.source.poll(0.0) == []


def test_a_device_error_is_a_pad_that_is_gone(pad: Pad, monkeypatch: pytest.MonkeyPatch) -> None:
    pad.stand()
    assert pad.source.poll(0.0) == [Event.STAND]

    def unplugged(fd: int, size: int) -> bytes:
        raise OSError(19, "No such device")

    monkeypatch.setattr(os, "read", unplugged)
    assert pad.source.poll(0.0) == [Event.ESTOP]


def test_a_policy_without_velocity_is_left_when_the_button_is_let_go() -> None:
    with Pad(GOALS) as pad:
        pad.button(DEAD_MAN)
        pad.button(STAND)
        assert pad.source.poll(0.0) == [Event.STAND]
        pad.button(DEAD_MAN, down=False)
        assert pad.source.poll(0.0) == []
        pad.button(DEAD_MAN)
        pad.button(POLICY)
        pad.stick(1, -FULL)
        assert pad.source.poll(0.0) == [Event.POLICY]
        pad.button(DEAD_MAN, down=False)
        assert pad.source.poll(0.0) == [Event.STAND]
        pad.button(DEAD_MAN)
        assert pad.source.poll(0.0) == []


@pytest.mark.parametrize("started", [False, True])
def test_pressed_and_let_go_at_once_the_dead_man_button_starts_nothing(started: bool) -> None:
    with Pad(GOALS) as pad:
        if started:
            pad.button(DEAD_MAN)
            pad.button(POLICY)
            assert pad.source.poll(0.0) == [Event.POLICY]
        else:
            pad.button(DEAD_MAN)
        for button in (STAND, REARM, POLICY):
            pad.button(button)
            pad.button(button, down=False)
        pad.button(DEAD_MAN, down=False)
        assert pad.source.poll(0.0) == [Event.STAND] * started
        assert pad.source.poll(0.0) == []


@pytest.mark.parametrize(("button", "event"), [(LIMP, Event.LIMP), (ESTOP, Event.ESTOP)])
def test_letting_go_undoes_no_rest_that_was_asked_for_at_once(button: int, event: Event) -> None:
    with Pad(GOALS) as pad:
        pad.button(DEAD_MAN)
        pad.button(POLICY)
        assert pad.source.poll(0.0) == [Event.POLICY]
        pad.button(button)
        pad.button(DEAD_MAN, down=False)
        assert pad.source.poll(0.0) == [event]
        assert pad.source.poll(0.0) == []


@pytest.mark.parametrize("stopped", [False, True])
def test_what_was_pressed_before_the_loop_is_ready_starts_nothing_but_may_stop(
    pad: Pad, stopped: bool
) -> None:
    """Nor is the dead-man button held, unless it is pressed again; where the sticks are is known."""
    pad.button(DEAD_MAN)
    pad.button(POLICY)
    pad.stick(1, -FULL)
    if stopped:
        pad.button(ESTOP)
    pad.source.heed(orders=True)
    assert pad.source.poll(0.0) == [Event.ESTOP] * stopped
    pad.button(STAND)
    assert pad.source.poll(0.0) == []
    assert velocity(pad) == [0.0, 0.0, 0.0]
    pad.button(DEAD_MAN)
    assert velocity(pad) == [0.8, 0.0, 0.0]


def test_any_bytes_ask_for_nothing_outside_the_ranges(pad: Pad) -> None:
    random_numbers = random.Random(3)
    low, high = RANGES[VELOCITY]
    for _ in range(300):
        pad.raw(random_numbers.randbytes(random_numbers.randint(1, 40)))
        pad.button(DEAD_MAN)
        assert set(pad.source.poll(0.0)) <= OPERATOR_EVENTS
        asked = pad.source.commands[VELOCITY]
        assert (asked >= low).all()
        assert (asked <= high).all()


def test_only_a_joystick_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match="--gamepad: cannot be opened"):
        Gamepad.open(tmp_path / "js0", RANGES)
    device = tmp_path / "event0"
    os.mkfifo(device)
    before = list(Path("/proc/self/fd").iterdir())
    with pytest.raises(BadInputError, match="--gamepad: is no joystick"):
        Gamepad.open(device, RANGES)
    assert list(Path("/proc/self/fd").iterdir()) == before
    asked: list[int] = []
    monkeypatch.setattr(fcntl, "ioctl", lambda fd, request, argument: asked.append(request))
    with Gamepad.open(device, RANGES) as gamepad:
        assert gamepad.poll(0.0) == []
    assert asked == [2 << 30 | 4 << 16 | ord("j") << 8 | 1], "_IOR('j', 0x01, __u32) of linux/joystick.h"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(gamepad._fd)
