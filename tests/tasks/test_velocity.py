"""The walking task: its frames, its clock, its mirror symmetry and what it refuses."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from robotrl.cli.runfile import Job, read_job
from robotrl.errors import ConfigError
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.task import Mirror
from robotrl.tasks.velocity import DOWN, rotate_into_body, sample_command, velocity_task


@pytest.fixture(scope="module")
def job() -> Job:
    return read_job(find_shipped("configs", "quad12_walk_ppo"))


def random_quaternions(count: int) -> Tensor:
    torch.manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(count, 4, dtype=torch.float64), dim=-1)


def test_gravity_and_velocity_rotate_as_mujoco_rotates() -> None:
    quats, vectors = random_quaternions(50), torch.randn(50, 3, dtype=torch.float64)
    gravities = rotate_into_body(quats, torch.tensor([DOWN], dtype=torch.float64))
    bodies = rotate_into_body(quats, vectors)
    for quat, vector, gravity, body in zip(quats, vectors, gravities, bodies, strict=True):
        inverse, result = np.zeros(4), np.zeros(3)
        mujoco.mju_negQuat(inverse, quat.numpy())
        mujoco.mju_rotVecQuat(result, np.array([0.0, 0.0, -1.0]), inverse)
        np.testing.assert_allclose(gravity, result, atol=1e-12)
        mujoco.mju_rotVecQuat(result, vector.numpy(), inverse)
        np.testing.assert_allclose(body, result, atol=1e-12)


def test_commands_stay_in_range_and_some_stand_or_only_turn(job: Job) -> None:
    params = job.config.velocity
    command = sample_command(params, 20_000, torch.Generator().manual_seed(0))
    assert (command >= torch.tensor(job.task.command_low)).all()
    assert (command <= torch.tensor(job.task.command_high)).all()
    standing = (command == 0).all(-1)
    turning = (command[:, :2] == 0).all(-1) & ~standing
    assert abs(float(standing.float().mean()) - params.stand_share) < 0.01
    assert abs(float(turning.float().mean()) - params.turn_share) < 0.01
    assert float(command.amax(0)[0]) > 0.95 * params.command_vx_m_s, "the whole range is drawn"


def channels(job: Job, command: tuple[float, float, float], count: int = 3) -> dict[str, Tensor]:
    return {
        "joint_pos": torch.tensor(job.robot.default_rad, dtype=torch.float32).repeat(count, 1),
        "joint_vel": torch.zeros(count, 12),
        "imu_quat": torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        "imu_gyro": torch.zeros(count, 3),
        "velocity_command": torch.tensor(command).repeat(count, 1),
    }


def test_gait_clock_runs_only_while_a_command_asks_to_move(job: Job) -> None:
    policy, action = job.task.policy, torch.zeros(3, 12)
    memory = {m.name: torch.tensor(m.initial).repeat(3, 1) for m in policy.memory}
    walking = memory
    ticks = round(job.robot.control.rate_hz)
    for _ in range(ticks):
        memory = policy.advance(channels(job, (0.0, 0.0, 0.0)), memory, action)
        walking = policy.advance(channels(job, (0.3, 0.0, 0.0)), walking, action)
    assert (memory["gait_phase"] == 0).all()
    cycles = job.config.velocity.gait_hz
    torch.testing.assert_close(walking["gait_phase"], torch.full((3, 1), cycles % 1.0), atol=1e-4, rtol=0)


def test_targets_stay_in_limits_and_within_the_torque_bound(job: Job) -> None:
    torch.manual_seed(0)
    sensed = channels(job, (0.0, 0.0, 0.0), 500)
    low, high = torch.tensor(job.robot.position_min_rad), torch.tensor(job.robot.position_max_rad)
    sensed["joint_pos"] = (low + (high - low) * torch.rand(500, 12, dtype=torch.float64)).float()
    target = job.task.policy.target(sensed, 5 * torch.randn(500, 12))
    stiffness = torch.tensor(job.robot.stiffness_nm_rad)
    torque = stiffness * (target - sensed["joint_pos"])
    assert (target >= low - 1e-6).all()
    assert (target <= high + 1e-6).all()
    assert (torque.abs() <= job.robot.limits.torque_nm).all()
    assert torque.abs().max() > 0.9 * job.robot.limits.torque_nm, "the scan reaches the bound"


def mirrored(x: Tensor, mirror: Mirror) -> Tensor:
    return x[..., list(mirror.source)] * torch.tensor(mirror.sign)


def test_every_mirror_is_its_own_inverse(job: Job) -> None:
    for mirror in vars(job.task.symmetry).values():
        x = torch.randn(len(mirror.source))
        torch.testing.assert_close(mirrored(mirrored(x, mirror), mirror), x)


def test_mirrored_robot_sees_the_mirrored_observation(job: Job) -> None:
    """Reflect the channels by hand, half a gait cycle later, and compare with the declared mirror."""
    torch.manual_seed(0)
    policy, symmetry = job.task.policy, job.task.symmetry
    quat = torch.nn.functional.normalize(torch.randn(1, 4), dim=-1)
    plain = {
        "joint_pos": torch.randn(1, 12),
        "joint_vel": torch.randn(1, 12),
        "imu_quat": quat,
        "imu_gyro": torch.randn(1, 3),
        "velocity_command": torch.tensor([[0.3, 0.1, 0.5]]),
    }
    memory = {"last_action": torch.randn(1, 12), "gait_phase": torch.tensor([[0.2]])}
    default = torch.tensor(job.robot.default_rad, dtype=torch.float32)

    def joints(x: Tensor) -> Tensor:
        swapped = x.reshape(-1, 4, 3)[:, [1, 0, 3, 2]]
        return (swapped * torch.tensor([-1.0, 1.0, 1.0])).reshape(-1, 12)

    reflected = {
        "joint_pos": default + joints(plain["joint_pos"] - default),
        "joint_vel": joints(plain["joint_vel"]),
        "imu_quat": quat * torch.tensor([1.0, -1.0, 1.0, -1.0]),
        "imu_gyro": plain["imu_gyro"] * torch.tensor([-1.0, 1.0, -1.0]),
        "velocity_command": plain["velocity_command"] * torch.tensor([1.0, -1.0, -1.0]),
    }
    later = {"last_action": joints(memory["last_action"]), "gait_phase": torch.tensor([[0.7]])}
    torch.testing.assert_close(
        policy.observe(reflected, later), mirrored(policy.observe(plain, memory), symmetry.observation),
        atol=1e-5, rtol=1e-5,
    )  # fmt: skip


def test_actor_reads_only_what_the_robot_measures(job: Job) -> None:
    from robotrl.spec.channels import CHANNELS

    assert {CHANNELS[name].source for name in job.task.policy.channels} <= job.robot.sources


def test_reward_weights_must_name_every_term(job: Job) -> None:
    params = job.config.velocity
    for wrong in ({**params.reward, "typo": 1.0}, {k: v for k, v in params.reward.items() if k != "torque"}):
        with pytest.raises(ConfigError, match=r"velocity\.reward"):
            velocity_task(job.robot, dataclasses.replace(params, reward=wrong), 0.015)


def test_other_robots_are_refused(job: Job, tmp_path: Path) -> None:
    text = find_shipped("hardware", "quad12").read_text().replace('"FL_hip"', '"FL_pitch"')
    (tmp_path / "robot.toml").write_text(text)
    with pytest.raises(ConfigError, match="needs other joints"):
        velocity_task(load_robot(tmp_path / "robot.toml"), job.config.velocity, 0.015)


def test_clock_is_a_trot(job: Job) -> None:
    """Diagonal feet swing together, the other pair half a cycle later, and nobody while standing."""
    env = job.evaluation_env(4, seed=0, threads=1, timestep_s=0.005, randomized=False)
    env.memory["gait_phase"] = torch.tensor([[0.25], [0.75], [0.25], [0.25]])
    command = torch.tensor([[0.3, 0, 0], [0.3, 0, 0], [0.0, 0, 0], [0.0, 0, 0.5]])
    step = job.task.measure(env.worlds, command, torch.zeros(4, 12), torch.zeros(4, 12), env.memory)
    assert (step.swing > 0.99).tolist() == [
        [True, False, False, True],
        [False, True, True, False],
        [False] * 4,
        [True, False, False, True],
    ]
    assert math.isclose(float(step.stance[2].sum()), 4.0)
