"""The shipped policy at its 50 Hz inside a loop of 200 Hz, through gate, driver and emulated servos."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robotrl.bench.lockstep import LockstepRobot, WitnessedBody
from robotrl.runtime.clock import FakeClock
from robotrl.runtime.interpolation import InterpolatedPolicy
from robotrl.runtime.loop import Loop
from robotrl.runtime.operator import Script, constant_steps
from robotrl.runtime.policy import Policy
from robotrl.runtime.recorder import McapRecorder
from robotrl.runtime.recording import Recording, read_recording
from robotrl.runtime.replay import replay
from robotrl.spec.gate import GateLimits
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped

STAND_S, WALK_S = 1.0, 1.0
SHIPPED = load_robot(find_shipped("hardware", "quad12"))
ROBOT = dataclasses.replace(
    SHIPPED,
    control=dataclasses.replace(SHIPPED.control, bus_rate_hz=200.0, stand_s=STAND_S, park_s=0.3),
)


@pytest.fixture(scope="module")
def policy() -> Policy:
    """The shipped one."""
    return Policy.load(find_shipped("policies", "quad12_walk"))


@pytest.fixture(scope="module")
def recording(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A second of walking."""
    file = tmp_path_factory.mktemp("faster") / "run.mcap"
    script = Script(constant_steps(STAND_S, (0.3, 0.0, 0.0)), policy.contract.operator_ranges)
    with LockstepRobot(ROBOT) as emulated, McapRecorder(file, {}) as recorder:
        body = WitnessedBody(ROBOT, emulated)
        loop = Loop(ROBOT, body, policy, script, FakeClock(), armed=True, recorder=recorder)
        report = loop.run(STAND_S + 0.5 + WALK_S)
    assert report.verdicts.keys() <= {"NONE", "LIMITING"}
    assert report.last_mode == "limp"
    return read_recording(file)


def test_the_policy_fits_the_robot_whatever_the_rate_of_its_loop(policy: Policy) -> None:
    assert policy.check(ROBOT) == []
    faster = dataclasses.replace(ROBOT, control=dataclasses.replace(ROBOT.control, rate_hz=100.0))
    assert policy.check(faster)[0] == "control.rate_hz is 50.0 in the policy and 100.0 on quad12"


def test_every_tick_reads_and_writes_and_every_fourth_asks_the_policy(recording: Recording) -> None:
    request, asked = recording.topics["/request"], recording.topics["/policy"]
    np.testing.assert_allclose(np.diff(request["now_s"]), 0.005, atol=1e-9)
    assert (recording.topics["/state"]["joint_age_s"] == 0.0).all()
    walking = np.flatnonzero(request["mode"] == "POLICY")
    np.testing.assert_array_equal(asked["tick"], walking[::4])
    targets = request["joint_target_rad"][walking]
    steps = np.abs(np.diff(targets, axis=0)).max(axis=1)
    assert np.count_nonzero(steps) > 0.9 * steps.size, "each tick has targets of its own"


def test_a_recording_replays_bit_for_bit_at_its_own_rates_alone(recording: Recording, policy: Policy) -> None:
    limits = GateLimits.of(ROBOT)
    assert replay(recording, limits, InterpolatedPolicy(policy, 4)).first is None
    assert replay(recording, limits, InterpolatedPolicy(policy, 1)).first is not None
