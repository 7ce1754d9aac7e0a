"""The learning curves of `robotrl bench learn --returns`: a panel per task, a line per algorithm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from robotrl.bench.style import AMBER, BLUE, GREEN, INK, MUTED, ORANGE, RED, look, panels

COLOURS: Mapping[str, Mapping[str, str]] = {
    "on-policy": {"ppo": BLUE, "trpo": GREEN, "npg": AMBER, "a2c": ORANGE, "vpg": MUTED},
    "off-policy": {"sac_modern": RED, "sac_early": MUTED, "sac": BLUE, "td3": GREEN, "ddpg": ORANGE},
}
"""Algorithms of each row of panels."""
LABELS = {"sac_modern": "SAC, modern critic", "sac_early": "SAC, 200,000 steps"}
TASKS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v4", "Swimmer-v5")
THOUSAND, MILLION = 1e3, 1e6
DPI = 170
DASHED: dict[str, Any] = {"linewidth": 1.0, "linestyle": (0, (4, 3))}


def draw_curves(figures: Mapping[str, Any], file: Path) -> None:
    """Draw what the folder of runs holds into a PNG; figures as `robotrl.bench.returns.summary` says."""
    present = {str(one["algorithm"]) for one in figures["entries"]}
    kinds = {kind: colours for kind, colours in COLOURS.items() if present & colours.keys()}
    with look():
        figure, axes = panels(max(len(kinds), 1), len(TASKS), row_in=2.5)
        for row, (kind, colours) in enumerate(kinds.items()):
            for column, task in enumerate(TASKS):
                axis = axes[row * len(TASKS) + column]
                own = [one for one in figures["entries"] if _belongs(one, task, colours)]
                for one in own:
                    _draw(axis, one, colours[one["algorithm"]])
                if own:
                    _finish(axis, task, kind if column == 0 else "")
                else:
                    axis.set_axis_off()
        for row, colours in enumerate(kinds.values()):
            _legend(axes[row * len(TASKS)], {name: c for name, c in colours.items() if name in present})
        figure.savefig(file, dpi=DPI)


def _belongs(one: Mapping[str, Any], task: str, colours: Mapping[str, str]) -> bool:
    return one["task"] == task and one["algorithm"] in colours


def _draw(axis: Axes, one: Mapping[str, Any], colour: str) -> None:
    """Draw the mean over seeds, their range, and the published level."""
    steps, values = aligned([run["curve"] for run in one["runs"] if run["curve"]])
    if len(steps):
        x = steps / MILLION
        axis.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
        axis.plot(x, values.mean(0), color=colour)
    if one["published_mean"] is not None:
        axis.axhline(one["published_mean"], color=colour, **DASHED, alpha=0.8)


def aligned(curves: Sequence[Sequence[Mapping[str, float]]]) -> tuple[Any, Any]:
    """Return the steps (t,) that all curves reach, and their returns (seeds, t) there, interpolated."""
    if not curves:
        return np.zeros(0), np.zeros((0, 0))
    longest = max(curves, key=len)
    end = min(curve[-1]["steps"] for curve in curves)
    steps = np.array([point["steps"] for point in longest if point["steps"] <= end], dtype=np.float64)
    values = [np.interp(steps, [p["steps"] for p in curve], [p["value"] for p in curve]) for curve in curves]
    return steps, np.array(values)


def _finish(axis: Axes, task: str, kind: str) -> None:
    axis.set_title(task.partition("-")[0])
    axis.set_xlim(0, 1)
    axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1 M"])
    axis.tick_params(labelbottom=True)
    axis.yaxis.set_major_formatter(_thousands)
    if kind:
        axis.set_ylabel(f"{kind}: return", color=INK)


def _thousands(value: float, _: float) -> str:
    return f"{value / THOUSAND:g}k" if abs(value) >= THOUSAND else f"{value:g}"


def _legend(axis: Axes, colours: Mapping[str, str]) -> None:
    """Say in the first panel of a row, below its curves, what its colours mean."""
    handles = [
        Line2D([], [], color=colour, label=LABELS.get(name, name.upper())) for name, colour in colours.items()
    ]
    handles.append(Line2D([], [], color=INK, **DASHED, label="best published"))
    axis.legend(handles=handles, loc="lower right", fontsize=7.5, labelspacing=0.25, handlelength=1.4)
