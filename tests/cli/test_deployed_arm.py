"""FetchReach from the command line to the emulated arm: train, export, check, eval, emulate, run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from robotrl.cli.deployed import check_robot
from robotrl.cli.main import FINE, WRONG_USE, main
from robotrl.cli.runfile import SCORES
from robotrl.cli.train import Train
from robotrl.errors import ConfigError
from robotrl.runtime.policy import Policy
from robotrl.spec.hardware import load_hardware
from tests.emulator.process import Emulator
from tests.fetch_arm import CONFIG, exported, fetch_arm, reach_env

GOAL = ["--goal", "1.3", "0.8", "0.5"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few seconds with scores, and its policy file."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "reach.toml").write_text(CONFIG, encoding="utf-8")
    Train(config=str(folder / "reach.toml"), out=folder / "run").train(quiet=True)
    (folder / "run" / SCORES).write_text('{"success_last": 0.5, "return_mean": -25.0}')
    assert main(["export", str(folder / "run"), "--json"]) == FINE
    return folder / "run"


def test_the_contract_names_arm_channels_and_command(run: Path) -> None:
    contract = Policy.load(run / "policy.onnx").contract
    assert (contract.robot, contract.command, contract.joints) == ("fetch_sim", "gripper", ())
    assert [(c.name, c.shape, c.source) for c in contract.channels] == [
        ("gripper_pos", (3,), "controller"),
        ("gripper_vel", (3,), "controller"),
        ("finger_pos", (2,), "controller"),
        ("finger_vel", (2,), "controller"),
        ("goal", (3,), "operator"),
    ]
    low, high = contract.operator_ranges["goal"]
    assert [round(b - a, 2) for a, b in zip(low, high, strict=True)] == [0.3] * 3


def test_it_may_drive_its_arm_and_no_robot_with_servos(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["check", str(run / "policy.onnx")]) == FINE
    out = capsys.readouterr().out
    assert "this policy may drive" in out
    assert " m\n" in out
    assert main(["check", str(run / "policy.onnx"), "--robot", "quad12"]) != FINE
    assert main(["check", "quad12_walk", "--robot", "fetch_sim"]) != FINE


def test_episodes_run_through_the_runtime(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert (
        main(["eval", str(run / "policy.onnx"), "--through", "runtime", "--episodes", "2", "--json"]) == FINE
    )
    scores = json.loads(capsys.readouterr().out)
    assert (scores["episodes"], scores["ticks"]) == (2, 2 * 51 + 1)
    assert scores["success_last_low"] <= scores["success_last"] <= scores["success_last_high"]
    assert scores["training_success_last"] == 0.5


def test_an_emulated_arm_is_run_until_it_is_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    command = [sys.executable, "-m", "robotrl", "emulate", "fetch_sim", "--clock", "bus"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        arm = Emulator(process)
        options = ["--port", f"controller={arm.ports['controller']}", "--clock", "bus", "--duration-s", "2"]
        assert main(["run", str(exported()), *GOAL, *options, "--arm", "--json"]) == FINE
        report = json.loads(capsys.readouterr().out)
        assert (report["ticks"], report["verdicts"], report["last_mode"]) == (50, {"NONE": 50}, "policy")
        assert arm.tell("unplug controller")["stamp_s"] == pytest.approx(2.04, abs=0.1)
        assert arm.tell("dance")["event"] == "not understood: dance"
        assert main(["run", str(exported()), *GOAL, *options]) != FINE
        assert "controller on" in capsys.readouterr().err
        arm.tell("plug controller")
        assert arm.stop() == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["run", "POLICY"], "--goal: is missing, and the policy reads it"),
        (["run", "POLICY", *GOAL, "--record", "a.mcap"], "--record: is not an option for an arm"),
        (["run", "POLICY", *GOAL, "--unit", "A1"], "--unit: is not an option for an arm"),
        (["run", "POLICY", *GOAL, "--port", "imu=/dev/null"], "the robot has no such port, got 'imu'"),
        (["run", "POLICY", *GOAL, "--robot", "quad12"], "command is gripper in the policy"),
        (["emulate", "fetch_sim", "--truth", "t.npz"], "--truth: is not an option for an arm"),
        (["emulate", "fetch_sim", "--faults", "f.toml"], "--faults: is not an option for an arm"),
        (["bus", "scan", "--robot", "fetch_sim"], "controller: unknown key"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_an_arm_has_not_is_refused_in_one_sentence(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(exported())
    capsys.readouterr()
    assert main([file if option == "POLICY" else option for option in options]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert said in sentence


def test_an_arm_of_another_rate_is_not_the_tasks(tmp_path: Path) -> None:
    file = tmp_path / "robot.toml"
    text = Path(fetch_arm().file).read_text(encoding="utf-8")
    assert "rate_hz = 25.0" in text
    file.write_text(text.replace("rate_hz = 25.0", "rate_hz = 20.0"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"controller\.rate_hz: is not the task's, got 20\.0; allowed: 25"):
        check_robot(load_hardware(file), reach_env(1, seed=0).facts)
