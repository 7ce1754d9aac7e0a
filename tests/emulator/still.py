"""Emulated servos held still, and a clock that the test moves."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np

from robotrl.emulator.dynamixel_servos import DynamixelServos
from robotrl.emulator.feetech_servos import FeetechServos
from robotrl.emulator.plant import STEP_S
from robotrl.spec.robot import RobotSpec

Servos = TypeVar("Servos", DynamixelServos, FeetechServos)


class StillServos(Generic[Servos]):
    """The servos of one bus at the angles of the default posture; a subclass speaks their protocol."""

    def __init__(self, robot: RobotSpec, supply_v: float, make: type[Servos], bus: str) -> None:
        self.robot = robot
        self.position_rad = robot.default_rad.copy()
        self.velocity_rad_s = np.zeros(len(robot.joint))
        self.supply_v = supply_v
        self.bus: Servos = make(robot, bus, self.position_rad)
        self.steps = 0
        self.live(0.02)

    @property
    def now_s(self) -> float:
        """The time of the last firmware step."""
        return (self.steps - 1) * STEP_S

    def live(self, duration_s: float) -> None:
        """Let the firmware run."""
        for _ in range(round(duration_s / STEP_S)):
            self.bus.step(self.steps * STEP_S, self.position_rad, self.velocity_rad_s, self.supply_v)
            self.steps += 1

    def answer(self, packet: bytes) -> bytes:
        """Let a packet arrive now; return the bytes that come back."""
        return b"".join(reply.data for reply in self.bus.receive(packet, self.now_s))
