"""Goal tasks as Gymnasium's vector environments and single ones; `robotrl.sim.gym` registers them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.error import ClosedEnvironmentError
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from robotrl.sim.goal import GOAL_PARTS, GoalEnv, GoalLayout, GoalTransition, native_goal_worlds
from robotrl.sim.gym import check_actions, refuse_options, usable_cores
from robotrl.tasks.goal import GoalTask
from robotrl.tasks.robotics import goal_task

Array = NDArray[Any]
Triple = dict[str, Array]


class GoalVectorEnv(VectorEnv[Triple, Array, Array]):
    """B worlds of a goal task in one process, in double precision as the originals compute.

    A world whose episode ends starts the next one in the same step (`AutoresetMode.SAME_STEP`): the
    observation returned is the new episode's first, and `info["final_obs"][i]` the ended one's last.
    `info["is_success"]` is that of the step; of ended episodes it lies in `info["final_info"]`.
    """

    def __init__(self, num_envs: int, task: GoalTask, threads: int) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.num_envs, self.task, self._threads = num_envs, task, threads
        worlds = self._build(int(self.np_random.integers(2**62)))
        self._worlds: GoalEnv | None = worlds
        widths = (worlds.layout.observation, worlds.layout.goal, worlds.layout.goal)
        self.single_observation_space = Dict(
            {
                key: Box(-np.inf, np.inf, (width,), np.float64)
                for key, width in zip(GOAL_PARTS, widths, strict=True)
            }
        )
        self.single_action_space = Box(-1.0, 1.0, (task.action_size,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Triple, dict[str, Any]]:
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
            self._worlds = worlds = self._build(seed)
        worlds.restart()
        return _triple(worlds.layout, worlds.observation), {}

    def step(self, actions: Array) -> tuple[Triple, Array, Array, Array, dict[str, Any]]:
        """Apply actions (B, n) for one control period.

        Returns:
            Observations, rewards (B,), terminations (B,), truncations (B,), infos.

        Raises:
            BadInputError: actions of another shape.
        """
        worlds = self._open()
        check_actions(actions, self.action_space)
        stepped = worlds.step(torch.as_tensor(actions))
        return (
            _triple(worlds.layout, worlds.observation),
            _array(stepped.reward),
            _array(stepped.terminated),
            _array(stepped.truncated),
            self._infos(worlds.layout, stepped),
        )

    def compute_reward(self, achieved_goal: Array, desired_goal: Array, info: Mapping[str, Any]) -> Array:
        """Reward (...) of goals (..., g) over any leading shape; nothing of `info` is needed.

        Raises:
            BadInputError: a goal has the wrong shape.
        """
        return _array(self.task.compute_reward(_reals(achieved_goal), _reals(desired_goal)))

    def close_extras(self, **_: object) -> None:
        """Free the worlds."""
        self._worlds = None

    def _build(self, seed: int) -> GoalEnv:
        worlds = native_goal_worlds(self.task, self.num_envs, self._threads)
        return GoalEnv(self.task, worlds, seed, dtype=torch.float64)

    def _open(self) -> GoalEnv:
        if self._worlds is None:
            raise ClosedEnvironmentError(f"{self} has been closed")
        return self._worlds

    def _infos(self, layout: GoalLayout, stepped: GoalTransition) -> dict[str, Any]:
        """Infos of a step, as Gymnasium's own vector environments give them."""
        success, ended = _array(stepped.success.float()), _array(stepped.truncated)
        infos: dict[str, Any] = {} if ended.all() else _masked(success, ~ended)
        if not ended.any():
            return infos
        observations = np.full(self.num_envs, None, dtype=object)
        final = _triple(layout, stepped.final_observation)
        # Gymnasium's form is an object array of rows; only ended worlds pay for it.
        for k, i in enumerate(np.flatnonzero(ended)):
            observations[i] = {key: rows[k] for key, rows in final.items()}
        return infos | {
            "final_obs": observations,
            "_final_obs": ended,
            "final_info": _masked(success, ended),
            "_final_info": ended.copy(),
        }


class GoalSingleEnv(gymnasium.Env[Triple, Array]):
    """One world of a `GoalVectorEnv`, for code that knows no vectors."""

    def __init__(self, envs: GoalVectorEnv) -> None:
        self.metadata = {"render_modes": []}
        self._envs = envs
        self.observation_space, self.action_space = envs.single_observation_space, envs.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Triple, dict[str, Any]]:
        """Start a new episode; see `GoalVectorEnv.reset`."""
        super().reset(seed=seed)
        observations, infos = self._envs.reset(seed=seed, options=options)
        return {key: rows[0] for key, rows in observations.items()}, infos

    def step(self, action: Array) -> tuple[Triple, float, bool, bool, dict[str, Any]]:
        """Apply an action (n,) for one control period; at an episode's end the observation is its last."""
        rows, rewards, terminations, truncations, infos = self._envs.step(np.asarray(action)[None])
        ended = bool(truncations[0])
        last = infos["final_obs"][0] if ended else {key: values[0] for key, values in rows.items()}
        info = {"is_success": float((infos["final_info"] if ended else infos)["is_success"][0])}
        return last, float(rewards[0]), bool(terminations[0]), ended, info

    def compute_reward(self, achieved_goal: Array, desired_goal: Array, info: Mapping[str, Any]) -> Array:
        """Reward of goals; see `GoalVectorEnv.compute_reward`."""
        return self._envs.compute_reward(achieved_goal, desired_goal, info)

    def close(self) -> None:
        """Free the world."""
        self._envs.close()


def goal_envs(num_envs: int, task: str, threads: int | None = None, **options: object) -> GoalVectorEnv:
    """Build worlds of a goal task.

    Args:
        num_envs: worlds.
        task: one of `robotrl.tasks.robotics.ROBOTICS`.
        threads: of the physics; by default every core that this process may use.
        options: the original's keyword arguments.

    Raises:
        BadInputError: no such option, or a bad value.
    """
    return GoalVectorEnv(num_envs, goal_task(task, **options), threads or usable_cores())


def goal_env(**arguments: Any) -> GoalSingleEnv:  # noqa: ANN401 - those of goal_envs
    """Build one world of a goal task; see `goal_envs`."""
    return GoalSingleEnv(goal_envs(1, **({"threads": 1} | arguments)))


def _masked(success: Array, where: Array) -> dict[str, Array]:
    return {"is_success": np.where(where, success, np.float32(0)), "_is_success": where.copy()}


def _triple(layout: GoalLayout, rows: Tensor) -> Triple:
    return {key: _array(part) for key, part in zip(GOAL_PARTS, layout.split(rows), strict=True)}


def _array(tensor: Tensor) -> Array:
    """Copy, so that what is returned never changes."""
    return tensor.cpu().numpy().copy()


def _reals(goal: Array) -> Tensor:
    """Take a goal as it is, one of whole numbers as float64."""
    values = torch.as_tensor(goal)
    return values if values.is_floating_point() else values.double()
