"""The backend protocol: many simulated worlds of one model, stepped together."""

from __future__ import annotations

from typing import Protocol

import mujoco
from torch import Tensor


class Worlds(Protocol):
    """B worlds of one model. Float32 tensors returned are snapshots of the last `step` or `reset`."""

    num: int
    model: mujoco.MjModel

    @property
    def qpos(self) -> Tensor:
        """Generalised positions (B, nq)."""

    @property
    def qvel(self) -> Tensor:
        """Generalised velocities (B, nv)."""

    @property
    def actuator_force(self) -> Tensor:
        """Actuator forces of the last substep (B, nu)."""

    def sensor(self, *names: str) -> Tensor:
        """Values of equally sized sensors (B, len(names), size), one substep behind the state."""

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
