"""Puts a terrain into a robot's model in place of its flat floor."""

from __future__ import annotations

import mujoco

from robotrl.errors import SimulationError
from robotrl.tasks.terrain import Terrain

FLOOR = "floor"
"""The geom that the terrain replaces."""
_BASE_M = 0.3
"""Solid ground below the lowest height, so that a fast foot finds no way through."""
_FLAT_M = 1e-3
"""Extent of a height field without any heights; MuJoCo's must be positive."""


def add_terrain(spec: mujoco.MjSpec, terrain: Terrain) -> None:
    """Turn the plane geom `floor` into the terrain's height field; its contact parameters stay.

    MuJoCo scales a height field's data to 0..1 when compiling (XML reference, asset/hfield); the
    geom's elevation and position put the heights back to metres.

    Raises:
        SimulationError: the model has no geom of that name.
    """
    geom = spec.geom(FLOOR)
    if geom is None:
        raise SimulationError(f"{spec.modelname}: has no geom {FLOOR!r}, which a terrain replaces")
    heights = terrain.heights
    low, high = float(heights.min()), float(heights.max())
    field = spec.add_hfield(name="terrain", nrow=heights.shape[0], ncol=heights.shape[1])
    field.userdata = heights.flatten().tolist()
    field.size = [terrain.half_x_m, terrain.half_y_m, max(high - low, _FLAT_M), _BASE_M]
    geom.type = mujoco.mjtGeom.mjGEOM_HFIELD
    geom.hfieldname = field.name
    geom.pos = [0.0, 0.0, low]
