"""Laws of the transition table and the ramps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from robotrl.errors import ModeError
from robotrl.runtime.modes import GATE_EVENTS, TRANSITIONS, Event, Mode, ModeMachine
from robotrl.spec.state import CommandKind
from tests.laws.rig import QUAD12

KIND_OF = {Mode.LIMP: CommandKind.LIMP, Mode.DAMP: CommandKind.DAMP}
HERE = QUAD12.park_rad
LOST = np.full(len(QUAD12.joint), np.nan)


def machine_in(mode: Mode) -> ModeMachine:
    """A machine that got to `mode` by legal steps."""
    roads: dict[Mode, list[Event]] = {Mode.LIMP: []}
    while mode not in roads:
        for (start, event), end in TRANSITIONS.items():
            if start in roads:
                roads.setdefault(end, [*roads[start], event])
    machine = ModeMachine(QUAD12)
    for event in roads[mode]:
        machine.handle(event, 0.0, HERE)
    assert machine.mode is mode
    return machine


TABLE = """
         stand  policy  limp  rearm  estop  arrived  gate_hold  gate_damp  gate_limp
limp     rise   -       limp  limp   limp   -        -          -          limp
rise     -      -       park  -      limp   stand    hold       damp       limp
stand    -      policy  park  -      limp   -        hold       damp       limp
policy   rise   -       park  -      limp   -        hold       damp       limp
park     rise   -       park  -      limp   limp     hold       damp       limp
hold     rise   -       limp  hold   limp   -        hold       damp       limp
damp     rise   -       limp  damp   limp   -        -          damp       limp
"""
"""Event across, mode down: the mode that follows, as on paper."""


def test_the_table_is_the_one_on_paper() -> None:
    head, *rows = (line.split() for line in TABLE.strip().splitlines())
    events = [Event(name.replace("_", " ")) for name in head]
    paper = {
        (Mode(mode), event): Mode(following)
        for mode, *cells in rows
        for event, following in zip(events, cells, strict=True)
        if following != "-"
    }
    assert paper == dict(TRANSITIONS)
    assert set(events) == set(Event)


def test_an_emergency_stop_is_possible_from_everywhere_and_torque_off() -> None:
    assert {TRANSITIONS[mode, Event.ESTOP] for mode in Mode} == {Mode.LIMP}


@pytest.mark.parametrize(("mode", "event"), list(itertools.product(Mode, Event)))
def test_what_is_not_in_the_table_is_refused_and_changes_nothing(mode: Mode, event: Event) -> None:
    machine = machine_in(mode)
    if (mode, event) in TRANSITIONS:
        machine.handle(event, 1.0, HERE)
        assert machine.mode is TRANSITIONS[mode, event]
    else:
        with pytest.raises(ModeError, match=mode.value):
            machine.handle(event, 1.0, HERE)
        assert machine.mode is mode


def test_a_refusal_says_what_the_operator_may_ask_for_instead() -> None:
    with pytest.raises(ModeError) as refused:
        machine_in(Mode.STAND).handle(Event.REARM, 0.0, HERE)
    says = "'rearm' is not possible in mode stand; possible: estop, limp, policy"
    assert str(refused.value) == says


def test_only_the_operator_gets_a_robot_up() -> None:
    for (start, event), end in TRANSITIONS.items():
        if KIND_OF.get(start, CommandKind.TRACK) > KIND_OF.get(end, CommandKind.TRACK):
            assert event is Event.STAND


def test_the_policy_starts_from_standing_only() -> None:
    assert {start for (start, _), end in TRANSITIONS.items() if end is Mode.POLICY} == {Mode.STAND}


def test_limp_is_possible_from_everywhere_and_a_stopped_robot_is_not_moved_for_it() -> None:
    for mode in Mode:
        assert TRANSITIONS[mode, Event.LIMP] in (Mode.LIMP, Mode.PARK)
    assert TRANSITIONS[Mode.HOLD, Event.LIMP] is TRANSITIONS[Mode.DAMP, Event.LIMP] is Mode.LIMP


def test_every_mode_has_an_answer_to_every_command_the_gate_can_give_in_it() -> None:
    assert set(GATE_EVENTS) == set(CommandKind)
    for mode, (kind, event) in itertools.product(Mode, GATE_EVENTS.items()):
        possible = kind >= KIND_OF.get(mode, CommandKind.TRACK)
        assert ((mode, event) in TRANSITIONS) is possible
        if possible:
            assert KIND_OF.get(TRANSITIONS[mode, event], CommandKind.TRACK) is kind


@pytest.mark.parametrize("mode", list(Mode))
def test_each_mode_asks_for_its_kind_under_its_own_name(mode: Mode) -> None:
    request = machine_in(mode).request(0.0, HERE, HERE)
    assert request.kind is KIND_OF.get(mode, CommandKind.TRACK)
    assert np.isnan(request.joint_target_rad).all() == (request.kind is not CommandKind.TRACK)
    assert request.source == mode.value


def test_stand_holds_the_default_posture_hold_the_held_one_and_policy_its_own() -> None:
    held, wanted = HERE + 0.01, HERE + 0.02
    for mode, target in ((Mode.STAND, QUAD12.default_rad), (Mode.HOLD, held), (Mode.POLICY, wanted)):
        np.testing.assert_array_equal(machine_in(mode).request(0.0, held, wanted).joint_target_rad, target)


@pytest.mark.parametrize(
    ("mode", "event", "end", "lasts_s"),
    [
        (Mode.LIMP, Event.STAND, QUAD12.default_rad, QUAD12.control.stand_s),
        (Mode.STAND, Event.LIMP, QUAD12.park_rad, QUAD12.control.park_s),
    ],
)
def test_a_ramp_leads_from_the_posture_to_its_end_without_a_jump(
    mode: Mode, event: Event, end: np.ndarray[tuple[int], np.dtype[np.float64]], lasts_s: float
) -> None:
    machine = machine_in(mode)
    start = HERE + 0.3
    machine.handle(event, 5.0, start)
    times = 5.0 + np.linspace(0.0, lasts_s, 101)
    targets = np.array([machine.request(t, LOST, None).joint_target_rad for t in times])
    np.testing.assert_allclose(targets[0], start)
    np.testing.assert_allclose(targets[-1], end)
    steps = np.abs(np.diff(targets, axis=0)).max(axis=1)
    assert steps.max() <= 1.6 * np.abs(end - start).max() / 100
    assert steps[0] < 0.1 * steps.max()
    assert steps[-1] < 0.1 * steps.max()
    assert not machine.arrived(5.0 + lasts_s - 1e-6)
    assert machine.arrived(5.0 + lasts_s + 1e-6)
    beyond = machine.request(6.0 + lasts_s, LOST, None).joint_target_rad
    np.testing.assert_allclose(beyond, end)


def test_asking_to_park_again_does_not_start_the_ramp_anew() -> None:
    machine = machine_in(Mode.STAND)
    machine.handle(Event.LIMP, 0.0, QUAD12.default_rad)
    machine.handle(Event.LIMP, QUAD12.control.park_s - 0.1, QUAD12.default_rad)
    assert machine.arrived(QUAD12.control.park_s)
