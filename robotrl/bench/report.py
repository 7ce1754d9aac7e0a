"""`robotrl report`: reads a run's folder, computes its facts and writes report.html."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from robotrl.bench import figures, gait
from robotrl.bench.facts import UNPLUG, WATCHDOG, Facts
from robotrl.bench.flight import MOVING_COMMAND, Event, Truth, Window, longest, steady
from robotrl.bench.folder import Run
from robotrl.bench.page import Card, cards, colour_key, film, page, section, table
from robotrl.bench.style import LEVEL_COLOURS
from robotrl.spec.robot import RobotSpec

FILM_FRAMES = 6
FILM = gait.View("side", 0.055, 31.0, (480, 270))
MOVING = gait.View("hero", 0.0, 31.0, (768, 340))
MOVING_S = 2.4
MOVING_FRAME_S = 0.06
"""About 16 pictures a second: smooth enough, and a few seconds to render in software."""

DETAIL_S = 2.0
"""Length of the window in which single steps are shown."""

CURVES = (
    ("step_reward", "reward per step"),
    ("reward/track_velocity", "reward for velocity"),
    ("episode_length_s", "length of an episode, s"),
)
"""Keys of metrics.jsonl and the titles of their panels."""

BEFORE_PULL_S, AFTER_PULL_S = 0.15, 0.45


def write_report(run: Run, facts: Facts, file: Path) -> None:
    """Write the page."""
    title = f"{run.robot.name}: from training to the wire"
    subtitle = (
        "A policy trained in simulation, exported as one ONNX file, run by the robot's own loop behind the "
        "safety gate, over a serial line that speaks the servos' protocol."
    )
    file.write_text(page(title, subtitle, _body(run, facts)), encoding="utf-8")


def _body(run: Run, facts: Facts) -> Iterator[str]:
    yield cards(_cards(run, facts))
    milestones = [event for event in run.events if not event.name.startswith(WATCHDOG)]
    walked = _walking_window(run)
    if run.truth and walked:
        yield _gait(run.robot, run.truth, walked)
    if run.truth:
        yield section(
            "Commanded and true velocity",
            "What the operator asked for and what the body really did. Dashed lines are events.",
            figures.velocity(run.flight, run.truth, milestones),
        )
    yield _gate(run, milestones)
    if run.truth and facts.cable:
        yield _pulled(run, run.truth)
    if walked:
        detail = Window(max(walked.start_s, walked.end_s - DETAIL_S), walked.end_s)
        if run.truth:
            yield section(
                "Feet",
                "Which foot stands when, and how high each is lifted.",
                figures.feet(run.truth, detail),
            )
        yield section(
            "Joints",
            "Targets that the gate let through and positions that the servos measured.",
            figures.joints(run.flight, detail),
        )
    yield section(
        "Time of one tick",
        "Reading all servos and the IMU, inference, the gate, and writing the targets. Logarithmic counts.",
        figures.ticks(run.flight),
    )
    if run.training:
        yield _learning(run.training)
    yield section("Where it comes from", "Enough to do it again.", table(run.about))


def _cards(run: Run, facts: Facts) -> Iterator[Card]:
    if walk := facts.walk:
        yield Card(
            "velocity error",
            f"{walk.error_vx_m_s:.3f} / {walk.error_vy_m_s:.3f} m/s",
            f"forward / sideways, and {walk.error_wz_rad_s:.2f} rad/s in turning",
        )
    loop = facts.loop
    yield Card(
        "control loop",
        f"{loop.missed_deadlines} of {loop.ticks} late",
        f"{loop.period_ms:g} ms period; a tick takes {loop.tick_p50_ms:.1f} ms, 99 % of them less than "
        f"{loop.tick_p99_ms:.1f} ms",
    )
    if cable := facts.cable:
        yield Card(
            "cable pulled in mid-walk",
            f"noticed in {cable.noticed_ms:.0f} ms",
            f"gate: {cable.reaction} after {cable.reacted_ms:.0f} ms; servos stop by their own watchdog "
            f"after {cable.servos_stopped_ms:.0f} ms; plugged in again the joints move "
            f"{cable.moved_after_plug_rad:.3f} rad before re-arm",
        )
    if run.training:
        last = run.training[-1]
        yield Card(
            "training", f"{last['seconds']:.0f} s", f"{last['steps'] / 1e6:.2f} million steps from zero"
        )


def _walking_window(run: Run) -> Window | None:
    """The longest steady walk forward, or any other direction where there was none."""
    calm, ahead = steady(run.flight), run.flight.velocity_command[:, 0] > MOVING_COMMAND
    chosen = calm & ahead if (calm & ahead).any() else calm
    return longest(chosen, run.flight.stamp_s, at_most_s=MOVING_S)


def _gait(robot: RobotSpec, truth: Truth, walked: Window) -> str:
    cycle = gait.stride(truth, walked)
    stamps = np.linspace(cycle.start_s, cycle.end_s, FILM_FRAMES, endpoint=False)
    qpos = gait.postures(truth, stamps)
    pictures = gait.render(robot, qpos, FILM)
    captions = [f"{1e3 * (stamp - cycle.start_s):.0f} ms" for stamp in stamps]
    title, caption = "The gait", "One stride, from touch-down to touch-down of the front left foot."
    if not pictures.frames:
        caption += f" Drawn as lines: {pictures.problem}."
        return section(title, caption, figures.stick_figures(gait.stick_figures(robot, qpos)))
    seen = np.arange(walked.start_s, walked.end_s, MOVING_FRAME_S)
    moving = gait.render(robot, gait.postures(truth, seen), MOVING)
    stills = [(gait.still(f), c) for f, c in zip(pictures.frames, captions, strict=True)]
    return section(title, caption, film(stills, gait.moving(moving.frames, MOVING_FRAME_S)))


def _gate(run: Run, milestones: Sequence[Event]) -> str:
    limits = sorted({cause for causes in run.flight.causes for cause in causes})
    caption = "What the safety gate did with each tick's request. "
    caption += f"Keys of robot.toml that it named: {', '.join(limits)}." if limits else "It never intervened."
    return section("The gate", caption, figures.gate(run.flight, milestones))


def _pulled(run: Run, truth: Truth) -> str:
    pulled = next(e.stamp_s for e in run.events if e.name.startswith(UNPLUG))
    window = Window(pulled - BEFORE_PULL_S, pulled + AFTER_PULL_S)
    return section(
        "The pulled cable",
        "The serial cable between computer and servos is pulled while the robot walks. Background: the "
        "gate's level. Dashed: the pull, and each servo stopping by its own bus watchdog.",
        colour_key({level.lower(): colour for level, colour in LEVEL_COLOURS.items()}),
        figures.unplugged(run.flight, truth, _watchdogs_as_one(run.events), window),
    )


def _learning(rows: Sequence[dict[str, float]]) -> str:
    curves = [(key, title) for key, title in CURVES if any(key in row for row in rows)]
    return section(
        "Learning",
        "The training that made this policy, over wall-clock time.",
        figures.learning(rows, curves),
    )


def _watchdogs_as_one(events: Sequence[Event]) -> list[Event]:
    """The servos of one bus stop together: one line says it."""
    tripped = [event for event in events if event.name.startswith(WATCHDOG)]
    others = [event for event in events if not event.name.startswith(WATCHDOG)]
    return others + [Event(event.stamp_s, f"{len(tripped)} servos stopped") for event in tripped[-1:]]
