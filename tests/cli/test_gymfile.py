"""Runs of Gymnasium tasks and environments: train, resume, eval, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.spaces import Box, Dict

from robotrl.cli.gymfile import GymJob, read_training
from robotrl.cli.main import FINE, WRONG_USE, main
from robotrl.cli.train import Train
from robotrl.learn.checkpoint import newest_checkpoint
from robotrl.learn.ppo import Ppo
from robotrl.spec.shipped import find_shipped
from tests.cli.small import written

SHIPPED = find_shipped("configs", "halfcheetah_ppo").read_text(encoding="utf-8")


def config(folder: Path, *replacements: tuple[str, str]) -> Path:
    """The shipped run, small: eight copies of Pendulum."""
    small = (
        ('env = "robotrl/HalfCheetah-v5"', 'env = "gym:Pendulum-v1"'),
        ("steps = 1_000_000 ", "steps = 512 "),
        ("worlds = 64", "worlds = 8"),
        ("hidden = [64, 64]", "hidden = [8, 8]"),
    )
    return written(folder, SHIPPED, (*small, *replacements))


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_gymnasium_run_trains_resumes_and_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(["train", str(config(tmp_path)), "--out", str(folder), "--seed", "3", "--json"]) == FINE
    trained = json.loads(capsys.readouterr().out)
    assert [row["steps"] for row in metrics(folder)] == [256, 512], "ends with the steps asked for"
    assert json.loads((folder / "scores.json").read_text()) == trained
    assert "seed = 3" in (folder / "config.toml").read_text()

    assert main(["eval", str(folder), "--json"]) == FINE
    assert json.loads(capsys.readouterr().out) == trained, "evaluation is deterministic"
    assert (trained["episodes"], trained["length_mean"]) == (32, 200)
    seeds = [value for name, value in trained.items() if name.startswith("seed")]
    assert math.isclose(sum(seeds) / len(seeds), trained["return_mean"], rel_tol=1e-6)
    assert -200 * 17 < trained["return_min"] <= trained["return_mean"] < 0

    assert main(["train", "--resume", str(folder), "--steps", "1024", "--json"]) == FINE
    assert [row["steps"] for row in metrics(folder)] == [256, 512, 768, 1024]
    progress = newest_checkpoint(folder).progress
    assert (progress.iteration, progress.steps) == (4, 1024)


def test_two_processes_train_on_copies_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    file = config(tmp_path, ("processes = 1", "processes = 2"))
    Train(config=str(file), out=folder).train(quiet=True)
    assert [row["steps"] for row in metrics(folder)] == [256, 512]


def test_a_classic_task_is_simulated_in_batch_and_reports_its_terms(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    file = config(tmp_path, ("gym:Pendulum-v1", "robotrl/Reacher-v5"), ("steps = 512 ", "seconds = 0.1 "))
    Train(config=str(file), out=folder).train(quiet=True)
    row = metrics(folder)[-1]
    assert row["reward/distance"] < 0
    assert math.isclose(row["reward/distance"] + row["reward/effort"], row["step_reward"], abs_tol=1e-5)


def test_the_learner_fits_the_environment(tmp_path: Path) -> None:
    job = read_training(config(tmp_path, ("gym:Pendulum-v1", "robotrl/Ant-v4")))
    assert isinstance(job, GymJob)
    env, ppo = job.env(3, seed=0, threads=1), job.learner()
    assert isinstance(ppo, Ppo)
    assert env.observation.shape == (3, 27)
    action, _ = ppo.model.act(env.observation)
    assert action.shape == (3, 8)
    assert ppo.model.value(env.observation, env.privileged).shape == (3,)


def test_a_learner_lives_where_it_is_to_train_and_is_loaded_on_the_cpu(tmp_path: Path) -> None:
    on_gpu = ("processes = 1", 'processes = 1\nbackend = "warp"\ndevice = "cuda"')
    job = read_training(config(tmp_path, ("gym:Pendulum-v1", "robotrl/Reacher-v5"), on_gpu))
    for learner, device in ((job.learner(), "cpu"), (job.learner(device="meta"), "meta")):
        assert {weights.device.type for weights in learner.actor.parameters()} == {device}


class Arm(gymnasium.Env[Any, Any]):
    """An environment whose observations are a dictionary."""

    observation_space = Dict({"goal": Box(-1, 1)})
    action_space = Box(-1, 1)


@pytest.fixture
def arm() -> Iterator[None]:
    gymnasium.register("Arm-v0", lambda **_: Arm(), disable_env_checker=True)
    yield
    del gymnasium.registry["Arm-v0"]


STEPS = "steps = 512           # environment steps"


@pytest.mark.usefixtures("arm")
@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("gym:Pendulum-v1", "gym:Pendulun-v1", ("env: Gymnasium cannot make it", "gym:Pendulun-v1")),
        ("gym:Pendulum-v1", "gym:Arm-v0", ("env: gym:Arm-v0", "Dict('goal'", "allowed: Box")),
        ("gym:Pendulum-v1", "gym:CartPole-v1", ("env: gym:CartPole-v1", "Discrete(2)", "allowed: Box")),
        ("gym:Pendulum-v1", "Pendulum-v1", ("env: there is no such", "'Pendulum-v1'", "gym:NAME")),
        ("gym:Pendulum-v1", "robotrl/Cat-v5", ("'robotrl/Cat-v5'", "robotrl/HalfCheetah-v5")),
        (STEPS, "", ("seconds: neither of seconds and steps is given", "exactly one")),
        (STEPS, "steps = 9\nseconds = 1.0", ("seconds: both of seconds and steps", "exactly one")),
        (STEPS, "steps = 0", ("steps: is out of range", "1 or more")),
        ("worlds = 8", "worlds = 8\ntimestep_s = 0.01", ("sim.timestep_s: unknown key",)),
        ("worlds = 8", 'worlds = 8\nbackend = "warp"', ("sim.backend", "'warp'", "allowed: native")),
        ("worlds = 8", 'worlds = 8\ndevice = "cuda"', ("sim.device", "'cuda'", "allowed: cpu")),
        ("processes = 1", "processes = 1\nthreads = 2", ("sim.threads", "got 2", "allowed: 1")),
        ("processes = 1", "processes = 1\nthreads = 0", ("sim.threads: is out of range", "1 to 256")),
        ("processes = 1", "processes = 9", ("sim.processes: is too many, got 9", "1 to 8")),
        ("processes = 1", "processes = 3", ("sim.worlds: does not divide", "got 8", "a multiple of 3")),
        ("seed = 0", 'seed = 0\nrobot = "quad12"', ("robot: unknown key",)),
    ],
)
def test_a_bad_run_is_refused_in_one_sentence(
    old: str, new: str, named: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = config(tmp_path, (old, new)), tmp_path / "run"
    assert main(["train", str(file), "--out", str(folder)]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"robotrl: {file}: ")
    for part in named:
        assert part in sentence
    assert not folder.exists()


def test_another_environment_than_the_files_own_names_the_runs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = config(tmp_path)
    folder, _ = Train(config=str(file), env="robotrl/InvertedPendulum-v5", seed=3).train(quiet=True)
    assert folder == Path("runs/small-InvertedPendulum-v5-3")
    assert 'env = "robotrl/InvertedPendulum-v5"' in (folder / "config.toml").read_text()
    folder, _ = Train(config=str(file), env="gym:gymnasium.envs:Pendulum-v1").train(quiet=True)
    assert folder == Path("runs/small-gymnasium.envs-Pendulum-v1-0")
    folder, _ = Train(config=str(file)).train(quiet=True)
    assert folder == Path("runs/small-0")


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ("Hopper-v5", "env: there is no such environment, got 'Hopper-v5'; allowed: gym:NAME, robotrl/"),
        ("robotrl/Cat-v5", "env: there is no such environment, got 'robotrl/Cat-v5'"),
        ("gym:Pendulun-v1", "env: Gymnasium cannot make it"),
        ("gym:CartPole-v1", "env: gym:CartPole-v1"),
        ('a"\nseed = 1', "env: there is no such environment"),
        ("", "env: there is no such environment, got ''"),
    ],
)
def test_an_environment_that_is_none_is_refused_as_the_files_own(
    env: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = config(tmp_path), tmp_path / "run"
    assert main(["train", str(file), "--env", env, "--out", str(folder)]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"robotrl: {file} with --env {env!r}: {named}")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("export RUN", "env: cannot be exported, got 'gym:Pendulum-v1'"),
        ("check RUN", "no such file or shipped name in policies"),
        ("train --resume RUN --seconds 9", "seconds: has no such key to replace, got 9.0"),
        ("train quad12_walk_ppo --env robotrl/Hopper-v5 --out OUT", "env: has no such key to replace"),
        ("train --resume RUN --env robotrl/Hopper-v5", "--env: cannot be changed with --resume"),
        ("train --resume RUN --seed 3", "--seed: cannot be changed with --resume, got '3'"),
        ("train --resume RUN --init-from RUN", "--init-from: cannot be changed with --resume"),
        ("train --resume RUN --out OUT", "--out: cannot be changed with --resume"),
        ("train CONFIG --out OUT --steps -5", "steps: is out of range, got -5"),
    ],
)
def test_what_such_a_run_has_not_is_refused_in_one_sentence(
    command: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = config(tmp_path), tmp_path / "run"
    if "RUN" in command:
        Train(config=str(file), out=folder).train(quiet=True)
    places = {"RUN": str(folder), "CONFIG": str(file), "OUT": str(tmp_path / "out")}
    assert main([places.get(word, word) for word in command.split()]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert named in sentence
    assert not (tmp_path / "out").exists()
