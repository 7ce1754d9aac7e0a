"""Two processes with half the samples each hold the same learner as one with all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import Tensor

from robotrl.errors import CheckpointError
from robotrl.learn.checkpoint import Progress, load_checkpoint, save_checkpoint
from robotrl.learn.group import Group
from robotrl.learn.ppo import Ppo, PpoParams
from robotrl.learn.rollout import Rollout
from tests.learn.test_networks import OUT_SIGN, OUT_SOURCE, SIGN, SOURCE, Reflection

WORLDS = 12


def learner(group: Group) -> Ppo:
    """One epoch of one minibatch, so that the order of samples does not matter."""
    params = PpoParams(4, 1, 1, 0.9, 0.95, 0.2, 0.01, 1e-3, 1e-5, 1e-2, 0.01, 0.5, 1.0, 0.5, 0.05, (16, 16))
    torch.manual_seed(0)
    parts = Reflection(SOURCE, SIGN), Reflection((0,), (1.0,)), Reflection(OUT_SOURCE, OUT_SIGN)
    return Ppo(params, *parts, group)


def rollout(worlds: slice) -> Rollout:
    torch.manual_seed(7)
    whole = Rollout.empty(4, WORLDS, 4, 1, 3)
    for name in ("observation", "privileged", "action", "mean", "reward"):
        getattr(whole, name).normal_()
    return Rollout(**{name: value[:, worlds].contiguous() for name, value in vars(whole).items()})


def state_after(group: Group, worlds: slice) -> dict[str, Tensor]:
    ppo = learner(group)
    for _ in range(3):
        ppo.update(rollout(worlds), torch.zeros(WORLDS)[worlds])
    return ppo.state()


def other_rank(folder: Path) -> None:
    torch.set_num_threads(1)
    group = Group(1, 2, folder / "rendezvous")
    state_after(group, slice(WORLDS // 2, WORLDS))
    assert group.agree(False) is True
    group.leave()


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    process = torch.multiprocessing.get_context("spawn").Process(target=other_rank, args=(tmp_path,))
    process.start()
    group = Group(0, 2, tmp_path / "rendezvous")
    together = state_after(group, slice(0, WORLDS // 2))
    assert group.agree(True) is True
    group.leave()
    process.join()
    assert process.exitcode == 0
    alone = state_after(Group(), slice(0, WORLDS))
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3), "b.c": torch.tensor(1.5, dtype=torch.float64)}
    save_checkpoint(tmp_path / "c.safetensors", tensors, Progress(3, 99, 1.25))
    loaded, progress = load_checkpoint(tmp_path / "c.safetensors")
    assert progress == Progress(3, 99, 1.25)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors"):
        load_checkpoint(file)


def test_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "none.safetensors")
