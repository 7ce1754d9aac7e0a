"""What `robotrl bench safe` calls detected, safe, late and ridden through, and two real runs of it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from robotrl.bench.safe import Outcome, figures_of, judge, measure, posture
from robotrl.bench.safe_cases import APPROACHES, ESTOP, FAULTS, Fault
from robotrl.bench.safe_run import Decision, Registers, Watched
from robotrl.bench.safe_table import LATE, draw_safe, safe_rows, safe_tables
from robotrl.bench.table import safe_table
from robotrl.cli.bench import Bench
from robotrl.emulator.faults import FaultScript
from robotrl.runtime.modes import Mode
from robotrl.runtime.policy import Policy
from robotrl.spec.gate import Level, Verdict
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import CommandKind
from tests.emulator.host import quad12

PERIOD_S = 0.02
STRUCK_S, REARM_S = 0.99, 1.2
FAULT = FAULTS[0]
HELD = np.array([0.1, 0.2])
LEVELS = {CommandKind.TRACK: Level.HOLD, CommandKind.DAMP: Level.DAMP, CommandKind.LIMP: Level.LIMP}


def decisions(kind: CommandKind, cause: str = "limits.tilt_rad", mode: Mode = Mode.STAND) -> list[Decision]:
    """Twenty ticks, the third of which after the fault is the first to have the cause."""

    def at(tick: int) -> Decision:
        time_s, struck = 0.9 + tick * PERIOD_S, tick >= 7
        verdict = Verdict(LEVELS[kind], frozenset({cause})) if struck else Verdict()
        return Decision(time_s, mode, kind if struck else CommandKind.TRACK, HELD, verdict, 0.0)

    return [at(tick) for tick in range(20)]


DETECTED_S = 0.9 + 7 * PERIOD_S


def registers(until: Sequence[float], *, torque: bool = True, stiff: bool = False) -> list[Registers]:
    """Each millisecond: servo k follows its goal until `until[k]`, then it is as told."""
    shown = []
    for step in range(round((REARM_S + 0.4 - STRUCK_S) / 0.001)):
        time_s = STRUCK_S + 0.001 * step
        on = np.array([time_s < end_s - 1e-9 for end_s in until])
        shown.append(Registers(time_s, on | torque, on | stiff, np.zeros(2, np.bool_), HELD))
    return shown


def outcome(
    kind: CommandKind, shown: Sequence[Registers], fault: Fault = FAULT, mode: Mode = Mode.STAND
) -> Outcome:
    seen = Watched(STRUCK_S, REARM_S, decisions(kind, mode=mode), shown)
    return judge(fault, mode, seen, PERIOD_S)


def test_a_servo_that_obeys_within_a_period_is_not_late() -> None:
    one = outcome(CommandKind.DAMP, registers((DETECTED_S + 0.001, DETECTED_S + 0.02)))
    assert one.detected_s == pytest.approx(DETECTED_S - STRUCK_S)
    assert one.safe_s == pytest.approx(0.02)
    assert (one.answer, one.late, one.causes) == ("damp", False, ("limits.tilt_rad",))
    assert one.end == "damped"


def test_a_single_servo_that_obeys_later_is_late() -> None:
    one = outcome(CommandKind.DAMP, registers((DETECTED_S, DETECTED_S + 0.022)))
    assert one.safe_s == pytest.approx(0.022)
    assert one.late


@pytest.mark.parametrize("kind", [CommandKind.DAMP, CommandKind.LIMP])
def test_a_servo_that_never_obeys_is_late(kind: CommandKind) -> None:
    one = outcome(kind, registers((DETECTED_S, math.inf), torque=False))
    assert (one.safe_s, one.late, one.end) == (None, True, "1 driven, 1 off")


def test_damped_is_not_limp() -> None:
    assert outcome(CommandKind.LIMP, registers((0.0, 0.0), torque=True)).late
    assert not outcome(CommandKind.LIMP, registers((0.0, 0.0), torque=False)).late


def goals(moves: Sequence[tuple[float, float]], *, tripped: bool = False) -> list[Registers]:
    """Registers of servos that are driven; the first one's goal is moved at each time to an angle."""
    shown = registers((math.inf, math.inf))
    goal_rad = HELD - [0.05, 0.0]
    for i, one in enumerate(shown):
        for time_s, angle_rad in moves:
            if abs(one.time_s - time_s) < 0.0005:
                goal_rad = np.array([angle_rad, HELD[1]])
        flags = np.array([tripped and one.time_s > DETECTED_S, False])
        shown[i] = dataclasses.replace(one, goal_rad=goal_rad, tripped=flags)
    return shown


def test_held_is_a_goal_that_no_longer_moves() -> None:
    early = outcome(CommandKind.TRACK, goals([(DETECTED_S - 0.01, 0.3)]))
    assert (early.safe_s, early.late, early.answer) == (0.0, False, "hold")
    moved = outcome(CommandKind.TRACK, goals([(DETECTED_S + 0.03, 0.3)]))
    assert moved.safe_s == pytest.approx(0.031, abs=1e-9)
    assert moved.late


def test_a_goal_may_come_late_to_where_it_is_held_and_a_servo_may_stop_itself() -> None:
    assert outcome(CommandKind.TRACK, goals([(DETECTED_S + 0.05, HELD[0])])).safe_s == 0.0
    stopped = outcome(CommandKind.TRACK, goals([(DETECTED_S + 0.05, 0.3)], tripped=True))
    assert (stopped.safe_s, stopped.end) == (0.0, "1 driven, 1 stopped itself")


def test_a_fault_that_the_gate_does_not_mind_is_ridden_through() -> None:
    quiet = [dataclasses.replace(d, verdict=Verdict(), stale_s=0.02) for d in decisions(CommandKind.TRACK)]
    seen = Watched(STRUCK_S, REARM_S, quiet, registers((math.inf, math.inf)))
    one = judge(FAULT, Mode.STAND, seen, PERIOD_S)
    assert (one.detected_s, one.answer, one.safe_s, one.late) == (None, None, None, False)
    assert (one.stale_s, one.recovery) == (0.02, "by itself")
    assert judge(FAULTS[1], Mode.STAND, seen, PERIOD_S).late  # which is no fault to be ridden through


def test_what_was_known_before_is_not_detected_again() -> None:
    known = Verdict(Level.DAMP, frozenset({"limits.tilt_rad"}))
    damp = CommandKind.DAMP
    ticks = [dataclasses.replace(d, verdict=known, kind=damp) for d in decisions(damp)]
    seen = Watched(STRUCK_S, REARM_S, ticks, registers((0.0, 0.0)))
    assert judge(FAULT, Mode.DAMP, seen, PERIOD_S).detected_s is None
    more = Verdict(Level.DAMP, known.causes | {"hardware_error"})
    ticks[7] = dataclasses.replace(ticks[7], verdict=more)
    assert judge(FAULT, Mode.DAMP, dataclasses.replace(seen, decisions=ticks), PERIOD_S).causes == (
        "hardware_error",
    )


def test_the_emergency_stop_has_two_periods_in_all() -> None:
    off = {"torque": False, "stiff": False}
    assert outcome(CommandKind.LIMP, registers((0.0, 0.0), **off), ESTOP).late  # detected after 50 ms
    soon = [dataclasses.replace(d, time_s=d.time_s - 0.03) for d in decisions(CommandKind.LIMP)]
    for until_s, late in ((STRUCK_S + 0.038, False), (STRUCK_S + 0.042, True)):
        seen = Watched(STRUCK_S, REARM_S, soon, registers((0.0, until_s), **off))
        assert judge(ESTOP, Mode.STAND, seen, PERIOD_S).late == late
    unseen = [dataclasses.replace(d, verdict=Verdict()) for d in soon]
    seen = Watched(STRUCK_S, REARM_S, unseen, registers((0.0, 0.0), **off))
    assert judge(ESTOP, Mode.STAND, seen, PERIOD_S).late


def test_posture_names_every_servo_once() -> None:
    def shown(torque: list[bool], stiff: list[bool], tripped: list[bool]) -> str:
        return posture(Registers(0.0, np.array(torque), np.array(stiff), np.array(tripped), np.zeros(2)))

    assert shown([True, True], [True, True], [False, False]) == "driven"
    assert shown([True, False], [False, True], [False, True]) == "1 damped, 1 off"
    assert shown([True, True], [True, True], [True, False]) == "1 driven, 1 stopped itself"


def test_the_table_has_a_cell_for_each_mode_and_marks_what_is_late(tmp_path: Path) -> None:
    on_time = outcome(CommandKind.DAMP, registers((DETECTED_S, DETECTED_S + 0.004)))
    late = outcome(CommandKind.DAMP, registers((DETECTED_S, math.inf)), mode=Mode.RISE)
    through = dataclasses.replace(on_time, mode="policy", detected_s=None, answer=None, safe_s=None)
    shown = [on_time, late, dataclasses.replace(through, stale_s=0.02)]
    figures = figures_of(shown, PERIOD_S)
    assert (figures["cases"], figures["late"], figures["ridden_through"]) == (3, 1, 1)
    (row,) = safe_rows(figures)
    assert row[:6] == (FAULT.name, "", "50 + never damp LATE", "50 + 4 damp", "old 20", "")
    assert row[-1] == "DAMP: limits.tilt_rad"
    assert safe_tables(figures)[0].row_count == 1
    (tmp_path / "safe.json").write_text(json.dumps({"figures": figures}))
    (tmp_path / "stall.json").write_text(json.dumps({"figures": {"kill_policy_s": 0.1, "stop_hold_s": 0.2}}))
    *_, cable, killed, stopped, _hung = safe_table(tmp_path).splitlines()
    assert "| 50 + 4 damp | old 20 |" in cable
    assert "| 100 limp |" in killed
    assert "| 200 limp LATE |" in stopped
    draw_safe(figures, tmp_path / "safe.png")
    assert (tmp_path / "safe.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("late", [False, True])
def test_the_command_fails_when_something_is_late(
    late: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one = dataclasses.replace(outcome(CommandKind.DAMP, registers((0.0, 0.0))), late=late)
    monkeypatch.setattr("robotrl.bench.safe.bench_safe", lambda _policy, _tell: figures_of([one], PERIOD_S))
    plot = tmp_path / "safe.png"
    assert Bench(what="safe", plot=plot, json=True).run() == int(late)
    assert json.loads(capsys.readouterr().out)["figures"]["late"] == int(late)
    assert plot.is_file()
    assert Bench(what="safe").run() == int(late)
    assert (LATE in capsys.readouterr().out) == late


def test_every_kind_of_fault_strikes() -> None:
    robot, kinds = quad12(), {field.name for field in dataclasses.fields(FaultScript)} - {"push"}
    scripts = [fault.strike(robot, 1.0, 2.0) for fault in FAULTS]
    assert {kind for script in scripts for kind in kinds if getattr(script, kind)} == kinds
    assert {approach.mode for approach in APPROACHES} == set(Mode)
    for mode in Mode:
        senses = [sense for each in APPROACHES if each.mode is mode for sense in each.senses]
        assert sorted(senses) == ["bus", "imu", "tilt"]


def test_real_runs_in_a_rising_robot() -> None:
    """The cable is out: a missed tick is ridden through, the second one holds. The stop button is quick."""
    rise = next(approach for approach in APPROACHES if approach.mode is Mode.RISE)
    cable = next(fault for fault in FAULTS if fault.name == "bus cable out")
    policy = Policy.load(find_shipped("policies", "quad12_walk"))
    out, stop = measure(quad12(), policy, rise, (cable, ESTOP))
    assert (out.answer, out.causes, out.end) == ("hold", ("limits.joint_stale_s",), "stopped itself")
    assert out.detected_s is not None
    assert 0.03 < out.detected_s < 0.05
    assert (out.safe_s, out.late, out.recovery) == (0.0, False, "re-arm")
    assert (stop.answer, stop.causes, stop.end, stop.late) == ("limp", ("estop",), "off", False)
    assert stop.detected_s is not None
    assert stop.detected_s < 0.02
    assert stop.safe_s is not None
    assert stop.safe_s <= 0.002
