"""The real driver on the emulated robot's serial ports: opens, measures, stands up, loses its cable."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robotrl.drivers.body import SerialBody
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, Floats, JointCommand, RobotState
from tests.emulator.host import quad12
from tests.emulator.process import Emulator, emulator

COUNT_RAD = 2 * np.pi / 4096
PERIOD_S = 0.02


def patient(robot: RobotSpec) -> RobotSpec:
    """The robot with a reply time-out that a busy test machine meets; emulated time is not concerned."""
    bus = {name: dataclasses.replace(b, reply_timeout_s=0.3) for name, b in robot.bus.items()}
    return dataclasses.replace(robot, bus=bus)


ROBOT = patient(quad12())


class Robot:
    """An opened body, the emulator behind it, and a clock of the host's own."""

    def __init__(self, process: Emulator, body: SerialBody, truth: Path) -> None:
        self.process = process
        self.body = body
        self.now_s = 0.0
        self._truth = truth

    def tick(self, target_rad: Floats | None = None) -> RobotState:
        """Read, then follow the target if there is one."""
        self.now_s += PERIOD_S
        state = self.body.read(self.now_s)
        if target_rad is not None:
            self.body.write(JointCommand(CommandKind.TRACK, target_rad))
        return state

    def stand_up(self) -> RobotState:
        """Follow a ramp from the measured posture to the default one, and wait a moment."""
        start = self.tick().joint_pos_rad
        state = self.tick()
        for step in range(60):
            share = min(1.0, step / 50)
            target = (1 - share) * start + share * ROBOT.default_rad
            state = self.tick(np.clip(target, ROBOT.position_min_rad, ROBOT.position_max_rad))
        return state

    def finish(self) -> dict[str, np.ndarray]:
        """Stop the emulator and return its truth log."""
        assert self.process.stop() == 0
        with np.load(self._truth, allow_pickle=False) as log:
            return dict(log)


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    truth = tmp_path / "truth.npz"
    with emulator("--clock", "bus", "--truth", str(truth)) as process:
        body = SerialBody(ROBOT, ports=process.ports)
        body.open()
        try:
            yield Robot(process, body, truth)
        finally:
            body.close()


def test_open_moves_nothing_and_the_measured_state_is_the_truth(robot: Robot) -> None:
    for _ in range(10):
        state = robot.tick()
    truth = robot.finish()
    assert not truth["torque_enabled"].any()
    assert abs(truth["qpos"] - truth["qpos"][0]).max() < 0.005
    assert (state.joint_age_s == 0).all()
    assert state.imu_age_s == 0
    # The robot lies still, so any sample of the log will do.
    assert abs(state.joint_pos_rad - truth["qpos"][-1, 7:]).max() < 0.5 * COUNT_RAD + 1e-3
    assert abs(state.joint_vel_rad_s).max() < 0.2
    assert abs(state.imu_quat @ truth["qpos"][-1, 3:7]) == pytest.approx(1.0, abs=1e-3)
    assert state.imu_accel_m_s2 == pytest.approx([0, 0, 9.81], abs=1.5)
    assert abs(state.voltage_v - truth["voltage_v"][-1]).max() < 0.06
    assert (state.temperature_c == 25).all()
    assert (state.hardware_error == 0).all()


def test_it_stands_up_on_a_ramp_of_targets_and_goes_limp_again(robot: Robot) -> None:
    state = robot.stand_up()
    assert abs(state.joint_pos_rad - ROBOT.default_rad).max() < 0.1
    robot.body.write(JointCommand(CommandKind.LIMP, ROBOT.default_rad))
    for _ in range(15):
        robot.tick()
    truth = robot.finish()
    standing = truth["torque_enabled"].all(axis=1)
    assert truth["qpos"][standing, 2].max() > 0.16
    assert truth["qpos"][0, 2] < 0.1
    assert not truth["torque_enabled"][-1].any()
    assert truth["qpos"][-1, 2] < 0.14
    # Nothing jumped when torque came on: goals began where the joints were.
    first = int(np.argmax(standing))
    assert abs(truth["goal_rad"][first] - truth["qpos"][first, 7:]).max() < 0.1


def test_after_a_lost_cable_the_servos_stop_and_nothing_moves_before_rearm(robot: Robot) -> None:
    robot.stand_up()
    elsewhere = ROBOT.default_rad + 0.15
    pulled_s = robot.process.tell("unplug legs")["stamp_s"]
    ages = [robot.tick(elsewhere).joint_age_s.min() for _ in range(8)]
    assert ages == pytest.approx(PERIOD_S * np.arange(1, 9))

    plugged_s = robot.process.tell("plug legs")["stamp_s"]
    assert robot.tick(elsewhere).joint_age_s.max() == 0
    for _ in range(10):
        robot.tick(elsewhere)
    rearmed_s = robot.process.tell("plug imu")["stamp_s"]
    robot.body.rearm()
    for _ in range(40):
        state = robot.tick(elsewhere)
    assert abs(state.joint_pos_rad - elsewhere).max() < 0.1

    truth = robot.finish()
    watchdog = ROBOT.bus["legs"].watchdog_s
    trips = [e for e in robot.process.events if e["event"] == "watchdog"]
    assert sorted(e["id"] for e in trips) == [joint.id for joint in ROBOT.joint]
    assert all(0 < e["stamp_s"] - pulled_s <= watchdog + PERIOD_S for e in trips)
    stamp_s, goal = truth["stamp_s"], truth["goal_rad"]
    held = (stamp_s > plugged_s) & (stamp_s < rearmed_s)
    assert truth["watchdog_tripped"][held].all()
    assert np.ptp(goal[held], axis=0).max() == 0
    assert abs(goal[-1] - elsewhere).max() < COUNT_RAD


def test_without_its_imu_only_the_imu_grows_old(robot: Robot) -> None:
    robot.tick()
    robot.process.tell("unplug imu")
    states = [robot.tick() for _ in range(5)]
    assert [s.imu_age_s for s in states[1:]] == pytest.approx(PERIOD_S * np.arange(2, 6))
    assert all((s.joint_age_s == 0).all() for s in states)
    robot.process.tell("plug imu")
    robot.tick()
    assert robot.tick().imu_age_s == 0
