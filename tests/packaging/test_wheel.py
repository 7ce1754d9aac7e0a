"""A base-only install from the wheel: shipped files are found by name, robot-side commands run."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from robotrl.spec.shipped import shipped_names
from tests.blocking import TRAIN, run_without

ROOT = Path(__file__).resolve().parents[2]


def _run(arguments: list[str]) -> str:
    return f"from robotrl.cli.main import main\nraise SystemExit(main({arguments!r}))"


@pytest.mark.parametrize("folder", ["hardware", "policies", "configs"])
def test_the_wheel_carries_every_shipped_file(wheel: Path, folder: str) -> None:
    files = {f.relative_to(ROOT).as_posix() for f in (ROOT / folder).rglob("*") if f.is_file()}
    assert files
    assert {f"robotrl/_shipped/{name}" for name in files} <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_carries_the_licence_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith("tests/") for name in names)


def test_shipped_files_are_found_by_name_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = (
        "import robotrl.spec.shipped as s\n"
        "print(s.find_shipped('hardware', 'quad12'))\n"
        "print(*(name for kind in ('hardware', 'policies', 'configs') for name in s.shipped_names(kind)))"
    )
    done = run_without(TRAIN, code, path=[installed], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file, names = done.stdout.splitlines()
    assert Path(file).is_relative_to(installed)
    assert names.split() == [
        name for kind in ("hardware", "policies", "configs") for name in shipped_names(kind)
    ]


def test_help_runs_on_a_base_install(installed: Path, tmp_path: Path) -> None:
    done = run_without(TRAIN, _run(["--help"]), path=[installed], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage: robotrl" in done.stdout


def test_check_runs_on_a_base_install(installed: Path, tmp_path: Path) -> None:
    arguments = ["check", "quad12_walk", "--robot", "quad12"]
    done = run_without(TRAIN, _run(arguments), path=[installed], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "may drive" in done.stdout


def test_the_runtime_runs_on_a_base_install(installed: Path, tmp_path: Path) -> None:
    code = "import robotrl, tests.hundred_ticks as h; print(robotrl.__file__); print(h.run() >= h.TICKS)"
    done = run_without(TRAIN, code, path=[installed, ROOT], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file, enough = done.stdout.splitlines()
    assert Path(file).is_relative_to(installed)
    assert enough == "True"


@pytest.mark.parametrize("command", ["train", "demo"])
def test_a_command_of_the_trainer_says_what_to_install(command: str, installed: Path, tmp_path: Path) -> None:
    arguments = {"train": ["train", "quad12_walk_ppo", "--out", "run"], "demo": ["demo", "--out", "demo"]}
    done = run_without(TRAIN, _run(arguments[command]), path=[installed], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'robotrl[train]'" in done.stderr
