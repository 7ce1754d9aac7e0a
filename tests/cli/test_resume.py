"""A run that was interrupted, however rudely, equals the one that was not: bit for bit on the CPU."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robotrl.cli.algorithms import ALGORITHMS, LearnParams
from robotrl.cli.train import Train
from robotrl.cli.training import Worker
from robotrl.learn.checkpoint import newest_checkpoint
from robotrl.learn.group import Group
from robotrl.learn.replay import GOES_ON, TRUNCATED
from robotrl.spec.shipped import find_shipped

PATIENCE_S = 120.0
WORLDS, STEPS, HALF = 6, 8, 4
ROWS = WORLDS * STEPS
"""Environment steps of one iteration."""
CLOCKED = {"seconds", "steps_per_s", "update_share", "updates_per_s"}
"""Figures of the wall clock."""

WALK = {
    "worlds = 1024": f"worlds = {WORLDS}",
    "steps = 16\n": f"steps = {STEPS}\n",
    "hidden = [128, 64]": "hidden = [8, 8]",
    "levels = 8": "levels = 2",
    "start_levels = 4": "start_levels = 1",
    "resolution_m = 0.05": "resolution_m = 0.1",
    "tread_m = 0.25": "tread_m = 0.2",
    "episode_s = 20.0": "episode_s = 0.5",
    "push_every_s = 6.0": "push_every_s = 0.2",
    "attitude_noise_rad = 0.01": "attitude_noise_rad = 0.01\nbacklash_rad = [0.01, 0.02]",
    "torque_scale = [0.85, 1.0]": """torque_scale = [0.85, 1.0]
limb_mass_scale = [0.9, 1.1]
gravity_tilt_rad = [-0.1, 0.1]
battery_v = [11.0, 12.0]
battery_ohm = [0.05, 0.2]
observation_delay_s = [0.0, 0.03]""",
}
"""Everything that is random, on rough ground, with episodes that end all the time."""
CLASSIC = f"""
env = "robotrl/Hopper-v5"
algorithm = "ppo"
seed = 0
checkpoint_every = 100
steps = 1

[sim]
worlds = {WORLDS}
processes = 1

[ppo]
steps = {STEPS}
epochs = 2
minibatches = 2
gamma = 0.99
gae_lambda = 0.95
lr = 3e-4
lr_max = 2e-3
lr_min = 1e-5
value_weight = 0.5
grad_norm = 1.0
init_std = 0.6
scale_reward = true
hidden = [8, 8]
"""
"""Episodes end by themselves."""


def config(folder: Path, name: str, changes: dict[str, str], processes: int) -> str:
    """A small run: the classic one, or a shipped one of the robot that counts steps."""
    text = CLASSIC if name == "classic" else find_shipped("configs", name).read_text(encoding="utf-8")
    text = re.sub(r"(?m)^seconds = .*$", "checkpoint_every = 100\nsteps = 1 ", text)
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    text = text.replace("processes = 2", "processes = 1").replace("processes = 1", f"processes = {processes}")
    file = folder / f"{name}-{processes}.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def figures(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in CLOCKED} for row in rows]


def parts(folder: Path, processes: int) -> dict[str, Tensor]:
    """Everything in the newest checkpoint."""
    checkpoint = newest_checkpoint(folder)
    return {
        f"{rank}.{part}.{name}": value
        for rank in range(processes)
        for part in ("actor", "learner", "env", "generator")
        for name, value in checkpoint.tensors(rank, part).items()
    }


def assert_same_run(one: Path, other: Path, processes: int) -> None:
    assert figures(one) == figures(other)
    ours, theirs = parts(one, processes), parts(other, processes)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize(("name", "changes"), [("quad12_rough_ppo", WALK), ("classic", {})])
def test_a_resumed_run_equals_the_uninterrupted_one(
    name: str, changes: dict[str, str], tmp_path: Path
) -> None:
    file, whole, halves = config(tmp_path, name, changes, 1), tmp_path / "whole", tmp_path / "halves"
    Train(config=file, out=whole, steps=2 * HALF * ROWS).train(quiet=True)
    Train(config=file, out=halves, steps=HALF * ROWS).train(quiet=True)
    assert len(figures(halves)) == HALF
    torch.manual_seed(99)  # whatever this process did in between
    Train(resume=halves, steps=2 * HALF * ROWS).train(quiet=True)
    assert len(figures(whole)) == 2 * HALF
    assert_same_run(whole, halves, 1)


ON = f"steps = {STEPS}\ngamma = 0.99\ngae_lambda = 0.95\ninit_std = 0.6\nhidden = [8, 8]\n"
OFF = f"steps = {STEPS}\nstart = {2 * ROWS}\nbatch = 16\nreplay = 1000\nhidden = [8, 8]\n"
TABLES = {
    "trpo": ON,
    "npg": ON,
    "a2c": f"{ON}lr = 1e-3\n",
    "vpg": f"{ON}lr = 1e-3\n",
    "recurrent ppo": f"{ON}epochs = 2\nminibatches = 2\nlr = 1e-3\nvalue_weight = 0.5\ngrad_norm = 1.0\n"
    '[ppo.memory]\nkind = "lstm"\nwidth = 4\n',
    "sac": OFF,
    "td3": OFF,
    "ddpg": OFF,
    "modern sac": f"{OFF}[sac.modern]\nwidth = 8\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_every_algorithm_goes_on_where_it_was(name: str, tmp_path: Path) -> None:
    algorithm, whole, halves = name.rsplit(maxsplit=1)[-1], tmp_path / "whole", tmp_path / "halves"
    top = CLASSIC.partition("[ppo]")[0].replace('"ppo"', f'"{algorithm}"')
    file = tmp_path / "run.toml"
    file.write_text(f"{top}[{algorithm}]\n{TABLES[name]}", encoding="utf-8")
    Train(config=str(file), out=whole, steps=2 * HALF * ROWS).train(quiet=True)
    Train(config=str(file), out=halves, steps=HALF * ROWS).train(quiet=True)
    torch.manual_seed(99)
    Train(resume=halves, steps=2 * HALF * ROWS).train(quiet=True)
    assert_same_run(whole, halves, 1)


@pytest.mark.parametrize(
    ("name", "emptied"), [("recurrent ppo", "memory"), ("modern sac", "reward_bound.running"), ("td3", "")]
)
def test_nothing_goes_on_in_worlds_that_start_anew(name: str, emptied: str, tmp_path: Path) -> None:
    """Other people's environments do: neither a memory nor a return nor a sample joins two episodes."""
    algorithm, folder, file = name.rsplit(maxsplit=1)[-1], tmp_path / "run", tmp_path / "run.toml"
    top = CLASSIC.partition("[ppo]")[0].replace("robotrl/Hopper-v5", "gym:Pendulum-v1")
    top = top.replace('"ppo"', f'"{algorithm}"')
    file.write_text(f"{top}[{algorithm}]\n{TABLES[name]}", encoding="utf-8")
    Train(config=str(file), out=folder, steps=ROWS).train(quiet=True)
    saved, resumed = parts(folder, 1), Worker(folder, Group(), resume=True).learner.state()
    if emptied:
        assert len(saved[f"0.learner.{emptied}"]) == WORLDS
        assert emptied not in resumed or not len(resumed[emptied])
    if "replay.rows" in resumed:
        last = slice((STEPS - 1) * WORLDS, ROWS)
        assert (saved["0.learner.replay.rows"][last, -1] == GOES_ON).all()
        assert (resumed["replay.rows"][last, -1] == TRUNCATED).all()
        what_followed = saved["0.learner.replay.rows"][ROWS:, : resumed["replay.late"].shape[1]]
        assert torch.equal(resumed["replay.late"], what_followed)


def test_the_algorithms_are_those_that_have_a_table() -> None:
    assert {name.split()[-1] for name in TABLES} == set(ALGORITHMS)
    assert set(ALGORITHMS) < set(LearnParams.__dataclass_fields__)


def test_a_run_killed_at_any_moment_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    file, whole, killed = (
        config(tmp_path, "quad12_rough_ppo", WALK, 2),
        tmp_path / "whole",
        tmp_path / "killed",
    )
    moment = random.Random(5).randrange(1, 12)
    last = 3 * moment * ROWS
    Train(config=file, out=whole, steps=last).train(quiet=True)
    kill_after([file, "--out", str(killed), "--steps", str(last)], killed / "metrics.jsonl", moment)
    Train(resume=killed, steps=last).train(quiet=True)
    assert len(figures(killed)) == last // ROWS
    assert_same_run(whole, killed, 2)


def kill_after(arguments: list[str], metrics: Path, iterations: int) -> None:
    """Train in a process of its own until so many iterations are logged, and kill it."""
    command = [sys.executable, "-m", "robotrl", "train", *arguments, "--json"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < until:
            if metrics.exists() and metrics.read_bytes().count(b"\n") >= iterations:
                break
            time.sleep(0.002)  # polling: ends with the iteration or the process
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
