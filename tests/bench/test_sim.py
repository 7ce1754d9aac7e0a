"""Raw physics does exactly what the environment asked of it; else their ratio would mean nothing."""

from __future__ import annotations

import torch

from robotrl.bench.sim import RawNative, _environment_turn, _our_rate, _start, with_goals


def test_a_raw_turn_ends_where_the_environments_did() -> None:
    env = with_goals("FetchPickAndPlace-v4", 2, threads=1)
    raw = RawNative(env.worlds.model, 2, threads=1)
    env.restart()
    start = _start(env.worlds)
    actions = torch.randn((5, 2, 4), generator=torch.Generator().manual_seed(0))
    seconds, asked = _environment_turn(env, actions)
    assert (len(asked), len(asked[0].targets)) == (5, 20)
    assert not torch.equal(env.worlds.qpos, start.qpos)
    assert raw.turn(start, asked) > 0 < seconds
    reached = torch.from_numpy(raw._batch.bind("qpos"))
    assert torch.equal(reached, env.worlds.qpos)


def test_turns_against_an_original_are_whole_episodes() -> None:
    env = with_goals("FetchReach-v4", 1, threads=1)
    _our_rate(env, torch.zeros((7, 1, 4)), multiple=50)
    assert env.take_statistics()["episode_length_s"] == env.period_s * 50
    assert env.state()["own.steps"].tolist() == [0]
