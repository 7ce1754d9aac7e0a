"""`robotrl train`: the folder of a run, Ctrl-C, resume, and what is refused before anything is made."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from robotrl.cli.gymfile import read_training
from robotrl.cli.runfile import load_run, record_channels
from robotrl.cli.train import Train
from robotrl.errors import BadInputError, CheckpointError
from robotrl.learn.checkpoint import newest_checkpoint
from robotrl.spec.shipped import find_shipped

PATIENCE_S = 120.0


def small_config(folder: Path, **replacements: str) -> Path:
    """The shipped run with eight worlds in one process."""
    text = find_shipped("configs", "quad12_walk_ppo").read_text()
    for old, new in {
        "worlds = 1024": "worlds = 8",
        "processes = 2": "processes = 1",
        "hidden = [64, 64]": "hidden = [16, 16]",
        **replacements,
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file = folder / "small.toml"
    file.write_text(text)
    return file


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_everything_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _, finished = Train(config=str(small_config(tmp_path)), out=folder, seed=7, seconds=0.1).train(quiet=True)
    assert finished
    first = metrics(folder)
    assert [row["steps"] for row in first] == [8 * 16 * (i + 1) for i in range(len(first))]
    assert list((folder / "tensorboard").iterdir())
    assert "seed = 7" in (folder / "config.toml").read_text()
    checkpoint = newest_checkpoint(folder)
    tensors, progress = checkpoint.tensors(0, "learner"), checkpoint.progress
    assert (progress.iteration, progress.steps) == (len(first), first[-1]["steps"])

    Train(resume=folder, seconds=progress.seconds + 0.1).train(quiet=True)
    both = metrics(folder)
    assert [row["iteration"] for row in both] == list(range(len(both)))
    assert len(both) > len(first)
    later = newest_checkpoint(folder).tensors(0, "learner")
    assert not tensors["actor.net.0.weight"].equal(later["actor.net.0.weight"])
    assert later["critic_norm.count"] == both[-1]["steps"], "the statistics went on as well"

    run = load_run(folder)
    assert (run.seed, run.steps) == (7, both[-1]["steps"])
    recorded = record_channels(run, 3)
    assert {name: values.shape for name, values in recorded.items()} == {
        "joint_pos": (3, 12),
        "joint_vel": (3, 12),
        "imu_quat": (3, 4),
        "imu_gyro": (3, 3),
        "velocity_command": (3, 3),
    }


def test_two_processes_train_one_policy(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = small_config(tmp_path, **{"worlds = 1024": "worlds = 8", "processes = 2": "processes = 2"})
    Train(config=str(config), out=folder, seconds=0.1).train(quiet=True)
    rows = metrics(folder)
    assert rows[0]["steps"] == 8 * 16, "worlds are those of all processes together"


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "robotrl", "train", str(small_config(tmp_path)), "--out", str(folder)]
    with subprocess.Popen([*command, "--seconds", "1000"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        log = folder / "metrics.jsonl"
        while process.poll() is None and not (log.exists() and log.stat().st_size):
            time.sleep(0.05)  # polling, not waiting for luck: ends with the first line or the process
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert f"robotrl train --resume {folder}" in " ".join(out.split())
    assert newest_checkpoint(folder).progress.iteration == len(metrics(folder))


def test_a_finished_run_is_not_overwritten(tmp_path: Path) -> None:
    folder, config = tmp_path / "run", str(small_config(tmp_path))
    Train(config=config, out=folder, seconds=0.1).train(quiet=True)
    with pytest.raises(BadInputError, match="already holds a run"):
        Train(config=config, out=folder).run()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("episode_s = 20.0", "episode_s = 20.0\ntypo = 1", r"velocity\.typo: unknown key"),
        ("gait_hz = 2.2", "", r"velocity\.gait_hz: is missing"),
        ("clip = 0.2", 'clip = "wide"', r"ppo\.clip: has the wrong type"),
        ("friction = [0.4, 1.1]", "friction = [0.4]", r"randomize\.friction: has the wrong length"),
        (
            'robot = "quad12"',
            'robot = "cat12"',
            "robot: no such file or shipped name in hardware, got 'cat12'",
        ),
        ('algorithm = "ppo"', 'algorithm = "magic"', "algorithm: is not one of the choices"),
        ("track_turn = ", "track_turns = ", r"velocity\.reward"),
        ("timestep_s = ", 'device = "cuda"\ntimestep_s = ', r"sim\.device: native worlds live on the CPU"),
        ("timestep_s = ", 'backend = "jax"\ntimestep_s = ', r"sim\.backend: is not one of the choices"),
        (
            "timestep_s = 0.01",
            "timestep_s = 0.015",
            r"sim\.timestep_s: .*got 0\.015; allowed: 0\.02, or a whole",
        ),
        ("timestep_s = 0.01", "timestep_s = 0.003", r"sim\.timestep_s: does not divide .*got 0\.003"),
        ("timestep_s = 0.01", "timestep_s = 0.05", r"sim\.timestep_s: does not divide .*got 0\.05"),
        ("hidden = [64, 64]", "hidden = [65, 64]", r"ppo\.hidden: must be even .*got \[65, 64\]"),
        (
            "push_every_s = ",
            "battery_v = [3, 4]\npush_every_s = ",
            r"battery_v: .*got \(3\.0, 4\.0\); allowed",
        ),
    ],
)
def test_a_bad_configuration_is_refused_before_a_folder_is_made(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    file, folder = small_config(tmp_path, **{old: new}), tmp_path / "run"
    with pytest.raises(BadInputError, match=message) as refused:
        Train(config=str(file), out=folder).run()
    assert not folder.exists()
    assert str(refused.value).startswith(f"{file}: "), "it is the file that is wrong"


def test_a_network_trained_on_a_gpu_is_loaded_without_one(tmp_path: Path) -> None:
    on_gpu = 'processes = 1\nbackend = "warp"\ndevice = "cuda"'
    actor = read_training(small_config(tmp_path, **{"processes = 2": on_gpu})).learner().actor
    assert {weights.device.type for weights in actor.parameters()} == {"cpu"}


@pytest.mark.parametrize("shipped", ["quad12_walk_ppo", "quad12_rough_ppo"])
def test_steps_are_not_asked_of_a_run_that_counts_seconds(shipped: str, tmp_path: Path) -> None:
    """The only `steps` there are the rollout's, in `[ppo]`."""
    with pytest.raises(BadInputError, match=rf"{shipped}\.toml: steps: has no such key to replace, got 9"):
        Train(config=shipped, out=tmp_path / "run", steps=9).run()
    assert not (tmp_path / "run").exists()


def test_a_refused_resume_leaves_the_configuration_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    Train(config=str(small_config(tmp_path)), out=folder, seconds=0.1).train(quiet=True)
    written = (folder / "config.toml").read_text()
    for wrong, message in (({"steps": 64}, "steps: has no such key"), ({"seconds": -1.0}, "out of range")):
        with pytest.raises(BadInputError, match=message):
            Train(resume=folder, **wrong).run()
        assert (folder / "config.toml").read_text() == written


def test_damaged_scores_are_refused_in_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    Train(config=str(small_config(tmp_path)), out=folder, seconds=0.1).train(quiet=True)
    (folder / "scores.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"scores\.json: holds no scores"):
        load_run(folder)


def test_resume_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="holds no run"):
        Train(resume=tmp_path).run()
    with pytest.raises(BadInputError, match="either a configuration or --resume"):
        Train().run()
