"""Freed memory stays with a process that is told to keep it."""

from __future__ import annotations

import os
import platform
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
    """How often a process asks for a page, whatever is said about memory around this one."""
    own = {
        k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))
    }
    command = [sys.executable, "-c", WORK.format(first=first)]
    return int(subprocess.run(command, capture_output=True, check=True, env=own).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    assert 10 * faults(KEEP) < faults("")
