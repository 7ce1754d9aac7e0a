"""`robotrl report --against`: how far the robot is from the simulation that its policy was trained in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robotrl.bench import transfer_figures as figures
from robotrl.bench.flight import Truth, read_truth
from robotrl.bench.folder import TRUTH
from robotrl.bench.page import Card, cards, grid, page, section, table
from robotrl.bench.resimulate import Resimulation, Training, find_training, training_env
from robotrl.bench.stretch import Stretch, longest_stretch
from robotrl.bench.transfer import (
    SHOWN,
    ChannelFigures,
    Trace,
    channel_figures,
    measured_terms,
    ranges,
    recorded_trace,
    response_ms,
    simulated_trace,
    tracking_errors,
)
from robotrl.errors import SimulationError
from robotrl.runtime.recording import CONTRACT_NAME, Recording, attached_robot, read_recording
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import Floats

RANDOMISED_WORLDS = 16
SAME_RAD = 1e-3
"""Answers of one policy differ by less from network to file and computer to computer."""
UNITS = {"joint_pos": "rad", "joint_vel": "rad/s", "gravity": "1", "imu_gyro": "rad/s"}
FOOTER = (
    "Written by robotrl report. The robot's side is drawn from the recording, the other one from the "
    "training simulation under the same commands, from the recorded posture."
)


@dataclass(frozen=True)
class Side:
    """Figures of the robot, or of the simulation.

    Attributes:
        response_ms: delay of the joints behind their targets.
        error_vx_m_s: mean of |commanded - true|; NaN where not measured, as on a robot without an emulator.
        error_vy_m_s: the same.
        error_wz_rad_s: the same.
        torque_rms_nm: over all joints.
        torque_max_nm: largest of any joint.
        reward_per_s: sum of the terms that are measured on the robot.
        terms_per_s: mean of each term.
    """

    response_ms: float
    error_vx_m_s: float
    error_vy_m_s: float
    error_wz_rad_s: float
    torque_rms_nm: float
    torque_max_nm: float
    reward_per_s: float
    terms_per_s: dict[str, float]


@dataclass(frozen=True)
class TransferFacts:
    """What the page says in numbers.

    Attributes:
        seconds: how long both walked.
        simulation_fell: whether it ended because the simulated robot fell.
        resolution_ms: of the delays: the policy's period; between two steps they are interpolated.
        answers_differ_rad: of the compared policy from the recorded one, on the recorded channels.
        channels: name -> figures.
        temperature_max_c: of any servo.
    """

    seconds: float
    simulation_fell: bool
    resolution_ms: float
    answers_differ_rad: float
    channels: dict[str, ChannelFigures]
    robot: Side
    simulation: Side
    unmeasured_terms: tuple[str, ...]
    temperature_max_c: float

    @property
    def same_policy(self) -> bool:
        """Whether the compared policy answers as the recorded one did, but for rounding."""
        return self.answers_differ_rad < SAME_RAD


@dataclass(frozen=True)
class Transfer:
    """A robot's walk and its simulations.

    Attributes:
        low: channel -> (T, k) lowest value among randomised simulations.
        high: the highest.
    """

    spec: RobotSpec
    training: Training
    stretch: Stretch
    robot: Trace
    nominal: Trace
    low: Mapping[str, Floats]
    high: Mapping[str, Floats]
    facts: TransferFacts
    about: tuple[tuple[str, str], ...]


def compare(file: Path, against: str) -> Transfer:
    """Let the training simulation do what a recorded robot did.

    Args:
        file: the recording; an emulator's truth.npz beside it is used too.
        against: a training run's folder, or a policy; see `find_training`.

    Raises:
        BadInputError: recording, run or policy cannot be read or are of different robots.
        SimulationError: the simulated robot falls at once.
    """
    recording = read_recording(file)
    spec = attached_robot(recording, file)
    stretch = longest_stretch(recording, spec)
    training = find_training(against, spec)
    env = training_env(training, 1, randomized=False)
    nominal = simulated_trace(Resimulation(env, stretch).run(training.driver(1)), env.task)
    truth = _truth_of(file, stretch)
    recomputed = recorded_trace(stretch, spec, env, training.driver(1), truth)
    robot, nominal = _same_length(recomputed.trace, nominal)
    wide = training_env(training, RANDOMISED_WORLDS, randomized=True)
    low, high = ranges(Resimulation(wide, stretch).run(training.driver(RANDOMISED_WORLDS)), len(robot))
    fell = len(nominal) < len(recomputed.trace)
    measured = measured_terms(robot)
    facts = TransferFacts(
        seconds=len(robot) * stretch.period_s,
        simulation_fell=fell,
        resolution_ms=1e3 * stretch.period_s,
        answers_differ_rad=recomputed.answers_differ_rad,
        channels=channel_figures(robot, nominal, low, high, stretch.period_s),
        robot=_side(robot, stretch.period_s, measured),
        simulation=_side(nominal, stretch.period_s, measured),
        unmeasured_terms=tuple(name for name in robot.terms if name not in measured),
        temperature_max_c=float(np.max(stretch.temperature_c)),
    )
    about = tuple(_about(recording, spec, training, facts, truth))
    return Transfer(spec, training, stretch, robot, nominal, low, high, facts, about)


def _truth_of(file: Path, stretch: Stretch) -> Truth | None:
    """The emulator's record beside a recording, if it is of the same time."""
    beside = file.with_name(TRUTH)
    truth = read_truth(beside) if beside.is_file() else None
    if truth is None or not len(truth.stamp_s):
        return None
    covers = truth.stamp_s[0] <= stretch.stamp_s[0] and stretch.stamp_s[-1] <= truth.stamp_s[-1]
    return truth if covers else None


def _same_length(robot: Trace, nominal: Trace) -> tuple[Trace, Trace]:
    """Cut both to the steps that both have."""
    count = min(len(robot), len(nominal))
    if count < 2:  # noqa: PLR2004
        raise SimulationError("the simulated robot falls in its first steps from the recorded posture")
    return robot.cut(count), nominal.cut(count)


def _side(trace: Trace, period_s: float, measured: Iterable[str]) -> Side:
    terms = {name: float(values.mean()) for name, values in trace.terms.items()}
    forward, left, turn = map(float, tracking_errors(trace))
    return Side(
        response_ms=response_ms(trace, period_s),
        error_vx_m_s=forward,
        error_vy_m_s=left,
        error_wz_rad_s=turn,
        torque_rms_nm=float(np.sqrt(np.mean(np.square(trace.torque_nm)))),
        torque_max_nm=float(np.abs(trace.torque_nm).max()),
        reward_per_s=sum(terms[name] for name in measured),
        terms_per_s=terms,
    )


def _about(
    recording: Recording, spec: RobotSpec, training: Training, facts: TransferFacts, truth: Truth | None
) -> Iterator[tuple[str, str]]:
    contract = json.loads(recording.attachments.get(CONTRACT_NAME, b"{}"))
    recorded = contract.get("provenance", {}).get("config")
    yield "robot", f"{spec.name}: {len(spec.joint)} joints at {spec.control.rate_hz:g} Hz"
    yield "compared with", training.name
    same = "the same as" if recorded == training.job.config_text else "another one than"
    yield "training configuration", f"{same} the recorded policy's" if recorded else "not in the recording"
    yield (
        "its policy on the recorded channels",
        f"answers at most {facts.answers_differ_rad:.2g} rad from the recorded answers",
    )
    yield "compared for", f"{facts.seconds:.1f} s" + " (then the simulation fell)" * facts.simulation_fell
    yield (
        "robot's velocity and contacts",
        "from the emulator's record of what was true"
        if truth
        else "not measured; its turn rate is the gyro's",
    )
    yield "robot's torque", "from the drive that the servos report, their voltage and their speed"
    yield "randomised simulations", f"{RANDOMISED_WORLDS} robots as in training, without pushes"


def write_transfer_report(transfer: Transfer, file: Path) -> None:
    """Write the page."""
    title = f"{transfer.spec.name}: robot and training simulation"
    policy = "the same policy" if transfer.facts.same_policy else "another policy"
    subtitle = (
        f"The recorded walk beside {policy} under the same commands in the simulation that it was trained "
        "in, both from the same posture."
    )
    file.write_text(page(title, subtitle, _body(transfer), FOOTER), encoding="utf-8")


def _body(t: Transfer) -> Iterator[str]:
    names, period_s = t.spec.joint_names, t.stretch.period_s
    angles = figures.joints(names, t.robot, t.nominal, t.low, t.high, period_s)
    yield cards(_cards(t.facts))
    yield section(
        "Channels",
        "Difference at equal times, and how much later the robot's course is than the simulation's: the peak "
        f"of their cross-correlation, interpolated between steps of {t.facts.resolution_ms:g} ms.",
        _channel_table(t.facts),
    )
    yield section("Joint angles", "Both in the middle of the walk.", angles)
    yield section(
        "Attitude",
        "Direction of gravity in the body, and turn rates, in the same window.",
        figures.attitude(t.robot, t.nominal, t.low, t.high, period_s),
    )
    yield section(
        "Velocity",
        "Commanded, and what both did. What is missing was not measured on the robot.",
        figures.tracking(t.robot, t.nominal, period_s),
    )
    heat = t.stretch.temperature_c[0], t.stretch.temperature_c[-1]
    yield section(
        "Torque and temperature",
        f"Each joint's torque over the walk: {t.facts.robot.torque_rms_nm:.2f} N m rms over all on the "
        f"robot, {t.facts.simulation.torque_rms_nm:.2f} N m in the simulation, which knows no temperatures.",
        figures.effort(names, t.robot, t.nominal, t.spec.limits.torque_nm, heat),
    )
    yield section("Reward", _reward_caption(t.facts), figures.rewards(t.robot, t.nominal))
    yield section("Where it comes from", "Enough to do it again.", table(t.about))


def _cards(facts: TransferFacts) -> Iterator[Card]:
    robot, simulation, joints = facts.robot, facts.simulation, facts.channels["joint_pos"]
    yield Card(
        "joint angles",
        f"{joints.rmse:.3f} rad apart",
        f"rms; {100 * joints.inside:.0f} % of values within the range of randomised simulations",
    )
    responses = (
        f"robot {_or_none(robot.response_ms, '.0f')}, simulation {_or_none(simulation.response_ms, '.0f')}"
    )
    yield Card(
        "delay of the joints",
        _or_none(robot.response_ms - simulation.response_ms, "+.0f"),
        f"behind their targets: {responses}",
    )
    yield Card(
        "turn rate error",
        f"{robot.error_wz_rad_s:.3f} rad/s",
        f"from the command; simulation {simulation.error_wz_rad_s:.3f} rad/s",
    )
    yield Card(
        "reward of measured terms",
        f"{robot.reward_per_s:+.2f} per s",
        f"simulation {simulation.reward_per_s:+.2f} per s for the same terms",
    )


def _or_none(delay_ms: float, digits: str) -> str:
    """A delay in words; there is none between courses that are not alike."""
    return "none found" if math.isnan(delay_ms) else f"{delay_ms:{digits}} ms"


def _channel_table(facts: TransferFacts) -> str:
    header = ("channel", "unit", "rms error", "rms movement", "delay", "correlation", "in range")
    rows = []
    for name in SHOWN:
        c = facts.channels[name]
        figures_of = (
            f"{c.rmse:.4f}",
            f"{c.spread:.4f}",
            _or_none(c.delay_ms, "+.1f"),
            f"{c.correlation:.3f}",
        )
        rows.append((name, UNITS[name], *figures_of, f"{100 * c.inside:.1f} %"))
    return grid(header, rows)


def _reward_caption(facts: TransferFacts) -> str:
    every = "Mean of each term of the task's reward, weighted."
    if not facts.unmeasured_terms:
        return every
    return f"{every} On the robot these cannot be computed: {', '.join(facts.unmeasured_terms)}."
