"""Two processes with half the samples each hold the same learner as one with all of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, replace
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed

from robotrl.errors import GroupError
from robotrl.learn import group as module
from robotrl.learn.critics import Modern
from robotrl.learn.ddpg import Ddpg, DdpgParams
from robotrl.learn.group import Group
from robotrl.learn.off_policy import OffPolicy
from robotrl.learn.ppo import Ppo
from robotrl.learn.replay import Batch
from robotrl.learn.reward_bound import RewardBound
from robotrl.learn.rollout import Rollout
from robotrl.learn.sac import Sac, SacParams
from robotrl.learn.td3 import Td3, Td3Params
from tests.learn.test_networks import OUT_SIGN, OUT_SOURCE, SIGN, SMALL, SOURCE, Reflection
from tests.learn.test_off_policy import Drift

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


ENDS: tuple[tuple[float, ...], tuple[float, ...]] = ((-2.0, -1.0), (2.0, 3.0))
TABLE = {"hidden": (8, 8), "batch": 16, "start": 64, "steps": 4, "replay": 4000, "updates_per_step": 0.25}
"""Of every off-policy algorithm here."""


def ddpg(group: Group) -> OffPolicy:
    """Nothing is drawn in its updates, so whoever computes them does not matter."""
    return Ddpg(DdpgParams(**TABLE), 4, 1, *ENDS, group)  # type: ignore[arg-type]


def modern_sac(group: Group) -> OffPolicy:
    return Sac(SacParams(**TABLE, modern=Modern(width=8, bins=11)), 2, 0, *ENDS, group)  # type: ignore[arg-type]


def td3(group: Group) -> OffPolicy:
    return Td3(Td3Params(**TABLE), 2, 0, *ENDS, group)  # type: ignore[arg-type]


def updated(group: Group, samples: slice) -> dict[str, Tensor]:
    """A learner after three updates on some of the same 16 samples."""
    torch.manual_seed(0)
    learner = ddpg(group)
    torch.manual_seed(7)
    for _ in range(3):
        seen, action, then = torch.randn(16, 5), torch.rand(16, 2) * 2 - 1, torch.randn(16, 5)
        whole = Batch(seen, action, torch.randn(16), torch.full((16,), 0.9), then)
        learner.norm.update(seen[samples], torch.arange(5), torch.ones(5), group)
        learner.update(Batch(*(getattr(whole, f.name)[samples] for f in fields(Batch)[:5])))
    return learner.state()


def trained(build: Callable[[Group], OffPolicy], group: Group) -> dict[str, Tensor]:
    """A learner after three iterations in worlds, and a draw of actions, of this rank's own."""
    torch.manual_seed(0)
    learner, env = build(group), Drift()
    env._draws.manual_seed(group.rank)
    env.observation = env._fresh()
    for _ in range(3):
        learner.iterate(env)
    return learner.state()


def bounded(group: Group) -> dict[str, Tensor]:
    """A scale of rewards after a step of one world, which earned 1 on rank 0 and 100 on rank 1."""
    bound = RewardBound(gamma=0.9, value_max=5.0)
    reward = torch.tensor([1.0, 100.0])
    mine = reward[group.rank : group.rank + 1] if group.size > 1 else reward
    bound.update(mine, torch.zeros(len(mine), dtype=torch.bool), group)
    return {name: value for name, value in bound.state_dict().items() if name != "running"}


def off_policy(group: Group) -> tuple[dict[str, Tensor], ...]:
    """What two ranks hold after the same work, each with samples and worlds of its own."""
    half = slice(8 * group.rank, 8 * group.rank + 8)
    return bounded(group), updated(group, half), trained(modern_sac, group), trained(td3, group)


def other_off_policy_rank(folder: Path) -> None:
    torch.set_num_threads(1)
    group = Group(1, 2, folder / "rendezvous")
    save_file(numbered(off_policy(group)), folder / "rank1")
    group.leave()


def numbered(held: tuple[dict[str, Tensor], ...]) -> dict[str, Tensor]:
    """All of them in one table, by place and name, each in memory of its own."""
    return {f"{i}.{name}": value.clone() for i, part in enumerate(held) for name, value in part.items()}


OWN = ("noise", "spread", "replay", "generator", "reward_bound.running")
"""Starts of the names of what belongs to a rank's own worlds."""


def test_two_ranks_that_learn_off_policy_hold_the_same_learner(tmp_path: Path) -> None:
    process = beside(other_off_policy_rank, tmp_path)
    group = Group(0, 2, tmp_path / "rendezvous")
    ours = off_policy(group)
    group.leave()
    process.join()
    assert process.exitcode == 0
    one, other = numbered(ours), load_file(tmp_path / "rank1")
    assert one.keys() == other.keys()
    for name, value in one.items():
        if not name.partition(".")[2].startswith(OWN):
            assert torch.equal(value, other[name]), name
    assert ours[2]["counts"].tolist() == ours[3]["counts"].tolist() == [384.0, 88.0, 0.0]
    assert not torch.equal(one["2.replay.rows"], other["2.replay.rows"])

    for together, alone in zip(ours, (bounded(Group()), updated(Group(), slice(16))), strict=False):
        for name in together:
            if not name.startswith(OWN):
                torch.testing.assert_close(together[name], alone[name], rtol=1e-3, atol=1e-5, msg=name)


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
