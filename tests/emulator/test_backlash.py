"""Play between servo and link: the load decides on which flank it hangs, and the encoder does not see it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import xseries as x
from robotrl.emulator.backlash import Backlash
from robotrl.emulator.faults import FaultScript
from robotrl.emulator.plant import STEP_S
from robotrl.sim.sensing import EXACT, Sensing
from robotrl.spec.robot import RobotSpec
from tests.emulator.host import Host, quad12
from tests.hil.on_emulated_time import emulated_robot

PLAY_RAD = 0.03
LINK_KG_M2 = 0.02
DAMPING_NM_S_RAD = 0.5
"""So that a link comes to rest soon."""


def loose(play_rad: float = PLAY_RAD) -> RobotSpec:
    """The quadruped with play in every joint."""
    robot = quad12()
    servos = {name: dataclasses.replace(s, backlash_rad=play_rad) for name, s in robot.servo.items()}
    return dataclasses.replace(robot, servo=servos)


(SERVO,) = loose().servo.values()
COUNT_RAD = 1 / SERVO.counts_per_rad


class Link:
    """The first joint's link, on which a load hangs, and its servo, which holds count 2048."""

    def __init__(self, robot: RobotSpec) -> None:
        self.host = Host(robot)
        self.host.position_rad[:] = 0.0
        self.host.live(0.02)
        self.host.send(dxl.write(dxl.BROADCAST_ID, x.GOAL_POSITION.address, x.GOAL_POSITION.encode(2048)))
        self.host.send(dxl.write(dxl.BROADCAST_ID, x.TORQUE_ENABLE.address, b"\x01"))

    def carry(self, load_nm: float, duration_s: float = 1.0) -> None:
        """Let a load act on the link, against the servo and its friction."""
        host = self.host
        for _ in range(round(duration_s / STEP_S)):
            host.live(STEP_S)
            force_nm = float(host.bus.torque_nm[0]) + load_nm - DAMPING_NM_S_RAD * host.velocity_rad_s[0]
            speed = host.velocity_rad_s[0] + force_nm / LINK_KG_M2 * STEP_S
            brake = SERVO.friction_nm / LINK_KG_M2 * STEP_S
            host.velocity_rad_s[0] = np.sign(speed) * max(0.0, abs(speed) - brake)
            host.position_rad[0] += host.velocity_rad_s[0] * STEP_S

    @property
    def true_rad(self) -> float:
        """Angle of the link."""
        return float(self.host.position_rad[0])

    @property
    def read_rad(self) -> float:
        """Angle that the servo tells."""
        joint = self.host.robot.joint[0]
        count = self.host.read(joint.id, x.PRESENT_POSITION)
        return joint.sign * (count - joint.zero_count) * COUNT_RAD


def test_a_load_hangs_on_its_flank_and_loses_the_play_when_it_turns() -> None:
    link = Link(loose())
    for load_nm, side in ((0.5, 1), (-0.5, -1), (0.5, 1)):
        link.carry(load_nm)
        assert link.true_rad - link.read_rad == pytest.approx(side * PLAY_RAD / 2, abs=COUNT_RAD)
    link.carry(-SERVO.friction_nm / 2)  # too little to turn the servo: it hangs where it hung
    assert link.true_rad - link.read_rad == pytest.approx(PLAY_RAD / 2, abs=COUNT_RAD)


def test_between_two_loads_the_link_moves_by_the_play_more_than_without() -> None:
    swings = []
    for play_rad in (0.0, PLAY_RAD):
        link = Link(loose(play_rad))
        link.carry(0.5)
        high_rad = link.true_rad
        link.carry(-0.5)
        swings.append(high_rad - link.true_rad)
    assert swings[1] - swings[0] == pytest.approx(PLAY_RAD, abs=2 * COUNT_RAD)


def test_in_the_play_the_link_feels_no_more_than_the_friction() -> None:
    wide = Backlash([dataclasses.replace(SERVO, backlash_rad=0.4)])
    drive_nm, felt = np.array([0.8]), []
    while wide.lead_rad[0] < 0.2:
        felt.append(float(wide.cross(drive_nm)[0]))
    assert felt[:-1] == pytest.approx([SERVO.friction_nm] * (len(felt) - 1))
    assert wide.cross(drive_nm) == drive_nm
    speed_rad_s = 0.2 / (len(felt) * STEP_S)
    assert speed_rad_s == pytest.approx((0.8 - SERVO.friction_nm) / SERVO.back_emf_nm_s_rad, rel=0.05)


def test_without_play_not_a_bit_is_different() -> None:
    none = Backlash([SERVO, dataclasses.replace(SERVO, backlash_rad=0.0)])
    tight = Backlash([dataclasses.replace(SERVO, backlash_rad=0.0)] * 2)
    torque_nm = np.array([0.7, -0.7])
    for _ in range(10):
        assert tight.cross(torque_nm).tobytes() == torque_nm.tobytes()
        assert none.cross(torque_nm)[1] == torque_nm[1]  # beside a servo that has play
        assert tight.lead_rad.tobytes() == bytes(16)
    assert none.lead_rad[1] == 0.0


def test_it_comes_to_rest_where_that_of_training_does() -> None:
    robot = loose()
    n = len(robot.joint)
    params = dataclasses.replace(EXACT, backlash_rad=(PLAY_RAD, PLAY_RAD))
    trained, generator = Sensing(robot, params, 1), torch.Generator().manual_seed(0)
    trained.redraw(torch.tensor([0]), generator)
    emulated = Backlash([robot.servo_of(joint) for joint in robot.joint])
    rng = np.random.default_rng(0)
    for _ in range(20):
        torque_nm = rng.choice([-3.0, -1.5, -0.5, 0.5, 1.5, 3.0], n) * SERVO.friction_nm
        force = torch.tensor(torque_nm[np.newaxis], dtype=torch.float32)
        for _ in range(100):
            still = torch.zeros((1, 7 + n)), torch.zeros((1, 6 + n))
            angles = trained.measure(slice(None), *still, force, generator)["joint_pos"]
        for _ in range(1000):
            emulated.cross(torque_nm)
        np.testing.assert_allclose(emulated.lead_rad, angles[0], atol=COUNT_RAD)


def test_a_robot_with_play_moves_and_is_measured_within_it() -> None:
    robot = loose()
    half_rad = PLAY_RAD / 2 + COUNT_RAD
    with emulated_robot(robot, FaultScript()) as moving:
        moving.machine.plant.model.opt.gravity[:] = 0.0  # lying on its legs it could not move them
        astray = np.zeros(len(robot.joint))
        for tick in range(60):
            moving.target_rad = moving.target_rad + 0.02 * np.cos(2 * np.pi * tick / 30)
            state, _ = moving.tick()
            low_rad, high_rad = moving.truth_rad
            assert (state.joint_pos_rad > low_rad - half_rad).all()
            assert (state.joint_pos_rad < high_rad + half_rad).all()
            astray = np.maximum(astray, abs(state.joint_pos_rad - high_rad))
        assert astray.max() > PLAY_RAD / 2 - COUNT_RAD
