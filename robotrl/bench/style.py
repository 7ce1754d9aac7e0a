"""One look for every figure: colours, type and how a matplotlib figure becomes inline SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#1b2330"
MUTED = "#8a94a3"
GRID = "#e6e9ee"
BLUE = "#1f6feb"
ORANGE = "#e8751a"
GREEN = "#1a9d6f"
RED = "#d1323c"
AMBER = "#f0b429"
LEVEL_COLOURS = {"NONE": "#cfe9de", "LIMITING": AMBER, "HOLD": ORANGE, "DAMP": RED, "LIMP": INK}
"""The gate's levels, from weakest to strongest."""

WIDTH_IN = 10.4

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: the page's font, selectable, small
    "svg.hashsalt": "robotrl",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "path.simplify_threshold": 0.5,
}


@contextmanager
def look() -> Iterator[None]:
    """Draw with this look inside the block."""
    with mpl.rc_context(_RC):
        yield


def panels(rows: int, columns: int = 1, *, row_in: float, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """Return a figure as wide as the page with `rows` x `columns` axes, row by row, sharing x."""
    figure = Figure(figsize=(WIDTH_IN, rows * row_in + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=share_y, squeeze=False)
    return figure, list(grid.flat)


def svg(figure: Figure) -> str:
    """Return the figure as an SVG element that scales with the page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    element = text.getvalue()
    element = element[element.index("<svg") :]
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"',
        r"\1",
        re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1),
        count=1,
    )
