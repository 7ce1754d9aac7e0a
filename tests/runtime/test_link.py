"""Laws of the dead man's switch."""

from __future__ import annotations

import pytest

from robotrl.runtime.link import Link
from robotrl.runtime.modes import OPERATOR_EVENTS, Event

STOP = [Event.ESTOP]


def test_silence_of_one_who_has_commanded_is_one_emergency_stop() -> None:
    link = Link(0.5)
    link.heard(1.0)
    link.commanded([Event.STAND])
    assert [link.silent(s) for s in (1.0, 1.5, 1.6, 1.7, 9.0)] == [[], [], STOP, [], []]


def test_every_sign_of_life_counts_anew() -> None:
    link = Link(0.5)
    link.commanded()
    for at_s in (0.0, 0.4, 0.9):
        link.heard(at_s)
        assert link.silent(at_s + 0.5) == []
    assert link.silent(1.5) == STOP


def test_who_has_not_commanded_may_be_silent_and_go() -> None:
    link = Link(0.5)
    link.heard(1.0)
    assert link.silent(9.0) == link.lost() == []


def test_who_has_not_commanded_since_the_last_loss_may_go() -> None:
    link = Link(0.5)
    link.commanded()
    assert link.lost() == STOP
    link.heard(1.0)
    assert link.lost() == []
    link.commanded()
    assert link.lost() == STOP


@pytest.mark.parametrize("event", [event for event in Event if event in OPERATOR_EVENTS])
def test_only_who_asked_for_rest_last_may_go(event: Event) -> None:
    """A robot that lowers itself is not dropped half-way."""
    link = Link()
    link.commanded([Event.STAND])
    link.commanded([event])
    assert link.lost() == ([] if event in (Event.LIMP, Event.ESTOP) else STOP)
    link.commanded()
    assert link.lost() == STOP


def test_without_a_time_out_silence_is_no_loss() -> None:
    link = Link()
    link.heard(0.0)
    link.commanded()
    assert link.silent(1e9) == []


def test_nobody_else_keeps_the_link_of_who_commanded_last() -> None:
    """A laptop that has commanded before goes on beating beside a telephone that dies."""
    link = Link(0.5)
    link.commanded([Event.STAND], "laptop")
    link.heard(1.0, "laptop")
    link.commanded([], "telephone")
    link.heard(1.2, "telephone")
    for at_s in (1.3, 1.5, 1.7):
        link.heard(at_s, "laptop")
        assert link.silent(at_s) == []
    assert link.silent(1.8) == STOP
    link.commanded([Event.STAND], "laptop")
    link.heard(2.0, "laptop")
    link.heard(2.4, "telephone")
    assert [link.silent(s) for s in (2.5, 2.6)] == [[], STOP]


def test_when_the_run_is_over_nobody_is_missed_whatever_they_command() -> None:
    link = Link(0.5)
    link.commanded([Event.STAND])
    link.end()
    assert link.silent(9.0) == link.lost() == []
    link.commanded([Event.POLICY])
    assert link.silent(9.0) == link.lost() == []


def test_who_was_never_heard_is_silent() -> None:
    link = Link(0.5)
    link.commanded()
    assert link.silent(0.0) == STOP
