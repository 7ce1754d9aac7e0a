"""What a loop asks of the operating system: no collector pauses, its own stop signals, priority."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

FIFO_PRIORITY = 50
"""Above ordinary work, below the kernel's own interrupt threads."""

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


class StopSignals:
    """Counts SIGINT and SIGTERM while it is open: the first asks to park, a second to go limp now."""

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
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._count += 1


def request_realtime() -> list[str]:
    """Ask for SCHED_FIFO and locked memory; return a sentence for each that was refused."""
    refusals = []
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))
    except OSError as error:
        refusals.append(
            f"SCHED_FIFO {FIFO_PRIORITY} is not permitted ({error.strerror}); "
            "allow it with rtprio in /etc/security/limits.d or run as root"
        )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        refusals.append(
            f"locking memory is not permitted ({os.strerror(ctypes.get_errno())}); "
            "allow it with memlock in /etc/security/limits.d or run as root"
        )
    return refusals
