"""Laws of scripts: read strictly, done in time, velocities inside the trained range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robotrl.errors import ConfigError
from robotrl.runtime.modes import Event
from robotrl.runtime.operator import (
    Ranges,
    Script,
    Setpoint,
    Source,
    Step,
    Together,
    constant_steps,
    load_steps,
)

RANGES = {"velocity_command": ((-0.4, -0.2, -1.0), (0.4, 0.2, 1.0))}

SCRIPT = """
[[step]]
at_s = 0
mode = "stand"
[[step]]
at_s = 2.5
mode = "policy"
velocity = [0.3, 0, 0]
[[step]]
at_s = 4.0
velocity = [9.0, -9.0, 0.5]
[[step]]
at_s = 6.0
rearm = true
mode = "stand"
[[step]]
at_s = 7.2
mode = "limp"
[[step]]
at_s = 7.8
velocity = [0, 0, 0]
"""


def test_a_script_is_done_step_by_step(tmp_path: Path) -> None:
    file = tmp_path / "walk.toml"
    file.write_text(SCRIPT)
    script = Script(load_steps(file), RANGES)
    timeline = [
        (0.0, [Event.STAND], (0.0, 0.0, 0.0), False),
        (2.49, [], (0.0, 0.0, 0.0), False),
        (2.5, [Event.POLICY], (0.3, 0.0, 0.0), False),
        (3.0, [], (0.3, 0.0, 0.0), False),
        (4.1, [], (0.4, -0.2, 0.5), False),
        (7.0, [Event.REARM, Event.STAND], (0.4, -0.2, 0.5), False),
        (7.5, [Event.LIMP], (0.4, -0.2, 0.5), False),
        (8.0, [], (0.0, 0.0, 0.0), True),
    ]
    for elapsed_s, events, velocity, finished in timeline:
        assert script.poll(elapsed_s) == events
        np.testing.assert_array_equal(script.commands["velocity_command"], velocity)
        assert script.finished() is finished
    assert script.notes == ["velocity_command [9.0, -9.0, 0.5] at 4.0 s is cut to the trained range"]


def test_a_late_poll_does_every_step_that_was_due_in_order() -> None:
    steps = (
        Step(0.0, mode="stand"),
        Step(1.0, velocity=(0.1, 0, 0)),
        Step(2.0, velocity=(0.2, 0, 0), mode="limp"),
    )
    script = Script(steps, RANGES)
    assert script.poll(5.0) == [Event.STAND, Event.LIMP]
    np.testing.assert_array_equal(script.commands["velocity_command"], (0.2, 0, 0))


def test_a_constant_command_stands_up_first() -> None:
    script = Script(constant_steps(2.0, (0.2, 0.0, 0.0)), RANGES)
    assert script.poll(0.0) == [Event.STAND]
    assert script.poll(2.0) == []
    assert not script.commands["velocity_command"].any()
    assert script.poll(2.5) == [Event.POLICY]
    assert script.commands["velocity_command"][0] == 0.2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[step]]\nat_s = -1.0", "step[0].at_s"),
        ("[[step]]\nat_s = 1.0\n[[step]]\nat_s = 0.5", "step[1].at_s: is earlier than the step before"),
        ("[[step]]\nat_s = 1.0\nvelocity = [1.0]", "step[0].velocity: has the wrong length"),
        ("[[step]]\nat_s = 1.0\nvelocity = [1.0, nan, 0.0]", "step[0].velocity[1]"),
        ("[[step]]\nat_s = 1.0\nmode = 'fly'", "allowed: keep, stand, policy, limp, estop"),
        ("[[step]]\nat_s = 1.0\nspeed = 1", "step[0].speed: unknown key"),
        ("[[step]]\nmode = 'stand'", "step[0].at_s: is missing"),
        ("steps = 1", "steps: unknown key"),
        ("[[step]", "is not valid TOML"),
    ],
)
def test_a_wrong_script_is_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "walk.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_steps(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_steps(tmp_path / "none.toml")


GOALS = {"goal": ((-1.0, 0.0), (1.0, 0.5))}
BOTH: Ranges = {**RANGES, **GOALS}


def test_a_goal_is_set_clipped_and_kept() -> None:
    steps = (Step(0.0, goal=(0.3, 0.4)), Step(1.0, mode="policy"), Step(2.0, goal=(-3.0, 0.2)))
    script = Script(steps, GOALS)
    assert np.isnan(script.commands["goal"]).all()
    asked = []
    for elapsed_s in (0.0, 1.5, 2.0):
        script.poll(elapsed_s)
        asked.append(script.commands["goal"].tolist())
    assert asked == [[0.3, 0.4], [0.3, 0.4], [-1.0, 0.2]]
    assert script.notes == ["goal [-3.0, 0.2] at 2.0 s is cut to the trained range"]
    assert script.commands.keys() == {"goal"}


def test_what_was_asked_for_in_a_tick_stays_what_it_was() -> None:
    script = Script((Step(1.0, goal=(0.3, 0.4)),), GOALS)
    before = script.commands
    script.poll(1.0)
    assert np.isnan(before["goal"]).all()


@pytest.mark.parametrize(
    ("steps", "ranges", "said"),
    [
        ((Step(0.0, mode="policy"),), GOALS, "step[0].mode: needs a goal first, got 'policy'"),
        (
            (Step(0.0, goal=(0.1,)),),
            GOALS,
            "step[0].goal: has the wrong length, got [0.1]; allowed: 2 values",
        ),
        (
            (Step(0.0), Step(0.0, velocity=(0.1, 0.0, 0.0))),
            GOALS,
            "step[1].velocity: is not what the policy reads, got [0.1, 0.0, 0.0]; allowed: goal",
        ),
        ((Step(0.0, goal=(0.1, 0.1)),), RANGES, "step[0].goal: is not what the policy reads"),
        ((Step(0.0, goal=(0.1, 0.1)),), {}, "allowed: nothing"),
    ],
)
def test_what_a_policy_cannot_be_asked_is_refused(steps: tuple[Step, ...], ranges: Ranges, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Script(steps, ranges, file=Path("walk.toml"))
    assert f"walk.toml: {said}" in str(caught.value) or said.startswith("allowed")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ({}, "--goal: is missing, and the policy reads it; allowed: 2 values"),
        ({"goal": (0.1,)}, "--goal: has the wrong length, got [0.1]; allowed: 2 values"),
        ({"velocity": (0.1, 0.0, 0.0)}, "--velocity: is not what the policy reads, got [0.1, 0.0, 0.0]"),
    ],
)
def test_what_no_script_has_said_is_an_options_fault(
    command: dict[str, tuple[float, ...]], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Script(constant_steps(2.0, **command), GOALS)
    assert str(caught.value).startswith(said)


def test_a_policy_without_goals_starts_without_one() -> None:
    assert Script((Step(0.0, mode="policy"),), RANGES).poll(0.0) == [Event.POLICY]
    assert Script((Step(0.0, mode="policy"),), {}).commands == {}


@pytest.mark.parametrize("asked", [(9.0, -9.0, 9.0), (np.inf, -np.inf, 1e30), (0.1, 0.1, 0.1)])
def test_a_setpoint_is_always_inside_its_range_and_never_written_to(asked: tuple[float, ...]) -> None:
    setpoint = Setpoint(RANGES)
    before = setpoint.values
    setpoint.set("velocity_command", asked)
    velocity = setpoint.values["velocity_command"]
    np.testing.assert_array_equal(velocity, np.clip(asked, *RANGES["velocity_command"]))
    assert not velocity.flags.writeable
    assert not before["velocity_command"].any()
    setpoint.stop()
    assert not setpoint.values["velocity_command"].any()


def test_no_velocity_leaves_a_goal() -> None:
    setpoint = Setpoint(BOTH)
    setpoint.set("goal", (0.3, 0.4))
    setpoint.stop()
    assert setpoint.values["goal"].tolist() == [0.3, 0.4]
    Setpoint(GOALS).stop()


def test_of_several_operators_events_come_in_order_and_the_last_word_counts() -> None:
    """Channel by channel: one commands the velocity, the other the goal."""
    first = Script(
        (Step(0.0, mode="stand"), Step(1.0, velocity=(0.1, 0.0, 0.0)), Step(3.0, velocity=(0.3, 0.0, 0.0))),
        BOTH,
    )
    second = Script(
        (
            Step(0.0, goal=(0.5, 0.5)),
            Step(0.0, rearm=True),
            Step(2.0, velocity=(0.2, 0.0, 0.0), mode="policy"),
        ),
        BOTH,
    )
    both = Together([first, second], BOTH)
    timeline = [
        (0.0, [Event.STAND, Event.REARM], 0.0),
        (1.0, [], 0.1),
        (1.5, [], 0.1),
        (2.0, [Event.POLICY], 0.2),
        (2.5, [], 0.2),
        (3.0, [], 0.3),
    ]
    for elapsed_s, events, forward in timeline:
        assert both.poll(elapsed_s) == events
        assert both.commands["velocity_command"].tolist() == [forward, 0.0, 0.0]
        assert both.commands["goal"].tolist() == [0.5, 0.5]


def test_what_was_asked_of_several_in_a_tick_stays_what_it_was() -> None:
    both = Together([Script((Step(1.0, goal=(0.3, 0.4)),), GOALS)], GOALS)
    before = both.commands
    both.poll(1.0)
    assert np.isnan(before["goal"]).all()


@pytest.mark.parametrize("order", [1, -1])
def test_an_emergency_stop_of_one_drops_what_the_others_ask_for(order: int) -> None:
    steps = [(Step(0.0, rearm=True, mode="stand"),), (Step(0.0, mode="estop"),)]
    both = Together([Script(s, RANGES) for s in steps[::order]], RANGES)
    assert both.poll(0.0) == [Event.ESTOP]


class Watcher:
    """Somebody who watches, at the times of a script, which is not theirs."""

    def __init__(self, *steps: Step) -> None:
        self._script = Script(steps, RANGES)
        self.commands = self._script.commands
        self.notes: list[str] = []
        self.poll = self._script.poll

    def heed(self, *, orders: bool) -> None:
        """Nothing to do: nothing is asked for before the first `poll`."""

    def finished(self) -> bool:
        """Never."""
        return False


REARMS = tuple(Step(at_s, rearm=True) for at_s in (1.0, 2.0, 3.0, 4.0))
WITHHELD = "'rearm' of a script was withheld {} times, as somebody else had stopped"


@pytest.mark.parametrize("order", [1, -1])
def test_a_script_does_not_re_arm_what_somebody_has_stopped(order: int) -> None:
    watcher = Watcher(Step(0.5, mode="estop"), Step(2.5, rearm=True))
    sources: list[Source] = [Script(REARMS, RANGES), watcher]
    both = Together(sources[::order], RANGES)
    timeline = [
        (0.5, [Event.ESTOP]),
        (1.0, []),
        (2.0, []),
        (2.5, [Event.REARM]),
        (3.0, [Event.REARM]),
        (4.0, [Event.REARM]),
    ]
    assert [(at_s, both.poll(at_s)) for at_s, _ in timeline] == timeline
    assert both.notes == [WITHHELD.format(2)]


def test_a_re_arm_in_the_tick_of_the_stop_re_arms_nothing() -> None:
    watcher = Watcher(Step(1.0, rearm=True, mode="estop"))
    both = Together([Script(REARMS, RANGES), watcher], RANGES)
    assert [both.poll(at_s) for at_s in (1.0, 2.0)] == [[Event.ESTOP], []]


def test_a_script_re_arms_after_its_own_stop() -> None:
    steps = (Step(0.5, mode="estop"), *REARMS[:1])
    both = Together([Script(steps, RANGES), Watcher()], RANGES)
    assert [both.poll(at_s) for at_s in (0.5, 1.0)] == [[Event.ESTOP], [Event.REARM]]
    assert both.notes == []


def test_the_first_who_is_finished_ends_the_run() -> None:
    both = Together([Script((Step(1.0, mode="limp"),), RANGES), Script((), RANGES)], RANGES)
    both.poll(0.5)
    assert not both.finished()
    both.poll(1.0)
    assert both.finished()


class Goalless(Script):
    """A script that is not checked beforehand, as a person is not."""

    def poll(self, elapsed_s: float) -> list[Event]:
        """Ask for the policy at once."""
        return [Event.POLICY, *super().poll(elapsed_s)]


def test_a_policy_is_not_started_before_somebody_has_given_it_its_goal() -> None:
    both = Together([Goalless((), GOALS), Script((Step(1.0, goal=(9.0, 0.0)),), GOALS)], GOALS)
    assert both.notes == ["goal [9.0, 0.0] at 1.0 s is cut to the trained range"]
    assert [both.poll(s) for s in (0.0, 0.5, 1.0)] == [[], [], [Event.POLICY]]
    assert both.notes[1:] == ["'policy' was asked for 2 times before there was a goal"]
