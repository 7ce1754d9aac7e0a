"""How a body that is moved from outside, and welded to a robot, brings it to where episodes start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MocapSettling:
    """How a mocap body, welded to the robot, moves it to where episodes start.

    Before it, the model's welds lose their relative position and orientation, as
    `gymnasium_robotics.utils.mujoco_utils.reset_mocap_welds` leaves them.

    Attributes:
        body: the mocap body.
        site: the robot's point from which the target is measured.
        offset_m: from the site to the target position.
        quat: target orientation (wxyz), not normalised.
        steps: physics steps.
    """

    body: str
    site: str
    offset_m: tuple[float, float, float]
    quat: tuple[float, float, float, float]
    steps: int
