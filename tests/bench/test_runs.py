"""A kept folder of training runs: finished ones are skipped, interrupted ones resumed, others refused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
import torch

from robotrl.bench.runs import (
    DIVERGED,
    FAILURE,
    LOG,
    PROBLEM,
    WRONG_USE,
    Run,
    Status,
    ended,
    train_all,
    with_keys,
)
from robotrl.cli.main import main
from robotrl.cli.train import Train
from robotrl.errors import BadInputError, DivergedError, GroupError, RobotrlError, SimulationError
from robotrl.learn.checkpoint import FOLDER, Progress, newest_checkpoint, save_checkpoint
from robotrl.learn.group import Group

TEXT = "seed = 0\nsteps = 100 # all\n\n[sim]\nworlds = 2\n"

FAKE = textwrap.dedent(
    """
    # Stands for `robotrl train`: writes down how it was called, logs half of its steps, and ends as told.
    import json, os, signal, sys, time
    from pathlib import Path

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    folder = Path(sys.argv[sys.argv.index("--out" if "--out" in sys.argv else "--resume") + 1])
    calls = folder.parent / (folder.name + ".calls")
    with calls.open("a") as file:
        file.write(json.dumps(sys.argv[1:]) + "\\n")
    (folder / "metrics.jsonl").write_text('{"iteration": 0, "steps": 50}\\n')
    code = int(os.environ.get("FAKE_" + folder.name, "0"))
    if code < 0:
        (folder / "waiting").touch()
        time.sleep(60)
    print("robotrl: how it ended", file=sys.stderr)
    if code == 0:
        (folder / "scores.json").write_text('{"return_mean": 1.0}')
    sys.exit(code)
    """
)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    return [sys.executable, str(script)]


def calls(folder: Path, name: str) -> list[str]:
    file = folder / f"{name}.calls"
    return file.read_text().splitlines() if file.is_file() else []


def ignore(_: Status) -> None:
    """Tell nobody."""


def test_every_run_is_trained_once_with_its_own_configuration(tmp_path: Path, command: list[str]) -> None:
    runs = [Run(f"a{i}", with_keys(TEXT, {"seed": str(i)})) for i in range(3)]
    told: list[Status] = []
    train_all(runs, tmp_path, 2, told.append, command)
    for i, run in enumerate(runs):
        (call,) = calls(tmp_path, run.name)
        assert '"--out"' in call
        assert '"--json"' in call
        assert tomllib.loads((tmp_path / run.name / "config.toml").read_text())["seed"] == i
    assert all(len(status.active) <= 2 for status in told)
    assert (told[-1].finished, told[-1].runs) == (3, 3)
    assert (told[-1].steps, told[-1].steps_wanted) == (300, 300)
    train_all(runs, tmp_path, 2, told.append, command)
    assert told[-1].finished == 3
    assert [len(calls(tmp_path, run.name)) for run in runs] == [1, 1, 1], "finished runs are skipped"


def test_an_interrupted_run_goes_on_from_its_checkpoint(tmp_path: Path, command: list[str]) -> None:
    run = Run("a", TEXT)
    save_checkpoint(tmp_path / "a", {"x": torch.ones(2)}, Progress(1, 50, 1.0), {"processes": 1}, Group())
    (tmp_path / "a" / "config.toml").write_text(TEXT)
    train_all([run], tmp_path, 1, ignore, command)
    (call,) = calls(tmp_path, "a")
    assert '"--resume"' in call
    assert '"--out"' not in call


def test_a_run_without_a_whole_checkpoint_starts_anew(tmp_path: Path, command: list[str]) -> None:
    torn = tmp_path / "a" / FOLDER / "000000001.tmp"
    torn.mkdir(parents=True)
    (tmp_path / "a" / "config.toml").write_text(TEXT)
    train_all([Run("a", TEXT)], tmp_path, 1, ignore, command)
    assert '"--out"' in calls(tmp_path, "a")[0]
    assert not torn.exists()


def test_a_diverged_run_is_kept_as_such_and_the_others_go_on(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_a", str(DIVERGED))
    runs = [Run("a", TEXT), Run("b", TEXT)]
    for _ in range(2):
        train_all(runs, tmp_path, 1, ignore, command)
    assert (tmp_path / "a" / FAILURE).read_text() == "robotrl: how it ended\n"
    assert [len(calls(tmp_path, name)) for name in "ab"] == [1, 1]
    assert ended(tmp_path / "a")
    assert not (tmp_path / "a" / "scores.json").exists()


def test_a_run_that_ends_by_another_error_stops_everything_and_goes_on_the_next_time(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python itself ends with this code after an error that nobody has caught."""
    monkeypatch.setenv("FAKE_a", str(PROBLEM))
    runs = [Run("a", TEXT), Run("b", TEXT)]
    with pytest.raises(GroupError, match="a: ended before it was finished: robotrl: how it ended"):
        train_all(runs, tmp_path, 1, ignore, command)
    assert not calls(tmp_path, "b")
    assert not ended(tmp_path / "a")
    monkeypatch.setenv("FAKE_a", "0")
    train_all(runs, tmp_path, 1, ignore, command)
    assert ended(tmp_path / "a")
    assert not (tmp_path / "a" / FAILURE).exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DivergedError("x", {}), DIVERGED),
        (SimulationError("x"), PROBLEM),
        (GroupError("x"), PROBLEM),
        (BadInputError("x"), WRONG_USE),
    ],
)
def test_the_codes_are_those_of_the_command(
    error: RobotrlError, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Train) -> int:
        raise error

    monkeypatch.setattr(Train, "run", fail)
    assert main(["train"]) == code


def test_a_refused_run_stops_everything(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_a", "2")
    with pytest.raises(BadInputError, match="a: was refused: robotrl: how it ended"):
        train_all([Run("a", TEXT), Run("b", TEXT)], tmp_path, 1, ignore, command)
    assert not calls(tmp_path, "b")
    assert not ended(tmp_path / "a"), "it is tried again"


def test_a_killed_run_is_left_for_the_next_time(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_a", "137")
    train_all([Run("a", TEXT)], tmp_path, 1, ignore, command)
    assert not ended(tmp_path / "a")
    monkeypatch.setenv("FAKE_a", "0")
    train_all([Run("a", TEXT)], tmp_path, 1, ignore, command)
    assert ended(tmp_path / "a")


def test_ctrl_c_ends_the_runs_in_progress_too(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_a", "-1")

    def interrupt(status: Status) -> None:
        if (tmp_path / "a" / "waiting").exists():
            assert status.active == ("a",)
            assert status.steps == 50, "as its metrics say"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_all([Run("a", TEXT)], tmp_path, 1, interrupt, command)
    assert "KeyboardInterrupt" in (tmp_path / "a" / LOG).read_text(), "it was told, and waited for"


def test_a_kept_run_of_another_configuration_is_refused(tmp_path: Path, command: list[str]) -> None:
    train_all([Run("a", TEXT)], tmp_path, 1, ignore, command)
    train_all([Run("a", f"# a comment is no difference\n{TEXT}")], tmp_path, 1, ignore, command)
    with pytest.raises(BadInputError, match=r"a: holds a run of another configuration.*--folder"):
        train_all([Run("a", with_keys(TEXT, {"sim.worlds": "4"}))], tmp_path, 1, ignore, command)


def test_of_a_large_checkpoint_only_the_actor_is_kept_after_the_end(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner: dict[str, str | int] = {"processes": 1, "task": "x"}
    for name, size in (("small", 10), ("large", 2000)):
        tensors = {"learner.replay": torch.zeros(size), "actor.weight": torch.arange(3.0)}
        for iteration in (1, 2):
            save_checkpoint(tmp_path / name, tensors, Progress(iteration, 50, 1.0), owner, Group())
    monkeypatch.setattr("robotrl.bench.runs.LARGEST_KEPT_BYTES", 4000)
    train_all([Run("small", TEXT), Run("large", TEXT)], tmp_path, 1, ignore, command)
    whole, thin = (newest_checkpoint(tmp_path / name) for name in ("small", "large"))
    assert whole.tensors(0, "learner").keys() == {"replay"}
    assert thin.tensors(0, "learner") == {}
    assert thin.tensors(0, "actor")["weight"].tolist() == [0.0, 1.0, 2.0]
    assert (thin.progress, thin.owner) == (whole.progress, owner)
    assert [folder.name for folder in (tmp_path / "large" / FOLDER).iterdir()] == ["000000002"]


def test_keys_are_replaced_where_they_are_and_added_where_they_are_not() -> None:
    text = with_keys(TEXT, {"steps": "7", "sim.worlds": "3", "sim.threads": "2", "env": '"x"'})
    assert "steps = 7 # all" in text, "comments are kept"
    table = tomllib.loads(text)
    assert table == {"seed": 0, "steps": 7, "env": "x", "sim": {"worlds": 3, "threads": 2}}
    with pytest.raises(BadInputError, match="ppo: there is no such table"):
        with_keys(TEXT, {"ppo.clip": "1"})


def test_the_fake_is_called_as_the_real_command_is() -> None:
    """What `train_all` relies on, said by `robotrl train` itself."""
    environment = os.environ | {"COLUMNS": "200"}
    help_text = subprocess.run(
        [sys.executable, "-m", "robotrl", "train", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    ).stdout
    assert all(option in help_text for option in ("--out", "--resume", "--json"))
