"""Laws of walking through the runtime: steps earn there what they earn in training, and a fall is seen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mujoco
import numpy as np
import pytest

from robotrl.bench.lockstep import LockstepRobot, WitnessedBody
from robotrl.bench.resimulate import FileDriver, Training, find_training, training_env
from robotrl.bench.through import ready_ticks
from robotrl.bench.through_walk import (
    Judge,
    Walked,
    WalkTrials,
    differences,
    walk_in_training,
    walk_through_runtime,
)
from robotrl.bench.transfer import SHOWN
from robotrl.runtime.policy import Policy
from robotrl.sim.env import Env
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.velocity import VelocityStep

WALK_S = 2.0


@pytest.fixture(scope="module")
def robot() -> RobotSpec:
    return load_robot(find_shipped("hardware", "quad12"))


@pytest.fixture(scope="module")
def file() -> Path:
    return find_shipped("policies", "quad12_walk")


@pytest.fixture(scope="module")
def training(robot: RobotSpec) -> Training:
    return find_training("quad12_walk", robot)


def walk(training: Training, file: Path, worlds: int) -> tuple[Env[VelocityStep], Walked]:
    env = training_env(training, worlds, randomized=False)
    return env, walk_in_training(env, file, WALK_S)


def test_a_good_policy_earns_as_much_through_the_runtime(
    training: Training, robot: RobotSpec, file: Path
) -> None:
    env, walked = walk(training, file, 2)
    walks, report = walk_through_runtime(robot, Policy.load(file), env, walked, ready_ticks(robot))
    assert walks.survived.all()
    assert walked.walks.survived.all()
    # The gate blends the policy in over the first half second of the two.
    assert (walks.returns > 0.8 * walked.walks.returns).all()
    assert (walks.returns < 1.1 * walked.walks.returns).all()
    steps, episodes, _ = walked.commands.shape
    assert report.ticks >= steps * episodes
    for name in SHOWN:
        assert len(walked.walks.seen[name]) == steps * episodes
        assert len(walks.seen[name]) == steps * episodes
    assert max(differences(walks.seen, walked.walks.seen).values()) < 1.0


def test_a_fall_ends_an_episode_and_the_next_one_begins_upright(
    training: Training, robot: RobotSpec, file: Path
) -> None:
    """The first walk's start lies on its back: the gate stops it. The second is as ever."""
    env, walked = walk(training, file, 2)
    qpos = walked.qpos.copy()
    qpos[0, 3:7] = 0.0, 1.0, 0.0, 0.0
    overturned = dataclasses.replace(walked, qpos=qpos)
    walks, _ = walk_through_runtime(robot, Policy.load(file), env, overturned, ready_ticks(robot))
    assert walks.survived.tolist() == [False, True]
    assert walks.returns[0] < 0.1 * walks.returns[1]
    assert walks.returns[1] > 0.8 * walked.walks.returns[1]


def test_steps_earn_by_the_emulated_world_what_they_earn_in_training(
    training: Training, robot: RobotSpec, file: Path
) -> None:
    """The same state, torques and memory give the reward that the training environment gave."""
    env = training_env(training, 1, randomized=False)
    driver, period_s = FileDriver(file, 1), env.period_s
    emf = robot.servo_of(robot.joint[0]).back_emf_nm_s_rad
    with LockstepRobot(robot) as emulated:
        body, plant = WitnessedBody(robot, emulated), emulated.machine.plant
        judge = Judge(env, robot, emulated, body)
        earned, given = [], []
        for _ in range(40):
            before = {name: value.clone() for name, value in env.memory.items()}
            target, memory = driver.step(env.channels)
            after = {name: value.clone() for name, value in memory.items()}
            before["last_action"] = env._action.clone()
            transition = env.follow(target, memory)
            worlds = env.worlds
            body.qpos, body.qvel = (x[0].double().numpy().copy() for x in (worlds.qpos, worlds.qvel))
            body.torque_nm = worlds.actuator_force[0].double().numpy() - emf * body.qvel[6:]
            body.sensordata = sensordata(plant.model, env)
            reward, failed = judge(transition.step.command[0].double().numpy(), before, after)
            earned.append(reward)
            given.append(float(transition.reward[0]))
            assert failed == bool(transition.terminated[0])
    np.testing.assert_allclose(earned, given, atol=1e-5)
    assert np.ptp(given) > 0.1 * period_s


def sensordata(model: mujoco.MjModel, env: Env[VelocityStep]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What the sensors of the only world say, where the emulated robot's model has them."""
    values = np.full(model.nsensordata, np.nan)
    for i in range(model.nsensor):
        start, size = model.sensor_adr[i], model.sensor_dim[i]
        values[start : start + size] = env.worlds.sensor(model.sensor(i).name)[0, 0].numpy()
    return values


def test_what_is_shifted_or_widened_is_named_first() -> None:
    rng = np.random.default_rng(1)
    trained = {name: rng.normal(0.0, 2.0, (5000, 3)) for name in SHOWN}
    real = {name: values.copy() for name, values in trained.items()}
    real["joint_vel"][:, 1] += 4.0
    real["imu_gyro"][:, 2] *= 2.0
    found = differences(real, trained)
    assert list(found)[:2] == ["joint_vel[1]", "imu_gyro[2]"]
    assert found["joint_vel[1]"] == pytest.approx(2.0, abs=0.05)
    assert found["imu_gyro[2]"] == pytest.approx(np.sqrt(2 / np.pi), abs=0.05)
    assert found["joint_pos[0]"] == 0.0


def test_the_operator_asks_at_each_step_for_what_training_asked(
    training: Training, robot: RobotSpec, file: Path
) -> None:
    env, walked = walk(training, file, 1)
    commands = np.arange(walked.commands.size, dtype=float).reshape(walked.commands.shape)
    asked = dataclasses.replace(walked, commands=commands)
    with LockstepRobot(robot) as emulated:
        body = WitnessedBody(robot, emulated)
        trials = WalkTrials(asked, 10, robot, Policy.load(file), Judge(env, robot, emulated, body))
        heard = []
        while not trials.finished():
            trials.poll(0.0)
            heard.append(trials.commands["velocity_command"])
    np.testing.assert_array_equal(heard[11:-1], commands[:, 0])
    assert not np.any(heard[:11])
