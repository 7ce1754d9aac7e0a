"""Prioritised replay: what is drawn, how often, with which weight, and what is not drawn any more."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from robotrl.learn.critics import CategoricalReturns, MeanReturns
from robotrl.learn.priorities import SURPRISE_MIN, Priorities, SumTree
from robotrl.learn.replay import Replay
from tests.learn.test_replay import GAMMA, WORLDS, check, steps

CPU = torch.device("cpu")
SLOTS = 20


def tree_of(weights: Tensor) -> SumTree:
    tree = SumTree(len(weights), CPU)
    tree.put(torch.arange(len(weights)), weights)
    return tree


@pytest.mark.parametrize("leaves", [1, 63, 64, 65, 5000])
def test_the_total_is_the_sum_after_any_updates(leaves: int) -> None:
    draws = torch.Generator().manual_seed(leaves)
    tree, weights = SumTree(leaves, CPU), torch.zeros(leaves, dtype=torch.float64)
    for _ in range(300):
        leaf = torch.randperm(leaves, generator=draws)[:40]
        weights[leaf] = 10.0 ** torch.randint(-9, 9, leaf.shape, generator=draws).double()
        tree.put(leaf, weights[leaf])
    assert torch.equal(tree.weight(torch.arange(leaves)), weights)
    assert float(tree.total) == pytest.approx(float(weights.sum()), rel=1e-13), "no drift"


def test_shares_of_the_total_fall_on_leaves_as_in_the_cumulative_sum() -> None:
    weights = torch.randint(0, 4, (5000,), generator=torch.Generator().manual_seed(0)).double()
    share = torch.rand(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.searchsorted(weights.cumsum(0), share * weights.sum(), right=True)
    assert torch.equal(tree_of(weights).find(share), expected)


@pytest.mark.parametrize("share", [0.0, 0.5, 1 - 2**-53, 1.0])
def test_a_leaf_without_weight_is_never_found(share: float) -> None:
    weights = torch.zeros(5000, dtype=torch.float64)
    weights[[70, 3000, 4100]] = torch.tensor([0.1, 1e-12, 0.3], dtype=torch.float64)
    assert int(tree_of(weights).find(torch.tensor([share], dtype=torch.float64))) in (70, 3000, 4100)


def test_of_a_leaf_that_is_named_twice_the_larger_weight_counts() -> None:
    tree = tree_of(torch.tensor([9.0, 1.0], dtype=torch.float64))
    tree.put(torch.tensor([0, 1, 0]), torch.tensor([3.0, 5.0, 2.0], dtype=torch.float64))
    assert tree.weight(torch.tensor([0, 1])).tolist() == [3.0, 5.0]
    assert float(tree.total) == 8.0


def filled(count: int, n_step: int = 1, alpha: float = 0.6, beta: float = 0.4) -> tuple[Replay, Priorities]:
    draws = torch.Generator().manual_seed(0)
    replay = Replay(SLOTS * WORLDS, WORLDS, 2, 1, draws)
    priorities = Priorities(replay.rows, WORLDS, n_step, alpha, beta, draws)
    for step in steps(count, privileged=0):
        replay.add(*step)
        priorities.added(replay.added)
    return replay, priorities


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("count", [9, 20, 21, 61])
def test_every_stored_step_is_drawn_and_none_that_was_overwritten(count: int, n_step: int) -> None:
    replay, priorities = filled(count, n_step)
    row, _ = priorities.draw(4000)
    drawn = check(replay.read(row, n_step, GAMMA), n_step)
    oldest = max(0, count - SLOTS)
    assert drawn == {(w, t) for w in range(WORLDS) for t in range(oldest, count - n_step + 1)}


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_frequencies_and_importance_weights_are_those_of_the_closed_form(alpha: float) -> None:
    replay, priorities = filled(61, alpha=alpha, beta=0.7)
    row, _ = priorities.draw(4000)
    rows = torch.arange(replay.rows)[torch.bincount(row, minlength=replay.rows) > 0]
    surprise = torch.rand(len(rows), generator=torch.Generator().manual_seed(2)) * 5
    priorities.update(rows, surprise)
    chance = (surprise.double() + SURPRISE_MIN) ** alpha
    chance /= chance.sum()
    drawn, weight = priorities.draw(200_000)
    place = torch.searchsorted(rows, drawn)
    counts = torch.bincount(place, minlength=len(rows)).double()
    deviation = (200_000 * chance * (1 - chance)).sqrt()
    assert float(((counts - 200_000 * chance) / deviation).abs().max()) < 5
    expected = (len(rows) * chance) ** -0.7
    torch.testing.assert_close(weight.double(), (expected / expected[place].max())[place], rtol=1e-5, atol=0)
    assert float(weight.max()) == 1.0


def test_new_steps_are_as_likely_as_the_likeliest_so_far() -> None:
    replay, priorities = filled(10, alpha=1.0, beta=1.0)
    everything = torch.arange(10 * WORLDS)
    priorities.update(everything, torch.full((10 * WORLDS,), 0.5))
    priorities.update(everything[:1], torch.tensor([99.0]))
    priorities.update(everything[:1], torch.tensor([0.5]))
    for step in list(steps(11, privileged=0))[10:]:
        replay.add(*step)
        priorities.added(replay.added)
    row, weight = priorities.draw(2000)
    new = row >= 10 * WORLDS
    share = 99 * WORLDS / (99 * WORLDS + 0.5 * 10 * WORLDS)
    assert float(new.double().mean()) == pytest.approx(share, abs=5 * (share * (1 - share) / 2000) ** 0.5)
    assert float(weight[new].max()) == pytest.approx(0.5 / 99, rel=1e-4)


def test_restored_priorities_go_on_alike() -> None:
    _, one = filled(61)
    row, _ = one.draw(50)
    one.update(row, torch.rand(50, generator=torch.Generator().manual_seed(3)))
    _, other = filled(5)
    other.load_state({name: value.clone() for name, value in one.state().items()})
    for priorities in (one, other):
        priorities._generator.manual_seed(7)
        priorities.added(62)
    for mine, its in zip(one.draw(500), other.draw(500), strict=True):
        assert torch.equal(mine, its)


def test_surprise_vanishes_exactly_where_the_critics_are_right() -> None:
    mean, target = MeanReturns(), torch.tensor([1.0, -2.0])
    out = torch.tensor([[[1.0], [0.0]], [[1.0], [-3.0]]])
    assert mean.surprise(out, target).tolist() == [0.0, 1.5]
    categorical = CategoricalReturns(3, 1.0)
    wanted = torch.tensor([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    logits = torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.5, 0.3]]).log().expand(2, -1, -1)
    torch.testing.assert_close(categorical.surprise(logits, wanted), torch.tensor([0.0, math.log(2)]))


@pytest.mark.parametrize("returns", [MeanReturns(), CategoricalReturns(5, 1.0)])
def test_weights_scale_each_sample_of_the_loss(returns: MeanReturns | CategoricalReturns) -> None:
    draws = torch.Generator().manual_seed(0)
    out = torch.randn((2, 6, returns.outputs), generator=draws)
    target = (
        torch.rand((6, 5), generator=draws).softmax(-1)
        if returns.outputs > 1
        else torch.rand(6, generator=draws)
    )
    weight = torch.rand(6, generator=draws)
    alone = torch.stack([returns.loss(out[:, i : i + 1], target[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(returns.loss(out, target, weight), (weight * alone).mean())
    torch.testing.assert_close(returns.loss(out, target), alone.mean())


@pytest.mark.parametrize("slots", [15, 1500])
def test_priorities_of_a_memory_that_was_not_full_go_into_those_of_another_size(slots: int) -> None:
    """Trees of one, two and three levels: whatever lies above the leaves is made anew."""
    generator = torch.Generator().manual_seed(1)
    larger = Priorities((slots + 1) * WORLDS, WORLDS, 3, 0.6, 0.4, generator)
    small = Priorities((SLOTS + 3) * WORLDS, WORLDS, 3, 0.6, 0.4, torch.Generator())
    for step in range(1, 13):
        small.added(step)
    small.update(torch.arange(10 * WORLDS), torch.arange(10.0 * WORLDS))
    larger.load_state({name: value.clone() for name, value in small.state().items()})
    rows = torch.arange(15 * WORLDS)
    assert torch.equal(larger._tree.weight(rows), small._tree.weight(rows))
    assert float(larger._tree.total) == pytest.approx(float(small._tree.total), rel=1e-12)
    assert int(larger.draw(4000)[0].max()) == 10 * WORLDS - 1
