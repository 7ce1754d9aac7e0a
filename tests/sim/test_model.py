"""The compiled models: what they weigh, and that their servos obey one motor law."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from robotrl.sim.model import position_model, torque_model
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped


@pytest.fixture(scope="module")
def robot() -> RobotSpec:
    return load_robot(find_shipped("hardware", "quad12"))


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
