"""How a measurement is shown: its figures as tables, and the machine that they belong to."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

MANY = 1000
"""Figures from here on are shown without decimals."""


def print_figures(title: str, figures: dict[str, Any]) -> None:
    """Print single figures as one table, and each list of records as one of its own.

    Args:
        title: of the first table.
        figures: name -> number, text, list of records, or figures again.
    """
    from rich.console import Console
    from rich.table import Table

    single = Table("figure", "value", title=title, title_justify="left")
    for name, value in _flat(figures).items():
        if isinstance(value, list):
            table = Table(*value[0], title=f"{title}: {name}", title_justify="left")
            for record in value:
                table.add_row(*(_shown(entry) for entry in record.values()))
            Console().print(table)
        else:
            single.add_row(name, _shown(value))
    if single.row_count:
        Console().print(single)


def _flat(figures: dict[str, Any], of: str = "") -> dict[str, Any]:
    """Return figures within figures under names of both."""
    flat: dict[str, Any] = {}
    for name, value in figures.items():
        flat |= _flat(value, f"{of}{name} ") if isinstance(value, dict) else {f"{of}{name}": value}
    return flat


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.4g}" if value < MANY else f"{value:,.0f}"


def machine() -> dict[str, str]:
    """Name the hardware and the versions that a figure belongs to."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    packages = {name: version(name) for name in ("mujoco", "torch", "numpy")}
    return {"cpu": model, "cores": str(os.cpu_count()), "python": platform.python_version(), **packages}
