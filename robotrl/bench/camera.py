"""A camera for any model: it looks at what moves, from a distance that fits, and follows it smoothly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

from robotrl.spec.state import Floats

SLANTED_DEG, STEEP_DEG = -16.0, -60.0
"""Elevation: of what stands on the floor, and of what moves in a level plane."""
FRONT_DEG, SIDE_DEG = 128.0, 90.0
"""Azimuth: past the front of what is free to turn, and at right angles to what moves in the x-z plane."""
ROOM = 1.1
"""Distance as a multiple of the one at which the moving parts' bounding sphere fills the picture's height."""
FOLLOW_S, RISE_S = 0.12, 0.8
"""Time constants of following across the floor, and up and down, where a gait's bobbing should be seen."""


@dataclass(frozen=True)
class View:
    """Where a camera that stands still looks at, and from where."""

    lookat_m: tuple[float, float, float]
    distance_m: float
    azimuth_deg: float
    elevation_deg: float


class Follower:
    """Keeps a free camera on the moving parts of a model, or where it is told to.

    Attributes:
        camera: to draw with.
        root: the body that it follows.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, view: View | None = None) -> None:
        """Aim at the first state, `data`, whose derived values are current.

        Sets the model's extent to the size of what moves, because the resolution of shadows goes with it;
        with a `view`, to the distance from which it is seen.
        """
        moving = np.flatnonzero(model.body_weldid[model.geom_bodyid])
        self.root = int(model.jnt_bodyid[0])
        self._travels = int(model.jnt_type[0]) in {mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_SLIDE}
        self.camera = mujoco.MjvCamera()
        self.camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        if view is not None:
            self._travels = False
            self._stand(model, view)
            return
        places = data.geom_xpos[moving]
        centre = self._centre(data) if self._travels else (places.min(0) + places.max(0)) / 2
        far = np.linalg.norm(places - centre, axis=1) + model.geom_rbound[moving]
        model.stat.extent = far.max()
        half_view_rad = math.radians(model.vis.global_.fovy) / 2
        self.camera.lookat[:] = centre
        self.camera.distance = ROOM * float(far.max()) / math.sin(half_view_rad)
        self.camera.elevation = self._elevation(model, data)
        self.camera.azimuth = self._azimuth(model, data)

    def _stand(self, model: mujoco.MjModel, view: View) -> None:
        self.camera.lookat[:], self.camera.distance = view.lookat_m, view.distance_m
        self.camera.azimuth, self.camera.elevation = view.azimuth_deg, view.elevation_deg
        model.stat.extent = view.distance_m

    def follow(self, data: mujoco.MjData, passed_s: float) -> None:
        """Move on after `passed_s`; infinitely long jumps to where the root is."""
        if self._travels:
            share = 1 - np.exp(-passed_s / np.array([FOLLOW_S, FOLLOW_S, RISE_S]))
            self.camera.lookat[:] += share * (self._centre(data) - self.camera.lookat)

    def _centre(self, data: mujoco.MjData) -> Floats:
        centre: Floats = data.subtree_com[self.root].copy()
        return centre

    def _elevation(self, model: mujoco.MjModel, data: mujoco.MjData) -> float:
        hinges = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE)
        upright = len(hinges) and abs(data.xaxis[hinges[0], 2]) > math.cos(math.pi / 4)
        free = int(model.jnt_type[0]) == mujoco.mjtJoint.mjJNT_FREE
        return STEEP_DEG if upright and not free else SLANTED_DEG

    def _azimuth(self, model: mujoco.MjModel, data: mujoco.MjData) -> float:
        if int(model.jnt_type[0]) != mujoco.mjtJoint.mjJNT_FREE:
            return SIDE_DEG
        forward = data.xmat[self.root].reshape(3, 3)[:, 0]
        return FRONT_DEG + math.degrees(math.atan2(forward[1], forward[0]))
