"""Worlds of a direct task: they always run, and what they return stays what it was."""

from __future__ import annotations

import math
from pathlib import Path

import mujoco
import pytest
import torch
from torch import Tensor

from robotrl.errors import SimulationError
from robotrl.sim.direct import DirectEnv, DirectTransition, direct_model, native_worlds
from robotrl.sim.native import NativeWorlds
from robotrl.tasks.classic import classic_task

F64 = torch.float64


def make(name: str, num: int = 4, seed: int = 0, dtype: torch.dtype = F64, **options: object) -> DirectEnv:
    task = classic_task(name, **options)
    return DirectEnv(task, native_worlds(task, num, threads=1, dtype=dtype), seed)


def still(env: DirectEnv) -> Tensor:
    return torch.zeros((env.num, env.action_size))


def run(env: DirectEnv, steps: int, seed: int = 0) -> list[DirectTransition]:
    generator = torch.Generator().manual_seed(seed)
    shape = (env.num, env.action_size)
    return [env.step(2 * torch.rand(shape, generator=generator) - 1) for _ in range(steps)]


def test_a_seed_fixes_everything() -> None:
    first, again, other = make("Hopper-v5"), make("Hopper-v5"), make("Hopper-v5", seed=1)
    assert not torch.equal(first.observation, other.observation)
    for a, b in zip(run(first, 120), run(again, 120), strict=True):
        assert torch.equal(a.reward, b.reward)
        assert torch.equal(a.final_observation, b.final_observation)
    assert torch.equal(first.observation, again.observation)


def test_a_world_that_ends_begins_anew_in_the_same_step() -> None:
    env = make("Hopper-v5")
    for _ in range(300):
        taken = env.step(still(env) + 1.0)
        fallen = taken.final_observation[:, 0] <= 0.7, taken.final_observation[:, 1].abs() >= 0.2
        assert bool((fallen[0] | fallen[1]).all())
        assert bool((env.observation[:, 0] > 0.7).all())
        assert torch.equal(taken.terminated.nonzero()[:, 0], taken.final_ids)
        if len(taken.final_ids):
            assert bool((env.observation[taken.final_ids, 0] - 1.25).abs().max() < 0.01)
            return
    pytest.fail("no hopper fell")


def test_the_time_out_comes_at_the_last_step_and_not_before() -> None:
    env = make("HalfCheetah-v5", max_episode_steps=5)
    for _ in range(2):
        taken = [env.step(still(env)) for _ in range(5)]
        assert [bool(t.truncated.any()) for t in taken] == [False] * 4 + [True]
        assert not any(bool(t.terminated.any()) for t in taken)
        assert taken[-1].final_ids.tolist() == [0, 1, 2, 3]
        assert taken[-1].final_length.tolist() == [5, 5, 5, 5]
        total = torch.stack([t.reward for t in taken]).sum(0)
        torch.testing.assert_close(taken[-1].final_return, total)


def test_an_episode_that_fails_at_its_last_step_is_not_bootstrapped() -> None:
    fell_after = next(t for t, taken in enumerate(run(make("Hopper-v5", num=1), 500), 1) if taken.terminated)
    limited = run(make("Hopper-v5", num=1, max_episode_steps=fell_after), fell_after)[-1]
    assert limited.terminated.tolist() == [True]
    assert limited.truncated.tolist() == [False]


def test_statistics_are_means_over_steps_and_whole_episodes() -> None:
    env = make("Walker2d-v5")
    taken = run(env, 200)
    figures = env.take_statistics()
    reward = torch.stack([t.reward for t in taken])
    assert figures["step_reward"] == pytest.approx(float(reward.mean()))
    terms = torch.stack([t.terms for t in taken]).mean((0, 2))
    for name, value in zip(env.terms, terms.tolist(), strict=True):
        assert figures[f"reward/{name}"] == pytest.approx(value)
    returns = torch.cat([t.final_return for t in taken])
    lengths = torch.cat([t.final_length for t in taken])
    assert len(returns) > 4
    assert figures["episodes"] == len(returns)
    assert figures["episode_return"] == pytest.approx(float(returns.mean()))
    assert figures["episode_length_s"] == pytest.approx(0.008 * float(lengths.double().mean()))
    assert figures["failed_share"] == 1.0
    assert "episode_return" not in env.take_statistics()


def test_what_was_returned_stays_what_it_was() -> None:
    env = make("Ant-v5")
    observation = env.observation
    taken = env.step(still(env) + 0.5)
    kept = [t.clone() for t in (observation, env.observation, taken.reward, taken.terms, taken.final_return)]
    held = [observation, env.observation, taken.reward, taken.terms, taken.final_return]
    run(env, 3)
    env.place(torch.tensor([1]), env.worlds.qpos[:1], env.worlds.qvel[:1])
    env.restart()
    for now, then in zip(held, kept, strict=True):
        assert torch.equal(now, then)


def test_a_world_is_placed_where_it_is_wanted_and_its_episode_begins() -> None:
    env = make("HalfCheetah-v5", max_episode_steps=6)
    run(env, 4)
    before = env.observation
    qpos, qvel = torch.full((2, 9), 0.1, dtype=F64), torch.full((2, 9), -0.2, dtype=F64)
    env.place(torch.tensor([0, 2]), qpos, qvel)
    assert torch.equal(env.observation[[1, 3]], before[[1, 3]])
    assert torch.equal(env.observation[[0, 2]], torch.cat((qpos[:, 1:], qvel), dim=-1))
    assert run(env, 2)[-1].final_ids.tolist() == [1, 3]
    assert run(env, 4)[-1].final_ids.tolist() == [0, 2]


def test_a_broken_world_ends_unpaid_and_disturbs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo logs the world's failure where it runs
    env, whole = make("HalfCheetah-v5"), make("HalfCheetah-v5")
    known = env.observation[2].clone()
    env.worlds.set_velocity(torch.tensor([2]), torch.full((1, 9), math.nan, dtype=F64))
    taken, expected = env.step(still(env)), whole.step(still(whole))
    assert taken.terminated.tolist() == [False, False, True, False]
    assert float(taken.reward[2]) == 0.0
    assert torch.equal(taken.final_observation[0], known)
    others = [0, 1, 3]
    assert torch.equal(env.observation[others], whole.observation[others])
    assert torch.equal(taken.reward[others], expected.reward[others])
    assert bool(torch.isfinite(env.observation).all())
    assert env.take_statistics()["broken_worlds"] == 1.0
    assert bool(torch.isfinite(env.step(still(env)).reward).all())


def test_single_precision_follows_double() -> None:
    single, double = make("Ant-v5", dtype=torch.float32), make("Ant-v5")
    ids = torch.arange(4)
    single.place(ids, double.worlds.qpos.float(), double.worlds.qvel.float())
    for _ in range(3):
        a, b = single.step(still(single) + 0.3), double.step(still(double) + 0.3)
        assert single.observation.dtype == a.reward.dtype == torch.float32
        torch.testing.assert_close(single.observation.double(), double.observation, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(a.reward.double(), b.reward, rtol=1e-3, atol=1e-3)


def test_contact_forces_are_those_after_the_step() -> None:
    env = make("Ant-v5", num=2)
    run(env, 30)
    model = mujoco.MjModel.from_xml_path(str(env.task.model_file))
    data = mujoco.MjData(model)
    env.place(torch.tensor([1]), env.worlds.qpos[:1], env.worlds.qvel[:1])  # no memory, as new data
    data.qpos, data.qvel = env.worlds.qpos[1].numpy(), env.worlds.qvel[1].numpy()
    mujoco.mj_forward(model, data)
    for _ in range(20):  # until the feet are on the ground
        env.step(still(env))
        mujoco.mj_step(model, data, nstep=5)
    mujoco.mj_rnePostConstraint(model, data)
    assert float(abs(data.cfrc_ext).max()) > 0.1
    assert torch.equal(env.worlds.data("cfrc_ext")[1], torch.from_numpy(data.cfrc_ext))


def test_worlds_without_contact_forces_are_refused() -> None:
    task = classic_task("Ant-v5")
    with pytest.raises(SimulationError, match="Ant-v5 observes contact forces"):
        DirectEnv(task, NativeWorlds(direct_model(task), 2, 1), seed=0)
