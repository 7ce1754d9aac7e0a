"""The original environments of Gymnasium-Robotics, made to run with the MuJoCo that is installed."""

from __future__ import annotations

import types
import warnings
from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about tasks that are not compared here
    import gymnasium_robotics
    from gymnasium_robotics.utils import mujoco_utils

    gymnasium.register_envs(gymnasium_robotics)

Array = NDArray[np.float64]


class _IntegerJoints(types.ModuleType):
    """MuJoCo, its joint types as integers: since 3.12 a NumPy integer is no member of a tuple of enums."""

    mjtJoint = types.SimpleNamespace(  # noqa: N815 - MuJoCo's name
        **{name: int(kind) for name, kind in mujoco.mjtJoint.__members__.items()}
    )

    def __getattr__(self, name: str) -> Any:
        return getattr(mujoco, name)


mujoco_utils.mujoco = _IntegerJoints("mujoco")


class Original:
    """One original environment and what it returned last."""

    def __init__(self, name: str, **options: Any) -> None:
        self.env: Any = gymnasium.make(name, disable_env_checker=True, **options)
        self.inner: Any = self.env.unwrapped
        if options.get("relative_control"):
            self._give_names()

    def reset(self, seed: int | None = None) -> None:
        self.seen: dict[str, Array] = self.env.reset(seed=seed)[0]
        self.start = self.seen["achieved_goal"]

    def start_over(self, goal: Array) -> None:
        """Put the state in which the original is to rest, with another goal.

        The manipulation tasks' reset keeps the solver's memory of the last episode, ours do not.
        """
        data, model, (qpos, qvel, _) = self.inner.data, self.inner.model, self.state
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(model, data)
        self.inner.goal = goal
        self.seen = self.inner._get_obs()
        self.start = self.seen["achieved_goal"]

    def step(self, action: NDArray[np.float32]) -> tuple[float, bool, bool]:
        """Reward, success and time-out; `seen` is what is observed."""
        self.seen, reward, terminated, truncated, info = self.env.step(action)
        assert not terminated
        return float(reward), bool(info["is_success"]), truncated

    @property
    def row(self) -> Array:
        """Observation, achieved goal and desired goal in one."""
        parts = ("observation", "achieved_goal", "desired_goal")
        return np.concatenate([self.seen[part] for part in parts])

    @property
    def state(self) -> tuple[Array, Array, Array]:
        """Positions, velocities, goal."""
        return self.inner.data.qpos.copy(), self.inner.data.qvel.copy(), self.inner.goal.copy()

    def _give_names(self) -> None:
        """Let relative control, which was written for mujoco-py's names, find what it asks for."""
        inner, set_action = self.inner, self.inner._set_action

        def named(action: Array) -> None:
            data, model = inner.data, inner.model
            inner.data = types.SimpleNamespace(
                ctrl=data.ctrl, get_joint_qpos=lambda name: data.joint(name).qpos[0]
            )
            inner.model = types.SimpleNamespace(
                actuator_ctrlrange=model.actuator_ctrlrange,
                actuator_names=[model.actuator(i).name for i in range(model.nu)],
                actuator_name2id=lambda name: model.actuator(name).id,
            )
            set_action(action)
            inner.data, inner.model = data, model

        inner._set_action = named
