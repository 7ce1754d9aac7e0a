"""A checkpoint is whole or it is not there, and is refused where it does not belong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from robotrl.errors import CheckpointError
from robotrl.learn.checkpoint import FOLDER, Progress, newest_checkpoint, save_checkpoint
from robotrl.learn.group import Group

OWNER: dict[str, str | int] = {"env": "robotrl/Ant-v5", "processes": 1}


def save(run: Path, iteration: int) -> dict[str, Tensor]:
    tensors = {"learner.a": torch.randn(3), "learner.b.c": torch.tensor(1.5, dtype=torch.float64)}
    tensors["env.broken"] = torch.tensor([True, False])
    save_checkpoint(run, tensors, Progress(iteration, 99, 1.25), OWNER, Group())
    return tensors


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    tensors = save(tmp_path, 3)
    checkpoint = newest_checkpoint(tmp_path)
    assert (checkpoint.progress, checkpoint.owner) == (Progress(3, 99, 1.25), OWNER)
    loaded = checkpoint.tensors(0, "learner")
    assert loaded.keys() == {"a", "b.c"}
    assert all(torch.equal(value, tensors[f"learner.{name}"]) for name, value in loaded.items())
    assert checkpoint.tensors(0, "env")["broken"].tolist() == [True, False]


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for iteration in (3, 9, 10, 100):
        save(tmp_path, iteration)
    assert newest_checkpoint(tmp_path).progress.iteration == 100
    assert sorted(int(folder.name) for folder in (tmp_path / FOLDER).iterdir()) == [10, 100]


@pytest.mark.parametrize(
    "content", [None, b"", b"no checkpoint", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "]
)
def test_a_damaged_one_is_passed_over_for_the_one_before(tmp_path: Path, content: bytes | None) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    file = newest_checkpoint(tmp_path).folder / "rank0.safetensors"
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    assert newest_checkpoint(tmp_path).progress.iteration == 1


def test_without_a_whole_one_the_newest_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        newest_checkpoint(tmp_path)
    save(tmp_path, 7)
    file = newest_checkpoint(tmp_path).folder / "rank0.safetensors"
    file.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"000000007/rank0\.safetensors: cannot be read"):
        newest_checkpoint(tmp_path)


def test_a_checkpoint_without_the_part_of_one_process_is_not_whole(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {}, Progress(1, 1, 1.0), OWNER | {"processes": 2}, Group())
    with pytest.raises(CheckpointError, match=r"rank1\.safetensors: cannot be read"):
        newest_checkpoint(tmp_path)


def test_what_was_being_written_when_the_power_failed_is_not_looked_at(tmp_path: Path) -> None:
    save(tmp_path, 1)
    torn = tmp_path / FOLDER / "000000002.tmp"
    torn.mkdir()
    (torn / "rank0.safetensors").write_bytes(b"")
    assert newest_checkpoint(tmp_path).progress.iteration == 1
    save(tmp_path, 2)
    assert newest_checkpoint(tmp_path).progress.iteration == 2


def test_another_version_and_another_run_are_refused(tmp_path: Path) -> None:
    save(tmp_path, 1)
    checkpoint = newest_checkpoint(tmp_path)
    checkpoint.check({"env": "robotrl/Ant-v5"})
    with pytest.raises(CheckpointError, match=r"env: is the checkpoint of another run, got 'robotrl/Ant-v5'"):
        checkpoint.check({"env": "robotrl/Hopper-v5"})
    file = checkpoint.folder / "rank0.safetensors"
    save_file({"a": torch.zeros(1)}, file, metadata={"robotrl.format": "1"})
    with pytest.raises(
        CheckpointError, match=r"robotrl\.format: is of another version of robotrl, got 1; allowed: 2"
    ):
        newest_checkpoint(tmp_path)
