"""Replay: every number names its world, episode and step, so that no mix-up can hide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from robotrl.errors import CheckpointError
from robotrl.learn.replay import Batch, Replay

WORLDS, GAMMA = 3, 0.5
LENGTHS = (4, 5, 7)
"""Actions of an episode, by world."""


@dataclass(frozen=True)
class Stepped:
    """One step's outcome."""

    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_ids: Tensor
    final_observation: Tensor
    final_privileged: Tensor


def code(world: int, time: int, last: bool = False) -> float:
    """What world `world` shows after `time` actions; the last sight of an episode is negative."""
    return (-1.0 if last else 1.0) * (1000 * (world + 1) + time)


def times_out(world: int, time: int) -> bool:
    """Whether the episode that ends with action `time` is cut by a time-out: every second one is."""
    return (time + 1) // LENGTHS[world] % 2 == 0


def ends(world: int, time: int) -> bool:
    return (time + 1) % LENGTHS[world] == 0


def steps(count: int, privileged: int) -> Iterator[tuple[Tensor, Tensor, Stepped, Tensor]]:
    """What `count` steps of the worlds give: observed, action, stepped, following."""
    for t in range(count):
        done = torch.tensor([ends(w, t) for w in range(WORLDS)])
        cut = torch.tensor([times_out(w, t) for w in range(WORLDS)]) & done
        ids = done.nonzero()[:, 0]
        final = torch.tensor([code(int(w), t + 1, last=True) for w in ids]).reshape(-1, 1)
        reward = torch.tensor([code(w, t) for w in range(WORLDS)])
        stepped = Stepped(reward, done & ~cut, cut, ids, final.expand(-1, 2), final.expand(-1, privileged))
        yield seen(t, 2 + privileged), seen(t, 1) + 0.5, stepped, seen(t + 1, 2 + privileged)


def seen(time: int, width: int) -> Tensor:
    return torch.tensor([[code(w, time)] * width for w in range(WORLDS)])


def filled(count: int, capacity: int, privileged: int = 0) -> Replay:
    replay = Replay(capacity, WORLDS, 2 + privileged, 1, torch.Generator().manual_seed(0))
    for step in steps(count, privileged):
        replay.add(*step)
    return replay


def expected(world: int, time: int, n_step: int, cut: int) -> tuple[float, float, float | None]:
    """Return, discount and next observation by the definition; None where nobody asks for it.

    All worlds were left in the midst of their episodes after `cut` actions.
    """
    total = 0.0
    for k in range(n_step):
        total += GAMMA**k * code(world, time + k)
        if ends(world, time + k):
            if times_out(world, time + k):
                return total, GAMMA ** (k + 1), code(world, time + k + 1, last=True)
            return total, 0.0, None
        if time + k + 1 == cut:
            return total, GAMMA ** (k + 1), code(world, cut)
    return total, GAMMA**n_step, code(world, time + n_step)


def check(batch: Batch, n_step: int, cut: int = 0) -> set[tuple[int, int]]:
    """Compare every sample with the definition; returns which (world, time) were drawn."""
    drawn = set()
    for i in range(len(batch.reward)):
        number = round(float(batch.observation[i, 0]))
        world, time = number // 1000 - 1, number % 1000
        total, discount, following = expected(world, time, n_step, cut)
        assert batch.observation[i].eq(number).all()
        assert batch.action[i].tolist() == [number + 0.5]
        assert float(batch.reward[i]) == pytest.approx(total)
        assert float(batch.discount[i]) == pytest.approx(discount)
        assert following is None or batch.following[i].eq(following).all()
        drawn.add((world, time))
    return drawn


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("privileged", [0, 1])
@pytest.mark.parametrize("count", [9, 20, 61])
def test_samples_are_what_happened(count: int, n_step: int, privileged: int) -> None:
    slots = 20
    drawn = check(filled(count, slots * WORLDS, privileged).sample(4000, n_step, GAMMA), n_step)
    oldest = max(0, count - slots)
    wanted = {(w, t) for w in range(WORLDS) for t in range(oldest, count - n_step + 1)}
    assert drawn == wanted, "every stored step, and none that was overwritten"


def test_every_step_is_as_likely() -> None:
    batch = filled(30, 20 * WORLDS).sample(60_000, 1, GAMMA)
    counts = torch.unique(batch.observation[:, 0], return_counts=True)[1]
    assert len(counts) == 60
    assert float((counts / 1000 - 1).abs().max()) < 0.15, "five standard deviations are 0.16"


def test_last_observations_of_overwritten_steps_are_forgotten() -> None:
    replay = filled(900, 20 * WORLDS)
    assert replay.nbytes < 1.5 * filled(20, 20 * WORLDS).nbytes


def test_a_million_halfcheetah_steps_take_at_most_a_tenth_more_than_their_raw_bytes() -> None:
    raw = 1_000_000 * (4 * (17 + 6 + 1) + 1)
    assert Replay(1_000_000, 64, 17, 6, torch.Generator()).nbytes < 1.1 * raw


def test_a_restored_memory_goes_on_alike() -> None:
    whole, half = filled(61, 20 * WORLDS), filled(40, 20 * WORLDS)
    restored = Replay(20 * WORLDS, WORLDS, 2, 1, torch.Generator().manual_seed(0))
    restored.load_state({name: value.clone() for name, value in half.state().items()})
    for step in list(steps(61, 0))[40:]:
        restored.add(*step)
    for one, other in zip(whole.state().values(), restored.state().values(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(whole.sample(50, 3, GAMMA).following, restored.sample(50, 3, GAMMA).following)


def resumed(saved: Replay, slots: int) -> Replay:
    replay = Replay(slots * WORLDS, WORLDS, 2, 1, torch.Generator().manual_seed(0))
    replay.load_state({name: value.clone() for name, value in saved.state().items()})
    return replay


@pytest.mark.parametrize("slots", [19, 21, 40])
def test_a_full_memory_goes_into_none_of_another_size(slots: int) -> None:
    """Steps would be found elsewhere, and what was never stored would be sampled."""
    problem = f"replay: has another size .* got {slots * WORLDS}; allowed: {20 * WORLDS} steps"
    with pytest.raises(CheckpointError, match=problem):
        resumed(filled(61, 20 * WORLDS), slots)


@pytest.mark.parametrize("slots", [12, 13, 40])
def test_a_memory_that_was_not_full_goes_into_any_that_has_room(slots: int) -> None:
    restored = resumed(filled(12, 20 * WORLDS), slots)
    for step in list(steps(61, 0))[12:]:
        restored.add(*step)
    drawn = check(restored.sample(4000, 3, GAMMA), 3)
    assert drawn == {(w, t) for w in range(WORLDS) for t in range(61 - slots, 61 - 2)}
    with pytest.raises(CheckpointError, match=f"got {11 * WORLDS}; allowed: {12 * WORLDS} or more steps"):
        resumed(filled(12, 20 * WORLDS), 11)


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("cut", [14, 39, 40])
def test_episodes_of_worlds_that_start_anew_are_cut_by_time_alone(cut: int, n_step: int) -> None:
    """After 14 actions the last world times out beside the first ones, which are cut."""
    replay = resumed(filled(cut, 60 * WORLDS), 60)
    replay.begin_anew()
    for step in list(steps(120, 0))[100:]:
        replay.add(*step)
    times = *range(cut), *range(100, 121 - n_step)
    drawn = check(replay.sample(6000, n_step, GAMMA), n_step, cut)
    assert drawn == {(w, t) for w in range(WORLDS) for t in times}


def test_a_memory_of_nothing_begins_as_it_is() -> None:
    replay = filled(0, 20 * WORLDS)
    replay.begin_anew()
    for name, value in replay.state().items():
        assert torch.equal(value, filled(0, 20 * WORLDS).state()[name])
