"""A goal policy through loop, gate, driver and emulated hand: what was trained is what runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from robotrl.bench.flight import flight_of
from robotrl.bench.lockstep import LockstepRobot, WitnessedBody
from robotrl.bench.starts import Starts, first_starts
from robotrl.bench.through import JointTrials, ready_ticks
from robotrl.errors import RecordingError
from robotrl.export.onnx import export_policy
from robotrl.runtime.clock import FakeClock
from robotrl.runtime.interpolation import InterpolatedPolicy
from robotrl.runtime.loop import Loop
from robotrl.runtime.modes import Event, Mode
from robotrl.runtime.policy import Policy, channels_of
from robotrl.runtime.recorder import McapRecorder
from robotrl.runtime.recording import read_recording
from robotrl.runtime.replay import replay
from robotrl.runtime.tally import LoopReport, Tick
from robotrl.spec.gate import GateLimits
from robotrl.spec.robot import load_robot
from robotrl.spec.state import Floats, RobotState
from tests.shadow_hand import PROVENANCE, deployment, random_actor, reach_env, recorded, shadow_hand

ROBOT = shadow_hand()
STEPS = 50
COUNT_RAD = 2 * np.pi / 4096
TURNED_S = 0.004
"""From the servos' reading, or the estimator's packet, to the end of the read."""
WINDOW_S = 0.010
"""Over which a servo measures its speed, from whole counts."""


@dataclass
class Flight:
    """What went through the loop, and what was true at the end of each tick's read."""

    ticks: list[Tick] = field(default_factory=list)
    qpos: list[Floats] = field(default_factory=list)
    qvel: list[Floats] = field(default_factory=list)
    goal_rad: list[Floats] = field(default_factory=list)
    """(n,) what the emulated servos followed then."""

    def acting(self) -> list[int]:
        """Indices of the ticks in which the policy was in charge."""
        return [i for i, tick in enumerate(self.ticks) if tick.mode is Mode.POLICY]


class Watched(WitnessedBody):
    """The driver, and a look at the emulated servos after each read."""

    def __init__(self, emulated: LockstepRobot, flight: Flight) -> None:
        super().__init__(ROBOT, emulated)
        self._servos, self._flight = emulated.machine.buses["hand"], flight

    def read(self, now_s: float) -> RobotState:
        """Read, then look."""
        state = super().read(now_s)
        self._seen = self.qpos, self.qvel, self._servos.goal_rad.copy()
        return state

    def note(self) -> None:
        """Keep what was seen in this tick."""
        for kept, seen in zip(
            (self._flight.qpos, self._flight.qvel, self._flight.goal_rad), self._seen, strict=True
        ):
            kept.append(seen)


class Recorded(JointTrials):
    """The operator of two episodes, who keeps every tick."""

    flight: Flight
    body: Watched

    def tick(self, tick: Tick) -> None:
        """Keep it."""
        super().tick(tick)
        self.flight.ticks.append(tick)
        self.body.note()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A random actor, exported for the hand and checked as on any robot."""
    env = reach_env(1, seed=1)
    file = tmp_path_factory.mktemp("hand") / "policy.onnx"
    ends = ((-2.0,) * 15, (2.0,) * 15)
    actor, interface = random_actor(reach_env(16, seed=2), gain=0.02), deployment().policy(env.facts)
    export_policy(file, interface, actor, ROBOT, recorded(env), PROVENANCE, ends)
    loaded = Policy.load(file)
    assert loaded.check(ROBOT) == []
    loaded.replay_golden()
    return loaded


def fly(
    policy: Policy, starts: Starts, watched: type[Watched] = Watched
) -> tuple[Flight, JointTrials, LoopReport]:
    """Two episodes on the emulated hand."""
    flight = Flight()
    with LockstepRobot(ROBOT) as emulated:
        body = watched(emulated, flight)
        trials = Recorded(starts, ready_ticks(ROBOT), policy, reach_env(1, seed=0), body)
        trials.flight, trials.body = flight, body
        return (
            flight,
            trials,
            Loop(ROBOT, body, policy, trials, FakeClock(), armed=True, recorder=trials).run(),
        )


@pytest.fixture(scope="module")
def starts() -> Starts:
    """Two episodes of HandReach."""
    return first_starts([reach_env(2, seed=4)], 2)


@pytest.fixture(scope="module")
def flown(policy: Policy, starts: Starts) -> tuple[Flight, JointTrials, LoopReport]:
    return fly(policy, starts)


def test_episodes_are_run_to_their_end_and_nothing_stops_them(
    flown: tuple[Flight, JointTrials, LoopReport],
) -> None:
    flight, trials, report = flown
    assert len(flight.acting()) == 2 * STEPS
    assert trials.stopped == [False] * 2
    assert report.verdicts.keys() <= {"NONE", "LIMITING"}
    assert report.last_mode == "limp"


def test_episodes_begin_where_those_of_training_do(
    flown: tuple[Flight, JointTrials, LoopReport], starts: Starts
) -> None:
    """A tick before the policy, in a state that the servos already hold: none moves by a count's torque."""
    flight, _, _ = flown
    first = [i for i in flight.acting() if i - 1 not in flight.acting()]
    for i, qpos in zip(first, starts.qpos, strict=True):
        np.testing.assert_array_equal(flight.qpos[i - 1], qpos)
        assert abs(flight.qpos[i] - qpos).max() < 0.02


def test_success_is_judged_by_the_emulated_worlds_truth(policy: Policy, starts: Starts) -> None:
    """Goals that are where the fingertips were seen to end are reached at the last step, others are not."""
    flight, trials, _ = fly(policy, starts)
    assert not any(trials.last)
    env = reach_env(2, seed=0)
    ends = [max(i for i in flight.acting() if i < half) + 1 for half in (len(flight.ticks) // 2, 10**6)]
    qpos, qvel = (torch.from_numpy(np.stack([kept[i] for i in ends])) for kept in (flight.qpos, flight.qvel))
    env.place(torch.arange(2), qpos, qvel, env.goal)
    _, achieved, _ = env.layout.split(env.observation)
    reachable = dataclasses.replace(starts, goal=achieved.double().numpy())
    _, trials, _ = fly(policy, reachable)
    assert trials.last == [True, True]
    assert trials.reached == [True, True]


def test_joint_targets_reach_the_emulated_servos(flown: tuple[Flight, JointTrials, LoopReport]) -> None:
    """In the next tick the servos follow what this one commanded, to half a count of theirs."""
    flight, _, _ = flown
    for i in flight.acting():
        sent = flight.ticks[i].command.joint_target_rad
        assert abs(flight.goal_rad[i + 1] - sent).max() <= COUNT_RAD / 2 + 1e-9


def test_the_gate_passes_what_the_policy_asks_for(flown: tuple[Flight, JointTrials, LoopReport]) -> None:
    """From the second tick on: in the first it blends over from the posture that was held."""
    flight, _, _ = flown
    first = [i for i in flight.acting() if i - 1 not in flight.acting()]
    assert len(first) == 2
    for i in set(flight.acting()) - set(first):
        tick = flight.ticks[i]
        np.testing.assert_allclose(tick.command.joint_target_rad, tick.request.joint_target_rad, atol=1e-6)


def observations(flight: Flight, starts: Starts, i: int) -> tuple[np.ndarray, np.ndarray]:
    """What the graph assembled in a tick, and what training would have observed in the same state."""
    env = reach_env(1, seed=0)
    interface, tick = deployment().policy(env.facts), flight.ticks[i]
    channels = channels_of(tick.state, tick.commands)
    read = {name: torch.from_numpy(channels[name])[None] for name in interface.channels}
    goal = starts.goal[int(i > len(flight.ticks) // 2)]
    truth = [torch.from_numpy(values)[None] for values in (flight.qpos[i], flight.qvel[i], goal)]
    env.place(torch.arange(1), *truth)
    return interface.observe(read, {})[0].numpy(), env.observation[0].numpy()


def test_at_rest_the_graph_observes_what_training_would(
    flown: tuple[Flight, JointTrials, LoopReport], starts: Starts
) -> None:
    """Angles to half a count, speeds to the one count that a window may see, the estimator's exactly."""
    flight, _, _ = flown
    last = flight.acting()[-1]
    assert abs(flight.qvel[last]).max() < 0.02
    found, wanted = observations(flight, starts, last)
    driven = np.isin(np.arange(24), [5, 9, 13, 18], invert=True)
    apart = abs(found - wanted)
    moved = TURNED_S * 0.02
    assert apart[:24][driven].max() <= COUNT_RAD / 2 + moved
    assert apart[24:48][driven].max() <= COUNT_RAD / WINDOW_S + 0.024
    assert apart[:24][~driven].max() <= moved
    assert apart[24:48][~driven].max() <= 0.01
    assert apart[48:78].max() <= 1e-4
    np.testing.assert_array_equal(found[78:], wanted[78:])  # the goal is not measured


def test_in_motion_it_is_as_late_as_the_wires(
    flown: tuple[Flight, JointTrials, LoopReport], starts: Starts
) -> None:
    """Angles differ by no more than the fastest joint turns meanwhile."""
    flight, _, _ = flown
    speeds = []
    for i in flight.acting()[::7]:
        found, wanted = observations(flight, starts, i)
        fastest = max(abs(flight.qvel[k]).max() for k in (i - 1, i, i + 1))
        speeds.append(fastest)
        assert abs(found[:24] - wanted[:24]).max() <= COUNT_RAD / 2 + TURNED_S * (fastest + 2.0)
    assert max(speeds) > 1.0


def test_no_goal_beyond_the_trained_ones_is_asked_for(policy: Policy, starts: Starts) -> None:
    """And success is judged by the goal that was drawn, not by the one that was asked for."""
    narrow = dataclasses.replace(policy.contract, command_low=(0.0,) * 15, command_high=(0.9,) * 15)
    beyond = (starts.goal > 0.9).any(axis=1)
    assert beyond.all()
    trained, policy.contract = policy.contract, narrow
    try:
        with LockstepRobot(ROBOT) as emulated:
            body = WitnessedBody(ROBOT, emulated)
            env = reach_env(1, seed=0)
            trials = JointTrials(starts, ready_ticks(ROBOT), policy, env, body)
    finally:
        policy.contract = trained
    body.qpos, body.qvel = starts.qpos[0], starts.qvel[0]
    trials._succeeds(0)
    np.testing.assert_allclose(env.goal[0], starts.goal[0])
    assert np.isnan(trials.commands["goal"]).all()
    while Event.POLICY not in trials.poll(0.0):
        pass
    np.testing.assert_array_equal(trials.commands["goal"], np.minimum(starts.goal[0], 0.9))


class Unplugged(Watched):
    """The driver of a hand whose estimator loses its cable for a while in the first episode."""

    OUT, BACK = 40, 60
    """Reads: the policy begins with the 31st."""

    def __init__(self, emulated: LockstepRobot, flight: Flight) -> None:
        super().__init__(emulated, flight)
        self._cable, self._reads = emulated.machine.cables["estimator"], 0

    def read(self, now_s: float) -> RobotState:
        """Read; then, while the emulated robot stands still, pull the cable or put it back."""
        state = super().read(now_s)
        self._reads += 1
        if self._reads == self.OUT:
            self._cable.unplug()
        elif self._reads == self.BACK:
            self._cable.plug()
        return state


def test_a_hand_that_loses_its_estimator_is_held_and_goes_on_after_a_rearm(
    policy: Policy, starts: Starts
) -> None:
    flight, trials, report = fly(policy, starts, Unplugged)
    assert trials.stopped == [True, False]
    held = [i for i, tick in enumerate(flight.ticks) if tick.mode is Mode.HOLD]
    assert flight.ticks[held[0]].verdict.causes == {"limits.estimator_stale_s"}
    last = flight.ticks[held[0] - 1].command.joint_target_rad
    for i in held:
        np.testing.assert_array_equal(flight.ticks[i].command.joint_target_rad, last)
    assert [event.name for event in report.events].count("rearm") == 1
    assert len([i for i in flight.acting() if i > held[-1]]) == STEPS


def test_a_recording_of_the_hand_is_replayed_bit_for_bit(
    policy: Policy, flown: tuple[Flight, JointTrials, LoopReport], tmp_path: Path
) -> None:
    file = tmp_path / "run.mcap"
    with McapRecorder(file, {}) as recorder:
        for tick in flown[0].ticks:
            recorder.tick(tick)
    recording = read_recording(file)
    assert replay(recording, GateLimits.of(ROBOT), InterpolatedPolicy(policy, 1)).first is None
    with pytest.raises(RecordingError, match="asked for no velocity"):
        flight_of(recording, ROBOT)


def test_two_flights_are_the_same_bit_for_bit(
    policy: Policy, starts: Starts, flown: tuple[Flight, JointTrials, LoopReport]
) -> None:
    again, _, _ = fly(policy, starts)
    np.testing.assert_array_equal(again.qpos, flown[0].qpos)
    assert len(again.ticks) == len(flown[0].ticks)


def test_the_policy_of_the_hand_drives_no_other_robot(policy: Policy, tmp_path: Path) -> None:
    blind = Path(ROBOT.file).read_text(encoding="utf-8")
    assert "robot0:S_thtip" in blind
    file = tmp_path / "robot.toml"
    file.write_text(blind.replace(', "robot0:S_thtip"', ""), encoding="utf-8")
    problems = policy.check(load_robot(file))
    assert problems == ["channel point_pos has shape (5, 3) in the policy and (4, 3) here"]
    estimator = blind[blind.index("[estimator]") : blind.index("# No such servos")]
    file.write_text(blind.replace(estimator, "").replace("estimator_stale_s = 0.06\n", ""), encoding="utf-8")
    assert policy.check(load_robot(file)) == [
        f"channel {name} has no source on shadow_hand_sim; sources are joints, operator"
        for name in ("passive_joint_pos", "passive_joint_vel", "point_pos")
    ]
