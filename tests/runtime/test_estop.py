"""Emergency stops from every operator in every mode: torque off within two ticks, and latched."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from robotrl.bench.gate_storm import tilted
from robotrl.runtime.modes import Mode
from robotrl.runtime.operator import Source, Step
from robotrl.safety import estop, rearm
from robotrl.safety_gripper import GripperMemory
from robotrl.safety_gripper import estop as stop_arm
from robotrl.safety_gripper import rearm as rearm_arm
from robotrl.spec.gate import GateLimits, GateMemory, Level, Verdict
from robotrl.spec.state import CommandKind
from tests.laws.rig import QUAD12, TICK_S, calm
from tests.runtime.devices import Keys, Pad, Remote
from tests.runtime.fakes import RANGES, WALK, Rig

Device = Pad | Keys | Remote
MOMENTS = {Mode.RISE: 0.1, Mode.STAND: 0.4, Mode.POLICY: 0.7, Mode.PARK: 1.1, Mode.HOLD: 0.7, Mode.DAMP: 0.7}
"""When a walk is in each mode; the last two after a fault at 0.6."""
FAULTS: dict[Mode, dict[str, Any]] = {
    Mode.HOLD: {"joint_age_s": np.full(12, math.inf)},
    Mode.DAMP: {"imu_quat": tilted(1.5, 0.0)},
}


@pytest.fixture(params=[Pad, Keys, Remote])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    with request.param(RANGES) as device:
        yield device


def at(moments: dict[float, Callable[[], None]]) -> Callable[[float], None]:
    """Work of a body during whose reading each of these happens once, at its time of the walk."""
    left = dict(sorted(moments.items()))

    def work(now_s: float) -> None:
        for at_s in [at_s for at_s in left if now_s >= 10.0 + at_s - 1e-6]:
            left.pop(at_s)()

    return work


def in_mode(mode: Mode, further: tuple[Source, ...]) -> Rig:
    """A walk that is in a mode at its moment, and whose operator would like to go on afterwards."""
    steps = (*WALK[:2], Step(1.0, mode="limp"), Step(1.4, mode="stand"), Step(1.5, mode="limp"))
    rig = Rig(() if mode is Mode.LIMP else steps, further=further)
    rig.body.change = lambda now_s: FAULTS.get(mode, {}) if 10.6 <= now_s < 10.9 else {}
    return rig


def assert_stopped(rig: Rig, at_s: float, mode: Mode) -> None:
    """Torque is off from the second tick after a moment on, and everything is refused."""
    ticks = rig.recorder.ticks
    before = [t for t in ticks if t.now_s < 10.0 + at_s + TICK_S - 1e-6]
    assert before[-1].mode is mode
    after = ticks[len(before) + 1 :]
    assert len(after) > 5
    assert {t.command.kind for t in after} == {CommandKind.LIMP}
    assert {t.mode for t in after} == {Mode.LIMP}
    assert all("estop" in t.verdict.causes and t.verdict.level is Level.LIMP for t in after)


@pytest.mark.parametrize("mode", [Mode.LIMP, *MOMENTS])
def test_an_emergency_stop_in_any_mode_is_torque_off_within_two_ticks(mode: Mode, device: Device) -> None:
    at_s = MOMENTS.get(mode, 0.3)
    rig = in_mode(mode, (device.source,))
    rig.body.work = at({at_s: device.estop})
    rig.loop.run(duration_s=2.0)
    assert_stopped(rig, at_s, mode)
    assert sum(t.estopped for t in rig.recorder.ticks) == 1
    later = [text for text in rig.said("refused") if text.startswith("'stand' needs a re-arm first: LIMP: ")]
    assert len(later) == (0 if mode is Mode.LIMP else 1)


@pytest.mark.parametrize("mode", [Mode.STAND, Mode.POLICY, Mode.PARK])
def test_an_operator_who_commanded_and_is_gone_is_an_emergency_stop(mode: Mode) -> None:
    at_s = MOMENTS[mode]
    for kind in (Pad, Keys):
        with kind(RANGES) as device:
            rig = in_mode(mode, (device.source,))
            lose = device.pull_out if isinstance(device, Pad) else device.hang_up
            rig.body.work = at({at_s - 0.1: device.stand, at_s: lose})
            stopped = rig.loop.run(duration_s=2.0).last_mode
            limp_s = 10.0 + at_s + 2 * TICK_S
            assert (stopped, rig.clock.now_s() <= limp_s + 1e-6) == ("limp", True)
            assert rig.recorder.ticks[-1].verdict.causes == {"estop"}


def test_a_silent_link_is_an_emergency_stop_within_two_ticks_of_its_time_out() -> None:
    """Heartbeats keep a link alive that has said nothing else for long."""
    with Remote(RANGES, timeout_s=0.1) as remote:
        rig = in_mode(Mode.POLICY, (remote.source,))
        beats = {0.04 * k: lambda: remote.send({}) for k in range(1, 16)}
        rig.body.work = at({0.01: remote.stand, **beats})
        rig.loop.run(duration_s=1.6)
        assert_stopped(rig, 0.6 + 0.1 + TICK_S, Mode.POLICY)


def test_a_script_can_stop_too() -> None:
    rig = Rig((*WALK[:2], Step(0.7, mode="estop")))
    rig.loop.run()
    assert rig.recorder.ticks[-1].verdict == Verdict(Level.LIMP, frozenset({"estop"}))
    assert rig.clock.now_s() < 10.75
    assert rig.body.ended_limp


def test_after_a_re_arm_the_robot_stands_up_again() -> None:
    rig = Rig(
        (*WALK[:2], Step(0.7, mode="estop"), Step(0.9, rearm=True, mode="stand"), Step(1.5, mode="limp"))
    )
    rig.loop.run()
    assert rig.modes == ["rise", "stand", "policy", "limp", "rise", "stand", "park", "limp"]
    assert rig.said("refused") == []


def test_the_stop_of_somebody_who_watches_outlasts_the_re_arm_of_a_script(device: Device) -> None:
    rig = Rig(
        (*WALK[:2], Step(0.9, rearm=True, mode="stand"), Step(1.5, mode="limp")), further=(device.source,)
    )
    rig.body.work = at({0.7: device.estop})
    rig.loop.run()
    assert_stopped(rig, 0.7, Mode.POLICY)
    assert any("withheld 1 times" in note for note in rig.operator.notes)


def test_an_unarmed_robot_hears_the_emergency_stop() -> None:
    rig = Rig((Step(0.1, mode="estop"), Step(0.5, mode="limp")), armed=False)
    assert rig.loop.run().causes == {"estop": pytest.approx(0.4 / TICK_S, abs=2)}


def test_on_the_last_way_down_only_the_emergency_stop_is_heard(device: Device) -> None:
    """The run is over at 0.7, and the robot lowers itself for 0.3 s."""
    rig = Rig(WALK[:2], further=(device.source,))
    rig.body.work = at({0.8: device.stand, 0.9: device.estop})
    rig.loop.run(duration_s=0.7)
    assert rig.modes == ["rise", "stand", "policy", "park", "limp"]
    assert rig.clock.now_s() <= 10.9 + 2 * TICK_S + 1e-6
    assert rig.recorder.ticks[-1].verdict.causes == {"estop"}
    assert rig.body.ended_limp


def leaving(device: Device) -> dict[float, Callable[[], None]]:
    """Go after 0.7, the end of the run; datagrams come until a little later, then no more."""
    if isinstance(device, Remote):
        walk = {"velocity": [0.1, 0.0, 0.0]}
        return {0.1 + 0.04 * k: lambda: device.send(walk) for k in range(1, 17)}
    return {0.8: device.pull_out if isinstance(device, Pad) else device.hang_up}


@pytest.mark.parametrize("kind", [Pad, Keys, Remote])
def test_who_leaves_when_the_run_is_over_does_not_drop_the_robot(kind: type[Device]) -> None:
    """A client that ends at the same Ctrl-C, or a terminal that is closed after it."""
    with Remote(RANGES, timeout_s=0.1) if kind is Remote else kind(RANGES) as device:
        rig = Rig(WALK[:2], further=(device.source,))
        rig.body.work = at({0.1: device.stand, **leaving(device)})
        report = rig.loop.run(duration_s=0.7)
    assert rig.modes == ["rise", "stand", "policy", "park", "limp"]
    assert report.causes == {}
    np.testing.assert_allclose(rig.body.pos_rad, QUAD12.park_rad, atol=1e-3)


def test_what_was_asked_for_before_the_first_tick_moves_nothing(device: Device) -> None:
    """While the body was opened, which may take long."""
    rig = Rig((), further=(device.source,))
    rig.body.work = at({0.0: device.stand, 0.3: device.stand})
    rig.loop.run(duration_s=0.5)
    rising = [t.now_s for t in rig.recorder.ticks if t.mode is Mode.RISE]
    assert rising[0] == pytest.approx(10.3, abs=2 * TICK_S)


def test_an_emergency_stop_before_the_first_tick_is_one(device: Device) -> None:
    rig = Rig(WALK[:2], further=(device.source,))
    rig.body.work = at({0.0: device.estop})
    assert rig.loop.run(duration_s=0.7).causes == {"estop": len(rig.recorder.ticks)}
    assert rig.modes == ["limp"]


@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_is_gone_lays_the_robot_down_unless_it_was_to_be_ignored(ignored: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        rig = Rig()
        rig.body.work = at({0.7: lambda: os.kill(os.getpid(), signal.SIGHUP)})
        rig.loop.run()
        assert rig.clock.now_s() == pytest.approx(11.3 if ignored else 11.0, abs=0.1)
        assert rig.body.ended_limp
        assert signal.getsignal(signal.SIGHUP) is (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_latch_keeps_what_was_latched_and_only_a_re_arm_clears_it() -> None:
    limits = GateLimits.of(QUAD12)
    memory = GateMemory.fresh(12)
    held = Verdict(Level.HOLD, frozenset({"limits.tilt_rad"}))
    stopped = estop(dataclasses.replace(memory, latched=held))
    assert stopped.latched == Verdict(Level.LIMP, frozenset({"limits.tilt_rad", "estop"}))
    assert rearm(limits, stopped, calm(QUAD12, 1.0), 1.0).latched.level is Level.NONE


def test_an_arm_is_held_and_latched() -> None:
    stopped = stop_arm(GripperMemory())
    assert stopped.latched == Verdict(Level.HOLD, frozenset({"estop"}))
    assert rearm_arm(stopped).latched == Verdict()
