"""What a run does besides learning: evaluates, stops at a target, survives divergence, scales out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import mujoco.batch
import pytest
import torch

from robotrl.cli.main import DIVERGED, FINE, WRONG_USE, main
from robotrl.cli.outputs import alone_in
from robotrl.cli.train import Train, _follow
from robotrl.cli.training import _evaluation_threads, passed
from robotrl.learn.checkpoint import newest_checkpoint
from robotrl.learn.group import Group
from tests.cli.test_resume import CLASSIC, PATIENCE_S, ROWS, TABLES, WALK, assert_same_run, config, figures

PENDULUM = {"Hopper-v5": "InvertedPendulum-v5"}


def edited(file: str, *pairs: tuple[str, str]) -> str:
    """A configuration with some more lines changed."""
    text = Path(file).read_text(encoding="utf-8")
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    Path(file).write_text(text, encoding="utf-8")
    return file


def test_a_target_ends_the_run_at_the_evaluation_that_reaches_it(tmp_path: Path) -> None:
    file, folder = config(tmp_path, "classic", PENDULUM, 1), tmp_path / "run"
    top = f'evaluate_every = {2 * ROWS}\ntarget = {{ figure = "return_mean", at_least = 0.0 }}\nsteps = 1\n'
    edited(file, ("steps = 1\n", top))
    _, finished = Train(config=file, out=folder, steps=50 * ROWS).train(quiet=True)
    rows = figures(folder)
    assert finished
    assert len(rows) == 2, "a pendulum's return is never negative"
    assert "eval/return_mean" not in rows[0]
    assert rows[1]["eval/return_mean"] >= rows[1]["eval/return_min"] > 0
    assert newest_checkpoint(folder).progress.iteration == 2


def test_evaluating_does_not_change_what_is_learned(tmp_path: Path) -> None:
    for name, every in (("with", ROWS), ("without", 0)):
        file = config(tmp_path, "classic", PENDULUM, 1)
        edited(file, ("steps = 1\n", f"evaluate_every = {every}\nsteps = 1\n"))
        Train(config=file, out=tmp_path / name, steps=3 * ROWS).train(quiet=True)
    ours, theirs = (newest_checkpoint(tmp_path / name).tensors(0, "learner") for name in ("with", "without"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize(
    ("name", "changes"), [("quad12_rough_ppo", WALK), ("classic", {"Hopper-v5": "HalfCheetah-v5"})]
)
def test_physics_threads_are_used_and_change_nothing(
    name: str, changes: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, asked = mujoco.batch.Batch, list[int]()

    def threaded(*args: Any, nthread: int, **others: Any) -> Any:
        asked.append(nthread)
        return build(*args, nthread=nthread, **others)

    monkeypatch.setattr(mujoco.batch, "Batch", threaded)
    file = config(tmp_path, name, changes, 1)
    Train(config=file, out=tmp_path / "one", steps=3 * ROWS).train(quiet=True)
    assert max(asked) == 1
    edited(file, ("processes = 1", "threads = 3\nprocesses = 1"))
    Train(config=file, out=tmp_path / "three", steps=3 * ROWS).train(quiet=True)
    assert max(asked) == 3
    assert_same_run(tmp_path / "one", tmp_path / "three", 1)


@pytest.mark.parametrize(
    ("every", "before", "now", "expected"),
    [(0, 0, 99, False), (10, 0, 9, False), (10, 9, 10, True), (10, 10, 19, False), (10, 5, 40, True)],
)
def test_multiples_are_passed_once(every: int, before: int, now: int, expected: bool) -> None:
    assert passed(every, before, now) is expected


def test_a_run_that_diverges_ends_with_its_last_good_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = config(tmp_path, "classic", PENDULUM, 1), str(tmp_path / "run")
    assert main(["train", file, "--out", folder, "--steps", str(3 * ROWS)]) == FINE
    kept = newest_checkpoint(Path(folder))
    written = Path(folder) / "config.toml"
    changed = (
        written.read_text()
        .replace("lr_max = 2e-3", "lr_max = 1e38")
        .replace("lr_min = 1e-5", "lr_min = 1e38")
    )
    written.write_text(changed)
    capsys.readouterr()
    assert main(["train", "--resume", folder, "--steps", str(9 * ROWS), "--json"]) == DIVERGED
    error = capsys.readouterr().err
    assert "robotrl: iteration 3 diverged: " in error
    assert f"kept is {kept.folder}" in error
    for quantity in ("observation", "action", "reward", "not_finite"):
        assert quantity in error
    assert newest_checkpoint(Path(folder)) == kept
    assert len(figures(Path(folder))) == 3


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("[ppo]", "[pppo]", ("pppo: unknown key",)),
        (
            'algorithm = "ppo"',
            'algorithm = "sac"',
            ("ppo: is not the table of this algorithm; allowed: sac",),
        ),
        ("[ppo]", "[sac]\n[ppo]", ("sac: is not the table of this algorithm; allowed: ppo",)),
        (
            "steps = 1\n",
            'target = { figure = "return_mean", at_least = 1 }\nsteps = 1\n',
            ("evaluate_every",),
        ),
        (
            "steps = 1\n",
            'evaluate_every = 1\ntarget = { figure = "fun", at_least = 1 }\nsteps = 1\n',
            ("target.figure: is no figure", "'fun'", "return_mean"),
        ),
        (
            "steps = 1\n",
            'evaluate_every = 1\ntarget = { figure = "return_mean" }\nsteps = 1\n',
            ("target: needs a bound", "exactly one of at_least and at_most"),
        ),
        ("gamma = ", "gamma = 1.5 #", ("ppo.gamma: is out of range, got 1.5",)),
        ("steps = 1\n", 'init = { run = "nowhere" }\nsteps = 1\n', ("init.run: is neither", "'nowhere'")),
    ],
)
def test_bad_keys_are_refused_before_anything_is_written(
    old: str, new: str, named: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = config(tmp_path, "classic", PENDULUM, 1), tmp_path / "run"
    edited(file, (old, new))
    assert main(["train", file, "--out", str(folder)]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    for part in named:
        assert part in sentence
    assert not folder.exists()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("InvertedPendulum-v5", "Hopper-v5", "env: is the checkpoint of another run, got 'robotrl/Inv"),
        (
            "hidden = [8, 8]",
            "hidden = [8, 4]",
            "actor.net.2.weight: is the checkpoint of another network, got [8, 8]",
        ),
        ("hidden = [8, 8]", "hidden = [8]", "is the checkpoint of another network"),
        ("worlds = 6", "worlds = 4", "worlds: is the checkpoint of another run, got 6; allowed: 4"),
        ("processes = 1", "processes = 2", "processes: is the checkpoint of another run, got 1; allowed: 2"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_in_one_sentence(
    old: str, new: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = config(tmp_path, "classic", PENDULUM, 1), tmp_path / "run"
    Train(config=file, out=folder, steps=ROWS).train(quiet=True)
    edited(str(folder / "config.toml"), (old, new))
    assert main(["train", "--resume", str(folder), "--steps", str(2 * ROWS)]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"robotrl: {folder / 'checkpoints' / '000000001'}: ")
    assert named in sentence


@pytest.mark.parametrize(
    ("size", "named"),
    [
        (3, "sac.batch: does not divide among the processes, got 16; allowed: a multiple of 3"),
        (4, "torchrun: processes cannot share the worlds evenly, got 4; allowed: a divisor of 6"),
        (7, "torchrun: processes cannot share the worlds evenly, got 7; allowed: a divisor of 6"),
    ],
)
def test_torchruns_processes_must_fit_the_run(
    size: int,
    named: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever `[sim]` says, which is one process here."""
    file = tmp_path / "run.toml"
    file.write_text(CLASSIC.partition("[ppo]")[0].replace('"ppo"', '"sac"') + "[sac]\n" + TABLES["sac"])
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": size, "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setattr("robotrl.learn.group.Group", mock.Mock(side_effect=AssertionError("met the others")))
    assert main(["train", str(file), "--out", str(tmp_path / "run"), "--steps", str(ROWS)]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence == f"robotrl: {file}: {named}"
    assert not (tmp_path / "run").exists()


def test_a_run_that_another_process_trains_is_refused_before_torchruns_processes_meet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, folder = config(tmp_path, "classic", {}, 1), tmp_path / "run"
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setattr("robotrl.learn.group.Group", mock.Mock(side_effect=AssertionError("met the others")))
    with alone_in(folder):
        assert main(["train", str(file), "--out", str(folder), "--steps", str(ROWS)]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"robotrl: {folder}: another process is training this run")
    assert not (folder / "config.toml").exists()


@pytest.mark.parametrize(("device", "threads"), [("cpu", 6), ("cuda", 11)])
def test_evaluations_take_every_core_while_a_gpu_would_wait(
    device: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robotrl.sim.gym.usable_cores", lambda: 11)
    worker = mock.Mock()
    worker.group.size, worker.job.config.sim.threads, worker.job.config.sim.device = 2, 3, device
    assert _evaluation_threads(worker) == threads


def test_a_process_that_trains_keeps_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = mock.Mock()
    monkeypatch.setattr("robotrl.cli.training.keep_freed_memory", kept)
    Train(config=config(tmp_path, "classic", {}, 1), out=tmp_path / "run", steps=ROWS).train(quiet=True)
    kept.assert_called_once()


def test_what_goes_wrong_on_another_rank_is_printed_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that rank 0 sees of it is a process that has ended."""
    monkeypatch.setattr("signal.signal", lambda *_: None)
    _follow(tmp_path, mock.Mock(Group, rank=3), resume=False)
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"robotrl: rank 3: {tmp_path / 'config.toml'}: cannot be read")


def test_torchrun_gives_the_run_that_its_own_processes_give(tmp_path: Path) -> None:
    file = config(tmp_path, "classic", {}, 2)
    Train(config=file, out=tmp_path / "own", steps=3 * ROWS).train(quiet=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command += ["-m", "robotrl", "train", file, "--out", str(tmp_path / "torchrun"), "--json"]
    done = subprocess.run(
        [*command, "--steps", str(3 * ROWS)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    scores: dict[str, Any] = json.loads(done.stdout)
    assert scores["episodes"] == 32, "one rank alone evaluates and prints"
    assert figures(tmp_path / "own") == figures(tmp_path / "torchrun")
    for rank in range(2):
        for part in ("learner", "env", "generator"):
            ours, theirs = (newest_checkpoint(tmp_path / n).tensors(rank, part) for n in ("own", "torchrun"))
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
