"""quad12's body over fake ports, and shorthands for what tests do to it."""

from __future__ import annotations

import math

import numpy as np

from robotrl.drivers import xseries as x
from robotrl.drivers.body import SerialBody
from robotrl.drivers.registers import Register
from robotrl.errors import PortError
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import CommandKind, Floats, JointCommand
from tests.drivers.fake_bus import FakeBus, FakeImu

ROBOT = load_robot(find_shipped("hardware", "quad12"))
IDS = [joint.id for joint in ROBOT.joint]
NAMES = ROBOT.joint_names


class Rig:
    """A body, the servos and the IMU behind it, and whether its ports exist."""

    def __init__(self, robot: RobotSpec = ROBOT) -> None:
        self.bus = FakeBus(joint.id for joint in robot.joint)
        self.imu = FakeImu()
        self.present = True
        self.opened: list[tuple[str, int]] = []
        self.body = SerialBody(robot, {"legs": "servo port", "imu": "imu port"}, self._open)
        for servo in self.bus.servos.values():
            servo[x.PRESENT_INPUT_VOLTAGE] = 121
            servo[x.PRESENT_TEMPERATURE] = 33

    def _open(self, path: str, baud_bd: int) -> FakeBus | FakeImu:
        if not self.present:
            raise PortError(f"port {path} does not exist")
        self.opened.append((path, baud_bd))
        return self.bus if path == "servo port" else self.imu

    def servos(self, register: Register) -> list[int]:
        """One register of every servo, in spec order."""
        return [self.bus.servos[id_][register] for id_ in IDS]

    def place(self, angle_rad: Floats) -> None:
        """Turn the joints to these angles, through the definition in robot.toml."""
        for joint, angle in zip(ROBOT.joint, angle_rad, strict=True):
            count = joint.zero_count + joint.sign * angle * 4096 / (2 * math.pi)
            self.bus.servos[joint.id][x.PRESENT_POSITION] = round(count)

    def track(self, target_rad: object = None) -> None:
        """One TRACK command; the default posture if no target is given."""
        target = ROBOT.default_rad if target_rad is None else np.asarray(target_rad)
        self.body.write(JointCommand(CommandKind.TRACK, target))

    def command(self, kind: CommandKind) -> None:
        """One command without targets."""
        self.body.write(JointCommand(kind, np.full(len(IDS), np.nan)))
