"""Worlds of a goal task: goals, time-outs, exact resume, and what they return stays what it was."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from robotrl.errors import BadInputError, CheckpointError
from robotrl.sim.boxed import UnitActions
from robotrl.sim.goal import GoalEnv, GoalTransition, goal_model, native_goal_worlds
from robotrl.sim.quarantine import Quarantine, load_dump
from robotrl.tasks.robotics import goal_task

F64 = torch.float64


@pytest.fixture(autouse=True)
def _aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo logs its warnings into a file of the working directory."""
    monkeypatch.chdir(tmp_path)


def make(
    name: str = "FetchReach-v4",
    num: int = 3,
    seed: int = 0,
    dtype: torch.dtype = F64,
    quarantine: Quarantine | None = None,
    **options: object,
) -> GoalEnv:
    task = goal_task(name, **options)
    return GoalEnv(task, native_goal_worlds(task, num, threads=1), seed, quarantine, dtype)


def actions(env: GoalEnv, steps: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand((steps, env.num, 4), generator=generator) - 1


def run(env: GoalEnv, steps: int, seed: int = 0) -> list[GoalTransition]:
    return [env.step(action) for action in actions(env, steps, seed)]


def homing(env: GoalEnv) -> Tensor:
    """Actions that bring the gripper of FetchReach to its goal."""
    _, achieved, desired = env.layout.split(env.observation)
    return torch.nn.functional.pad(10 * (desired - achieved), (0, 1)).float()


def same(one: GoalTransition, other: GoalTransition) -> bool:
    return all(torch.equal(value, vars(other)[name]) for name, value in vars(one).items())


def test_a_seed_fixes_everything() -> None:
    first, again, other = make(), make(), make(seed=1)
    assert not torch.equal(first.goal, other.goal)
    for a, b in zip(run(first, 60), run(again, 60), strict=True):
        assert same(a, b)
    assert torch.equal(first.observation, again.observation)


def test_an_observation_is_observed_achieved_and_desired() -> None:
    for name, width in (("FetchReach-v4", 10), ("FetchPush-v4", 25)):
        env = make(name)
        taken = run(env, 3)[-1]
        observation, achieved, desired = env.layout.split(env.observation)
        assert observation.shape == (3, width)
        assert torch.equal(achieved, taken.achieved)
        assert torch.equal(desired, env.goal)
        assert torch.equal(env.observation[:, env.layout.desired], env.goal)
        assert torch.equal(env.observation[:, env.layout.achieved], taken.achieved)
        assert torch.equal(achieved, observation[:, 3:6] if width == 25 else observation[:, :3])


@pytest.mark.parametrize("name", ["FetchReach-v4", "FetchReachDense-v4"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_rewards_and_successes_are_those_of_the_goals_that_learners_see(
    name: str, dtype: torch.dtype
) -> None:
    env = make(name, dtype=dtype)
    for _ in range(20):
        goal, taken = env.goal, env.step(homing(env))
        assert taken.reward.dtype == env.observation.dtype == dtype
        assert torch.equal(taken.reward, env.task.compute_reward(taken.achieved, goal))
        assert torch.equal(taken.success, env.task.is_success(taken.achieved, goal))
    assert bool(taken.success.all())


def test_learners_precision_does_not_touch_the_physics() -> None:
    single, double = make("FetchPush-v4", dtype=torch.float32), make("FetchPush-v4")
    run(single, 60)
    run(double, 60)
    assert torch.equal(single.worlds.qpos, double.worlds.qpos)
    assert torch.equal(single.observation, double.observation.float())


def test_the_time_out_comes_at_the_last_step_and_begins_the_next_episode() -> None:
    env = make(max_episode_steps=5)
    for _ in range(2):
        goal = env.goal
        taken = run(env, 5)
        assert [bool(t.truncated.any()) for t in taken] == [False] * 4 + [True]
        assert not any(bool(t.terminated.any()) for t in taken)
        last = taken[-1]
        assert last.final_ids.tolist() == [0, 1, 2]
        assert last.final_length.tolist() == [5, 5, 5]
        torch.testing.assert_close(last.final_return, torch.stack([t.reward for t in taken]).sum(0))
        _, achieved, desired = env.layout.split(last.final_observation)
        assert torch.equal(desired, goal)
        assert torch.equal(achieved, last.achieved)
        assert not torch.equal(env.goal, goal)
        assert torch.equal(env.observation[:, env.layout.desired], env.goal)


def test_success_never_ends_an_episode() -> None:
    env = make()
    taken = [env.step(homing(env)) for _ in range(49)]
    assert bool(taken[-1].success.all())
    assert not any(bool((t.truncated | t.terminated).any()) for t in taken)


def test_success_is_counted_at_the_last_and_at_any_step() -> None:
    env = make(num=4, max_episode_steps=20)
    for k in range(20):
        action = homing(env)
        if k >= 12:  # two arms leave their goals again, by more than the threshold
            action[:2, :3] = torch.tensor([-1.0, 0.0, 0.0])
        taken = env.step(action)
    assert taken.success.tolist() == [False, False, True, True]
    assert taken.final_reached.tolist() == [True] * 4
    run(env, 20)
    figures = env.take_statistics()
    assert figures["episodes"] == 8.0
    assert figures["episode_length_s"] == pytest.approx(20 * 0.04)
    assert figures["failed_share"] == 0.0
    assert figures["success_any"] >= figures["success_last"] + 0.25
    assert "success_last" not in env.take_statistics()


def test_reaching_a_goal_is_forgotten_with_the_episode() -> None:
    env = make(max_episode_steps=15)
    for _ in range(15):
        taken = env.step(homing(env))
    assert bool(taken.final_reached.all())
    away = env.goal + 1.0
    env.place(torch.arange(3), env.worlds.qpos, env.worlds.qvel, away)
    assert not bool(run(env, 15)[-1].final_reached.any())


def test_worlds_go_on_from_their_state_bit_for_bit() -> None:
    for name in ("FetchPush-v4", "FetchPickAndPlace-v4"):
        env, other = make(name, max_episode_steps=8), make(name, seed=9, max_episode_steps=8)
        run(env, 6)
        saved = {key: value.clone() for key, value in env.state().items()}
        expected, figures = run(env, 30, seed=1), env.take_statistics()
        run(other, 3)
        other.load_state(saved)
        for a, b in zip(run(other, 30, seed=1), expected, strict=True):
            assert same(a, b)
        assert other.take_statistics() == figures
        assert torch.equal(other.observation, env.observation)
    with pytest.raises(CheckpointError):
        make("FetchReach-v4").load_state(saved)


def test_what_was_returned_stays_what_it_was() -> None:
    env = make("FetchPickAndPlace-v4", max_episode_steps=4)
    held = [env.observation, env.goal]
    for taken in run(env, 4):
        held += [*vars(taken).values(), env.observation, env.goal]
    kept = [tensor.clone() for tensor in held]
    run(env, 6)
    last = env.observation
    held, kept = [*held, last], [*kept, last.clone()]
    env.place(torch.tensor([1]), env.worlds.qpos[:1], env.worlds.qvel[:1], env.goal[:1] + 1)
    env.restart()
    for now, then in zip(held, kept, strict=True):
        assert torch.equal(now, then)


def test_a_world_is_placed_where_it_is_wanted_with_the_goal_that_is_wanted() -> None:
    env = make("FetchPush-v4", max_episode_steps=6)
    run(env, 4)
    before = env.observation
    qpos, qvel = env.worlds.qpos[:2].flip(0), env.worlds.qvel[:2]
    goal = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=F64)
    env.place(torch.tensor([0, 2]), qpos, qvel, goal)
    assert torch.equal(env.observation[1], before[1])
    assert torch.equal(env.goal[[0, 2]], goal)
    assert torch.equal(env.worlds.qpos[[0, 2]], qpos)
    assert run(env, 2)[-1].final_ids.tolist() == [1]
    assert run(env, 4)[-1].final_ids.tolist() == [0, 2]
    with pytest.raises(
        BadInputError, match=r"goal: are no goals of FetchPush-v4, got \(1, 2\); allowed: \(1, 3\)"
    ):
        env.place(torch.tensor([0]), qpos[:1], qvel[:1], goal[:1, :2])


def test_actions_beyond_the_box_act_like_its_ends() -> None:
    env, clipped, unit = make(), make(), UnitActions(make())
    for action in 3 * actions(env, 10):
        expected = clipped.step(action.clamp(-1, 1))
        assert same(env.step(action), expected)
        assert torch.equal(unit.step(action).reward, expected.reward)
        assert torch.equal(unit.observation, clipped.observation)
    assert (env.action_low.tolist(), env.action_high.tolist()) == ([-1.0] * 4, [1.0] * 4)


def test_a_broken_world_ends_without_success_and_disturbs_no_other(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "broken")
    env, whole = make("FetchPush-v4", quarantine=quarantine), make("FetchPush-v4")
    one = torch.tensor([1])
    for each in (env, whole):
        run(each, 3)
        achieved = each.observation[one, each.layout.achieved]
        each.place(one, each.worlds.qpos[one], each.worlds.qvel[one], achieved)
    known = env.observation[1].clone()
    env.worlds.set_velocity(one, torch.full((1, 21), 1e12, dtype=F64))
    action = actions(env, 1, seed=4)[0]
    taken, expected = env.step(action), whole.step(action)
    assert taken.failed.tolist() == taken.truncated.tolist() == [False, True, False]
    assert not bool(taken.terminated.any())
    assert not bool(taken.success[1])  # though it is where it should be
    assert torch.equal(taken.final_observation[0], known)
    assert torch.equal(taken.achieved[1], known[env.layout.achieved])
    others = [0, 2]
    assert torch.equal(env.observation[others], whole.observation[others])
    assert torch.equal(taken.reward[others], expected.reward[others])
    assert bool(env.observation.isfinite().all())
    figures = env.take_statistics()
    assert (figures["broken_worlds"], figures["failed_share"]) == (1.0, 1.0)
    assert load_dump(tmp_path / "broken" / "broken_0000.npz").world == 1
    for a, b in zip(run(env, 2, seed=5), run(whole, 2, seed=5), strict=True):
        assert torch.equal(a.reward[others], b.reward[others])


def test_a_dump_has_the_bodies_that_the_step_moved_from_outside(tmp_path: Path) -> None:
    quarantine, env = Quarantine(tmp_path), make("FetchPickAndPlace-v4")
    run(env, 3)
    qpos, qvel = env.worlds.qpos, env.worlds.qvel
    env.step(actions(env, 1)[0])
    targets = env.worlds.data("ctrl").expand(20, -1, -1)
    quarantine.keep(env.worlds, torch.tensor([2]), qpos, qvel, targets)
    dump = load_dump(tmp_path / "broken_0000.npz")
    data = mujoco.MjData(dump.model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = dump.qpos, dump.qvel, dump.targets[0]
    mujoco.mj_step(dump.model, data, nstep=20)
    np.testing.assert_allclose(data.qpos, env.worlds.qpos[2].numpy(), atol=1e-5)  # but for the warm start


def test_positions_are_overwritten_in_all_worlds_but_broken_ones_and_what_derives_follows() -> None:
    worlds = native_goal_worlds(goal_task("FetchPush-v4"), 3, threads=1)
    worlds.data("site_xpos")
    worlds.set_velocity(torch.tensor([1]), torch.full((1, 21), math.nan, dtype=F64))
    worlds.step(torch.zeros((1, 3, 0), dtype=F64))
    before, columns = worlds.qpos, torch.tensor([0, 16])
    worlds.set_positions(columns, torch.full((3, 2), 0.25, dtype=F64))
    assert worlds.qpos[[0, 2]][:, columns].tolist() == [[0.25, 0.25]] * 2
    assert bool(worlds.qpos[1].isnan().all())
    others = [i for i in range(22) if i not in columns.tolist()]
    assert torch.equal(worlds.qpos[[0, 2]][:, others], before[[0, 2]][:, others])
    place = worlds.data("site_xpos")[0, worlds.model.site("object0").id]
    assert torch.equal(place, worlds.qpos[0, 15:18])


def test_a_model_with_a_missing_part_is_one_sentence(tmp_path: Path) -> None:
    task = goal_task("FetchReach-v4")
    alone = tmp_path / "reach.xml"
    alone.write_bytes(task.model_file.read_bytes())
    with pytest.raises(BadInputError, match=r"reach\.xml: cannot be loaded \(.*shared\.xml"):
        goal_model(dataclasses.replace(task, model_file=alone))


def test_an_action_that_is_no_number_breaks_its_world_alone() -> None:
    env = make()
    action = actions(env, 1)[0]
    action[2, 0] = math.nan
    taken = env.step(action)
    assert taken.failed.tolist() == [False, False, True]
    assert bool(env.observation.isfinite().all())
