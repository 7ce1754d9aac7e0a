"""Spheres in a scene where goals are."""

from __future__ import annotations

import mujoco
import numpy as np

from robotrl.spec.state import Floats

RADIUS_M, COLOUR = 0.02, (0.9, 0.25, 0.2, 0.8)


def add_markers(scene: mujoco.MjvScene, places_m: Floats, scale: float) -> None:
    """Add a sphere for each world position (k, 3) to what a scene draws.

    Args:
        scene: with room for them.
        places_m: (k, 3)
        scale: of their radius; 1 suits an arm.
    """
    for place in places_m:
        geom = scene.geoms[scene.ngeom]
        size = np.full(3, RADIUS_M * scale)
        sphere = mujoco.mjtGeom.mjGEOM_SPHERE
        mujoco.mjv_initGeom(geom, sphere, size, place, np.eye(3).ravel(), np.array(COLOUR, np.float32))
        scene.ngeom += 1
