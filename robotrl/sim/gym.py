"""Gymnasium both ways: our environments as its `VectorEnv`, and any of its environments for our learners.

Importing this module registers `robotrl/Quad12Velocity-v0`, every classic task (`robotrl/Ant-v5`) and every
goal task (`robotrl/FetchPush-v4`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from gymnasium.error import ClosedEnvironmentError
from gymnasium.error import Error as GymnasiumError
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from robotrl.errors import BadInputError, ConfigError
from robotrl.sim.boxed import Stepped
from robotrl.sim.build import Scene, read_scene
from robotrl.sim.direct import DirectEnv, native_worlds
from robotrl.sim.saving import State
from robotrl.sim.statistics import Statistics
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.classic import CLASSIC, classic_task
from robotrl.tasks.robotics import ROBOTICS

Array = NDArray[Any]
Returned = tuple[Array, Array, Array, Array, dict[str, Any]]

# ---------------------------------------------------------------- ours as Gymnasium's


class _Worlds(Protocol):
    """What is read of our environments."""

    @property
    def observation(self) -> Tensor:
        """What the next action is computed from (B, obs)."""

    def step(self, action: Tensor) -> Stepped:
        """Apply actions (B, n)."""


@dataclass(frozen=True)
class Recipe:
    """How to build and restart one of our environments.

    Attributes:
        build: seed -> B worlds.
        restart: starts every world anew at the beginning of an episode; draws go on where they were.
        action: box of one world's action.
    """

    build: Callable[[int], Any]
    restart: Callable[[Any], None]
    action: Callable[[Any], Box]


class BatchedEnv(VectorEnv[Array, Array, Array]):
    """B worlds of one task in one process, stepped together; NumPy arrays in and out.

    A world whose episode ends starts the next one in the same step (`AutoresetMode.SAME_STEP`): the
    observation returned is the new episode's first, and `info["final_obs"][i]` the ended one's last.
    Actions outside the box are handed on as they are, as Gymnasium's MuJoCo tasks do: the actuators
    clamp them, costs are those of the action given. Rewards are float64, observations have the
    dtype of `single_observation_space`.
    """

    def __init__(self, num_envs: int, recipe: Recipe) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.num_envs, self._recipe = num_envs, recipe
        worlds = recipe.build(int(self.np_random.integers(2**62)))
        self._worlds: _Worlds | None = worlds
        observation = worlds.observation
        dtype = np.float64 if observation.dtype == torch.float64 else np.float32
        self.single_observation_space = Box(-np.inf, np.inf, observation.shape[1:], dtype)
        self.single_action_space = recipe.action(worlds)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start every world anew.

        Args:
            seed: fixes everything that follows, for all worlds together; None: go on drawing.
            options: there are none.

        Raises:
            BadInputError: `options` asks for something, such as a reset of single worlds.
        """
        refuse_options(options)
        super().reset(seed=seed)
        worlds = self._open()
        if seed is not None:
            self._worlds = worlds = self._recipe.build(seed)
        self._recipe.restart(worlds)
        return _array(worlds.observation), {}

    def step(self, actions: Array) -> Returned:
        """Apply actions (B, n) for one control period.

        Returns:
            Observations (B, obs), rewards (B,), terminations (B,), truncations (B,), infos.

        Raises:
            BadInputError: actions of another shape.
        """
        worlds = self._open()
        check_actions(actions, self.action_space)
        last = worlds.observation
        stepped = worlds.step(torch.as_tensor(actions, dtype=last.dtype, device=last.device))
        return (
            _array(worlds.observation),
            _array(stepped.reward.double()),
            _array(stepped.terminated),
            _array(stepped.truncated),
            self._final(stepped),
        )

    def close_extras(self, **_: object) -> None:
        """Free the worlds."""
        self._worlds = None

    def _open(self) -> _Worlds:
        if self._worlds is None:
            raise ClosedEnvironmentError(f"{self} has been closed")
        return self._worlds

    def _final(self, stepped: Stepped) -> dict[str, Any]:
        """Infos of a step, as Gymnasium's own vector environments give them."""
        ids = _array(stepped.final_ids)
        if not len(ids):
            return {}
        observations, ended = np.full(self.num_envs, None, dtype=object), np.zeros(self.num_envs, dtype=bool)
        ended[ids] = True
        # Gymnasium's form is an object array of rows; only ended worlds pay for it.
        for i, row in zip(ids, _array(stepped.final_observation), strict=True):
            observations[i] = row
        return {
            "final_obs": observations,
            "_final_obs": ended,
            "final_info": {},
            "_final_info": ended.copy(),
        }


def refuse_options(options: Mapping[str, Any] | None) -> None:
    """Refuse options of `reset`, of which our environments have none.

    Raises:
        BadInputError: there is one.
    """
    if options:
        raise BadInputError("there are no options of reset", value=sorted(options))


def check_actions(actions: Array, space: gymnasium.Space[Any]) -> None:
    """Refuse actions that are not shaped like a space's.

    Raises:
        BadInputError: they are not.
    """
    if np.shape(actions) != space.shape:
        raise BadInputError("actions have the wrong shape", value=np.shape(actions), allowed=str(space.shape))


class SingleEnv(gymnasium.Env[Array, Array]):
    """One world of a `BatchedEnv`, for code that knows no vectors; no faster than Gymnasium's own."""

    def __init__(self, envs: BatchedEnv) -> None:
        self.metadata = {"render_modes": []}
        self._envs = envs
        self.observation_space, self.action_space = envs.single_observation_space, envs.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start a new episode; see `BatchedEnv.reset`."""
        super().reset(seed=seed)
        observations, infos = self._envs.reset(seed=seed, options=options)
        return observations[0], infos

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Apply an action (n,) for one control period; at an episode's end the observation is its last."""
        observations, rewards, terminations, truncations, infos = self._envs.step(np.asarray(action)[None])
        last = infos["final_obs"][0] if infos else observations[0]
        return last, float(rewards[0]), bool(terminations[0]), bool(truncations[0]), {}

    def close(self) -> None:
        """Free the world."""
        self._envs.close()


def velocity_envs(num_envs: int, config: str = "quad12_walk_ppo", threads: int | None = None) -> BatchedEnv:
    """Build walking robots, randomised and sensed as a run's TOML says, on the backend that it names.

    One unit of action is `velocity.action_scale_rad` of joint angle from the default posture; the box
    is what the joints' limits allow.

    Args:
        num_envs: worlds.
        config: a run's TOML: a path, or the name of a shipped one.
        threads: of the physics on the CPU; by default every core that this process may use.

    Raises:
        BadInputError: no such file, or a bad one.
    """
    scene = read_scene(find_shipped("configs", config))
    return BatchedEnv(
        num_envs,
        Recipe(
            build=lambda seed: scene.env(num_envs, seed, threads or usable_cores()),
            restart=lambda env: env.restart(spread_ages=False),
            action=lambda _: _joint_box(scene),
        ),
    )


def classic_envs(num_envs: int, task: str, threads: int | None = None, **options: object) -> BatchedEnv:
    """Build worlds of a classic task in double precision, as the original computes.

    Args:
        num_envs: worlds.
        task: one of `robotrl.tasks.classic.CLASSIC`.
        threads: of the physics; by default every core that this process may use.
        options: the original's keyword arguments.

    Raises:
        BadInputError: no such option, or a bad value.
    """
    wanted = classic_task(task, **options)

    def build(seed: int) -> DirectEnv:
        return DirectEnv(
            wanted, native_worlds(wanted, num_envs, threads or usable_cores(), torch.float64), seed
        )

    def action(env: DirectEnv) -> Box:
        return Box(_array(env.action_low.float()), _array(env.action_high.float()), dtype=np.float32)

    return BatchedEnv(num_envs, Recipe(build, DirectEnv.restart, action))


def velocity_env(**arguments: Any) -> SingleEnv:  # noqa: ANN401 - those of velocity_envs
    """Build one walking robot; see `velocity_envs`."""
    return SingleEnv(velocity_envs(1, **({"threads": 1} | arguments)))


def classic_env(**arguments: Any) -> SingleEnv:  # noqa: ANN401 - those of classic_envs
    """Build one world of a classic task; see `classic_envs`."""
    return SingleEnv(classic_envs(1, **({"threads": 1} | arguments)))


def _joint_box(scene: Scene) -> Box:
    robot, scale = scene.robot, scene.task.policy.action_scale_rad
    default = np.array(robot.default_rad)
    low, high = np.array(robot.position_min_rad) - default, np.array(robot.position_max_rad) - default
    return Box((low / scale).astype(np.float32), (high / scale).astype(np.float32), dtype=np.float32)


def _array(tensor: Tensor) -> Array:
    """Copy, so that what is returned never changes."""
    return tensor.cpu().numpy().copy()


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _register() -> None:
    here = "robotrl.sim.gym"
    gymnasium.register(
        "robotrl/Quad12Velocity-v0",
        entry_point=f"{here}:velocity_env",
        vector_entry_point=f"{here}:velocity_envs",
    )
    makers = dict.fromkeys(CLASSIC, f"{here}:classic_env")
    makers |= dict.fromkeys(ROBOTICS, "robotrl.sim.goal_gym:goal_env")
    for task, maker in makers.items():
        gymnasium.register(
            f"robotrl/{task}", entry_point=maker, vector_entry_point=f"{maker}s", kwargs={"task": task}
        )


_register()

# ---------------------------------------------------------------- Gymnasium's for our learners


def check_trainable(name: str, file: object = None) -> None:
    """Make one environment and see whether our learners can train it.

    Args:
        name: what `gymnasium.make` takes.
        file: where the name stands, for the error.

    Raises:
        ConfigError: Gymnasium cannot make it, or a space is no box of numbers.
    """
    try:
        env = gymnasium.make(name)
    except (GymnasiumError, ModuleNotFoundError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"Gymnasium cannot make it ({reason})",
            file=file,
            key="env",
            value=f"gym:{name}",
            allowed="a registered environment",
        ) from error
    try:
        for what, space in (("observation", env.observation_space), ("action", env.action_space)):
            if not (isinstance(space, Box) and (what == "observation" or space.dtype.kind == "f")):
                raise ConfigError(
                    f"gym:{name} has the {what} space {space}", file=file, key="env", allowed="Box of numbers"
                )
    finally:
        env.close()


@dataclass(frozen=True)
class GymTransition:
    """What one action of B environments gave; see `robotrl.sim.direct.DirectTransition`."""

    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_ids: Tensor
    final_observation: Tensor
    final_privileged: Tensor
    final_return: Tensor
    final_length: Tensor


class GymEnv:
    """B copies of any Gymnasium environment with box spaces, for our learners: float32 tensors on the CPU.

    They run one after the other in this process; several processes train on copies of their own
    (`[sim] processes`), which needs no traffic between environment and learner.

    Attributes:
        num: environments.
        observation: (B, obs), flattened; what the next action is computed from.
        privileged: (B, 0)
        action_low: (n,) ends of the action box, flattened.
        action_high: (n,)
    """

    def __init__(self, name: str, num: int, seed: int) -> None:
        self._envs = gymnasium.make_vec(
            name, num, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}
        )
        box = self._envs.single_action_space
        assert isinstance(box, Box), "check_trainable comes first"
        self.num = num
        self._action_shape, self._action_type = (num, *box.shape), box.dtype
        self.action_low, self.action_high = (_flat(end[None])[0] for end in (box.low, box.high))
        self.action_size = len(self.action_low)
        self.privileged = torch.zeros((num, 0))
        self._statistics = _no_statistics()
        # Neighbouring seeds must not share environments: Gymnasium seeds copy i with seed + i.
        self._restart(seed * num)

    def restart(self) -> None:
        """Start every environment anew and forget the statistics."""
        self._restart(None)

    def step(self, action: Tensor) -> GymTransition:
        """Apply actions (B, n) in the environments' own units."""
        given = action.numpy().astype(self._action_type).reshape(self._action_shape)
        observations, rewards, terminations, truncations, infos = self._envs.step(given)
        self.observation = _flat(observations)
        reward = torch.from_numpy(rewards).float()
        terminated = torch.from_numpy(terminations)
        truncated = torch.from_numpy(truncations) & ~terminated
        ended = (terminated | truncated).nonzero()[:, 0]
        self._return += reward
        self._length += 1
        self._statistics.add_step(reward.new_zeros((0, self.num)), reward)
        transition = GymTransition(
            reward,
            terminated,
            truncated,
            ended,
            _flat(np.stack(list(infos["final_obs"][ended.numpy()]))) if len(ended) else self.observation[:0],
            self.privileged[ended],
            self._return[ended],
            self._length[ended],
        )
        if len(ended):
            self._statistics.add_episodes(
                transition.final_length.float(), transition.final_return, terminated[ended]
            )
            self._return[ended], self._length[ended] = 0.0, 0
        return transition

    def take_statistics(self) -> dict[str, float]:
        """Means since the last call: step reward, episode length (in steps) and return; then forget."""
        figures = self._statistics.figures()
        if "episode_length_s" in figures:  # nobody knows how long a step of theirs takes
            figures["episode_length"] = figures.pop("episode_length_s")
        self._statistics = _no_statistics()
        return figures

    def state(self) -> State:
        """Return nothing: Gymnasium has no way to ask an environment for its state."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on as it is: a run of other people's environments is resumed with new episodes."""

    def close(self) -> None:
        """Close the environments."""
        self._envs.close()

    def _restart(self, seed: int | None) -> None:
        self.observation = _flat(self._envs.reset(seed=seed)[0])
        self._return, self._length = torch.zeros(self.num), torch.zeros(self.num, dtype=torch.int32)
        self._statistics = _no_statistics()


def _flat(batch: Array) -> Tensor:
    """(B, ...) -> (B, size) float32, always a copy."""
    return torch.from_numpy(batch.reshape(len(batch), -1).astype(np.float32))


def _no_statistics() -> Statistics:
    return Statistics(torch.zeros(0), ())
