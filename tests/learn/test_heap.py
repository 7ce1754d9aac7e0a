"""Freed memory stays with a process that is told to keep it."""

from __future__ import annotations

import subprocess
import sys

import pytest

WORK = """
import resource
import numpy as np
{first}
def work():
    for _ in range(20):
        [np.ones(2**18, np.float32) for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(-work() + work())
"""
"""Pages of memory that twenty rounds of 8 MiB ask the kernel for, once the process has seen such a round."""
KEEP = "from robotrl.learn.heap import keep_freed_memory\nassert keep_freed_memory()"


def faults(first: str) -> int:
    done = subprocess.run([sys.executable, "-c", WORK.format(first=first)], capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    kept, given_back = faults(KEEP), faults("")
    assert kept < 100 < given_back
