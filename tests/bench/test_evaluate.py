"""Evaluation: the exported file walks exactly as the network does, and a swing is measured as one."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from robotrl.bench.evaluate import MEANING, PolicyDriver, SwingPeaks, evaluate, score_randomized, score_table
from robotrl.cli.runfile import Job, TrainedRun, load_run
from robotrl.cli.train import Train
from robotrl.export.onnx import export_policy
from robotrl.export.verify import TRACE_TICKS
from robotrl.sim.env import Env
from robotrl.spec.contract_parts import Provenance
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.velocity import VelocityStep

WORLDS, TICKS = 6, 40


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run of a few steps: any network will do."""
    folder = tmp_path_factory.mktemp("evaluate")
    text = find_shipped("configs", "quad12_walk_ppo").read_text()
    config = folder / "small.toml"
    config.write_text(text.replace("worlds = 1024", "worlds = 8").replace("processes = 2", "processes = 1"))
    Train(config=str(config), out=folder / "run", seconds=0.1).train(quiet=True)
    return load_run(folder / "run")


def fresh(job: Job) -> Env[VelocityStep]:
    """Nominal worlds whose gait clock starts where the contract's does."""
    env = job.evaluation_env(WORLDS, seed=2, threads=1, timestep_s=0.005, randomized=False)
    env.restart(spread_ages=False)
    env.memory["gait_phase"] = torch.zeros((env.num, 1))
    env.observation = env.task.policy.observe(env.channels, env.memory)
    return env


def test_exported_policy_moves_the_worlds_as_the_network_does(run: TrainedRun, tmp_path: Path) -> None:
    recorded = {
        name: torch.randn(TRACE_TICKS, size).numpy()
        for name, size in (("joint_pos", 12), ("joint_vel", 12), ("imu_gyro", 3), ("velocity_command", 3))
    }
    recorded["imu_quat"] = torch.nn.functional.normalize(torch.randn(TRACE_TICKS, 4), dim=-1).numpy()
    file = tmp_path / "policy.onnx"
    commands = (run.task.command_low, run.task.command_high)
    provenance = Provenance(run.config_text, run.seed, "", run.steps, {}, {})
    export_policy(file, run.task.policy, run.actor, run.robot, recorded, provenance, commands)
    network, exported = fresh(run.job), fresh(run.job)
    start = network.worlds.qpos.clone()
    driver = PolicyDriver(exported, file)
    with torch.no_grad():
        for _ in range(TICKS):
            network.step(run.actor(network.observation))
            driver.tick()
    torch.testing.assert_close(exported.worlds.qpos, network.worlds.qpos, atol=1e-3, rtol=0)
    assert (network.worlds.qpos - start).abs().max() > 0.02, "the worlds did move"


def test_standing_scores_what_standing_scores(run: TrainedRun) -> None:
    """Zero actions follow no command: every error is the mean size of the command itself."""
    env = fresh(run.job)
    figures = evaluate(env, lambda: env.step(torch.zeros(WORLDS, 12)))
    assert figures.keys() == MEANING.keys()
    assert figures["survived_share"] == 1.0
    assert figures["swing_height_m"] < 0.002, "feet that are not lifted only lose a little of their load"
    assert 0.08 < figures["error_vx_m_s"] < 0.25
    assert figures["trunk_contact_share"] == 0.0
    assert score_table({**figures, **{f"nominal_{k}": v for k, v in figures.items()}}, "x").row_count == len(
        MEANING
    )


def test_an_actor_that_lives_elsewhere_is_scored_by_a_copy_on_the_cpu(
    run: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device "meta" stands for the GPU, as in test_episodes.py."""
    monkeypatch.setattr("robotrl.bench.evaluate.WORLDS", 2)
    monkeypatch.setattr("robotrl.bench.evaluate.EPISODE_S", 0.4)
    live = copy.deepcopy(run.actor).to("meta")
    with mock.patch.object(torch.nn.Module, "to", autospec=True, return_value=run.actor) as moved:
        scores = score_randomized(run.job, live, threads=1)
    [((module, device), _)] = moved.call_args_list
    assert device == "cpu"
    assert module is not live
    assert scores == score_randomized(run.job, run.actor, threads=1)
    assert {weights.device.type for weights in live.parameters()} == {"meta"}


def step_with(job: Job, contact: list[float], height_m: list[float], moving: float = 1.0) -> VelocityStep:
    env = fresh(job)
    zeros = torch.zeros(WORLDS, 12)
    record = job.task.measure(env.worlds, torch.zeros(WORLDS, 3), zeros, zeros, env.memory)

    def row(values: list[float]) -> Tensor:
        return torch.tensor([values])

    return dataclasses.replace(
        record, foot_contact=row(contact), foot_height=row(height_m), moving=torch.tensor([moving])
    )


@pytest.mark.parametrize(("ticks_up", "moving", "expected"), [(6, 1.0, 0.03), (3, 1.0, 0.0), (6, 0.0, 0.0)])
def test_swing_peak(run: TrainedRun, ticks_up: int, moving: float, expected: float) -> None:
    """The highest point between lift-off and touch-down; bounces and standing do not count."""
    swings = SwingPeaks(1, 0.02)
    down = step_with(run.job, [1.0] * 4, [0.0] * 4, moving)
    swings.add(down)
    for tick in range(ticks_up):
        height_m = 0.03 if tick == 1 else 0.01
        swings.add(step_with(run.job, [0.0, 1.0, 1.0, 1.0], [height_m, 0.0, 0.0, 0.0], moving))
    swings.add(down)
    assert abs(swings.median_m() - expected) < 1e-6
