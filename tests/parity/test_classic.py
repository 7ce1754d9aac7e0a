"""The classic tasks against Gymnasium's own environments: same state, same actions, same everything."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robotrl.sim.direct import DirectEnv, DirectTransition, native_worlds
from robotrl.tasks.classic import CLASSIC, classic_task
from robotrl.tasks.direct import DirectTask

STEPS = 1000
VARIANT_STEPS = 200
SEEDS = 2
TOLERANCE = 1e-9
INF = math.inf

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    (
        "HalfCheetah-v5",
        {
            "frame_skip": 3,
            "forward_reward_weight": 0.7,
            "ctrl_cost_weight": 0.3,
            "reset_noise_scale": 0.2,
            "exclude_current_positions_from_observation": False,
        },
    ),
    (
        "Hopper-v5",
        {
            "terminate_when_unhealthy": False,
            "healthy_reward": 0.3,
            "healthy_state_range": (-3.0, 4.0),
            "healthy_z_range": (0.2, 1.3),
            "healthy_angle_range": (-1.0, 0.5),
            "exclude_current_positions_from_observation": False,
        },
    ),
    (
        "Walker2d-v5",
        {
            "xml_file": "walker2d.xml",
            "forward_reward_weight": 2.0,
            "healthy_z_range": (0.5, 3.0),
            "healthy_angle_range": (-2.0, 1.5),
            "ctrl_cost_weight": 0.1,
            "exclude_current_positions_from_observation": False,
        },
    ),
    (
        "Ant-v4",
        {
            "use_contact_forces": True,
            "contact_cost_weight": 0.01,
            "contact_force_range": (-0.5, 2.0),
            "terminate_when_unhealthy": False,
            "exclude_current_positions_from_observation": False,
        },
    ),
    (
        "Ant-v5",
        {
            "main_body": "torso",
            "terminate_when_unhealthy": False,
            "healthy_reward": 0.1,
            "healthy_z_range": (0.4, 0.7),
            "contact_force_range": (-3.0, 5.0),
            "contact_cost_weight": 0.02,
            "include_cfrc_ext_in_observation": False,
            "exclude_current_positions_from_observation": False,
        },
    ),
    ("Ant-v5", {"main_body": 5, "contact_cost_weight": 0.0, "include_cfrc_ext_in_observation": False}),
    (
        "Humanoid-v5",
        {
            "terminate_when_unhealthy": False,
            "contact_cost_weight": 1e-3,
            "contact_cost_range": (0.5, 8.0),
            "include_cinert_in_observation": False,
            "include_qfrc_actuator_in_observation": False,
            "include_cfrc_ext_in_observation": False,
        },
    ),
    (
        "Humanoid-v5",
        {
            "contact_cost_weight": 0.0,
            "contact_cost_range": (0.5, 8.0),
            "include_cvel_in_observation": False,
            "include_cfrc_ext_in_observation": False,
            "healthy_z_range": (0.9, 1.6),
        },
    ),
    (
        "HumanoidStandup-v5",
        {
            "uph_cost_weight": 3.0,
            "ctrl_cost_weight": 0.2,
            "impact_cost_weight": 1e-3,
            "impact_cost_range": (-1.0, 4.0),
            "include_cvel_in_observation": False,
            "exclude_current_positions_from_observation": False,
        },
    ),
    ("Swimmer-v5", {"exclude_current_positions_from_observation": False, "forward_reward_weight": 3.0}),
    ("Reacher-v5", {"reward_dist_weight": 2.0, "reward_control_weight": 0.3, "frame_skip": 4}),
    ("Pusher-v5", {"reward_near_weight": 0.2, "reward_dist_weight": 3.0, "reward_control_weight": 0.5}),
    ("InvertedPendulum-v5", {"reset_noise_scale": 0.05, "frame_skip": 1, "max_episode_steps": 7}),
    ("InvertedDoublePendulum-v5", {"healthy_reward": 3.0, "reset_noise_scale": 0.02}),
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo logs what it dislikes in Gymnasium's models where it runs


def label(value: object) -> str:
    return value if isinstance(value, str) else ""


def original(name: str, **options: Any) -> gymnasium.Env[NDArray[np.float64], NDArray[np.float64]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # v4 is out of date, which is why it is asked for
        made: gymnasium.Env[NDArray[np.float64], NDArray[np.float64]] = gymnasium.make(
            name, disable_env_checker=True, **options
        )
    return made


def exact_env(task: DirectTask, num: int, seed: int) -> DirectEnv:
    return DirectEnv(task, native_worlds(task, num, threads=1, dtype=torch.float64), seed)


class Originals:
    """Gymnasium's environments, put into the states in which the worlds under test begin."""

    def __init__(self, name: str, options: dict[str, Any], env: DirectEnv) -> None:
        self._tested = env
        self._each: list[Any] = [original(name, **options) for _ in range(env.num)]
        for i in range(env.num):
            self.follow(i)

    def follow(self, i: int) -> None:
        """Begin an episode from the tested world's state and compare the first observations."""
        env, tested = self._each[i], self._tested
        env.reset(seed=i)
        env.unwrapped.set_state(tested.worlds.qpos[i].numpy(), tested.worlds.qvel[i].numpy())
        close(tested.observation[i], env.unwrapped._get_obs(), "first observation")

    def compare_step(self, actions: NDArray[np.float64], got: DirectTransition) -> int:
        """Step every original, compare, and return how many episodes ended."""
        observation = self._tested.observation.clone()
        observation[got.final_ids] = got.final_observation
        for i, env in enumerate(self._each):
            expected, reward, terminated, truncated, _ = env.step(actions[i])
            close(observation[i], expected, "observation")
            close(got.reward[i], reward, "reward")
            assert bool(got.terminated[i]) == terminated
            assert bool(got.truncated[i]) == (truncated and not terminated)
            if terminated or truncated:
                self.follow(i)
        return len(got.final_ids)


def close(got: torch.Tensor, expected: Any, what: str) -> None:
    np.testing.assert_allclose(got.numpy(), expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=what)


def random_actions(env: DirectEnv, generator: np.random.Generator, share: float) -> NDArray[np.float64]:
    """Uniform over `share` of the range: above 1, MuJoCo clamps what the reward still counts."""
    middle, half = (env.action_high + env.action_low) / 2, (env.action_high - env.action_low) / 2
    drawn = generator.uniform(-share, share, (env.num, env.action_size))
    return middle.numpy() + half.numpy() * drawn


def follow_original(name: str, options: dict[str, Any], steps: int) -> None:
    env = exact_env(classic_task(name, **options), SEEDS, seed=7)
    originals = Originals(name, options, env)
    generator = np.random.default_rng(11)
    ended = 0
    for t in range(steps):
        actions = random_actions(env, generator, share=(0.3, 1.0, 1.3)[t // 80 % 3])
        ended += originals.compare_step(actions, env.step(torch.from_numpy(actions)))
    assert ended >= SEEDS  # every task's episodes end within the steps, by themselves or by time


@pytest.mark.parametrize("name", CLASSIC)
def test_a_thousand_steps_equal_the_original(name: str) -> None:
    follow_original(name, {}, STEPS)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=label)
def test_options_mean_what_they_mean_in_the_original(name: str, options: dict[str, Any]) -> None:
    follow_original(name, {"max_episode_steps": 90} | options, VARIANT_STEPS)


@pytest.mark.parametrize("name", CLASSIC)
def test_episodes_start_as_the_original_draws_them(name: str) -> None:
    env = exact_env(classic_task(name), num=200, seed=3)
    ours = []
    for _ in range(6):
        env.restart()
        ours.append(torch.cat((env.worlds.qpos, env.worlds.qvel), dim=-1))
    drawn, model = with_radii(torch.cat(ours).numpy(), env), original(name)
    model.reset(seed=1)
    theirs = with_radii(np.stack([start_of(model) for _ in range(500)]), env)
    distance = np.array([ks_distance(a, b) for a, b in zip(drawn.T, theirs.T, strict=True)])
    # Two-sample Kolmogorov-Smirnov, 1e-5 that one of these fixed draws would fail by chance.
    assert distance.max() < 2.47 * math.sqrt(1 / len(drawn) + 1 / len(theirs))


def start_of(env: Any) -> NDArray[np.float64]:
    env.reset()
    return np.concatenate((env.unwrapped.data.qpos, env.unwrapped.data.qvel))


def with_radii(state: NDArray[np.float64], env: DirectEnv) -> NDArray[np.float64]:
    """Add the distances from the middle of the last two pairs of coordinates, which arms draw jointly."""
    nq = env.worlds.model.nq
    pairs = [np.hypot(state[:, nq - k], state[:, nq - k + 1]) for k in (2, 4) if nq >= k]
    return np.column_stack((state, *pairs))


def ks_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Largest distance of two samples' distribution functions."""
    at = np.concatenate((a, b))
    share_a = np.searchsorted(np.sort(a), at, side="right") / len(a)
    share_b = np.searchsorted(np.sort(b), at, side="right") / len(b)
    return float(np.abs(share_a - share_b).max())


def test_ranges_of_actions_are_the_originals() -> None:
    for name in CLASSIC:
        env, space = exact_env(classic_task(name), num=1, seed=0), original(name).action_space
        assert isinstance(space, gymnasium.spaces.Box)
        np.testing.assert_array_equal(env.action_low.float().numpy(), space.low)
        np.testing.assert_array_equal(env.action_high.float().numpy(), space.high)
        assert env.action_size == space.shape[0]


def test_limits_of_episodes_are_the_originals() -> None:
    for name in CLASSIC:
        spec = gymnasium.spec(name)
        assert classic_task(name).episode_steps == spec.max_episode_steps
