"""Gymnasium both ways: ours conform to its `VectorEnv`, and its environments feed our learners."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ClosedEnvironmentError
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import vector as wrappers

from robotrl.errors import BadInputError, ConfigError
from robotrl.sim.boxed import UnitActions
from robotrl.sim.build import read_scene
from robotrl.sim.direct import DirectEnv, native_worlds
from robotrl.sim.gym import GymEnv, check_trainable  # and registers ours
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.classic import CLASSIC, classic_task
from robotrl.tasks.robotics import ROBOTICS

pytestmark = [
    # Gymnasium's opinions on v4 and on bounds other than [-1, 1], which its own MuJoCo tasks have as well.
    pytest.mark.filterwarnings("ignore:.*is out of date:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*infinity. This is probably too:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric:UserWarning"),
]

ROBOT = "robotrl/Quad12Velocity-v0"


def make_vec(name: str, num: int = 4, **options: Any) -> VectorEnv[Any, Any, Any]:
    return gymnasium.make_vec(name, num, threads=1, **options)


def trajectory(env: VectorEnv[Any, Any, Any], steps: int, seed: int = 0) -> Iterator[tuple[Any, ...]]:
    env.action_space.seed(seed)
    for _ in range(steps):
        yield env.step(env.action_space.sample())


@pytest.mark.parametrize("task", CLASSIC)
def test_a_classic_task_has_the_spaces_of_the_original(task: str) -> None:
    ours, original = make_vec(f"robotrl/{task}"), gymnasium.make_vec(task, 4)
    assert ours.single_observation_space == original.single_observation_space
    assert ours.single_action_space == original.single_action_space
    assert ours.observation_space == original.observation_space
    assert ours.action_space == original.action_space
    assert ours.num_envs == 4
    assert ours.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    original.close()


@pytest.mark.parametrize("name", ["robotrl/HalfCheetah-v5", "robotrl/InvertedPendulum-v5", ROBOT])
def test_gymnasiums_checker_passes(name: str) -> None:
    check_env(gymnasium.make(name).unwrapped)


@pytest.mark.parametrize("name", ["robotrl/Hopper-v5", ROBOT])
def test_everything_returned_lies_in_its_space_and_never_changes(name: str) -> None:
    env = make_vec(name)
    observations, infos = env.reset(seed=1)
    assert infos == {}
    kept: list[tuple[Any, Any]] = [(observations, observations.copy())]
    for observations, rewards, terminations, truncations, _ in trajectory(env, 30):
        assert observations in env.observation_space
        assert (rewards.dtype, rewards.shape) == (np.float64, (4,))
        assert (terminations.dtype, terminations.shape) == (np.bool_, (4,))
        assert (truncations.dtype, truncations.shape) == (np.bool_, (4,))
        kept += [(observations, observations.copy()), (rewards, rewards.copy())]
    for returned, copy in kept:
        np.testing.assert_array_equal(returned, copy)


def test_a_truncated_episode_gives_its_last_observation_and_the_next_ones_first() -> None:
    """The same worlds with a later time-out show what the last observation would have been."""
    short, long = (make_vec("robotrl/HalfCheetah-v5", max_episode_steps=steps) for steps in (5, 1000))
    first, _ = short.reset(seed=3)
    np.testing.assert_array_equal(first, long.reset(seed=3)[0])
    both = zip(trajectory(short, 5), trajectory(long, 5), strict=True)
    for tick, (ours, uncut) in enumerate(both):
        assert ours[3].all() == (tick == 4)
        assert not ours[2].any()
        if tick < 4:
            np.testing.assert_array_equal(ours[0], uncut[0])
            assert ours[4] == {}
    np.testing.assert_array_equal(np.stack(list(ours[4]["final_obs"])), uncut[0])
    np.testing.assert_array_equal(ours[1], uncut[1], err_msg="the reward is the ended episode's")
    height_and_angle = ours[0][:, :2]
    assert (np.abs(height_and_angle) <= 0.1).all(), "a start state: nothing has fallen yet"
    assert not np.array_equal(ours[0], uncut[0])


def test_infos_of_an_ended_episode_have_gymnasiums_form() -> None:
    ours = make_vec("robotrl/InvertedPendulum-v5")
    original = gymnasium.make_vec(
        "InvertedPendulum-v5",
        4,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )
    infos = []
    for env in (ours, original):
        env.reset(seed=0)
        infos.append(next(step for step in trajectory(env, 200) if step[2].any() and not step[2].all()))
    (*_, terminations, _, given), (*_, expected) = infos
    for key in ("final_obs", "_final_obs", "_final_info"):
        assert (given[key].dtype, given[key].shape) == (expected[key].dtype, expected[key].shape)
    np.testing.assert_array_equal(given["_final_obs"], terminations)
    for ended, last in zip(terminations, given["final_obs"], strict=True):
        assert (last is not None) == ended
    last = given["final_obs"][terminations.argmax()]
    assert abs(last[1]) > 0.2, "the pole had fallen"
    original.close()


def test_it_is_the_underlying_environment() -> None:
    task = classic_task("Hopper-v5")
    worlds = DirectEnv(task, native_worlds(task, 4, 1, torch.float64), seed=7)
    env = make_vec("robotrl/Hopper-v5")
    env.reset(seed=7)
    worlds.restart()
    env.action_space.seed(0)
    for _ in range(100):
        action = env.action_space.sample()
        stepped = worlds.step(torch.from_numpy(action))
        observations, rewards, terminations, _, infos = env.step(action)
        np.testing.assert_array_equal(observations, worlds.observation.numpy())
        np.testing.assert_array_equal(rewards, stepped.reward.numpy())
        np.testing.assert_array_equal(terminations, stepped.terminated.numpy())
        if terminations.any():
            given = np.stack(list(infos["final_obs"][terminations]))
            np.testing.assert_array_equal(given, stepped.final_observation.numpy())


def test_the_robot_is_the_shipped_runs() -> None:
    scene = read_scene(find_shipped("configs", "quad12_walk_ppo"))
    worlds, env = scene.env(4, seed=7, threads=1), make_vec(ROBOT)
    worlds.restart(spread_ages=False)
    observations, _ = env.reset(seed=7)
    np.testing.assert_array_equal(observations, worlds.observation.numpy())
    env.action_space.seed(0)
    for _ in range(10):
        action = 0.1 * env.action_space.sample()
        stepped = worlds.step(torch.from_numpy(action))
        observations, rewards, *_ = env.step(action)
        np.testing.assert_array_equal(observations, worlds.observation.numpy())
        np.testing.assert_array_equal(rewards, stepped.reward.numpy())


def test_the_ends_of_the_robots_box_are_its_joint_limits() -> None:
    scene, box = read_scene(find_shipped("configs", "quad12_walk_ppo")), make_vec(ROBOT).single_action_space
    assert isinstance(box, Box)
    scale, robot = scene.task.policy.action_scale_rad, scene.robot
    for end, limit in ((box.low, robot.position_min_rad), (box.high, robot.position_max_rad)):
        np.testing.assert_allclose(robot.default_rad + scale * end, limit, atol=1e-6)


@pytest.mark.parametrize("name", ["robotrl/Swimmer-v5", ROBOT])
def test_a_seed_fixes_everything_and_no_seed_goes_on_drawing(name: str) -> None:
    env = make_vec(name)
    first, _ = env.reset(seed=5)
    end = [step[0] for step in trajectory(env, 20)][-1]
    again, _ = env.reset(seed=5)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal([step[0] for step in trajectory(env, 20)][-1], end)
    assert not np.array_equal(env.reset()[0], first)
    assert not np.array_equal(env.reset(seed=6)[0], first)
    assert not np.array_equal(make_vec(name).reset()[0], make_vec(name).reset()[0])


def test_threads_do_not_change_results() -> None:
    ends = []
    for threads in (1, 2):
        env = gymnasium.make_vec("robotrl/Ant-v5", 6, threads=threads)
        env.reset(seed=2)
        ends.append([step[0] for step in trajectory(env, 20)][-1])
    np.testing.assert_array_equal(*ends)


def test_gymnasiums_wrappers_work_on_it() -> None:
    env = wrappers.RecordEpisodeStatistics(make_vec("robotrl/Reacher-v5"))
    env.reset(seed=1)
    returns = np.zeros(4)
    for tick, (_, rewards, _, truncations, last) in enumerate(trajectory(env, 50)):
        returns, infos = returns + rewards, last
        assert truncations.all() == (tick == 49)
    np.testing.assert_array_equal(infos["episode"]["l"], [50] * 4)
    np.testing.assert_allclose(infos["episode"]["r"], returns)

    wrapped: Any = wrappers.DictInfoToList(
        wrappers.NormalizeReward(wrappers.ClipAction(make_vec("robotrl/Reacher-v5")))
    )
    wrapped.reset(seed=1)
    *_, (observations, *_, listed) = trajectory(wrapped, 50)
    assert [info["final_obs"].shape for info in listed] == [observations[0].shape] * 4


def test_wrong_use_is_refused() -> None:
    env = make_vec("robotrl/Reacher-v5")
    with pytest.raises(BadInputError, match=r"wrong shape, got \(2,\); allowed: \(4, 2\)"):
        env.step(np.zeros(2))
    with pytest.raises(BadInputError, match=r"no options of reset, got \['reset_mask'\]"):
        env.reset(options={"reset_mask": np.ones(4, dtype=bool)})
    with pytest.raises(BadInputError, match="no such option"):
        make_vec("robotrl/Reacher-v5", gravity=0.0)
    with pytest.raises(BadInputError, match="no-such-run"):
        make_vec(ROBOT, config="no-such-run")
    env.close()
    env.close()
    with pytest.raises(ClosedEnvironmentError):
        env.reset()


def test_a_single_environment_ends_with_its_last_observation() -> None:
    one, batch = gymnasium.make("robotrl/Reacher-v5"), make_vec("robotrl/Reacher-v5", 1)
    np.testing.assert_array_equal(one.reset(seed=4)[0], batch.reset(seed=4)[0][0])
    batch.action_space.seed(0)
    for tick in range(50):
        action = batch.action_space.sample()
        observation, reward, terminated, truncated, _ = one.step(action[0])
        observations, rewards, _, _, infos = batch.step(action)
        assert (reward, terminated, truncated) == (rewards[0], False, tick == 49)
        last = infos["final_obs"][0] if truncated else observations[0]
        np.testing.assert_array_equal(observation, last)


# ---------------------------------------------------------------- theirs


def test_their_environments_are_stepped_as_gymnasium_steps_them() -> None:
    """Two episodes of Pendulum, whose 200th step is a time-out, against single environments."""
    env = GymEnv("Pendulum-v1", 3, seed=2)
    singles = [gymnasium.make("Pendulum-v1") for _ in range(3)]
    first = np.stack([single.reset(seed=2 * 3 + i)[0] for i, single in enumerate(singles)])
    np.testing.assert_array_equal(env.observation.numpy(), first)
    assert (env.action_low, env.action_high) == (torch.tensor([-2.0]), torch.tensor([2.0]))
    draw = torch.Generator().manual_seed(0)
    returns = np.zeros(3)
    for tick in range(400):
        action = 4 * torch.rand((3, 1), generator=draw) - 2
        stepped = env.step(action)
        rows: list[tuple[Any, ...]] = [single.step(action[i].numpy()) for i, single in enumerate(singles)]
        returns += [float(row[1]) for row in rows]
        np.testing.assert_allclose(stepped.reward, [float(row[1]) for row in rows], rtol=1e-6)
        assert not stepped.terminated.any()
        late = tick % 200 == 199
        assert stepped.truncated.tolist() == [late] * 3
        assert stepped.final_ids.tolist() == ([0, 1, 2] if late else [])
        if late:
            np.testing.assert_array_equal(stepped.final_observation, np.stack([row[0] for row in rows]))
            np.testing.assert_allclose(stepped.final_return, returns, rtol=1e-5)
            assert stepped.final_length.tolist() == [200] * 3
            rows, returns = [single.reset() for single in singles], np.zeros(3)
        np.testing.assert_array_equal(env.observation, np.stack([row[0] for row in rows]))
    figures = env.take_statistics()
    assert figures["episode_length"] == 200
    assert env.take_statistics().get("episode_length") is None, "statistics are forgotten"
    env.close()


def test_neighbouring_seeds_share_no_environment() -> None:
    starts = np.concatenate([GymEnv("Pendulum-v1", 4, seed).observation for seed in range(3)])
    assert len(np.unique(starts, axis=0)) == 12


class Shelf(gymnasium.Env[Any, Any]):
    """Spaces of two dimensions, one end of the action's infinite; the reward is the action's sum."""

    observation_space = Box(0, 255, (2, 3), np.uint8)
    action_space = Box(np.array([[-1, 0], [0, -np.inf]], np.float32), np.array([[3, 5], [1, 1]], np.float32))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.arange(6, dtype=np.uint8).reshape(2, 3), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in self.action_space
        return np.arange(6, dtype=np.uint8).reshape(2, 3), float(action.sum()), False, False, {}


@pytest.fixture
def shelf() -> Iterator[None]:
    gymnasium.register("Shelf-v0", lambda **_: Shelf(), disable_env_checker=True)
    yield
    del gymnasium.registry["Shelf-v0"]


@pytest.mark.usefixtures("shelf")
def test_unit_actions_span_the_box_and_never_leave_it() -> None:
    env = UnitActions(GymEnv("Shelf-v0", 2, 0))
    assert env.observation.tolist() == [[0, 1, 2, 3, 4, 5]] * 2, "flattened"
    assert env.privileged.shape == (2, 0)
    assert env.step(torch.zeros(2, 4)).reward.tolist() == [1 + 2.5 + 0.5 + 0.0] * 2
    assert env.step(torch.ones(2, 4)).reward.tolist() == [3 + 5 + 1 + 1] * 2
    assert env.step(-torch.ones(2, 4)).reward.tolist() == [-1 + 0 + 0 - 1] * 2
    assert env.step(torch.full((2, 4), 9.0)).reward.tolist() == [3 + 5 + 1 + 1] * 2, "clipped"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("NoSuchEnv-v0", "Gymnasium cannot make it .*NoSuchEnv"),
        ("no_such_module:Env-v0", "Gymnasium cannot make it .*no_such_module"),
        ("bad name", "Gymnasium cannot make it"),
        ("CartPole-v1", r"gym:CartPole-v1 has the action space Discrete\(2\)"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_sentence(name: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"run.toml: env: {problem}") as error:
        check_trainable(name, "run.toml")
    assert "allowed:" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_registry_names_every_task() -> None:
    ours = {name for name in gymnasium.registry if name.startswith("robotrl/")}
    assert ours == {ROBOT, *(f"robotrl/{task}" for task in (*CLASSIC, *ROBOTICS))}
