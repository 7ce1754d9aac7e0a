"""The backend protocol: many simulated worlds of one model, stepped together."""

from __future__ import annotations

from typing import Protocol

import mujoco
import torch
from torch import Tensor

from robotrl.tasks.task import WorldView


class Worlds(WorldView, Protocol):
    """B worlds of one model: what tasks read of them, and what moves them.

    Tensors that are read are snapshots of the last `step` or `reset` on `device` in `dtype`; a later
    step never changes them. Derived values (forces, sensors, `data`) are those of the last substep's
    start. Every tensor that is passed in lies on `device` too.
    """

    num: int
    model: mujoco.MjModel
    device: torch.device
    dtype: torch.dtype

    def step(self, targets: Tensor) -> None:
        """Advance one substep for each row of `targets` (substeps, B, nu)."""

    def settle(self, ids: Tensor, targets: Tensor) -> None:
        """Advance the worlds `ids` (k,) alone, a substep for each row of `targets` (substeps, k, nu).

        Then update what is derived, as `reset` does. The other worlds stay as they are.
        """

    def reset(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Put the worlds `ids` (k,) into a state at rest of all memory, and update what is derived."""

    def set_velocity(self, ids: Tensor, qvel: Tensor) -> None:
        """Overwrite the velocities (k, nv) of the worlds `ids`; `qvel` shows them at once."""

    def set_mocap(self, pos: Tensor, quat: Tensor) -> None:
        """Move the bodies that are moved from outside to (B, nmocap, 3) m and (B, nmocap, 4) wxyz.

        They stay there until they are moved again or their world is reset, which puts them where the
        model has them. Quaternions are normalised by the physics.
        """

    def set_positions(self, columns: Tensor, qpos: Tensor) -> None:
        """Overwrite the positions (B, k) at addresses (k,) in all worlds but broken ones.

        What derives from positions and velocities is then current; forces, accelerations and sensors
        of them have no meaning until the next step.
        """

    def field(self, name: str) -> Tensor:
        """Live per-world values (B, ...) of a model field; writes take effect at the next step.

        Fields of `MjOption` are named `opt.<name>`. The tensor has the backend's own precision.
        """

    def update_constants(self, ids: Tensor) -> None:
        """Recompute what the model derives from masses and inertias for the worlds `ids`."""

    def broken(self) -> Tensor:
        """(B,) bool: worlds whose last step failed or left a state that is not finite.

        They stay as they are until they are reset; the others are not touched.
        """

    def world_model(self, world: int) -> mujoco.MjModel:
        """Return one world's own model, its per-world fields filled in."""

    def take_metrics(self) -> dict[str, float]:
        """What the backend counted since the last call (contact overflows, for one); then forget."""
