"""The figures of the transfer report: the robot beside the training simulation, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from robotrl.bench.style import BLUE, GRID, INK, MUTED, ORANGE, look, panels, svg
from robotrl.bench.transfer import Trace
from robotrl.spec.state import Floats

ROBOT, SIMULATION, RANDOMISED = "robot", "simulation", "range of randomised simulations"
SHOWN_S = 2.5
"""Length of the window in which single steps are shown."""
AXES = ("x", "y", "z")
_COLUMNS = 3


def window(count: int, period_s: float) -> slice:
    """Steps in the middle of a walk, where it has settled."""
    shown = min(count, round(SHOWN_S / period_s))
    start = (count - shown) // 2
    return slice(start, start + shown)


def joints(
    names: Sequence[str],
    robot: Trace,
    nominal: Trace,
    low: Mapping[str, Floats],
    high: Mapping[str, Floats],
    period_s: float,
) -> str:
    """Joint angles of both, one panel a joint, over a short window."""
    part = window(min(len(robot), len(nominal)), period_s)
    with look():
        figure, axes = panels(-(-len(names) // _COLUMNS), _COLUMNS, row_in=1.15)
        for joint, name in enumerate(names):
            ends = low["joint_pos"][part, joint], high["joint_pos"][part, joint]
            real, simulated = (t.channels["joint_pos"][part, joint] for t in (robot, nominal))
            _courses(axes[joint], part, period_s, real, simulated, ends)
            axes[joint].set_title(name.replace("_", " "), fontsize=9)
        axes[0].set_ylabel("rad")
        for ax in axes[-_COLUMNS:]:
            ax.set_xlabel("s")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
        return svg(figure)


def attitude(
    robot: Trace, nominal: Trace, low: Mapping[str, Floats], high: Mapping[str, Floats], period_s: float
) -> str:
    """Tilt and turn rates of both over a short window."""
    part = window(min(len(robot), len(nominal)), period_s)
    panels_of = [("gravity", i, f"gravity {AXES[i]}") for i in range(2)]
    panels_of += [("imu_gyro", i, f"turn rate {AXES[i]}  rad/s") for i in range(3)]
    with look():
        figure, axes = panels(len(panels_of), row_in=0.95)
        for ax, (name, i, title) in zip(axes, panels_of, strict=True):
            ends = low[name][part, i], high[name][part, i]
            real, simulated = (t.channels[name][part, i] for t in (robot, nominal))
            _courses(ax, part, period_s, real, simulated, ends)
            ax.set_title(title, fontsize=9)
        axes[-1].set_xlabel("s")
        return svg(figure)


def tracking(robot: Trace, nominal: Trace, period_s: float) -> str:
    """Commanded velocity, and what both made of it, over the whole stretch; means over 0.2 s."""
    labels = ("forward  m/s", "left  m/s", "turn  rad/s")
    with look():
        figure, axes = panels(len(labels), row_in=1.4)
        for axis, (ax, label) in enumerate(zip(axes, labels, strict=True)):
            for trace, colour, name in ((nominal, MUTED, SIMULATION), (robot, BLUE, ROBOT)):
                seconds = period_s * np.arange(1, len(trace) + 1)
                ax.plot(seconds, _smooth(trace.velocity[:, axis], period_s), color=colour, label=name)
            command = robot.channels["velocity_command"][:, axis]
            ax.step(period_s * np.arange(len(robot)), command, color=ORANGE, where="post", label="commanded")
            ax.set_ylabel(label)
        axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=3, borderaxespad=0)
        axes[-1].set_xlabel("s since the policy took over")
        return svg(figure)


def effort(
    names: Sequence[str], robot: Trace, nominal: Trace, limit_nm: float, temperature_c: tuple[Floats, Floats]
) -> str:
    """Torque of every joint, root mean square and largest, and its servo's temperature."""
    place = np.arange(len(names))
    with look():
        figure, [torque, heat] = panels(2, row_in=1.9)
        for trace, shift, colour, name in ((robot, -0.2, BLUE, ROBOT), (nominal, 0.2, MUTED, SIMULATION)):
            rms = np.sqrt(np.mean(np.square(trace.torque_nm), axis=0))
            torque.bar(place + shift, rms, 0.36, color=colour, label=f"{name}, rms")
            most = np.abs(trace.torque_nm).max(axis=0)
            torque.scatter(place + shift, most, color=colour, marker="_", s=90, label=f"{name}, most")
        torque.axhline(limit_nm, color=ORANGE, label="limits.torque_nm")
        torque.set_ylabel("N m")
        torque.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=5, borderaxespad=0)
        heat.vlines(place, *temperature_c, color=BLUE, linewidth=6)
        heat.scatter(place, temperature_c[1], color=INK, s=14)
        heat.set_ylabel("servo, first\nand last  °C")
        heat.set_xticks(place, [name.replace("_", "\n") for name in names], fontsize=8)
        return svg(figure)


def rewards(robot: Trace, nominal: Trace) -> str:
    """Mean of every reward term; what is not measured on the robot has one bar only."""
    names = [name for name in nominal.terms if nominal.terms[name].any() or robot.terms[name].any()]
    place = np.arange(len(names))
    with look():
        figure, [ax] = panels(1, row_in=0.24 * len(names) + 0.6)
        for trace, shift, colour, label in ((robot, 0.2, BLUE, ROBOT), (nominal, -0.2, MUTED, SIMULATION)):
            ax.barh(place + shift, [trace.terms[n].mean() for n in names], 0.36, color=colour, label=label)
        for y, name in zip(place, names, strict=True):
            if np.isnan(robot.terms[name]).any():
                ax.annotate("not measured on the robot", (0, y + 0.2), fontsize=7.5, color=MUTED, va="center",
                            xytext=(4, 0), textcoords="offset points")  # fmt: skip
        ax.set_yticks(place, [name.replace("_", " ") for name in names])
        ax.invert_yaxis()
        ax.set_xscale("symlog", linthresh=0.01)
        ax.axvline(0, color=INK, linewidth=0.8)
        ax.set_xlabel("per second, weighted")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=2, borderaxespad=0)
        return svg(figure)


def _courses(
    ax: Axes, part: slice, period_s: float, real: Floats, simulated: Floats, ends: tuple[Floats, Floats]
) -> None:
    seconds = period_s * np.arange(part.start, part.stop)
    ax.fill_between(seconds, *ends, color=GRID, label=RANDOMISED)
    ax.plot(seconds, simulated, color=MUTED, label=SIMULATION)
    ax.plot(seconds, real, color=BLUE, label=ROBOT)
    ax.set_xlim(seconds[0], seconds[-1])


def _smooth(values: Floats, period_s: float) -> Floats:
    """Means over a sliding 0.2 s."""
    width = max(1, round(0.2 / period_s))
    return np.convolve(values, np.ones(width) / width, mode="same")
