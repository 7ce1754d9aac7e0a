"""What `robotrl export` notes about the code and packages that a policy was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import onnxruntime
import pytest

from robotrl.cli import export
from robotrl.cli.export import git_commit, versions


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit that the command takes for its own."""
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.setattr(export, "__file__", str(tmp_path / "robotrl" / "cli" / "export.py"))
    return tmp_path


def test_the_commit_is_named_in_full(checkout: Path) -> None:
    assert git_commit() == git(checkout, "rev-parse", "HEAD")


def test_changed_files_are_marked(checkout: Path) -> None:
    (checkout / "code.py").write_text("2\n")
    assert git_commit() == git(checkout, "rev-parse", "HEAD") + "+"


def test_an_installed_package_does_not_claim_the_commit_around_it(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = checkout / "venv" / "robotrl" / "cli"
    inner.mkdir(parents=True)
    monkeypatch.setattr(export, "__file__", str(inner / "export.py"))
    assert git_commit() == ""


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (checkout / ".git").is_dir()
    monkeypatch.setenv("PATH", "")
    assert git_commit() == ""


def test_only_installed_packages_have_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PACKAGES", ("onnxruntime", "no-such-package"))
    assert versions() == {"onnxruntime": onnxruntime.__version__}
