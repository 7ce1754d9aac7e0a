"""Time to safe: from a fault to the gate's verdict, and from that to the registers of the emulated servos."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from robotrl.bench.forks import Forks
from robotrl.bench.safe_cases import APPROACHES, ESTOP, FAULTS, Approach, Fault
from robotrl.bench.safe_run import RISING_S, Decision, Registers, Watched, watch_run
from robotrl.runtime.modes import Mode
from robotrl.runtime.policy import Policy
from robotrl.spec.gate import Level
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import CommandKind, Floats

ANSWERS: Mapping[CommandKind, str] = MappingProxyType(
    {CommandKind.TRACK: "hold", CommandKind.DAMP: "damp", CommandKind.LIMP: "limp"}
)
"""What a command of the gate's is to the servos when there is a fault."""
BY_ITSELF, BY_REARM = "by itself", "re-arm"
"""What it took until the robot followed targets again."""
ESTOP_PERIODS = 2
"""From the operator's emergency stop to the servos."""


_ROUNDING_S = 1e-6
SAME_RAD = 0.001
"""Goals nearer than this are the same: two thirds of a count."""


@dataclass(frozen=True)
class Outcome:
    """What came of one fault in one mode.

    Attributes:
        fault: its name.
        mode: the robot's when it struck.
        detected_s: from the fault to the gate's verdict; None if the gate had nothing to say.
        answer: what the gate then made the servos do.
        safe_s: from the verdict until their registers held it, the longest if there were several verdicts;
            None without a verdict, and if they never did.
        late: they did so later than they must, or the gate ought to have had something to say.
        causes: what the gate saw, by its names.
        stale_s: greatest age of a measurement before the re-arm.
        end: what the servos did just before the re-arm, with the number of them.
        recovery: `by itself`, `re-arm`, or what kept the robot from following targets again.
    """

    fault: str
    mode: str
    detected_s: float | None
    answer: str | None
    safe_s: float | None
    late: bool
    causes: tuple[str, ...]
    stale_s: float
    end: str
    recovery: str


def bench_safe(policy: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Let every fault, and the emergency stop, strike in every mode.

    Args:
        policy: a policy for a robot with Dynamixel servos.
        tell: called with a line of progress.

    Returns:
        What `figures_of` says.

    Raises:
        BadInputError: the policy is for another kind of robot.
        RobotrlError: a run has failed.
    """
    walker = Policy.load(policy)
    robot = load_robot(find_shipped("hardware", walker.contract.robot))
    faults, outcomes = (*FAULTS, ESTOP), list[Outcome]()
    for approach in APPROACHES:
        tell(f"{approach.mode.value}: what strikes {', '.join(sorted(approach.senses))}")
        outcomes += measure(robot, walker, approach, faults)
    order = [fault.name for fault in faults]
    outcomes.sort(key=lambda outcome: order.index(outcome.fault))
    return figures_of(outcomes, robot.control.period_s)


def measure(robot: RobotSpec, policy: Policy, approach: Approach, faults: Sequence[Fault]) -> list[Outcome]:
    """Let each of the faults that may follow an approach strike the very same robot.

    Args:
        robot: the robot, with Dynamixel servos.
        policy: may drive it.
        approach: how it gets into its mode.
        faults: what strikes.
    """
    fitting = [fault for fault in faults if fault.senses in approach.senses]
    if not fitting:
        return []
    forks = Forks(fitting)
    chosen: list[Fault] = []

    def part() -> Fault:
        chosen.append(forks.part())
        return chosen[0]

    def journey() -> dict[str, Any]:
        seen = watch_run(robot, policy, approach, part)
        return dataclasses.asdict(judge(chosen[0], approach.mode, seen, robot.control.period_s))

    return [Outcome(**{**report, "causes": tuple(report["causes"])}) for report in forks.run(journey)]


def judge(fault: Fault, mode: Mode, seen: Watched, period_s: float) -> Outcome:
    """Return what came of a fault.

    Args:
        fault: what struck.
        mode: the robot's when it did.
        seen: the run.
        period_s: of the control loop.
    """
    before = [decision for decision in seen.decisions if decision.time_s < seen.struck_s][-1]
    struck = [d for d in seen.decisions if seen.struck_s <= d.time_s < seen.rearm_s]
    registers = [r for r in seen.registers if r.time_s < seen.rearm_s]
    answers = list(_answers(before, struck))
    waits_s = _waits_s(answers, registers, seen.rearm_s)
    detected_s = answers[0].time_s - seen.struck_s if answers else None
    safe_s = max(waits_s, default=None)
    return Outcome(
        fault.name,
        mode.value,
        detected_s,
        ANSWERS[answers[0].kind] if answers else None,
        None if safe_s is None or math.isinf(safe_s) else safe_s,
        _late(fault, detected_s, safe_s, period_s),
        tuple(sorted(answers[-1].verdict.causes - before.verdict.causes)) if answers else (),
        max(decision.stale_s for decision in struck),
        posture(registers[-1]),
        _recovery(mode, seen, bool(answers)),
    )


def _answers(before: Decision, struck: Sequence[Decision]) -> Iterator[Decision]:
    """Each decision that stops the robot more than the ones before, or for one more reason."""
    for last, now in pairwise((before, *struck)):
        running = last.verdict.level < Level.HOLD
        news = running or now.verdict.causes - last.verdict.causes or now.kind > last.kind
        if now.verdict.level >= Level.HOLD and news:
            yield now


def _waits_s(answers: Sequence[Decision], registers: Sequence[Registers], rearm_s: float) -> list[float]:
    """How long the servos took for each answer, up to the next one."""
    ends_s = [*(answer.time_s for answer in answers[1:]), rearm_s]
    waits_s = []
    for answer, end_s in zip(answers, ends_s, strict=False):
        while_it_held = [r for r in registers if answer.time_s <= r.time_s < end_s]
        waits_s.append(safe_after(answer, while_it_held))
    return waits_s


def _late(fault: Fault, detected_s: float | None, safe_s: float | None, period_s: float) -> bool:
    """Whether the servos did too late what the gate had decided or the operator wanted, or nobody decided."""
    if fault is ESTOP:
        whole_s = math.inf if detected_s is None or safe_s is None else detected_s + safe_s
        return whole_s > ESTOP_PERIODS * period_s + _ROUNDING_S
    if detected_s is None or safe_s is None:
        return not fault.tolerable
    return safe_s > period_s + _ROUNDING_S


def safe_after(answer: Decision, registers: Sequence[Registers]) -> float:
    """Return how long after it the servos do for good what an answer of the gate's means; infinite if never.

    Held are servos whose goal is moved no more, unless to where they are to hold: one that could not be
    reached for a while. One that has stopped itself may move its own.

    Args:
        answer: the gate's.
        registers: from then on.
    """
    if answer.kind is CommandKind.TRACK:
        wrong = [now for before, now in pairwise(registers) if _moved(before, now, answer.target_rad)]
    elif answer.kind is CommandKind.DAMP:
        wrong = [now for now in registers if now.driven.any()]
    else:
        wrong = [now for now in registers if now.torque.any()]
    if not wrong:
        return 0.0
    right = [now.time_s for now in registers if now.time_s > wrong[-1].time_s]
    return right[0] - answer.time_s if right else math.inf


def _moved(before: Registers, now: Registers, held_rad: Floats) -> bool:
    """Whether the host has moved the goal of a servo that follows it to where it is not to hold."""
    follows = before.driven & now.driven & ~now.tripped
    away = (before.goal_rad != now.goal_rad) & (np.abs(now.goal_rad - held_rad) > SAME_RAD)
    return bool((follows & away).any())


def posture(registers: Registers) -> str:
    """Say what the servos do, as `11 driven, 1 off`; without numbers where all do the same."""
    stopped = registers.driven & registers.tripped
    does = {
        "driven": registers.driven & ~stopped,
        "stopped itself": stopped,
        "damped": registers.torque & ~registers.stiff,
        "off": ~registers.torque,
    }
    found = {name: int(servos.sum()) for name, servos in does.items() if servos.any()}
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{count} {name}" for name, count in found.items())


def _recovery(mode: Mode, seen: Watched, stopped: bool) -> str:
    """Whether the robot follows targets again, and what it took."""
    if not stopped and mode not in (Mode.HOLD, Mode.DAMP):
        return BY_ITSELF
    last = [d for d in seen.decisions if d.time_s < seen.rearm_s + RISING_S][-1]
    held = [r for r in seen.registers if r.time_s <= last.time_s][-1]
    if last.verdict.level >= Level.HOLD:
        return str(last.verdict)
    return BY_REARM if held.driven.all() and last.kind is CommandKind.TRACK else posture(held)


def figures_of(outcomes: Sequence[Outcome], period_s: float) -> dict[str, Any]:
    """Return what `robotrl bench safe` prints.

    Args:
        outcomes: of every fault in every mode.
        period_s: of the control loop.
    """
    faults = [one for one in outcomes if one.fault != ESTOP.name]
    stops = [one for one in outcomes if one.fault == ESTOP.name]
    return {
        "period_s": period_s,
        "cases": len(outcomes),
        "late": sum(one.late for one in outcomes),
        "ridden_through": sum(one.detected_s is None for one in outcomes),
        "safe_s": max(one.safe_s or 0.0 for one in faults),
        "estop_s": max(((one.detected_s or 0.0) + (one.safe_s or 0.0) for one in stops), default=None),
        "outcomes": [dataclasses.asdict(one) for one in outcomes],
    }
