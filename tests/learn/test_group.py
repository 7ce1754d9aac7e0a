"""Two processes with half the samples each hold the same learner as one with all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, distributed

from robotrl.errors import GroupError
from robotrl.learn import group as module
from robotrl.learn.group import Group
from robotrl.learn.ppo import Ppo
from robotrl.learn.rollout import Rollout
from tests.learn.test_networks import OUT_SIGN, OUT_SOURCE, SIGN, SMALL, SOURCE, Reflection

WORLDS = 12
COLUMNS = "observation", "privileged", "action", "mean", "reward"


def learner(group: Group) -> Ppo:
    """One epoch of one minibatch, so that the order of samples does not matter."""
    params = replace(SMALL, steps=4, epochs=1, minibatches=1, entropy=0.01)
    torch.manual_seed(0)
    parts = Reflection(SOURCE, SIGN), Reflection((0,), (1.0,)), Reflection(OUT_SOURCE, OUT_SIGN)
    return Ppo(params, *parts, group)


def rollout(worlds: slice) -> Rollout:
    torch.manual_seed(7)
    whole = Rollout.empty(4, WORLDS, 4, 1, 3)
    parts = {name: getattr(whole, name).normal_()[:, worlds] for name in COLUMNS}
    last = torch.randn(WORLDS, 4)[worlds], torch.randn(WORLDS, 1)[worlds]
    return replace(whole, **parts, ended=whole.ended[:, worlds], last=last)


def state_after(group: Group, worlds: slice) -> dict[str, Tensor]:
    ppo = learner(group)
    for _ in range(3):
        data = rollout(worlds)
        ppo.update(data)
        ppo.model.merge_statistics(data, group)
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


def dies_before_it_comes(_: Path) -> None:
    os._exit(3)


def dies_when_it_is_needed(folder: Path) -> None:
    group = Group(1, 2, folder / "rendezvous")
    group.wait()
    os._exit(3)


def beside(end: Callable[[Path], None], folder: Path) -> SpawnProcess:
    process = torch.multiprocessing.get_context("spawn").Process(target=end, args=(folder,))
    process.start()
    return process


def test_a_process_that_ends_while_it_starts_is_not_waited_for(tmp_path: Path) -> None:
    process = beside(dies_before_it_comes, tmp_path)
    with pytest.raises(GroupError, match="another process of this run ended while it started"):
        Group(0, 2, tmp_path / "rendezvous", ended=lambda: process.exitcode is not None)
    process.join()


def test_a_process_that_never_comes_is_waited_for_as_long_as_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEETING_S", 0.1)
    with pytest.raises(GroupError, match=r"not all 2 processes of this run have started within 0\.1 s"):
        Group(0, 2, tmp_path / "rendezvous")


def tell(group: Group) -> None:
    group.tell()
    group.wait()  # what rank 0 tells may be on its way before it is known that nobody listens


@pytest.mark.parametrize("act", [tell, Group.leave])
def test_a_process_that_ends_in_the_middle_is_missed_at_once(
    act: Callable[[Group], object], tmp_path: Path
) -> None:
    process = beside(dies_when_it_is_needed, tmp_path)
    group = Group(0, 2, tmp_path / "rendezvous")
    group.wait()
    process.join()
    with pytest.raises(GroupError, match="rank 0 lost another process of this run"):
        act(group)
    group.abandon()


@pytest.mark.parametrize(("device", "carrier"), [("cpu", "gloo"), ("cuda:1", "nccl")])
def test_what_lies_on_a_gpu_goes_by_nccl(
    device: str, carrier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(Group, "_meet", lambda *_: None)
    monkeypatch.setattr(distributed, "init_process_group", lambda name, **_: chosen.append(name))
    Group(0, 2, tmp_path / "rendezvous", device)
    assert chosen == [carrier]
