"""What crosses between an arm's controller, gate and policy each tick: measured state and gripper command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from robotrl.spec.state import Floats


@dataclass(frozen=True, slots=True)
class ArmState:
    """What the arm's controller measured, in SI units; NaN and an infinite age before it has answered."""

    stamp_s: float
    """Host monotonic time at which this state was assembled."""
    gripper_pos_m: Floats
    """(3,) in the world frame."""
    gripper_vel_m_s: Floats
    """(3,) in the world frame."""
    finger_pos_m: Floats
    """(2,) how far each finger is from shut, right one first."""
    finger_vel_m_s: Floats
    """(2,)"""
    age_s: float
    """Seconds between the controller's answer and `stamp_s`."""

    @property
    def channels(self) -> Mapping[str, Floats]:
        """What it tells a policy, by channel."""
        return {
            "gripper_pos": self.gripper_pos_m,
            "gripper_vel": self.gripper_vel_m_s,
            "finger_pos": self.finger_pos_m,
            "finger_vel": self.finger_vel_m_s,
        }


@dataclass(frozen=True, slots=True)
class GripperCommand:
    """What is sent to the arm's controller in one tick."""

    move_m: Floats | None
    """(4,) as `robotrl.spec.commands.GRIPPER_AXES`; None: stop, and hold the position."""
