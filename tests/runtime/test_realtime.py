"""What the loop asks of the operating system, and what it says when that is refused."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import sys
from collections.abc import Callable

import pytest

from robotrl.runtime.realtime import (
    FIFO_PRIORITY,
    SWITCH_S,
    prompt_switches,
    quiet_collector,
    request_realtime,
)


class Library:
    """A C library that locks memory, or does not."""

    def __init__(self, answer: int) -> None:
        self.flags: list[int] = []
        self.answer = answer

    def mlockall(self, flags: int) -> int:
        """Note it."""
        self.flags.append(flags)
        return self.answer


def asked(
    monkeypatch: pytest.MonkeyPatch, schedule: Callable[[int, int, os.sched_param], None], locks: bool
) -> tuple[list[str], Library]:
    """What `request_realtime` returns on such a system."""
    library = Library(0 if locks else -1)
    monkeypatch.setattr("os.sched_setscheduler", schedule)
    monkeypatch.setattr("ctypes.CDLL", lambda name, use_errno: library)
    monkeypatch.setattr("ctypes.get_errno", lambda: errno.ENOMEM)
    return request_realtime(), library


def test_this_thread_gets_priority_and_those_it_starts_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int, int]] = []
    refusals, library = asked(
        monkeypatch, lambda pid, policy, param: calls.append((pid, policy, param.sched_priority)), locks=True
    )
    assert refusals == []
    assert calls == [(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, FIFO_PRIORITY)]
    assert library.flags == [1 | 2]  # what is mapped now, and what will be


def refuse(pid: int, policy: int, param: os.sched_param) -> None:
    """As the system does without the right."""
    raise PermissionError(errno.EPERM, "Operation not permitted")


def test_each_refusal_is_a_sentence_that_says_what_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals, library = asked(monkeypatch, refuse, locks=False)
    priority, memory = refusals
    assert priority.startswith(
        "SCHED_FIFO 50 is not permitted (Operation not permitted); allow it with rtprio"
    )
    assert memory.startswith(
        f"locking memory is not permitted ({os.strerror(errno.ENOMEM)}); allow it with mem"
    )
    assert library.flags == [3], "without priority the memory is still locked"


def test_one_refusal_leaves_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(asked(monkeypatch, refuse, locks=True)[0]) == 1
    assert len(asked(monkeypatch, lambda *_: None, locks=False)[0]) == 1


def test_the_interpreter_changes_hands_promptly_and_as_before_afterwards() -> None:
    before_s = sys.getswitchinterval()
    with contextlib.suppress(KeyError), prompt_switches():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
        raise KeyError
    assert sys.getswitchinterval() == before_s


def test_the_collector_is_quiet_and_as_before_afterwards() -> None:
    with quiet_collector():
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    gc.disable()
    try:
        with quiet_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
