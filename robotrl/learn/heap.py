"""The C library's heap, told to keep what training frees: the same tensors come again with every update."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of parameters of glibc's `mallopt(3)`."""
LARGEST_MMAP_THRESHOLD_BYTES = 4 * 1024 * 1024 * ctypes.sizeof(ctypes.c_long)
"""What glibc takes at most (malloc.c, DEFAULT_MMAP_THRESHOLD_MAX)."""
KEPT_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Let freed memory stay with this process instead of going back to the kernel.

    Otherwise glibc returns the heap's end whenever it is free, and the kernel hands the same pages
    out anew, one fault and 4 KiB of zeros at a time: up to a fifth of an off-policy update.

    Returns:
        Whether the C library is glibc, and did as it was told.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD_BYTES) and mallopt(TRIM_THRESHOLD, KEPT_BYTES))
