"""The environment: episodes, delay, sensing and randomisation move what they name, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from unittest import mock

import pytest
import torch
from torch import Tensor

from robotrl.cli.runfile import Job, read_job
from robotrl.errors import ConfigError
from robotrl.sim.env import Env
from robotrl.sim.model import position_model
from robotrl.sim.native import NativeWorlds
from robotrl.sim.randomize import Randomizer, nominal_params
from robotrl.sim.sensing import EXACT, Sensing
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.velocity import VelocityStep

WORLDS = 64


@pytest.fixture(scope="module")
def job() -> Job:
    return read_job(find_shipped("configs", "quad12_walk_ppo"))


def build(job: Job, **ranges: object) -> tuple[Env[VelocityStep], NativeWorlds]:
    """Nominal robots with exact sensors, but for the given randomisation."""
    worlds = NativeWorlds(position_model(job.robot, 0.01), WORLDS, threads=1)
    params = dataclasses.replace(nominal_params(worlds.model), **ranges)  # type: ignore[arg-type]
    env = Env(job.task, worlds, Randomizer(worlds, params), Sensing(job.robot, EXACT, WORLDS), 50.0, seed=0)
    return env, worlds


def test_same_seed_gives_the_same_worlds_bit_for_bit(job: Job) -> None:
    def rollout() -> list[Tensor]:
        env, rows = job.env(WORLDS, seed=3, threads=2), []
        torch.manual_seed(0)
        for _ in range(20):
            transition = env.step(0.5 * torch.randn(WORLDS, 12))
            rows += [env.observation.clone(), env.privileged.clone(), transition.reward]
        return rows

    assert all(torch.equal(a, b) for a, b in zip(rollout(), rollout(), strict=True))


@pytest.mark.parametrize(("rate_hz", "steps"), [(50.0, 4), (25.0, 8), (60.0, 4), (90.0, 3), (333.0, 1)])
def test_evaluation_simulates_whole_control_periods(job: Job, rate_hz: float, steps: int) -> None:
    control = dataclasses.replace(job.robot.control, rate_hz=rate_hz)
    scene = dataclasses.replace(job.scene, robot=dataclasses.replace(job.robot, control=control))
    env = scene.evaluation_env(1, seed=0, threads=1, timestep_s=0.005, randomized=False)
    timestep_s = env.worlds.model.opt.timestep
    assert timestep_s == 0.005 or rate_hz not in {50.0, 25.0}, "published figures stay what they are"
    assert steps * timestep_s == pytest.approx(1 / rate_hz, rel=1e-12)
    assert timestep_s <= 0.005


def test_no_observation_is_constant_or_not_finite(job: Job) -> None:
    env = job.env(WORLDS, seed=0, threads=1)
    seen = []
    for _ in range(30):
        env.step(0.5 * torch.randn(WORLDS, 12))
        seen.append(torch.cat((env.observation, env.privileged), dim=-1))
    rows = torch.cat(seen)
    assert torch.isfinite(rows).all()
    assert (rows.std(0) > 1e-4).all()


def test_successive_observations_do_not_share_memory(job: Job) -> None:
    env = job.env(WORLDS, seed=0, threads=1)
    before = env.observation, env.privileged
    copies = before[0].clone(), before[1].clone()
    for _ in range(5):
        env.step(torch.randn(WORLDS, 12))
    assert torch.equal(before[0], copies[0])
    assert torch.equal(before[1], copies[1])


def test_caller_keeps_its_action(job: Job) -> None:
    env = job.env(WORLDS, seed=0, threads=1)
    action = torch.full((WORLDS, 12), 3.0)
    for _ in range(60):
        env.step(action)
    assert (action == 3.0).all()


def test_time_out_is_truncation_and_a_fall_is_termination(job: Job) -> None:
    env, worlds = build(job)
    env.restart(spread_ages=False)
    upside_down = worlds.qpos[:1].clone()
    upside_down[0, 3:7] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    worlds.reset(torch.tensor([7]), upside_down, torch.zeros(1, 18))
    ticks = round(job.task.episode_s * 50)
    first = env.step(torch.zeros(WORLDS, 12))
    assert first.final_ids.tolist() == [7]
    assert first.terminated[7]
    assert not first.truncated.any()
    assert first.reward[7] == job.task.failure_reward
    last = first
    for _ in range(ticks - 1):
        last = env.step(torch.zeros(WORLDS, 12))
    assert last.truncated.sum() == WORLDS - 1, "all but the world that started again"
    assert not last.terminated.any()


def test_final_observation_is_the_one_before_the_reset(job: Job) -> None:
    env, worlds = build(job)
    env.restart(spread_ages=False)
    upside_down = worlds.qpos[:1].clone()
    upside_down[0, 3:7] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    worlds.reset(torch.tensor([7]), upside_down, torch.zeros(1, 18))
    transition = env.step(torch.ones(WORLDS, 12))
    last_action = slice(3 + 3 + 3 + 24, 3 + 3 + 3 + 36)
    assert transition.final_ids.tolist() == [7]
    assert (transition.final_observation[0, last_action] == 1.0).all()
    assert (env.observation[7, last_action] == 0.0).all()
    assert (env.observation[8, last_action] == 1.0).all()


@pytest.mark.parametrize(("delay_s", "expected_old"), [(0.0, 0), (0.01, 1), (0.02, 2)])
def test_action_delay_holds_the_old_goal_for_its_substeps(
    job: Job, delay_s: float, expected_old: int
) -> None:
    env, worlds = build(job, action_delay_s=(delay_s, delay_s))
    env.step(torch.zeros(WORLDS, 12))
    goals: list[Tensor] = []
    with mock.patch.object(worlds, "step", goals.append):
        env.step(torch.full((WORLDS, 12), 0.2))
    moved = (goals[0] - torch.tensor(job.robot.default_rad).float()).abs() > 0.05
    assert moved[:, 0, 0].tolist() == [k >= expected_old for k in range(2)]


RANGES: dict[str, tuple[str, Callable[[Tensor], Tensor], tuple[float, float]]] = {
    "friction": ("geom_friction", lambda f: f[:, -1, 0], (0.4, 1.1)),
    "trunk_mass_scale": ("body_mass", lambda f: f[:, 1] / 1.1, (0.9, 1.2)),
    "trunk_com_m": ("body_ipos", lambda f: f[:, 1, 1], (-0.02, 0.02)),
    "stiffness_scale": ("actuator_gainprm", lambda f: f[:, 0, 0] / 7.653824, (0.8, 1.2)),
    "damping_scale": ("dof_damping", lambda f: f[:, 7] / 0.2591952, (0.8, 1.2)),
    "joint_friction_nm": ("dof_frictionloss", lambda f: f[:, 7], (0.0, 0.06)),
    "torque_scale": ("actuator_forcerange", lambda f: f[:, 3, 1] / 1.52, (0.8, 1.0)),
}


@pytest.mark.parametrize("name", sorted(RANGES))
def test_randomisation_fills_its_range_and_never_compounds(job: Job, name: str) -> None:
    field, read, (low, high) = RANGES[name]
    env, worlds = build(job, **{name: (low, high)})
    for _ in range(10):
        env.restart()
    values = read(worlds.field(field))
    root = worlds.model.body("trunk")
    offset = float(root.ipos[1]) if name == "trunk_com_m" else 0.0
    assert values.min() >= low + offset - 1e-6
    assert values.max() <= high + offset + 1e-6
    assert values.max() - values.min() > 0.8 * (high - low)


def test_without_randomisation_every_world_is_the_model(job: Job) -> None:
    _, worlds = build(job)
    for name in {field for field, _, _ in RANGES.values()}:
        nominal = torch.tensor(getattr(worlds.model, name).copy())
        torch.testing.assert_close(worlds.field(name), nominal.expand(WORLDS, *nominal.shape))


def test_heavier_trunk_needs_more_force(job: Job) -> None:
    """The physical quantity moves, not only the number: feet press harder on the floor."""

    def load_n(scale: float) -> float:
        env, worlds = build(job, trunk_mass_scale=(scale, scale))
        env.restart(spread_ages=False)
        for _ in range(60):
            env.step(torch.zeros(WORLDS, 12))
        return float(worlds.sensor(*(f"{leg}_foot_touch" for leg in ("FL", "FR", "RL", "RR"))).sum(1).mean())

    light, heavy = load_n(1.0), load_n(1.3)
    assert abs(light - 1.9 * 9.81) < 0.3
    assert abs(heavy - (1.9 + 0.33) * 9.81) < 0.3


def test_pushes_come_as_often_as_stated_and_change_only_velocity(job: Job) -> None:
    worlds = NativeWorlds(position_model(job.robot, 0.01), 2000, threads=1)
    params = dataclasses.replace(nominal_params(worlds.model), push_every_s=0.5, push_m_s=0.3, push_rad_s=0.6)
    randomizer = Randomizer(worlds, params)
    qpos = worlds.qpos.clone()
    worlds.reset(torch.arange(2000), qpos, torch.zeros(2000, 18))
    randomizer.push(0.02, torch.Generator().manual_seed(0))
    worlds.reset(torch.tensor([0]), qpos[:1], torch.zeros(1, 18))  # makes the writes visible
    pushed = (worlds.qvel[:, :6] != 0).any(-1)
    assert 0.02 < float(pushed.float().mean()) < 0.06
    assert worlds.qvel[:, :2].abs().max() <= 0.3
    assert (worlds.qvel[:, 2] == 0).all()
    assert (worlds.qvel[:, 6:] == 0).all()


def test_inverted_range_is_refused(job: Job) -> None:
    with pytest.raises(ConfigError, match=r"randomize\.friction"):
        build(job, friction=(1.0, 0.5))


def test_exact_sensors_only_quantise(job: Job) -> None:
    env, worlds = build(job)
    unit = 1 / job.robot.servo["xc430_w240"].counts_per_rad
    env.step(torch.zeros(WORLDS, 12))
    error = env.channels["joint_pos"] - worlds.qpos[:, 7:]
    assert error.abs().max() <= unit / 2 + 1e-6
    assert error.abs().max() > unit / 10, "an encoder does round"
    torch.testing.assert_close(env.channels["imu_quat"], worlds.qpos[:, 3:7], atol=1e-6, rtol=0)


def test_wrong_joint_zero_moves_measurement_and_posture_opposite_ways(job: Job) -> None:
    """The servo believes its own reading: it stands where it reads the target."""
    zero = 0.1
    sensing = Sensing(job.robot, dataclasses.replace(EXACT, joint_zero_rad=zero), WORLDS)
    worlds = NativeWorlds(position_model(job.robot, 0.01), WORLDS, threads=1)
    worlds.model.opt.gravity[:] = 0.0
    env = Env(job.task, worlds, Randomizer(worlds, nominal_params(worlds.model)), sensing, 50.0, seed=0)
    env.restart(spread_ages=False)
    for _ in range(50):
        env.step(torch.zeros(WORLDS, 12))
    offset = env.channels["joint_pos"] - worlds.qpos[:, 7:]
    torch.testing.assert_close(offset, sensing.joint_zero, atol=2e-3, rtol=0)
    assert sensing.joint_zero.abs().max() > 0.09
