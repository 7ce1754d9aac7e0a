"""What a loop asks of the operating system: no collector pauses, its own stop signals, priority."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

FIFO_PRIORITY = 50
"""Above ordinary work, below the kernel's own interrupt threads."""

SWITCH_S = 2e-4
"""How long another thread, such as the recorder's, may keep the interpreter while the loop waits for it. Much
shorter, and the loop would lose it in the middle of a tick."""

_MCL_CURRENT, _MCL_FUTURE = 1, 2


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Keep the garbage collector out of the ticks: a full collection can take 40 ms."""
    was_on = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


@contextmanager
def prompt_switches() -> Iterator[None]:
    """Let the thread that wakes up have the interpreter within `SWITCH_S`; Python's own limit is 5 ms."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


class StopSignals:
    """Counts SIGINT, SIGTERM and SIGHUP while it is open: the first asks to park, a second to go limp now.

    SIGHUP stays ignored where it was, as under `nohup`.
    """

    def __init__(self) -> None:
        self._count = 0
        self._before: dict[int, signal._HANDLER] = {}

    @property
    def stop(self) -> bool:
        """Somebody asked to end."""
        return self._count > 0

    @property
    def urgent(self) -> bool:
        """Somebody asked twice."""
        return self._count > 1

    def __enter__(self) -> StopSignals:
        """Take the signals over; Python delivers them to the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._count += 1


def request_realtime() -> list[str]:
    """Ask for SCHED_FIFO for this thread and for locked memory.

    Threads and processes that this one starts afterwards have ordinary priority.

    Returns:
        A sentence for each of the two that the system does not permit; the other one holds.
    """
    return [refusal for refusal in (_request_priority(), _lock_memory()) if refusal]


def _request_priority() -> str:
    try:
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(FIFO_PRIORITY))
    except OSError as error:
        return (
            f"SCHED_FIFO {FIFO_PRIORITY} is not permitted ({error.strerror}); "
            "allow it with rtprio in /etc/security/limits.d or run as root"
        )
    return ""


def _lock_memory() -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        return (
            f"locking memory is not permitted ({os.strerror(ctypes.get_errno())}); "
            "allow it with memlock in /etc/security/limits.d or run as root"
        )
    return ""
