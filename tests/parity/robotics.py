"""The original environments of Gymnasium-Robotics, put into the states that a comparison needs."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from robotrl.bench.originals import make_original

Array = NDArray[np.float64]


class Original:
    """One original environment and what it returned last."""

    def __init__(self, name: str, **options: Any) -> None:
        self.env: Any = make_original(name, **options)
        self.inner: Any = self.env.unwrapped

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
