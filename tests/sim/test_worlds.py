"""Native worlds against MuJoCo's own stepping, and isolation between worlds."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch

from robotrl.errors import SimulationError
from robotrl.sim.model import position_model, torque_model
from robotrl.sim.native import NativeWorlds
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped

WORLDS = 5


@pytest.fixture(scope="module")
def robot() -> RobotSpec:
    return load_robot(find_shipped("hardware", "quad12"))


@pytest.fixture
def worlds(robot: RobotSpec) -> NativeWorlds:
    return NativeWorlds(position_model(robot, 0.005), WORLDS, threads=2)


def start(worlds: NativeWorlds, robot: RobotSpec) -> None:
    torch.manual_seed(0)
    qpos = torch.zeros(WORLDS, 19)
    qpos[:, 2], qpos[:, 3] = 0.18, 1.0
    qpos[:, 7:] = torch.tensor(robot.default_rad) + 0.1 * torch.randn(WORLDS, 12)
    worlds.reset(torch.arange(WORLDS), qpos, torch.zeros(WORLDS, 18))


def targets(robot: RobotSpec, steps: int, substeps: int) -> torch.Tensor:
    torch.manual_seed(1)
    held = torch.tensor(robot.default_rad) + 0.2 * torch.randn(steps, 1, WORLDS, 12)
    return held.expand(-1, substeps, -1, -1).float()


def test_every_world_equals_mj_step_bit_for_bit(worlds: NativeWorlds, robot: RobotSpec) -> None:
    start(worlds, robot)
    initial = worlds.qpos.double()
    for target in targets(robot, 30, 4):
        worlds.step(target)
    for i in range(WORLDS):
        data = mujoco.MjData(worlds.model)
        data.qpos[:] = initial[i]
        mujoco.mj_forward(worlds.model, data)
        for target in targets(robot, 30, 4):
            data.ctrl[:] = target[0, i].double()
            mujoco.mj_step(worlds.model, data, 4)
        np.testing.assert_array_equal(worlds.qpos[i], data.qpos.astype(np.float32))
        np.testing.assert_array_equal(worlds.qvel[i], data.qvel.astype(np.float32))


def test_goals_that_change_within_a_step_act_from_their_substep_on(
    worlds: NativeWorlds, robot: RobotSpec
) -> None:
    start(worlds, robot)
    initial = worlds.qpos[0].double()
    rows = targets(robot, 4, 1)[:, 0]
    worlds.step(rows)
    data = mujoco.MjData(worlds.model)
    data.qpos[:] = initial
    mujoco.mj_forward(worlds.model, data)
    for row in rows:
        data.ctrl[:] = row[0].double()
        mujoco.mj_step(worlds.model, data)
    np.testing.assert_array_equal(worlds.qpos[0], data.qpos.astype(np.float32))


def test_reset_touches_only_its_worlds(worlds: NativeWorlds, robot: RobotSpec) -> None:
    start(worlds, robot)
    for target in targets(robot, 5, 4):
        worlds.step(target)
    before = worlds.qpos.clone(), worlds.qvel.clone()
    ids = torch.tensor([1, 3])
    worlds.reset(ids, torch.full((2, 19), 0.5), torch.full((2, 18), 0.25))
    others = [0, 2, 4]
    assert torch.equal(worlds.qpos[others], before[0][others])
    assert torch.equal(worlds.qvel[others], before[1][others])
    assert (worlds.qvel[ids] == 0.25).all()


def test_returned_tensors_are_snapshots(worlds: NativeWorlds, robot: RobotSpec) -> None:
    start(worlds, robot)
    held = worlds.qpos
    copy = held.clone()
    for target in targets(robot, 3, 4):
        worlds.step(target)
    assert torch.equal(held, copy)
    assert not torch.equal(worlds.qpos, copy)


def test_per_world_fields_change_only_their_world(robot: RobotSpec) -> None:
    plain = NativeWorlds(position_model(robot, 0.005), WORLDS, threads=1)
    changed = NativeWorlds(position_model(robot, 0.005), WORLDS, threads=1)
    changed.field("actuator_gainprm")[2, :, 0] *= 0.5
    for worlds in (plain, changed):
        start(worlds, robot)
        for target in targets(robot, 10, 4):
            worlds.step(target)
    same = [0, 1, 3, 4]
    assert torch.equal(plain.qpos[same], changed.qpos[same])
    assert not torch.equal(plain.qpos[2], changed.qpos[2])


def test_sensors_are_found_by_name(worlds: NativeWorlds, robot: RobotSpec) -> None:
    start(worlds, robot)
    feet = worlds.sensor("FL_foot_pos", "RR_foot_pos")
    data = mujoco.MjData(worlds.model)
    data.qpos[:] = worlds.qpos[2]
    mujoco.mj_forward(worlds.model, data)
    np.testing.assert_allclose(feet[2, 0], data.sensor("FL_foot_pos").data, atol=1e-6)
    np.testing.assert_allclose(feet[2, 1], data.sensor("RR_foot_pos").data, atol=1e-6)
    with pytest.raises(SimulationError, match="no sensor tail"):
        worlds.sensor("tail")
    with pytest.raises(SimulationError, match="differ in size"):
        worlds.sensor("FL_foot_pos", "FL_foot_touch")


def test_robot_weighs_what_it_should(robot: RobotSpec) -> None:
    assert abs(float(position_model(robot, 0.005).body_mass.sum()) - 1.9) < 1e-6


@pytest.mark.parametrize("target_rad", [0.05, 0.5, -0.5])
def test_position_and_torque_models_share_one_motor_law(robot: RobotSpec, target_rad: float) -> None:
    """clip(stiffness * error) - back-EMF * speed, written once as an actuator and once by hand."""
    servo = robot.servo["xc430_w240"]
    position, torque = position_model(robot, 0.001), torque_model(robot, 0.001)
    for model in (position, torque):
        model.opt.gravity[:] = 0.0
    a, b = mujoco.MjData(position), mujoco.MjData(torque)
    for data in (a, b):
        data.qpos[2] = 1.0
        data.qpos[7:] = robot.default_rad
    for _ in range(150):
        a.ctrl[:] = robot.default_rad + target_rad
        error = robot.default_rad + target_rad - b.qpos[7:]
        drive = np.clip(servo.stiffness_nm_rad * error, -servo.torque_limit_nm, servo.torque_limit_nm)
        b.ctrl[:] = drive - servo.back_emf_nm_s_rad * b.qvel[6:]
        mujoco.mj_step(position, a)
        mujoco.mj_step(torque, b)
    # The first model's damping is integrated implicitly, so agreement is to the order of the step.
    np.testing.assert_allclose(a.qpos[7:], b.qpos[7:], atol=0.01)
    assert np.abs(a.qpos[7:] - robot.default_rad).max() > 0.02
