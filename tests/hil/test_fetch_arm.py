"""A gripper policy through loop, gate, driver and emulated controller: what was trained is what runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robotrl.bench.lockstep import LockstepArm, WitnessedArm
from robotrl.bench.starts import Starts, Trials, first_starts
from robotrl.bench.through_arm import HOLD_TICKS, ArmTrials
from robotrl.errors import DeviceError
from robotrl.runtime.arm_loop import ArmLoop, ArmTick, channels_of
from robotrl.runtime.clock import FakeClock
from robotrl.runtime.modes import Event, Mode
from robotrl.runtime.operator import Script, Step
from robotrl.runtime.policy import Policy
from robotrl.runtime.tally import LoopReport
from robotrl.spec.gate import Verdict
from robotrl.spec.gripper import ArmState, GripperCommand
from robotrl.spec.state import Floats
from tests.fetch_arm import deployment, exported, fetch_arm, reach_env

ARM = fetch_arm()
STEPS = 50
EPISODES = 3


@dataclass
class Flight:
    """What went through the loop, and what was true at the end of each tick's read."""

    ticks: list[ArmTick] = field(default_factory=list)
    qpos: list[Floats] = field(default_factory=list)
    qvel: list[Floats] = field(default_factory=list)

    def acting(self) -> list[int]:
        """Indices of the ticks in which the policy was in charge."""
        return [i for i, tick in enumerate(self.ticks) if tick.mode is Mode.POLICY]


class Recorded(ArmTrials):
    """The operator, who keeps every tick."""

    flight: Flight

    def tick(self, tick: ArmTick) -> None:
        """Keep it."""
        super().tick(tick)
        self.flight.ticks.append(tick)
        self.flight.qpos.append(self._body.qpos)
        self.flight.qvel.append(self._body.qvel)


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Straight to the goal, exported for the arm and checked as on any robot."""
    loaded = Policy.load(exported())
    assert loaded.check(ARM) == []
    loaded.replay_golden()
    return loaded


@pytest.fixture(scope="module")
def starts() -> Starts:
    """Some episodes of FetchReach."""
    return first_starts([reach_env(EPISODES, seed=4)], EPISODES)


Flown = tuple[Flight, ArmTrials, LoopReport]


def fly(policy: Policy, starts: Starts, driver: type[WitnessedArm] = WitnessedArm) -> Flown:
    """The episodes on the emulated arm."""
    flight = Flight()
    with LockstepArm(ARM) as emulated:
        body = driver(ARM, emulated)
        trials = Recorded(starts, HOLD_TICKS, policy, reach_env(1, seed=0), body)
        trials.flight = flight
        loop = ArmLoop(ARM, body, policy, trials, FakeClock(), armed=True, watcher=trials)
        return flight, trials, loop.run()


@pytest.fixture(scope="module")
def flown(policy: Policy, starts: Starts) -> Flown:
    return fly(policy, starts)


def test_goals_are_reached_and_nothing_stops_or_limits_the_arm(flown: Flown) -> None:
    flight, trials, report = flown
    assert (trials.last, trials.reached) == ([True] * EPISODES, [True] * EPISODES)
    assert trials.stopped == [False] * EPISODES
    assert len(flight.acting()) == EPISODES * STEPS
    assert report.verdicts == {"NONE": len(flight.ticks)}
    assert (report.overruns, report.last_mode) == (0, "hold")


def test_success_is_judged_by_the_emulated_worlds_truth(policy: Policy, starts: Starts) -> None:
    """A goal that no operator may ask for is not reached, though what was asked for is."""
    far = dataclasses.replace(starts, goal=starts.goal + np.array([0.5, 0.0, 0.0]))
    _, trials, _ = fly(policy, far)
    assert (trials.last, trials.reached) == ([False] * EPISODES, [False] * EPISODES)


def test_an_episode_begins_where_those_of_training_do(flown: Flown, starts: Starts) -> None:
    """But for the tick of holding still before it."""
    flight, _, _ = flown
    for episode, qpos in enumerate(starts.qpos):
        assert abs(flight.qpos[1 + (1 + STEPS) * episode] - qpos).max() < 2e-3


def test_the_graph_observes_what_training_would_in_the_same_state(flown: Flown, starts: Starts) -> None:
    """To the rounding of float32, in every tick in which the policy acts."""
    flight, _, _ = flown
    env = reach_env(1, seed=0)
    interface = deployment().policy(env.facts)
    for i in flight.acting()[::7]:
        tick = flight.ticks[i]
        channels = channels_of(tick.state, tick.commands)
        read = {name: torch.from_numpy(channels[name])[None] for name in interface.channels}
        goal = starts.goal[i // (1 + STEPS)]
        truth = [torch.from_numpy(values)[None] for values in (flight.qpos[i], flight.qvel[i], goal)]
        env.place(torch.arange(1), *truth)
        np.testing.assert_allclose(interface.observe(read, {}), env.observation, rtol=0, atol=2e-7)


def test_what_the_policy_asks_for_is_what_training_would_have_done(flown: Flown) -> None:
    """From where an episode was, training's own step with that displacement leads to where the arm went."""
    flight, _, _ = flown
    env = reach_env(1, seed=0)
    for i in flight.acting()[:STEPS:9]:
        move_m = flight.ticks[i].command.move_m
        assert move_m is not None
        qpos, qvel = (torch.from_numpy(values)[None] for values in (flight.qpos[i], flight.qvel[i]))
        env.place(torch.arange(1), qpos, qvel, env.goal)
        env.step(torch.from_numpy(move_m.astype(np.float32))[None] / 0.05)
        np.testing.assert_allclose(env.worlds.qpos[0], flight.qpos[i + 1], rtol=0, atol=1e-6)


def test_two_flights_are_the_same_bit_for_bit(policy: Policy, starts: Starts, flown: Flown) -> None:
    again, _, _ = fly(policy, starts)
    np.testing.assert_array_equal(again.qpos, flown[0].qpos)


class Unplugged(WitnessedArm):
    """The driver of an arm whose cable is pulled for a while in the first episode."""

    OUT, BACK = 5, 15
    """Reads, of which the first is before the first tick."""

    def __init__(self, arm: object, emulated: LockstepArm) -> None:
        super().__init__(ARM, emulated)
        self._cable, self._reads = emulated.machine.cable, 0

    def read(self, now_s: float) -> ArmState:
        """Pull the cable or put it back while the emulated arm stands still, then read."""
        self._reads += 1
        if self._reads == self.OUT:
            self._cable.unplug()
        elif self._reads == self.BACK:
            self._cable.plug()
        return super().read(now_s)


def test_an_arm_that_loses_its_controller_is_stopped_and_goes_on_after_a_rearm(
    policy: Policy, starts: Starts
) -> None:
    flight, trials, report = fly(policy, starts, Unplugged)
    assert trials.stopped == [True, False, False]
    held = next(i for i, tick in enumerate(flight.ticks) if tick.verdict.level)
    assert flight.ticks[held].verdict.causes == {"limits.stale_s"}
    assert flight.ticks[held].state.age_s == pytest.approx(0.08)
    first = [tick.command.move_m for tick in flight.ticks[held : 1 + STEPS]]
    assert first == [None] * len(first)
    assert [event.name for event in report.events].count("rearm") == 1
    assert trials.last == [False, True, True]
    back = Unplugged.BACK + 3
    ends = [flight.qpos[i] for i in (back, STEPS)]
    assert abs(ends[1] - ends[0]).max() < 0.02


class Deaf:
    """A body that notes what it is asked, and may fail."""

    def __init__(self, *, answers: bool = True, fails_at: int = -1) -> None:
        self.sent: list[GripperCommand] = []
        self.closed = False
        self._age_s = 0.0 if answers else np.inf
        self._fails_at, self._reads = fails_at, 0

    def open(self) -> None:
        """Nothing to do."""

    def read(self, now_s: float) -> ArmState:
        """Measure a gripper in the middle of its workspace."""
        self._reads += 1
        if self._reads == self._fails_at:
            raise DeviceError("broken")
        low, high = ARM.limits.workspace_m
        return ArmState(now_s, (low + high) / 2, np.zeros(3), np.zeros(2), np.zeros(2), self._age_s)

    def write(self, command: GripperCommand) -> None:
        """Note it."""
        self.sent.append(command)

    def close(self) -> None:
        """Note it."""
        self.closed = True


def run(
    policy: Policy, body: Deaf, steps: list[Step], *, armed: bool = True, duration_s: float = 1.0
) -> LoopReport:
    script = Script(steps, policy.contract.operator_ranges)
    return ArmLoop(ARM, body, policy, script, FakeClock(), armed=armed).run(duration_s)


GO = Step(0.0, mode="policy", goal=(1.3, 0.8, 0.5))


def test_it_moves_only_while_the_policy_is_asked_for(policy: Policy) -> None:
    body = Deaf()
    steps = [dataclasses.replace(GO, at_s=0.19), Step(0.39, mode="stand"), Step(0.59, mode="limp")]
    report = run(policy, body, steps)
    moving = [command.move_m is not None for command in body.sent]
    assert moving == [False] * 5 + [True] * 5 + [False] * 7
    assert [event.text for event in report.events] == ["hold -> policy", "policy -> hold"]


class Counting:
    """A policy that counts how often its memory is reset."""

    resets = 0

    def reset(self) -> None:
        """Count."""
        self.resets += 1

    def step(self, channels: Mapping[str, NDArray[np.float32]]) -> Floats:
        """Stay."""
        assert channels["goal"].shape == (3,)
        return np.zeros(4)


@dataclass
class Still:
    """An emulated world that nobody moves."""

    qpos: Floats
    qvel: Floats

    def place(self, qpos: Floats, qvel: Floats) -> None:
        """It stays where it is."""


@dataclass(frozen=True)
class Held:
    """A tick without the policy."""

    mode: Mode = Mode.HOLD
    verdict: Verdict = field(default_factory=Verdict)


class Quiet(Trials[Held]):
    """Episodes that begin without further ado."""

    def _between(self) -> list[Event]:
        return []


def test_what_is_seen_before_the_first_episode_counts_for_none(policy: Policy, starts: Starts) -> None:
    env = reach_env(1, seed=0)
    rows = [torch.from_numpy(part[-1:]) for part in (starts.qpos, starts.qvel, starts.goal)]
    env.place(torch.arange(1), *rows)
    here = env.layout.split(env.observation)[1].double().numpy()
    at_goal = dataclasses.replace(starts, goal=np.tile(here, (len(starts), 1)))
    trials = Quiet(at_goal, HOLD_TICKS, policy, env, Still(starts.qpos[-1], starts.qvel[-1]))
    trials.poll(0.0)
    trials.tick(Held())
    assert not any(trials.reached), "in particular not for the last one"
    for _ in range(2):
        trials.poll(0.0)
        trials.tick(Held())
    assert trials.reached == [True] + [False] * (len(starts) - 1)


def test_a_policy_begins_anew_whenever_it_takes_over() -> None:
    policy, ranges = Counting(), {"goal": (np.zeros(3), np.ones(3))}
    script = Script([GO, Step(0.2, mode="stand"), Step(0.3, mode="policy")], ranges)
    ArmLoop(ARM, Deaf(), policy, script, FakeClock(), armed=True).run(0.5)
    assert policy.resets == 2


def test_an_arm_that_is_not_armed_stands_still(policy: Policy) -> None:
    body = Deaf()
    report = run(policy, body, [GO], armed=False)
    assert {command.move_m is None for command in body.sent} == {True}
    assert [event.name for event in report.events] == ["refused"]


class Aimless:
    """An operator who starts the policy without a goal, again at once, and again after a re-arm."""

    def __init__(self) -> None:
        self.commands = {"goal": np.full(3, np.nan)}
        self._events = iter([Event.POLICY, Event.POLICY, Event.REARM, Event.POLICY])

    def poll(self, elapsed_s: float) -> list[Event]:
        """One event in each tick."""
        return [event for event in [next(self._events, None)] if event]

    def heed(self, *, orders: bool) -> None:
        """Nothing to do: nothing is asked for before the first `poll`."""

    def finished(self) -> bool:
        """Never."""
        return False


def test_a_stopped_arm_needs_a_rearm(policy: Policy) -> None:
    """A goal that is no number makes a command that is none."""
    body = Deaf()
    report = ArmLoop(ARM, body, policy, Aimless(), FakeClock(), armed=True).run(0.2)
    assert [event.name for event in report.events] == [
        "mode", "mode", "gate", "refused", "rearm", "mode", "mode", "gate"
    ]  # fmt: skip
    assert {command.move_m is None for command in body.sent} == {True}


class Hasty(Aimless):
    """An operator who learns that the arm is ready."""

    def __init__(self, body: Deaf) -> None:
        super().__init__()
        self._body = body
        self.told: list[int] = []

    def heed(self, *, orders: bool) -> None:
        """Note after how many measurements."""
        assert orders
        self.told.append(self._body._reads)


def test_orders_are_heeded_from_the_first_measurement_on(policy: Policy) -> None:
    body = Deaf()
    hasty = Hasty(body)
    ArmLoop(ARM, body, policy, hasty, FakeClock(), armed=True).run(0.2)
    assert hasty.told == [1]


def test_an_emergency_stop_holds_the_arm_until_it_is_re_armed(policy: Policy) -> None:
    body = Deaf()
    steps = [GO, Step(0.19, mode="estop"), Step(0.39, mode="policy"), Step(0.59, rearm=True, mode="policy")]
    report = run(policy, body, steps, duration_s=0.79)
    moving = [command.move_m is not None for command in body.sent]
    assert moving == [True] * 5 + [False] * 10 + [True] * 5 + [False]
    assert report.causes == {"estop": 10}
    assert [event.text for event in report.events if event.name == "refused"] == [
        "'policy' needs a re-arm first: HOLD: estop"
    ]


def test_whatever_ends_the_loop_the_gripper_is_stopped_and_the_port_let_go(policy: Policy) -> None:
    body = Deaf(fails_at=10)
    with pytest.raises(DeviceError, match="broken"):
        run(policy, body, [GO])
    assert body.sent[-2].move_m is not None
    assert body.sent[-1].move_m is None
    assert body.closed


def test_an_arm_that_measures_nothing_is_not_moved(policy: Policy) -> None:
    body = Deaf(answers=False)
    with pytest.raises(DeviceError, match=r"no measurement within 2\.0 s from the controller"):
        run(policy, body, [GO])
    assert [command.move_m for command in body.sent] == [None]
    assert body.closed


def test_the_policy_of_the_arm_drives_no_other(policy: Policy, tmp_path: Path) -> None:
    other = dataclasses.replace(ARM, name="fetch_two")
    assert policy.check(other) == ["robot is fetch_sim in the policy and fetch_two on fetch_two"]
