"""Bad input to any command: one sentence that names the culprit, exit code 2, no traceback, nothing done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from robotrl.cli.main import WRONG_USE, main
from robotrl.spec.shipped import find_shipped

ROBOT_TEXT = find_shipped("hardware", "quad12").read_text(encoding="utf-8")
CONFIG_TEXT = find_shipped("configs", "quad12_walk_ppo").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Case:
    """Arguments (F stands for a file or folder made by `make`) and what the sentence must name."""

    arguments: str
    names: tuple[str, ...]
    make: Callable[[Path], None] = Path.mkdir


def _robot(old: str, new: str) -> Callable[[Path], None]:
    assert old in ROBOT_TEXT
    return lambda file: _write(file, ROBOT_TEXT.replace(old, new, 1))


def _config(old: str, new: str) -> Callable[[Path], None]:
    assert old in CONFIG_TEXT
    return lambda file: _write(file, CONFIG_TEXT.replace(old, new, 1))


def _td3(old: str, new: str) -> Callable[[Path], None]:
    text = find_shipped("configs", "td3").read_text(encoding="utf-8")
    assert old in text
    return lambda file: _write(file, text.replace(old, new, 1))


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def _truncated_policy(file: Path) -> None:
    whole = find_shipped("policies", "quad12_walk").read_bytes()
    file.write_bytes(whole[: len(whole) // 2])


def _foreign_folder(folder: Path) -> None:
    folder.mkdir()
    _write(folder / "thesis.txt", "years of work")


CASES = {
    "unknown key in robot.toml": Case(
        "emulate F",
        ("F", "limits.torque_mn", "allowed"),
        _robot("torque_nm = 1.5", "torque_mn = 1.5"),
    ),
    "wrong type in robot.toml": Case(
        "emulate F", ("F", "control.rate_hz", "'fast'"), _robot("rate_hz = 50.0", 'rate_hz = "fast"')
    ),
    "missing limit in robot.toml": Case(
        "emulate F", ("F", "limits.tilt_rad", "missing"), _robot("tilt_rad = 1.0\n", "")
    ),
    "impossible limit in robot.toml": Case(
        "emulate F", ("F", "limits.torque_nm", "99.0"), _robot("torque_nm = 1.5", "torque_nm = 99.0")
    ),
    "model of a package that is not there": Case(
        "emulate F",
        ("F", "model", "no_package:x.xml", "pip install no-package"),
        _robot('model = "model.xml"', 'model = "no_package:x.xml"'),
    ),
    "limit of a sense that the robot lacks": Case(
        "emulate F",
        ("F", "estimator: is missing", "limits.estimator_stale_s"),
        _robot("imu_stale_s = 0.05", "imu_stale_s = 0.05\nestimator_stale_s = 0.05"),
    ),
    "goal for a policy that reads none": Case(
        "run quad12_walk --goal 0.1 0.2", ("--goal: is not what the policy reads", "velocity_command")
    ),
    "model that is not there": Case(
        "emulate F",
        ("F", "model: cannot be read by MuJoCo", "no-such.xml"),
        _robot('model = "model.xml"', 'model = "no-such.xml"'),
    ),
    "robot.toml that is no TOML": Case("emulate F", ("F", "TOML"), lambda f: _write(f, "name =")),
    "unknown robot": Case("emulate no-such-robot", ("no-such-robot", "quad12")),
    "unknown key in a config": Case(
        "train F --out out", ("F", "sim.wrlds", "allowed"), _config("worlds = ", "wrlds = ")
    ),
    "wrong type in a config": Case(
        "train F --out out", ("F", "seed", "allowed"), _config("seed = 0", "seed = 0.5")
    ),
    "seed beyond what PyTorch takes": Case(
        "train F --out out", ("F", "seed", "allowed: 0 to 1e+15"), _config("seed = 0", f"seed = {10**22}")
    ),
    "run to be made in a file": Case(
        "train td3 --out F", ("F", "--out: cannot be written to"), lambda f: _write(f, "mine")
    ),
    "run to be made where nothing can be": Case(
        "train td3 --out /proc/foo", ("/proc/foo", "--out: cannot be written to")
    ),
    "too few threads": Case("eval quad12_walk --threads -3", ("--threads: is too few", "got -3")),
    "too few samples": Case(
        "bus monitor --port /dev/null --id 1 --samples -1", ("--samples: is too few", "got -1")
    ),
    "range that is upside down": Case(
        "train F --out out",
        ("F", "randomize.friction", "low <= high"),
        _config("friction = [0.4, 1.1]", "friction = [1.1, 0.4]"),
    ),
    "range beyond what MuJoCo accepts": Case(
        "train F --out out",
        ("F", "randomize.friction", "allowed"),
        _config("friction = [0.4, 1.1]", "friction = [-0.1, 1.1]"),
    ),
    "randomisation that does not exist": Case(
        "train F --out out",
        ("F", "randomize.colour", "allowed", "gravity_tilt_rad"),
        _config("push_every_s", "colour = [0, 1]\npush_every_s"),
    ),
    "GPU that is not here": Case(
        "train F --out out",
        ("F", "sim.device", "cuda", "cpu"),
        _config("processes = 2", 'processes = 1\nbackend = "warp"\ndevice = "cuda"'),
    ),
    "threads of a GPU": Case(
        "train F --out out",
        ("F", "sim.threads", "2", "allowed: 1"),
        _config("processes = 2", 'processes = 1\nthreads = 2\nbackend = "warp"\ndevice = "cuda"'),
    ),
    "batch larger than the memory": Case(
        "train F --out out",
        ("F", "td3.batch", "got 2000000", "up to 1000000"),
        _td3("batch = 256", "batch = 2_000_000"),
    ),
    "no future": Case("train F --out out", ("F", "td3.gamma", "got 0"), _td3("gamma = 0.99", "gamma = 0")),
    "table of another algorithm": Case(
        "train F --out out", ("F", "sac: is missing"), _td3('algorithm = "td3"', 'algorithm = "sac"')
    ),
    "unknown config": Case("train no-such-config", ("no-such-config", "quad12_walk_ppo")),
    "nothing to train": Case("train", ("--resume",)),
    "nothing to resume": Case("train --resume F", ("F",)),
    "nothing to export": Case("export F", ("F",)),
    "unknown policy": Case("eval no-such-policy", ("no-such-policy",)),
    "truncated policy": Case("check F", ("F",), _truncated_policy),
    "policy that is none": Case("check F", ("F",), lambda f: _write(f, "hello")),
    "truncated policy on a robot": Case("run F", ("F",), _truncated_policy),
    "policy for another robot": Case(
        "run quad12_walk --robot F", ("policy", "F"), _robot("default_rad = 0.6", "default_rad = 0.5")
    ),
    "port that does not exist": Case(
        "run quad12_walk --port legs=/dev/no-such-port --port imu=/dev/no-such-port", ("/dev/no-such-port",)
    ),
    "port that does not exist, to be recorded": Case(
        "run quad12_walk --port legs=/dev/no-such-port --record run.mcap", ("/dev/no-such-port",)
    ),
    "port of no bus": Case("run quad12_walk --port arms=/dev/null", ("arms", "legs")),
    "script that is none": Case(
        "run quad12_walk --script F", ("F", "step"), lambda f: _write(f, "steps = 1")
    ),
    "recording that is none": Case("replay F", ("F",), lambda f: _write(f, "hello")),
    "recording that is empty": Case("replay F", ("F",), Path.touch),
    "folder without a recording": Case("report F", ("F",)),
    "serial number that is a path": Case(
        "bus calibrate --robot quad12 --serial ../x", ("--serial: is no serial number", "'../x'")
    ),
    "seed of an arm": Case("emulate fetch_sim --seed 7", ("--seed", "'7'", "not an option for an arm")),
    "seed below 0": Case("emulate quad12 --seed -1", ("--seed", "got -1", "allowed: 0 or more")),
    "page at a host with an empty label": Case(
        "run quad12_walk --dashboard .foo:8000", ("--dashboard", "cannot be served at", "'.foo:8000'")
    ),
    "unknown config to measure": Case("bench train --config no-such-config", ("no-such-config",)),
    "folder that is not a demo's": Case("demo --quick --out F", ("F",), _foreign_folder),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_sentence_and_exit_code_2(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    case.make(tmp_path / "made")
    before = sorted(tmp_path.rglob("*"))
    arguments = [str(tmp_path / "made") if word == "F" else word for word in case.arguments.split()]
    assert main(arguments) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith("robotrl: ")
    for name in case.names:
        assert (str(tmp_path / "made") if name == "F" else name) in sentence
    assert sorted(tmp_path.rglob("*")) == before
