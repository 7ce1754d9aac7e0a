"""The walking environment on a terrain: robots stand on it, and tiles begin and end episodes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from robotrl.bench.evaluate import SURVIVED_ON, survival_by_tile
from robotrl.sim.build import Scene, build_scene, read_scene
from robotrl.sim.curriculum import Curriculum
from robotrl.sim.env import Env
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.velocity import VelocityStep

CONFIG = find_shipped("configs", "quad12_rough_ppo")


@pytest.fixture(scope="module")
def scene() -> Scene:
    scene = read_scene(CONFIG)
    assert scene.params.terrain is not None
    quiet = dataclasses.replace(
        scene.params,
        terrain=dataclasses.replace(scene.params.terrain, start_levels=1),
        randomize=dataclasses.replace(scene.params.randomize, push_every_s=0.0),
        velocity=dataclasses.replace(scene.params.velocity, stand_share=1.0, turn_share=0.0),
    )
    return build_scene(quiet, CONFIG)


def curriculum_of(env: Env[VelocityStep]) -> Curriculum:
    assert env.curriculum is not None
    return env.curriculum


def test_robots_stand_on_the_pad_of_every_tile(scene: Scene) -> None:
    env = scene.evaluation_env(48, seed=0, threads=1, timestep_s=0.005, randomized=False)
    env.restart(spread_ages=False)
    for _ in range(50):
        transition = env.step(torch.zeros((48, 12)))
        assert not transition.terminated.any()
    step = transition.step
    assert step.foot_contact.all()
    assert step.foot_height.abs().max() < 0.003, "feet are on the ground that the task knows"
    assert (step.height_m - scene.params.velocity.height_m).abs().max() < 0.02
    assert float(env.worlds.qpos[:, 2].max() - env.worlds.qpos[:, 2].min()) > 0.4, "pads lie high and low"
    away = env.worlds.qpos[:, :2] - curriculum_of(env).start
    assert away.abs().max() < 0.1, "nobody slides off"


def test_leaving_the_tile_is_a_timeout_and_the_next_episode_is_harder(scene: Scene) -> None:
    env = scene.env(12, seed=0, threads=1)
    env.restart(spread_ages=False)
    curriculum, worlds = curriculum_of(env), env.worlds
    assert (curriculum.level == 0).all()
    qpos = worlds.qpos[3:4].clone()
    qpos[0, 0] += curriculum.terrain.params.tile_m
    worlds.reset(torch.tensor([3]), qpos, torch.zeros((1, 18)))
    transition = env.step(torch.zeros((12, 12)))
    assert transition.truncated.nonzero()[:, 0].tolist() == [3]
    assert not transition.terminated.any()
    assert curriculum.level.tolist() == [0, 0, 0, 1] + [0] * 8
    assert not curriculum.outside(worlds.qpos).any(), "it is back on a tile of its own"
    assert env.take_statistics()["level"] == pytest.approx(1 / 12)


def test_falling_is_a_failure_and_the_next_episode_is_easier(scene: Scene) -> None:
    env = scene.env(12, seed=0, threads=1)
    env.restart(spread_ages=False)
    curriculum = curriculum_of(env)
    curriculum.level[:] = 2
    qpos = env.worlds.qpos[5:6].clone()
    qpos[0, 3:7] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    env.worlds.reset(torch.tensor([5]), qpos, torch.zeros((1, 18)))
    transition = env.step(torch.zeros((12, 12)))
    assert transition.terminated.nonzero()[:, 0].tolist() == [5]
    assert curriculum.level.tolist() == [2] * 5 + [1] + [2] * 6


def test_survival_is_counted_by_kind_and_by_level(scene: Scene) -> None:
    env = scene.evaluation_env(48, seed=0, threads=1, timestep_s=0.005, randomized=False)
    curriculum = curriculum_of(env)
    alive = (curriculum.level < 6) | (curriculum.kind == 0)
    shares = survival_by_tile(curriculum, alive)
    assert len(shares) == 6 + 8
    assert shares[SURVIVED_ON + "flat"] == 1.0
    assert shares[SURVIVED_ON + "rough"] == pytest.approx(6 / 8)
    assert shares[SURVIVED_ON + "level 5"] == 1.0
    assert shares[SURVIVED_ON + "level 7"] == pytest.approx(1 / 6)


def test_flat_runs_have_no_terrain() -> None:
    flat = read_scene(find_shipped("configs", "quad12_walk_ppo"))
    env = flat.env(2, seed=0, threads=1)
    assert env.curriculum is None
    assert env.privileged.shape == (2, 12)
