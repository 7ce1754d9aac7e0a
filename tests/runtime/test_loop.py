"""Timelines of the loop: what it does when all is well, and how it ends when it is not."""

from __future__ import annotations

import dataclasses
import gc
import math
import os
import signal
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robotrl.bench.gate_storm import tilted
from robotrl.errors import DeviceError
from robotrl.runtime.operator import Step
from robotrl.runtime.tally import PHASES
from robotrl.spec.robot import EstimatorSpec
from robotrl.spec.state import CommandKind, Floats, JointCommand
from tests.laws.rig import QUAD12, TICK_S
from tests.runtime.fakes import QUICK, WALK, BrokenError, Rig


def test_a_walk_from_limp_to_limp() -> None:
    rig = Rig()
    report = rig.loop.run()
    assert rig.modes == ["rise", "stand", "policy", "park", "limp"]
    assert rig.body.ended_limp
    assert rig.body.calls[0] == "open"
    assert rig.policy.resets == 1
    walking = [t for t in rig.recorder.ticks if t.mode.value == "policy"]
    assert rig.policy.ticks == len(walking) == pytest.approx(0.5 / TICK_S, abs=2)
    assert {tuple(t.commands["velocity_command"]) for t in walking} == {(0.3, 0.0, 0.0), (0.4, 0.0, -1.0)}
    assert report.ticks == len(rig.recorder.ticks)
    assert report.verdicts == {"NONE": report.ticks}
    assert (report.overruns, report.skipped, report.last_mode) == (0, 0, "limp")
    assert report.phases.keys() == {*PHASES, "work", "late"}
    np.testing.assert_allclose(rig.body.pos_rad, QUAD12.park_rad, atol=1e-3)


def test_every_tick_is_one_period_after_the_last() -> None:
    rig = Rig()
    rig.loop.run()
    stamps = [t.now_s for t in rig.recorder.ticks]
    np.testing.assert_allclose(np.diff(stamps), TICK_S, rtol=1e-9)
    assert [t.index for t in rig.recorder.ticks] == list(range(len(stamps)))


def test_an_unarmed_robot_stays_limp_whatever_is_asked() -> None:
    rig = Rig((*WALK[:2], Step(0.6, rearm=True)), armed=False)
    report = rig.loop.run(duration_s=1.0)
    assert report.ticks == pytest.approx(1.0 / TICK_S, abs=1)
    assert {command.kind for command in rig.body.written} == {CommandKind.LIMP}
    assert "rearm" not in rig.body.calls
    assert len(rig.said("refused")) == 3
    assert report.last_mode == "limp"


def test_the_policy_is_refused_before_the_robot_stands() -> None:
    rig = Rig((Step(0.0, mode="stand"), Step(0.2, mode="policy"), Step(0.5, mode="limp")))
    rig.loop.run()
    assert rig.policy.ticks == 0
    assert "'policy' is not possible in mode rise" in rig.said("refused")[0]


def test_the_robot_lies_down_when_time_is_up() -> None:
    rig = Rig()
    rig.loop.run(duration_s=0.7)
    assert rig.modes == ["rise", "stand", "policy", "park", "limp"]
    assert rig.body.ended_limp
    np.testing.assert_allclose(rig.body.pos_rad, QUAD12.park_rad, atol=1e-3)
    assert rig.clock.now_s() == pytest.approx(10.0 + 0.7 + QUICK.control.park_s, abs=0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lays_the_robot_down_and_handlers_come_back(number: signal.Signals) -> None:
    rig = Rig()
    before = signal.getsignal(number)

    def press(now_s: float) -> None:
        if now_s == pytest.approx(10.7, abs=TICK_S / 2 - 1e-6):
            os.kill(os.getpid(), number)

    rig.body.work = press
    rig.loop.run()
    assert "park" in rig.modes
    assert rig.clock.now_s() == pytest.approx(10.7 + QUICK.control.park_s, abs=0.1)
    assert rig.body.ended_limp
    assert signal.getsignal(number) is before


def test_a_second_signal_goes_limp_at_once() -> None:
    rig = Rig()

    def press(now_s: float) -> None:
        if 10.69 <= now_s < 10.9:
            os.kill(os.getpid(), signal.SIGINT)

    rig.body.work = press
    rig.loop.run()
    assert rig.clock.now_s() < 10.8
    assert rig.body.ended_limp


@pytest.mark.parametrize("at_s", [10.1, 10.4, 10.7, 11.1])
@pytest.mark.parametrize("phase", ["read", "write", "infer", "record"])
def test_a_failure_in_any_phase_of_any_mode_ends_limp_and_is_told(phase: str, at_s: float) -> None:
    rig = Rig()
    if phase == "infer":
        rig.policy.fail_at_tick = round((at_s - 10.0) * 20)
    elif phase == "record":
        rig.recorder.fail_at_tick = round((at_s - 10.0) / TICK_S)
    else:
        rig.body.fail_in, rig.body.fail_at_s = phase, at_s
    with pytest.raises(BrokenError):
        rig.loop.run()
    assert rig.body.ended_limp


def test_after_a_policy_failure_the_robot_is_laid_down_first() -> None:
    rig = Rig()
    rig.policy.fail_at_tick = 10
    with pytest.raises(BrokenError):
        rig.loop.run()
    assert rig.modes[-2:] == ["park", "limp"]
    np.testing.assert_allclose(rig.body.pos_rad, QUAD12.park_rad, atol=1e-3)


def test_a_body_that_cannot_even_go_limp_is_closed() -> None:
    rig = Rig()

    def refuse(command: JointCommand) -> None:
        raise BrokenError("write")

    rig.body.write = refuse  # type: ignore[method-assign]
    with pytest.raises(BrokenError):
        rig.loop.run()
    assert rig.body.calls[-1] == "close"


def test_a_body_that_does_not_open_is_closed_and_never_written_to() -> None:
    rig = Rig()
    rig.body.fail_in, rig.body.fail_at_s = "open", -math.inf
    with pytest.raises(BrokenError):
        rig.loop.run()
    assert rig.body.calls == ["close"]
    assert rig.body.written == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"imu_age_s": math.inf}, "the IMU"),
        ({"joint_age_s": np.where(np.arange(12) == 2, np.inf, 0.0)}, "joint FL_knee"),
    ],
)
def test_a_device_that_never_answers_is_named_and_nothing_moves(change: dict[str, Any], said: str) -> None:
    rig = Rig()
    rig.body.change = lambda now_s: change
    with pytest.raises(DeviceError, match=said):
        rig.loop.run()
    assert {command.kind for command in rig.body.written} == {CommandKind.LIMP}
    assert rig.body.ended_limp


BLIND = dataclasses.replace(
    QUICK,
    imu=None,
    limits=dataclasses.replace(
        QUICK.limits, tilt_rad=None, imu_stale_s=None, on_fall=None, estimator_stale_s=0.1
    ),
    estimator=EstimatorSpec("/dev/none", 460800, 100, (), ("nose",)),
)
"""Without an IMU and with an estimator."""
NO_IMU: dict[str, Any] = {"imu_age_s": math.inf, "imu_quat": np.full(4, np.nan)}


def test_an_estimator_is_waited_for_and_an_imu_that_is_not_there_is_not() -> None:
    rig = Rig(robot=BLIND)
    rig.body.change = lambda now_s: NO_IMU | {"estimate_age_s": math.inf}
    with pytest.raises(DeviceError, match=r"no measurement within 2\.0 s from the estimator$"):
        rig.loop.run()
    assert rig.body.ended_limp


def test_what_is_estimated_and_asked_for_reaches_the_policy() -> None:
    rig = Rig(robot=BLIND)
    nose = {"point_pos": np.array([[1.0, 2.0, 3.0]])}
    rig.body.change = lambda now_s: NO_IMU | {"estimate": nose, "estimate_age_s": 0.0}
    seen: list[set[str]] = []
    step = rig.policy.step

    def look(channels: Mapping[str, NDArray[np.floating]]) -> Floats:
        seen.append(set(channels))
        np.testing.assert_array_equal(channels["point_pos"], [[1.0, 2.0, 3.0]])
        return step(channels)

    rig.policy.step = look  # type: ignore[method-assign]
    assert rig.loop.run().verdicts.keys() == {"NONE"}
    assert len(seen) > 10
    assert {"point_pos", "velocity_command", "joint_pos"} <= seen[0]


def test_sensing_that_comes_up_late_is_waited_for() -> None:
    rig = Rig()
    rig.body.change = lambda now_s: {"imu_age_s": math.inf} if now_s < 10.5 else {}
    assert rig.loop.run().verdicts.keys() == {"NONE"}


def test_cable_pulled_in_mid_walk_holds_and_moves_again_only_after_a_rearm() -> None:
    steps = (
        *WALK[:2],
        Step(0.9, mode="policy"),
        Step(1.0, mode="stand"),
        Step(1.2, rearm=True),
        Step(1.3, mode="stand"),
        Step(1.8, mode="limp"),
    )
    rig = Rig(steps)
    lost_s = 10.7
    rig.body.change = lambda now_s: (
        {"joint_age_s": np.full(12, max(0.0, now_s - lost_s))} if now_s < 10.9 else {}
    )
    report = rig.loop.run()
    assert rig.modes == ["rise", "stand", "policy", "hold", "rise", "stand", "park", "limp"]
    ticks = rig.recorder.ticks
    first = next(t for t in ticks if t.verdict.level.name == "HOLD")
    assert first.now_s - lost_s <= 2 * TICK_S + 1e-9
    assert first.verdict.causes == {"limits.joint_stale_s"}
    rearmed = next(t for t in ticks if t.rearmed)
    assert rearmed.now_s == pytest.approx(11.2, abs=2 * TICK_S)
    held = [t.command.joint_target_rad for t in ticks if first.now_s <= t.now_s < rearmed.now_s]
    np.testing.assert_array_equal(np.ptp(held, axis=0), 0.0)
    refused = rig.said("refused")
    assert len(refused) == 2
    assert all("needs a re-arm first: HOLD: limits.joint_stale_s" in text for text in refused)
    assert rig.body.calls.count("rearm") == 1
    assert report.last_mode == "limp"
    assert rig.body.ended_limp


def test_a_fall_damps_and_the_end_is_limp_without_lowering() -> None:
    rig = Rig()
    rig.body.change = lambda now_s: {"imu_quat": tilted(1.5, 0.0)} if now_s > 10.7 else {}
    report = rig.loop.run(duration_s=0.9)
    kinds = [command.kind for command in rig.body.written]
    assert CommandKind.DAMP in kinds
    assert kinds[kinds.index(CommandKind.DAMP) :].count(CommandKind.TRACK) == 0
    assert "park" not in rig.modes
    assert report.causes == {"limits.tilt_rad": report.verdicts["DAMP"]}
    assert rig.said("gate") == ["DAMP: limits.tilt_rad"]
    assert rig.body.ended_limp


def test_a_fault_while_lying_down_ends_the_lowering() -> None:
    rig = Rig()
    rig.body.change = lambda now_s: {"imu_quat": tilted(1.5, 0.0)} if now_s > 11.1 else {}
    assert rig.loop.run().last_mode == "damp"
    assert rig.modes == ["rise", "stand", "policy", "park"]
    assert rig.body.ended_limp


def test_a_slow_tick_is_an_overrun_and_a_stall_skips_deadlines() -> None:
    rig = Rig()
    delays = {10.6: 1.5 * TICK_S, 10.8: 5.5 * TICK_S}

    def work(now_s: float) -> None:
        for at_s, delay_s in list(delays.items()):
            if now_s >= at_s - TICK_S / 2:
                rig.clock.advance(delay_s)
                del delays[at_s]

    rig.body.work = work
    report = rig.loop.run()
    assert (report.overruns, report.skipped) == (2, 4)
    late = [t for t in rig.recorder.ticks if t.wake.overrun]
    assert [t.wake.skipped for t in late] == [0, 4]


def test_the_collector_is_off_in_ticks_and_on_again_afterwards() -> None:
    rig = Rig()
    seen = set()
    rig.body.work = lambda now_s: seen.add(gc.isenabled())
    assert gc.isenabled()
    rig.loop.run()
    assert seen == {False}
    assert gc.isenabled()


FAST = dataclasses.replace(
    QUICK, control=dataclasses.replace(QUICK.control, bus_rate_hz=4 * QUICK.control.rate_hz)
)
"""Four ticks for each step of the policy."""


def test_in_a_faster_loop_the_policy_keeps_its_rate_and_the_body_gets_a_command_each_tick() -> None:
    rig = Rig(robot=FAST)
    report = rig.loop.run()
    stamps = [t.now_s for t in rig.recorder.ticks]
    np.testing.assert_allclose(np.diff(stamps), TICK_S / 4, rtol=1e-6)
    assert report.verdicts == {"NONE": report.ticks}
    walking = [t for t in rig.recorder.ticks if t.mode.value == "policy"]
    asked = [k for k, t in enumerate(walking) if t.inference]
    assert asked == list(range(0, len(walking), 4))
    assert rig.policy.ticks == len(asked) == pytest.approx(0.5 / TICK_S, abs=2)
    assert len(rig.body.written) == report.ticks + 1
    for start in asked[1:-1]:
        before, after = walking[start - 1].request, walking[start].inference
        assert after is not None
        for k in range(4):
            share = (k + 1) / 4
            between = (1 - share) * before.joint_target_rad + share * after.command
            np.testing.assert_allclose(walking[start + k].request.joint_target_rad, between, atol=1e-12)


def test_in_a_faster_loop_the_gate_limits_each_tick_by_its_own_period() -> None:
    slow = dataclasses.replace(FAST, limits=dataclasses.replace(FAST.limits, command_speed_rad_s=2.0))
    rig = Rig(robot=slow)
    far = QUAD12.position_max_rad
    rig.policy.step = lambda channels: far  # type: ignore[method-assign]
    rig.loop.run()
    targets = np.array(
        [t.command.joint_target_rad for t in rig.recorder.ticks if t.command.kind is CommandKind.TRACK]
    )
    assert np.abs(np.diff(targets, axis=0)).max() == pytest.approx(2.0 * TICK_S / 4)


@pytest.mark.parametrize("duration_s", [0.5, math.inf])
def test_no_deadline_is_without_a_tick_when_the_end_begins(duration_s: float) -> None:
    rig = Rig(WALK[:2] if duration_s < 1.0 else WALK)
    rig.loop.run(duration_s)
    stamps = [t.now_s for t in rig.recorder.ticks]
    np.testing.assert_allclose(np.diff(stamps), TICK_S, rtol=1e-9)
    assert rig.modes[-2:] == ["park", "limp"]
