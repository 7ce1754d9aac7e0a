"""Two processes with half the samples each hold the same learner as one with all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import torch.multiprocessing
from torch import Tensor

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
