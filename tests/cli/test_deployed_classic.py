"""A classic task's run from the command line to Gymnasium's own environment: train, export, check, eval."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from robotrl.cli.gymfile import GymJob, read_training
from robotrl.cli.main import FINE, WRONG_USE, main
from robotrl.cli.runfile import SCORES, load_actor
from robotrl.cli.train import Train
from robotrl.export.card import OBSERVED_IN_PARTS, card_of
from robotrl.runtime.policy import Policy
from tests.simulated_policies import PPO

NO_ROBOT = "drives no robot: it commands the controls of the simulated task Hopper-v5"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps with scores, and its policy file."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "hopper.toml").write_text(PPO.format(task="Hopper-v5"), encoding="utf-8")
    Train(config=str(folder / "hopper.toml"), out=folder / "run").train(quiet=True)
    (folder / "run" / SCORES).write_text('{"return_mean": 12.5}')
    assert main(["export", str(folder / "run"), "--json"]) == FINE
    return folder / "run"


def test_the_file_gives_the_trained_networks_actions(run: Path) -> None:
    job = read_training(run / "config.toml")
    assert isinstance(job, GymJob)
    actor, _ = load_actor(job.learner(), job.owner, run)
    policy = Policy.load(run / "policy.onnx")
    rows = 0.3 * np.random.default_rng(0).normal(size=(20, 11)).astype(np.float32)
    with torch.no_grad():
        wanted = actor(torch.from_numpy(rows)).clamp(-1.0, 1.0).numpy()
    found = [policy.step({"observation": row}) for row in rows]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(wanted).max() > 0.1


def test_the_card_says_that_it_drives_no_robot(run: Path) -> None:
    card = (run / "card.md").read_text(encoding="utf-8")
    assert card == card_of(run / "policy.onnx")
    lines = card.splitlines()
    assert lines[0] == "# Policy for Hopper-v5"
    assert f"It {NO_ROBOT}, as `gymnasium.make` takes them." in lines
    assert OBSERVED_IN_PARTS in lines
    for row in (
        "| simulated task | Hopper-v5 |",
        "| control rate | 125 Hz |",
        "| return_mean | 12.5 |",
        "| trained for | 64 steps, seed 0 |",
    ):
        assert row in lines
    assert any(
        line.startswith("| observation | 11 | of the task | of the task | simulation |") for line in lines
    )
    assert any(line.startswith("| thigh_joint | -1..1 |") for line in lines)
    assert not any("operator" in line for line in lines)


def test_check_finds_nothing_until_a_robot_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["check", str(run)]) == FINE
    out = capsys.readouterr().out
    assert f"this policy {NO_ROBOT}" in out
    assert "problem:" not in out
    assert "golden ticks: reproduced within" in out
    assert main(["check", str(run), "--robot", "quad12"]) == 1
    problems = [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem: ")]
    assert "problem: command is control in the policy and joint_target on quad12" in problems
    assert any(line.startswith("problem: channel observation has no source on quad12") for line in problems)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "{}"], f"policy.onnx: {NO_ROBOT}"),
        (["run", "{}", "--robot", "quad12"], f"policy.onnx: {NO_ROBOT}"),
        (["eval", "{}", "--through", "runtime"], f"--through: {NO_ROBOT}; allowed: --original"),
    ],
)
def test_what_needs_a_robot_is_refused(
    run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main([word.format(run / "policy.onnx") for word in words]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.endswith(said)


def test_file_and_run_score_alike_here_and_in_gymnasiums_environment(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    scores = []
    for words in ([], ["--original", "--episodes", "4"]):
        for place in (run, run / "policy.onnx"):
            assert main(["eval", str(place), *words, "--json"]) == FINE
            scores.append(json.loads(capsys.readouterr().out))
    of_run, of_file, original_of_run, original_of_file = scores
    assert of_file == pytest.approx(of_run, rel=1e-4)
    assert original_of_file == pytest.approx(original_of_run, rel=1e-4)
    assert original_of_file["episodes"] == 4
    assert original_of_file["training_return_mean"] == of_file["return_mean"]
    ratio = original_of_file["return_mean"] / of_file["return_mean"]
    assert original_of_file["return_ratio"] == pytest.approx(ratio)
