"""`robotrl check` from outside: exit codes, every problem at once, figures as JSON, a base install."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from robotrl.cli.check import Check
from robotrl.cli.run import Run
from robotrl.errors import BadInputError, PolicyError
from robotrl.runtime import inference
from robotrl.runtime.policy import Policy
from robotrl.spec.records import load_toml
from robotrl.spec.seal import seal
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import Floats
from tests.blocking import TRAIN, run_without
from tests.export import sample
from tests.spec.toml_text import changed, to_toml


def policy() -> str:
    return str(sample.exported()[0])


def other_robot(folder: Path) -> Path:
    """A robot with another rate and another knee limit."""
    table = load_toml(find_shipped("hardware", "quad12"))
    table = changed(table, ("control", "rate_hz"), 100.0)
    file = folder / "robot.toml"
    file.write_text(to_toml(changed(table, ("joint", 2, "position_max_rad"), -0.2)), encoding="utf-8")
    return file


def test_a_policy_on_its_own_robot_is_fine(capsys: pytest.CaptureFixture[str]) -> None:
    assert Check(policy()).run() == 0
    out = capsys.readouterr().out
    assert "golden ticks: reproduced within" in out
    assert "this policy may drive" in out
    assert "problem:" not in out
    for shown in ("joint_vel", "FR_knee", "rad/s", "error_vx_m_s", "last_action"):
        assert shown in out


def test_every_problem_is_printed_and_the_exit_code_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Check(policy(), robot=str(other_robot(tmp_path))).run() == 1
    problems = [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem: ")]
    assert problems == [
        "problem: control.rate_hz is 50.0 in the policy and 100.0 on quad12",
        "problem: position_max_rad of FL_knee is -0.1 in the policy and -0.2 on quad12",
    ]


def test_json_has_the_figures_and_the_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Check(policy(), robot=str(other_robot(tmp_path)), json=True).run() == 1
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["problems"] == found["incompatibilities"]
    assert len(found["problems"]) == 2
    assert found["golden_error"] < 1e-4
    assert 0 < found["inference_median_us"] <= found["inference_p99_us"]
    assert found["sha256"] == sample.exported()[1].sha256
    assert found["contract"]["provenance"]["seed"] == 7


def test_a_computer_that_computes_something_else_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract, model = sample.contract(), onnx.load(policy())
    del model.metadata_props[:]
    tick = contract.golden[0]
    moved = dataclasses.replace(tick, joint_target=tuple(v + 0.01 for v in tick.joint_target))
    text = dataclasses.replace(contract, golden=(moved, *contract.golden[1:])).to_json()
    file = tmp_path / "policy.onnx"
    file.write_bytes(seal(model.SerializeToString(), text))
    assert Check(str(file)).run() == 1
    assert "does not reproduce its recorded ticks on this computer" in capsys.readouterr().out


def test_a_policy_that_is_too_slow_for_this_computer_is_refused_here_and_by_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock_ns, step = [0], Policy.step

    def slow(self: Policy, channels: Mapping[str, NDArray[np.floating]]) -> Floats:
        clock_ns[0] += 6_000_000
        return step(self, channels)

    monkeypatch.setattr(Policy, "step", slow)
    monkeypatch.setattr(inference, "thread_time_ns", lambda: clock_ns[0])
    sentence = (
        "inference takes 6000 us on this computer (99th percentile); "
        "up to 5000 us is allowed, 0.25 of the loop's period on quad12"
    )
    assert Check(policy()).run() == 1
    assert f"problem: {sentence}\n" in capsys.readouterr().out
    with pytest.raises(PolicyError, match=re.escape(sentence)):
        Run(policy(), port=("legs=/dev/null", "imu=/dev/null"), arm=True).run()


@pytest.mark.parametrize("name", ["no_such_policy", "no/such/policy.onnx"])
def test_a_policy_that_does_not_exist_is_bad_input(name: str) -> None:
    with pytest.raises(BadInputError, match="no such file or shipped name in policies"):
        Check(name).run()


def test_a_robot_that_does_not_exist_is_bad_input() -> None:
    with pytest.raises(BadInputError, match=r"no such file or shipped name in hardware.*quad12"):
        Check(policy(), robot="hexapod").run()


def test_a_truncated_policy_is_bad_input(tmp_path: Path) -> None:
    file = tmp_path / "policy.onnx"
    file.write_bytes(sample.exported()[0].read_bytes()[:-10])
    with pytest.raises(PolicyError, match="is damaged or cut short"):
        Check(str(file)).run()


def test_a_base_install_is_enough() -> None:
    done = run_without(
        TRAIN, f"from robotrl.cli.check import Check; raise SystemExit(Check({policy()!r}).run())"
    )
    assert done.returncode == 0, done.stderr
    assert "this policy may drive" in done.stdout
