"""`robotrl bench safe` shown: a row for each fault and a column for each mode, as text and as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from robotrl.bench.style import BLUE, INK, ORANGE, RED, WIDTH_IN, look
from robotrl.runtime.modes import Mode

if TYPE_CHECKING:
    from rich.table import Table

ANSWER_COLOURS = {"hold": BLUE, "damp": ORANGE, "limp": INK}
DPI = 110
SPREAD = 0.7
"""Between the first and the last mode of a fault, in rows."""
LATE = "LATE"
"""Marks what came later than it must."""
STALLED_S = 0.15
"""How long a robot may keep its torque when its control loop has died or hangs."""
STALLED: Mapping[str, str] = MappingProxyType(
    {"loop killed (`kill -9`)": "kill", "loop stopped (SIGSTOP)": "stop", "loop hangs": "deadlock"}
)
"""What has happened to the loop -> the name of its figures."""

Outcomes = Sequence[Mapping[str, Any]]
"""As `robotrl.bench.safe.Outcome`."""


def safe_columns() -> tuple[str, ...]:
    """Return the head of the table."""
    return ("fault", *(mode.value for mode in Mode), "again")


def safe_rows(figures: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each fault: what came of it in each mode, and what it took to go on.

    Args:
        figures: what `robotrl.bench.safe.figures_of` says.
    """
    return [_row(fault, of_fault) for fault, of_fault in _by_fault(figures["outcomes"]).items()]


def stalled_rows(figures: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each way in which the loop has ended, with the time until the servos were limp.

    Args:
        figures: what `robotrl.bench.stall.bench_stall` says.
    """
    return [_stalled_row(what, name, figures) for what, name in STALLED.items()]


def _by_fault(outcomes: Outcomes) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Fault -> mode -> outcome."""
    faults: dict[str, dict[str, Mapping[str, Any]]] = {}
    for one in outcomes:
        faults.setdefault(one["fault"], {})[one["mode"]] = one
    return faults


def _row(fault: str, of_fault: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    cells = [_cell(of_fault[mode.value]) if mode.value in of_fault else "" for mode in Mode]
    running = [mode for mode in of_fault if mode not in (Mode.HOLD.value, Mode.DAMP.value)]
    took = dict.fromkeys(of_fault[mode]["recovery"] for mode in running)
    return (fault, *cells, "; ".join(took))


def _stalled_row(what: str, name: str, stalled: Mapping[str, Any]) -> tuple[str, ...]:
    return (what, *(_stalled_cell(f"{name}_{mode.value}_s", stalled) for mode in Mode), "new start")


def _stalled_cell(key: str, stalled: Mapping[str, Any]) -> str:
    """Read as `104 limp`; empty where there is no torque to begin with."""
    if key not in stalled:
        return ""
    mark = "" if stalled[key] <= STALLED_S else f" {LATE}"
    return f"{1e3 * stalled[key]:.0f} limp{mark}"


def _cell(one: Mapping[str, Any]) -> str:
    """Read as `47 + 4 damp`, or `old 20` of a fault that is ridden through."""
    if one["detected_s"] is None:
        return f"old {1e3 * one['stale_s']:.0f}" if one["stale_s"] else "-"
    safe = "never" if one["safe_s"] is None else f"{1e3 * one['safe_s']:.0f}"
    mark = f" {LATE}" if one["late"] else ""
    return f"{1e3 * one['detected_s']:.0f} + {safe} {one['answer']}{mark}"


def safe_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Lay the outcomes out for a terminal."""
    from rich.table import Table

    title = (
        "ms from the fault to the gate's verdict + from there to the servos' registers, and what they do; "
        "old: ridden through, with the greatest age of a measurement"
    )
    table = Table(*safe_columns(), title=title, title_justify="left")
    for row in safe_rows(figures):
        table.add_row(*row, style="red" if any(LATE in cell for cell in row) else None)
    return [table]


def draw_safe(figures: Mapping[str, Any], file: Path) -> None:
    """Draw when each fault was safe, a point for each mode, into a PNG."""
    from matplotlib.figure import Figure

    faults = _by_fault(figures["outcomes"])
    with look():
        figure = Figure(figsize=(WIDTH_IN, 0.24 * len(faults) + 1.0), layout="constrained")
        axis = figure.subplots()
        for place, of_fault in enumerate(faults.values()):
            for i, mode in enumerate(Mode):  # side by side, so that none hides another
                if (one := of_fault.get(mode.value)) and one["safe_s"] is not None:
                    at_ms = 1e3 * (one["detected_s"] + one["safe_s"])
                    colour = RED if one["late"] else ANSWER_COLOURS[one["answer"]]
                    at = place + SPREAD * (i / (len(Mode) - 1) - 0.5)
                    axis.plot(at_ms, at, "o", color=colour, markersize=2.5)
        for answer, colour in ANSWER_COLOURS.items():
            axis.plot([], [], "o", color=colour, label=answer)
        axis.set_yticks(range(len(faults)), [fault.replace("`", "") for fault in faults])
        axis.invert_yaxis()
        axis.set_xscale("log")
        axis.set_xlabel("ms from the fault to the servos' registers; no point: ridden through")
        axis.legend(loc="lower right")
        figure.savefig(file, dpi=DPI)
