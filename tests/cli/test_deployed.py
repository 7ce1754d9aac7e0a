"""A goal task's run from the command line to the emulated robot: train, export, check, eval through it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from robotrl.cli.deployed import RANGE_EPISODES, RANGE_WORLDS
from robotrl.cli.gymfile import GymJob, read_training
from robotrl.cli.main import FINE, WRONG_USE, main
from robotrl.cli.runfile import SCORES, load_actor
from robotrl.cli.train import Train
from robotrl.export.card import card_of
from robotrl.runtime.policy import Policy
from robotrl.spec.contract import PolicyContract
from tests.shadow_hand import CONFIG, deployment, reach_env, shadow_hand


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few seconds with scores, and its policy file."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "hand.toml").write_text(CONFIG, encoding="utf-8")
    Train(config=str(folder / "hand.toml"), out=folder / "run").train(quiet=True)
    (folder / "run" / SCORES).write_text(
        '{"success_last": 0.5, "success_last_low": 0.4, "return_mean": -25.0}'
    )
    assert main(["export", str(folder / "run"), "--json"]) == FINE
    return folder / "run"


@pytest.fixture(scope="module")
def contract(run: Path) -> PolicyContract:
    return Policy.load(run / "policy.onnx").contract


def test_the_contract_names_robot_channels_and_the_goals_range(contract: PolicyContract) -> None:
    assert contract.robot == "shadow_hand_sim"
    assert contract.joint_names == shadow_hand().joint_names
    assert [(c.name, c.shape, c.source) for c in contract.channels] == [
        ("joint_pos", (20,), "joints"),
        ("joint_vel", (20,), "joints"),
        ("passive_joint_pos", (4,), "estimator"),
        ("passive_joint_vel", (4,), "estimator"),
        ("point_pos", (5, 3), "estimator"),
        ("goal", (15,), "operator"),
    ]
    assert contract.memory == ()
    assert contract.provenance.steps == 400
    low, high = (np.array(ends) for ends in contract.operator_ranges["goal"])
    drawn = reach_env(512, seed=77).goal.numpy()
    inside = ((drawn >= low) & (drawn <= high)).mean()
    assert inside > 1 - 20 / (RANGE_WORLDS * RANGE_EPISODES)
    assert (high - low).max() < 0.3


def test_the_file_answers_as_the_trained_network(run: Path) -> None:
    job = read_training(run / "config.toml")
    assert isinstance(job, GymJob)
    actor, _ = load_actor(job.learner(), job.owner, run)
    env, policy = reach_env(4, seed=9), Policy.load(run / "policy.onnx")
    sensed = deployment().channels(env.facts)(env.worlds) | {"goal": env.goal}
    with torch.no_grad():
        wanted = deployment().policy(env.facts).target({}, actor(env.observation)).numpy()
    for i in range(4):
        found = policy.step({name: values[i].float().numpy() for name, values in sensed.items()})
        np.testing.assert_allclose(found, wanted[i], atol=1e-5)


def test_the_card_and_check_tell_of_the_hand(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = card_of(run / "policy.onnx")
    assert card == (run / "card.md").read_text(encoding="utf-8")
    assert "| point_pos | 5 x 3 | m | world | estimator |" in card
    assert main(["check", str(run / "policy.onnx")]) == FINE
    assert "this policy may drive" in capsys.readouterr().out
    assert main(["check", str(run / "policy.onnx"), "--robot", "quad12"]) != FINE
    assert "channel goal" not in capsys.readouterr().out


def test_episodes_run_through_the_runtime(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert (
        main(["eval", str(run / "policy.onnx"), "--through", "runtime", "--episodes", "2", "--json"]) == FINE
    )
    scores = json.loads(capsys.readouterr().out)
    assert (scores["episodes"], scores["stopped"]) == (2, 0)
    assert scores["success_last_low"] <= scores["success_last"] <= scores["success_last_high"]
    assert (scores["training_success_last"], scores["training_success_last_low"]) == (0.5, 0.4)
    assert "training_return_mean" not in scores
    assert scores["ticks"] == pytest.approx(2 * (30 + 50), abs=20)


def test_a_run_of_other_peoples_environment_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CONFIG.replace("robotrl/HandReach-v3", "gym:Pendulum-v1")
    without_goals = text.replace('[td3.hindsight]\nstrategy = "future"\nk = 4\n', "")
    (tmp_path / "config.toml").write_text(without_goals, encoding="utf-8")
    assert main(["export", str(tmp_path)]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'config.toml'}: env: cannot be exported" in sentence


@pytest.mark.parametrize("scores", [{}, {"success_last": 0.0, "success_any": 0.0}])
def test_a_policy_that_never_succeeded_or_was_not_scored_has_no_ratio(
    scores: dict[str, float], run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = Policy.load

    def loaded(file: Path) -> Policy:
        policy = load(file)
        object.__setattr__(policy.contract.provenance, "scores", scores)
        return policy

    monkeypatch.setattr(Policy, "load", loaded)
    capsys.readouterr()
    command = ["eval", str(run / "policy.onnx"), "--through", "runtime", "--episodes", "2", "--json"]
    code, told = main(command), capsys.readouterr()
    if scores:
        assert code == FINE
        assert "return_ratio" not in json.loads(told.out)
    else:
        assert code == WRONG_USE
        assert told.err.startswith(
            f"robotrl: {run / 'policy.onnx'}: contract.provenance.scores: was not scored"
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["quad12_walk", "--card"],
            "--card: is not an option of this; allowed: with --warp, --original, --through",
        ),
        (["quad12_walk", "--through", "runtime", "--original"], "--original --through: are given together"),
        (["quad12_walk", "--through", "runtime", "--episodes", "1"], "--episodes: is too few, got 1"),
        (["no_such_policy", "--through", "runtime"], "got 'no_such_policy'"),
    ],
)
def test_what_cannot_go_through_the_runtime_is_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *options]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert said in sentence


def test_a_goal_is_asked_for_on_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before any port is opened: no goal, one of another size, a velocity."""
    goal = ["0.1"] * 15
    for options, said in (
        ([], "--goal: is missing, and the policy reads it"),
        (["--goal", *goal[:3]], "--goal: has the wrong length"),
        (["--goal", *goal, "--velocity", "0.1", "0", "0"], "--velocity: is not what the policy reads"),
        (["--goal", *goal, "--port", "imu=/dev/null"], "the robot has no such port, got 'imu'"),
    ):
        assert main(["run", str(run / "policy.onnx"), *options]) == WRONG_USE
        [sentence] = capsys.readouterr().err.splitlines()
        assert said in sentence
