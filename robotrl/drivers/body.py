"""SerialBody: servo buses and IMU behind serial ports, seen as one robot in spec order and SI units."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from robotrl.drivers.imu import Wt901
from robotrl.drivers.port import Port, ReopeningPort, SerialPort
from robotrl.drivers.servos import Readings, ServoGroup
from robotrl.errors import BadInputError, DeviceError, PortError
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, JointCommand, RobotState

IMU = "imu"
"""The IMU's key among the ports."""

_LISTEN_S = 0.5
"""How long `open` listens for the IMU before it configures it, and again afterwards."""


class SerialBody:
    """The robot's body behind its serial ports.

    Nothing is opened before `open`, and `open` moves nothing. A cable that is pulled or an adapter
    that vanishes raises nothing after that: the ages in `RobotState` grow, and ports that come back
    are opened again. Torque goes on with the first TRACK command and never by itself.

    Args:
        robot: what the body is.
        ports: device files that replace those of robot.toml: by bus name, and `imu`.
        open_port: opens a device file at a baud rate.
        guarded: whether a guardian process turns torque off when this one stalls; servos that robot.toml
            leaves to one (`watchdog = "guardian"`) get no torque without it.

    Raises:
        BadInputError: `ports` names something that the robot does not have.
    """

    def __init__(
        self,
        robot: RobotSpec,
        ports: Mapping[str, str] | None = None,
        open_port: Callable[[str, int], Port] = SerialPort,
        *,
        guarded: bool = False,
    ) -> None:
        self._robot = robot
        self._paths = _paths(robot, ports or {})
        self._open_port = open_port
        self._guarded = guarded
        self._ports: list[ReopeningPort] = []
        self._groups: list[ServoGroup] = []
        self._imu: Wt901 | None = None
        self._readings = Readings.none_yet(len(robot.joint))

    def open(self) -> None:
        """Open all ports, check and configure every servo, and wait for the IMU. Torque is off afterwards.

        Raises:
            PortError: a port is missing, busy or not permitted.
            DeviceError: a servo or the IMU is missing, wrong, faulty or refuses its configuration.
        """
        self.close()
        try:
            self._open()
        except BaseException:  # also when interrupted: leave no port locked
            self.close()
            raise

    def _open(self) -> None:
        robot = self._robot
        self._readings = Readings.none_yet(len(robot.joint))
        for name, bus in robot.bus.items():
            indices = [i for i, joint in enumerate(robot.joint) if joint.bus == name]
            port = self._reopening(name, bus.baud_bd)
            self._groups.append(
                ServoGroup(name, robot, indices, port, self._paths[name], guarded=self._guarded)
            )
        self._imu = Wt901(self._reopening(IMU, robot.imu.baud_bd), robot.imu)
        for group in self._groups:
            group.open()
        self._await_imu(self._imu)

    def read(self, now_s: float) -> RobotState:
        """Read every servo and all that the IMU has sent; values that did not come keep growing older.

        Args:
            now_s: time of this tick; ages are counted from the `now_s` of the read that brought a value.

        Returns:
            The state, in arrays of its own.
        """
        self._measure(now_s)
        joints, imu = self._readings, self._opened_imu()
        return RobotState(
            stamp_s=now_s,
            joint_pos_rad=joints.position_rad.copy(),
            joint_vel_rad_s=joints.velocity_rad_s.copy(),
            joint_load=joints.load.copy(),
            voltage_v=joints.voltage_v.copy(),
            temperature_c=joints.temperature_c.copy(),
            hardware_error=joints.hardware_error.copy(),
            joint_age_s=now_s - joints.stamp_s,
            imu_quat=imu.quat.copy(),
            imu_gyro_rad_s=imu.gyro_rad_s.copy(),
            imu_accel_m_s2=imu.accel_m_s2.copy(),
            imu_age_s=now_s - imu.stamp_s,
        )

    def write(self, command: JointCommand) -> None:
        """Send a command to every servo; call it every tick, also to repeat DAMP or LIMP.

        The first TRACK after `open`, DAMP, LIMP or `rearm` arms: it needs a fresh `read` of every
        joint, sets the goals to where the joints are, and refuses while a bus watchdog is tripped.

        Raises:
            DeviceError: a target is not finite or outside its joint's limits, or servos without a watchdog
                have no guardian; nothing was sent.
        """
        if command.kind is CommandKind.TRACK:
            goals = [group.counts(command.joint_target_rad[group.indices]) for group in self._groups]
            for group in self._groups:
                group.require_watch()
            for group, goal in zip(self._groups, goals, strict=True):
                with contextlib.suppress(PortError):
                    group.track(goal)
            return
        for group in self._groups:
            with contextlib.suppress(PortError):
                group.damp() if command.kind is CommandKind.DAMP else group.limp()

    def rearm(self) -> None:
        """Allow motion again after a tripped bus watchdog; there is no stiffness until the next TRACK."""
        for group in self._groups:
            with contextlib.suppress(PortError):
                group.rearm()

    def close(self) -> None:
        """Release the ports; sends nothing, never raises."""
        for port in self._ports:
            port.close()
        self._ports, self._groups, self._imu = [], [], None

    def _reopening(self, name: str, baud_bd: int) -> ReopeningPort:
        port = ReopeningPort(partial(self._open_port, self._paths[name], baud_bd))
        self._ports.append(port)
        return port

    def _measure(self, now_s: float) -> None:
        for group in self._groups:
            with contextlib.suppress(PortError):
                group.measure(now_s, self._readings)
        self._opened_imu().poll(now_s)

    def _opened_imu(self) -> Wt901:
        if self._imu is None:
            raise DeviceError("the body is not open")
        return self._imu

    def _await_imu(self, imu: Wt901) -> None:
        """Wait until the IMU has sent everything, configuring it if it does not do so by itself."""
        if self._imu_comes(imu):
            return
        imu.configure()
        if not self._imu_comes(imu):
            raise DeviceError(
                f"imu on {self._paths[IMU]}: acceleration, angular velocity and quaternion do not arrive at "
                f"{self._robot.imu.baud_bd} baud; check power and cable, and set it up as in WIRING.md"
            )

    def _imu_comes(self, imu: Wt901) -> bool:
        """Read the whole body until the IMU is complete: with emulated time, servo reads let it pass."""
        deadline_s = time.monotonic() + _LISTEN_S
        self._measure(-np.inf)
        while not imu.complete and time.monotonic() < deadline_s:
            self._measure(-np.inf)
        return imu.complete


def _paths(robot: RobotSpec, ports: Mapping[str, str]) -> dict[str, str]:
    """Port of every bus and the IMU: robot.toml's, replaced by those given."""
    paths = {name: bus.port for name, bus in robot.bus.items()} | {IMU: robot.imu.port}
    for name in ports:
        if name not in paths:
            raise BadInputError("the robot has no such port", value=name, allowed=paths)
    return paths | dict(ports)
