"""Model fields by name, `opt.<name>` for those of `MjOption`, and where bodies moved from outside begin."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np


def owner(model: Any, name: str) -> tuple[Any, str]:  # noqa: ANN401 (MjModel, or a record laid out like it)
    """The record of a model that holds a field, and the field's name there."""
    return (model.opt, name.removeprefix("opt.")) if name.startswith("opt.") else (model, name)


def with_values(model: mujoco.MjModel, values: Mapping[str, np.ndarray]) -> mujoco.MjModel:
    """Return a copy of a model with other values of the named fields.

    A value that is the model's own, rounded to the value's precision, keeps the model's.
    """
    model = copy.copy(model)
    for name, value in values.items():
        record, attribute = owner(model, name)
        nominal = np.asarray(getattr(record, attribute))
        mixed = np.where(value == nominal.astype(value.dtype), nominal, value)
        if mixed.ndim:
            nominal[...] = mixed
        else:
            setattr(record, attribute, mixed.item())
    return model


def place_mocap(model: mujoco.MjModel, pos: np.ndarray, quat: np.ndarray) -> None:
    """Let bodies that are moved from outside begin at (nmocap, 3) m and (nmocap, 4) wxyz."""
    bodies = np.flatnonzero(model.body_mocapid >= 0)
    model.body_pos[bodies] = pos[model.body_mocapid[bodies]]
    model.body_quat[bodies] = quat[model.body_mocapid[bodies]]
