"""Refuses world counts that do not fit in memory before anything is allocated."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from robotrl.errors import BadInputError

_SHARE = 0.9
"""Of the memory that is available; the rest is for what else the process needs."""


def require_memory(num: int, bytes_per_world: int, bytes_shared: int = 0) -> None:
    """Check that `num` worlds of `bytes_per_world` each, and what they share, can be allocated.

    Raises:
        BadInputError: they do not fit in the memory that is available now.
    """
    usable = _SHARE * available_bytes() - bytes_shared
    if num * bytes_per_world > usable:
        raise BadInputError(
            f"need {num * bytes_per_world / 2**30:.1f} GiB of memory, {bytes_per_world / 2**10:.1f} KiB each,"
            f" where {max(usable, 0) / 2**30:.1f} GiB are available",
            key="worlds",
            value=num,
            allowed=f"at most {max(0, int(usable // bytes_per_world))}",
        )


@dataclass(frozen=True)
class _Group:
    """Files of one version of Linux's control groups, and the name of what the kernel can take back."""

    limit: str
    used: str
    statistics: str
    reclaimable: str


_GROUPS = (
    _Group("memory.max", "memory.current", "memory.stat", "inactive_file"),
    _Group(
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)
"""Linux kernel, admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/memory.rst."""


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that can be had without swapping: the machine's, or less where a container has a limit.

    Elsewhere than on Linux, all memory that is built in.
    """
    available = _machine_bytes(root / "proc/meminfo")
    for group in _GROUPS:
        limit = root / "sys/fs/cgroup" / group.limit
        if limit.is_file() and (text := limit.read_text().strip()) != "max":
            available = min(available, int(text) - _used_bytes(root / "sys/fs/cgroup", group))
    return max(0, available)


def _machine_bytes(meminfo: Path) -> int:
    if not meminfo.is_file():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return 1024 * int(lines["MemAvailable"].split()[0])


def _used_bytes(folder: Path, group: _Group) -> int:
    statistics = dict(line.split() for line in (folder / group.statistics).read_text().splitlines())
    return int((folder / group.used).read_text()) - int(statistics.get(group.reclaimable, 0))
