"""The report's figures, each drawn from a recorded run and returned as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from robotrl.bench.flight import FOOT_DOWN_N, POLICY, Event, Flight, Truth, Window, smooth_velocity
from robotrl.bench.style import BLUE, GREEN, INK, LEVEL_COLOURS, MUTED, ORANGE, RED, look, panels, svg
from robotrl.spec.state import Floats

FEET = ("FL", "FR", "RL", "RR")


def velocity(flight: Flight, truth: Truth, events: Sequence[Event]) -> str:
    """Commanded against true body velocity over the whole run."""
    smooth = smooth_velocity(truth)
    raw = np.column_stack([truth.base_lin_vel_b[:, :2], truth.base_ang_vel_b[:, 2]])
    with look():
        figure, axes = panels(3, row_in=1.5)
        labels = ("forward  m/s", "sideways  m/s", "turn  rad/s")
        for axis, (ax, label) in enumerate(zip(axes, labels, strict=True)):
            seconds = truth.stamp_s - flight.start_s
            ax.plot(seconds, raw[:, axis], color=BLUE, alpha=0.25, linewidth=0.7)
            ax.plot(seconds, smooth[:, axis], color=BLUE, label="true (0.2 s mean; thin: instantaneous)")
            ax.step(
                flight.stamp_s - flight.start_s,
                np.where(np.array(flight.mode) == POLICY, flight.velocity_command[:, axis], np.nan),
                color=ORANGE,
                where="post",
                label="commanded",
            )
            ax.set_ylabel(label)
            ax.set_xlim(0, seconds[-1])
            _mark(ax, events, flight.start_s, named=axis == 0)
        axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1.45), ncols=2, borderaxespad=0)
        axes[-1].set_xlabel("s")
        return svg(figure)


def joints(flight: Flight, window: Window) -> str:
    """Joint targets against measured positions, one panel a joint, over a short window."""
    chosen = (flight.stamp_s >= window.start_s) & (flight.stamp_s <= window.end_s)
    seconds = flight.stamp_s[chosen] - window.start_s
    with look():
        columns = 3
        figure, axes = panels(-(-len(flight.joint_names) // columns), columns, row_in=1.15)
        for joint, name in enumerate(flight.joint_names):
            ax = axes[joint]
            ax.step(
                seconds, flight.joint_target_rad[chosen, joint], color=ORANGE, where="post", linewidth=1.1
            )
            ax.plot(seconds, flight.joint_pos_rad[chosen, joint], color=BLUE)
            ax.set_title(name.replace("_", " "), fontsize=9)
        axes[0].set_ylabel("rad")
        for ax in axes[-columns:]:
            ax.set_xlabel("s")
        figure.legend(
            [axes[0].lines[0], axes[0].lines[1]],
            ["target sent", "measured"],
            loc="outside upper left",
            ncols=2,
        )
        return svg(figure)


def ticks(flight: Flight) -> str:
    """Histogram of the time that one tick took, with the control period as its limit."""
    work_ms, limit_ms = 1e3 * flight.work_s, 1e3 * flight.period_s
    with look():
        figure, [ax] = panels(1, row_in=2.2)
        ax.hist(work_ms, bins=np.linspace(0, 1.1 * max(limit_ms, work_ms.max()), 120).tolist(), color=BLUE)
        ax.set_yscale("log")
        ax.axvline(limit_ms, color=RED)
        ax.annotate(
            f"deadline {limit_ms:g} ms", (limit_ms, 0.92), xycoords=("data", "axes fraction"), color=RED,
            ha="right", xytext=(-6, 0), textcoords="offset points",
        )  # fmt: skip
        for share in (50, 99):
            value = float(np.percentile(work_ms, share))
            ax.axvline(value, color=MUTED, linestyle=":", linewidth=1.2)
            ax.annotate(
                f"p{share} {value:.1f} ms", (value, 0.92 - 0.14 * (share == 99)),  # noqa: PLR2004
                xycoords=("data", "axes fraction"), color=INK, xytext=(5, 0), textcoords="offset points",
            )  # fmt: skip
        ax.set_xlabel("ms from the start of a tick to its last write")
        ax.set_ylabel("ticks")
        return svg(figure)


def gate(flight: Flight, events: Sequence[Event]) -> str:
    """The gate's verdict over the whole run: one row a level, and the causes that raised it."""
    with look():
        figure, [ax] = panels(1, row_in=2.0)
        seconds = flight.stamp_s - flight.start_s
        for row, level in enumerate(LEVEL_COLOURS):
            chosen = np.array(flight.level) == level
            spans = [(start, flight.period_s) for start in seconds[chosen]]
            ax.broken_barh(_merge(spans), (row - 0.36, 0.72), facecolors=LEVEL_COLOURS[level])
        ax.set_yticks(range(len(LEVEL_COLOURS)), [level.lower() for level in LEVEL_COLOURS])
        ax.set_ylim(-0.6, len(LEVEL_COLOURS) - 0.4)
        ax.set_xlim(0, seconds[-1])
        ax.set_xlabel("s")
        _mark(ax, events, flight.start_s, named=True)
        return svg(figure)


def unplugged(flight: Flight, truth: Truth, events: Sequence[Event], window: Window) -> str:
    """The moment in which the bus cable is pulled: age of the measurements, gate, servos, motion."""
    with look():
        figure, [age, motion] = panels(2, row_in=1.6)
        chosen = (flight.stamp_s >= window.start_s) & (flight.stamp_s <= window.end_s)
        stamp = flight.stamp_s[chosen]
        ms = 1e3 * (stamp - window.start_s)
        age.step(ms, 1e3 * np.minimum(flight.joint_age_s[chosen], 9.9), color=INK, where="post")
        age.set_ylabel("oldest joint\nmeasurement  ms")
        for start, level in zip(ms, np.array(flight.level)[chosen], strict=True):
            age.axvspan(start, start + 1e3 * flight.period_s, color=LEVEL_COLOURS[level], alpha=0.55, lw=0)
        true = truth.between(window.start_s, window.end_s)
        speed = np.gradient(truth.qpos[:, 7:], truth.stamp_s, axis=0)[true]
        motion.plot(1e3 * (truth.stamp_s[true] - window.start_s), speed, color=BLUE, linewidth=0.8, alpha=0.7)
        motion.set_ylabel("true joint\nspeed  rad/s")
        motion.set_xlabel("ms")
        inside = [e for e in events if window.start_s <= e.stamp_s <= window.end_s]
        for ax in (age, motion):
            ax.set_xlim(0, 1e3 * (window.end_s - window.start_s))
            _mark(ax, inside, window.start_s, named=ax is age, unit=1e3)
        return svg(figure)


def feet(truth: Truth, window: Window) -> str:
    """Foot-contact diagram and foot heights over a short window of walking."""
    chosen = truth.between(window.start_s, window.end_s)
    seconds = truth.stamp_s[chosen] - window.start_s
    sample_s = float(np.median(np.diff(truth.stamp_s)))
    colours = (BLUE, ORANGE, GREEN, RED)
    with look():
        figure, [contact, height] = panels(2, row_in=1.6)
        for foot, (name, colour) in enumerate(zip(FEET, colours, strict=True)):
            row = len(FEET) - 1 - foot
            down = truth.foot_touch_n[chosen, foot] > FOOT_DOWN_N
            spans = _merge([(start, sample_s) for start in seconds[down]])
            contact.broken_barh(spans, (row - 0.34, 0.68), facecolors=colour)
            height.plot(
                seconds, 1e3 * truth.foot_height_m[chosen, foot], color=colour, label=name, linewidth=1.2
            )
        contact.set_yticks(range(len(FEET)), FEET[::-1])
        contact.set_title("feet on the ground")
        height.set_title("foot height")
        height.set_ylabel("mm")
        height.set_xlabel("s")
        height.set_xlim(0, window.end_s - window.start_s)
        return svg(figure)


def learning(rows: Sequence[dict[str, float]], curves: Sequence[tuple[str, str]]) -> str:
    """Curves of training over wall-clock seconds, one panel each.

    Args:
        rows: lines of metrics.jsonl with the key `seconds`.
        curves: (key, title) of the panels.
    """
    with look():
        figure, axes = panels(1, len(curves), row_in=2.2)
        for ax, (key, title) in zip(axes, curves, strict=True):
            points = np.array([(row["seconds"], row[key]) for row in rows if key in row])
            ax.plot(points[:, 0], points[:, 1], color=BLUE)
            ax.set_title(title)
            ax.set_xlabel("s of training")
        return svg(figure)


def stick_figures(figures: Sequence[Floats]) -> str:
    """Postures side by side as lines seen from the side, for where no renderer is available.

    Args:
        figures: for each posture its (K, 2, 2) lines: ends, x and z in m.
    """
    with look():
        figure, axes = panels(1, len(figures), row_in=1.8, share_y=True)
        for ax, lines in zip(axes, figures, strict=True):
            ax.plot(*lines.transpose(2, 1, 0), color=INK, linewidth=2)
            ax.axhline(0, color=MUTED)
            ax.set_aspect("equal")
            ax.set_axis_off()
        return svg(figure)


def _mark(ax: Axes, events: Sequence[Event], zero_s: float, *, named: bool, unit: float = 1.0) -> None:
    """Draw each event as a vertical line, and its name above the axes, in two rows where crowded."""
    low, high = ax.get_xlim()
    previous, row = -np.inf, 0
    for event in sorted(events, key=lambda event: event.stamp_s):
        at = (event.stamp_s - zero_s) * unit
        ax.axvline(at, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
        if named:
            row = (row + 1) % 3 if at - previous < 0.09 * (high - low) else 0
            previous = at
            ax.annotate(
                event.name, (at, 1.0), xycoords=("data", "axes fraction"), fontsize=8, color=INK,
                xytext=(2, 2 + 10 * row), textcoords="offset points", annotation_clip=True,
            )  # fmt: skip


def _merge(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Join (start, length) spans that touch, so that the drawing stays small."""
    joined: list[tuple[float, float]] = []
    for start, length in spans:
        if joined and start - sum(joined[-1]) < 0.5 * length:
            joined[-1] = (joined[-1][0], start + length - joined[-1][0])
        else:
            joined.append((start, length))
    return joined
