"""The hand's robot.toml against the installed model: the servos are its actuators, number for number."""

from __future__ import annotations

import dataclasses
from typing import Any

import mujoco
import numpy as np
import pytest

from robotrl.errors import ConfigError
from robotrl.sim.model import position_model, torque_model
from robotrl.spec.robot import RobotSpec
from robotrl.tasks.hand import START_RAD
from tests.shadow_hand import shadow_hand

ROBOT = shadow_hand()


def original() -> mujoco.MjModel:
    """Gymnasium-Robotics' own, actuators included."""
    return mujoco.MjModel.from_xml_path(str(ROBOT.model_file))


def test_the_servos_are_the_models_own_actuators() -> None:
    theirs, ours = original(), position_model(ROBOT, 0.002)
    assert ours.nu == theirs.nu == len(ROBOT.joint)
    np.testing.assert_array_equal(ours.actuator_trnid[:, 0], theirs.actuator_trnid[:, 0])
    for field in ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange"):
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(ROBOT.position_min_rad, theirs.actuator_ctrlrange[:, 0])
    np.testing.assert_array_equal(ROBOT.position_max_rad, theirs.actuator_ctrlrange[:, 1])


def test_the_joints_move_as_the_models_own() -> None:
    theirs, ours = original(), position_model(ROBOT, 0.002)
    for field in ("dof_armature", "dof_frictionloss", "jnt_range", "qpos0", "body_mass", "tendon_range"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
    extra = ours.dof_damping - theirs.dof_damping
    assert (extra >= 0).all()
    assert extra.max() < 0.001 * theirs.dof_damping.min()  # the back-EMF


def test_both_models_go_the_same_way() -> None:
    theirs, ours = original(), position_model(ROBOT, 0.002)
    random = np.random.default_rng(0)
    worlds = [(model, mujoco.MjData(model)) for model in (theirs, ours)]
    for _ in range(5):
        target = random.uniform(ROBOT.position_min_rad, ROBOT.position_max_rad)
        for model, data in worlds:
            data.ctrl[:] = target
            mujoco.mj_step(model, data, nstep=100)
    assert abs(worlds[0][1].qpos - worlds[1][1].qpos).max() < 1e-3


def test_the_default_posture_is_where_episodes_start() -> None:
    for joint in ROBOT.joint:
        finger, number = joint.name.removeprefix("robot0:").split("J")
        inside = np.clip(START_RAD[finger][int(number)], joint.position_min_rad, joint.position_max_rad)
        assert joint.default_rad == inside


def test_torque_models_keep_the_joints_own_damping_and_lose_the_actuators() -> None:
    ours = torque_model(ROBOT, 0.001)
    np.testing.assert_array_equal(ours.dof_damping, original().dof_damping)
    assert not ours.actuator_biasprm.any()


ESTIMATOR = ROBOT.estimator
assert ESTIMATOR is not None


def with_estimator(**changes: Any) -> RobotSpec:
    assert ESTIMATOR is not None
    return dataclasses.replace(ROBOT, estimator=dataclasses.replace(ESTIMATOR, **changes))


@pytest.mark.parametrize(
    ("robot", "said"),
    [
        (with_estimator(joints=ESTIMATOR.joints[:3]), r"joint: is no joint of .*, got 'robot0:LFJ0'"),
        (
            with_estimator(joints=(*ESTIMATOR.joints[:3], "tail")),
            r"robot\.toml: estimator\.joints\[3\]: is no joint of .*, got 'tail'; allowed: robot0:WRJ1",
        ),
        (
            with_estimator(joints=ESTIMATOR.joints[::-1]),
            r"robot\.toml: estimator\.joints: are in another order",
        ),
        (
            with_estimator(points=("robot0:S_fftip", "nose")),
            r"robot\.toml: estimator\.points\[1\]: is no site of .*, got 'nose'; allowed: ",
        ),
        (dataclasses.replace(ROBOT, joint=ROBOT.joint[::-1]), r"robot\.toml: joint: are in another order"),
    ],
    ids=["missing joint", "unknown joint", "order", "unknown point", "order of servos"],
)
def test_what_the_model_does_not_have_is_refused(robot: RobotSpec, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        torque_model(robot, 0.001)
