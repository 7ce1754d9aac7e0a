"""What a command would write is not written over what is another's, and is tried before any work."""

from __future__ import annotations

import errno
import subprocess
import sys
import tomllib
from contextlib import nullcontext
from pathlib import Path

import pytest

from robotrl.cli.main import WRONG_USE, main
from robotrl.cli.outputs import alone_in, check_folder, check_policy_file
from robotrl.cli.train import Train
from robotrl.errors import BadInputError
from robotrl.spec.shipped import find_shipped


def planned(config: Path, out: Path, **options: int) -> str:
    """The TOML that a run is about to leave in its folder."""
    return Train(config=str(config), out=out, **options)._plan()[1]  # type: ignore[arg-type]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "classic.toml"
    file.write_text(find_shipped("configs", "td3").read_text(encoding="utf-8"), encoding="utf-8")
    return file


@pytest.mark.parametrize("beside", ["card.md", "measured.json"])
def test_what_belongs_to_another_policy_is_left_alone(beside: str, tmp_path: Path) -> None:
    other, file = tmp_path / beside, tmp_path / "a.onnx"
    other.write_text("mine")
    said = f"{other}: stands here and belongs to another policy; allowed: a folder of its own"
    with pytest.raises(BadInputError, match=said):
        check_policy_file(file)
    file.write_bytes(b"")
    check_policy_file(file)
    assert other.read_text() == "mine"


@pytest.mark.parametrize("name", ["walk.toml", "policy", "folder.onnx"])
def test_a_policy_file_is_named_as_one(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(BadInputError, match=f"--out: is no policy file, got .*{name}'; allowed: .*onnx"):
        check_policy_file(tmp_path / name)


@pytest.mark.parametrize("place", ["/proc/foo", "/proc/foo/bar", "FILE", "FILE/inside"])
def test_a_folder_that_cannot_be_made_is_refused(place: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(BadInputError, match=r"--out: cannot be written to: .*; allowed: a folder"):
        check_folder(Path(place.replace("FILE", str(file))))


def test_a_folder_that_can_be_made_is_not_made_yet(tmp_path: Path) -> None:
    check_policy_file(tmp_path / "new" / "folder" / "policy.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_refused_before_the_run_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text("no run at all")
    assert main(["export", str(tmp_path), "-o", "/proc/foo/x.onnx"]) == WRONG_USE
    assert capsys.readouterr().err.startswith("robotrl: --out: cannot be written to: ")


def test_the_configuration_of_something_else_is_kept(config: Path, tmp_path: Path) -> None:
    kept = tmp_path / "keep" / "config.toml"
    kept.parent.mkdir()
    kept.write_text("title = 'a site'\n")
    with pytest.raises(
        BadInputError, match=r"keep: --out: holds the config\.toml of something else; allowed"
    ):
        planned(config, kept.parent)
    assert kept.read_text() == "title = 'a site'\n"
    kept.write_bytes(config.read_bytes())
    assert planned(config, kept.parent) == config.read_text()
    assert "seed = 7" in planned(kept, kept.parent, seed=7), "its own source may change"


@pytest.mark.parametrize("equals", ["=", "  =  ", " =\t"])
def test_a_key_is_found_however_its_equals_sign_is_spaced(equals: str, config: Path, tmp_path: Path) -> None:
    text = config.read_text()
    for key in ("seed", "steps", "env"):
        assert f"\n{key} = " in f"\n{text}"
        text = f"\n{text}".replace(f"\n{key} = ", f"\n{key}{equals}", 1).removeprefix("\n")
    config.write_text(text)
    train = Train(config=str(config), env="robotrl/Hopper-v5", out=tmp_path / "run", seed=7, steps=9000)
    table = tomllib.loads(train._plan()[1])
    assert (table["seed"], table["steps"], table["env"]) == (7, 9000, "robotrl/Hopper-v5")


def test_a_run_is_trained_by_one_process_at_a_time(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with alone_in(folder):
        with pytest.raises(
            BadInputError, match=f"{folder}: another process is training this run; allowed: stop"
        ):
            Train(config=str(config), out=folder, steps=64).train(quiet=True)
        assert [place.name for place in folder.iterdir()] == ["lock"]
    with alone_in(folder):
        pass


def test_a_run_that_was_begun_meanwhile_is_not_begun_anew(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    plan = Train._plan

    def slow_plan(self: Train) -> tuple[Path, str]:
        planned = plan(self)
        (folder / "checkpoints").mkdir(parents=True)
        return planned

    monkeypatch.setattr(Train, "_plan", slow_plan)
    with pytest.raises(BadInputError, match="already holds a run"):
        Train(config=str(config), out=folder).train(quiet=True)
    assert not (folder / "config.toml").exists()


@pytest.mark.parametrize(("number", "alone"), [(errno.ENOLCK, True), (errno.EIO, False)])
def test_a_file_system_without_locks_keeps_nobody_out(
    number: int, alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "")

    monkeypatch.setattr("fcntl.flock", refuse)
    with nullcontext() if alone else pytest.raises(OSError, match=str(number)), alone_in(tmp_path):
        pass


HOLD = "import sys, pathlib; from robotrl.cli.outputs import alone_in"
HOLD += "\nwith alone_in(pathlib.Path(sys.argv[1])): print(); input()"


def test_a_process_that_is_killed_leaves_its_run_to_others(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BadInputError), alone_in(tmp_path):
            pass
        holder.kill()
    with alone_in(tmp_path):
        pass
