"""The Fetch arm of Gymnasium-Robotics in numbers and names: what its tasks and its emulated controller share.

Source: `gymnasium_robotics.envs.fetch` 1.4.2.
"""

from __future__ import annotations

from robotrl.spec.mocap import MocapSettling

REACH_M = 0.05
"""Displacement of the gripper that one unit of action stands for."""
SUBSTEPS = 20
"""Physics steps of one control step."""
DOWNWARD = (1.0, 0.0, 1.0, 0.0)
"""Orientation of the gripper (wxyz); the originals never normalise it."""
FINGERS = ("robot0:r_gripper_finger_joint", "robot0:l_gripper_finger_joint")
GRIP, GRIPPER_BODY, MOCAP = "robot0:grip", "robot0:gripper_link", "robot0:mocap"
REACH_BASE_M, REACH_HEIGHT_M = 0.4049, 0.2
"""Where the base of FetchReach's robot stands, and what is added to where its gripper starts."""


def base_qpos(x_m: float) -> dict[str, tuple[float, ...]]:
    """Return the positions of the joints of the robot's base, which stands at `x_m`."""
    return {"robot0:slide0": (x_m,), "robot0:slide1": (0.48,), "robot0:slide2": (0.0,)}


def settling(height_m: float) -> MocapSettling:
    """Return how the gripper is brought to where episodes start, `height_m` above FetchPush's."""
    return MocapSettling(
        body=MOCAP, site=GRIP, offset_m=(-0.498, 0.005, -0.431 + height_m), quat=DOWNWARD, steps=200
    )
