"""The backend protocol: many simulated worlds of one model, stepped together."""

from __future__ import annotations

from typing import Protocol

import mujoco
from torch import Tensor

from robotrl.tasks.task import WorldView


class Worlds(WorldView, Protocol):
    """B worlds of one model: what tasks read of them, and what moves them.

    Float32 tensors that are read are snapshots of the last `step` or `reset`; forces and sensors are
    those of the last substep's start.
    """

    num: int
    model: mujoco.MjModel

    def step(self, targets: Tensor) -> None:
        """Advance one substep for each row of `targets` (substeps, B, nu)."""

    def reset(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Put the worlds `ids` (k,) into a state at rest of all memory, and update what is derived."""

    def set_velocity(self, ids: Tensor, qvel: Tensor) -> None:
        """Overwrite the velocities (k, nv) of the worlds `ids`."""

    def field(self, name: str) -> Tensor:
        """Live per-world values (B, ...) of a model field; writes take effect at the next step."""

    def update_constants(self, ids: Tensor) -> None:
        """Recompute what the model derives from masses and inertias for the worlds `ids`."""
