"""SerialBody: servo buses, IMU and estimator behind serial ports: one robot in spec order and SI units."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np

from robotrl.drivers.estimator import Estimator
from robotrl.drivers.gx5 import Gx5
from robotrl.drivers.imu import ImuReader, Wt901
from robotrl.drivers.port import Port, ReopeningPort, SerialPort
from robotrl.drivers.rvc import Bno08x
from robotrl.drivers.servos import Readings, ServoGroup
from robotrl.drivers.vn100 import Vn100
from robotrl.errors import BadInputError, DeviceError, PortError
from robotrl.spec.robot import ESTIMATOR_LINE, IMU_LINE, RobotSpec
from robotrl.spec.state import CommandKind, Floats, JointCommand, RobotState

_LISTEN_S = 0.5
"""How long `open` listens for the estimator, and for the IMU before it configures it and again afterwards."""

_IMUS: Mapping[str, type[ImuReader]] = MappingProxyType(
    {"wt901": Wt901, "bno08x": Bno08x, "vn100": Vn100, "gx5": Gx5}
)
"""`model` in robot.toml -> its reader."""


class SerialBody:
    """The robot's body behind its serial ports.

    Nothing is opened before `open`, and `open` moves nothing. A cable that is pulled or an adapter
    that vanishes raises nothing after that: the ages in `RobotState` grow, and ports that come back
    are opened again. Torque goes on with the first TRACK command and never by itself.

    Args:
        robot: what the body is.
        ports: device files that replace those of robot.toml: by name of its line.
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
        self._imu: ImuReader | None = None
        self._estimator: Estimator | None = None
        self._readings = Readings.none_yet(len(robot.joint))

    def open(self) -> None:
        """Open all ports, check and configure every servo, wait for IMU and estimator; torque is off then.

        Raises:
            PortError: a port is missing, busy or not permitted.
            DeviceError: a servo, the IMU or the estimator is missing, wrong, faulty or refuses its
                configuration.
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
        for name in robot.bus:
            indices = [i for i, joint in enumerate(robot.joint) if joint.bus == name]
            port = self._reopening(name)
            self._groups.append(
                ServoGroup(name, robot, indices, port, self._paths[name], guarded=self._guarded)
            )
        if robot.imu:
            self._imu = _IMUS[robot.imu.model](self._reopening(IMU_LINE), robot.imu)
        if robot.estimator:
            self._estimator = Estimator(self._reopening(ESTIMATOR_LINE), robot.estimator)
        for group in self._groups:
            group.open()
        if self._imu:
            self._await_imu(self._imu)
        if self._estimator:
            self._await_estimator(self._estimator)

    def read(self, now_s: float) -> RobotState:
        """Read every servo and all that the others have sent; values that did not come keep growing older.

        Args:
            now_s: time of this tick; ages are counted from the `now_s` of the read that brought a value.

        Returns:
            The state, in arrays of its own.

        Raises:
            DeviceError: the body is not open.
        """
        if not self._groups:
            raise DeviceError("the body is not open")
        self._measure(now_s)
        joints, imu, estimator = self._readings, self._imu, self._estimator
        position_rad, velocity_rad_s, load, voltage_v, temperature_c = joints.measured.copy()
        return RobotState(
            stamp_s=now_s,
            joint_pos_rad=position_rad,
            joint_vel_rad_s=velocity_rad_s,
            joint_load=load,
            voltage_v=voltage_v,
            temperature_c=temperature_c,
            hardware_error=joints.hardware_error.copy(),
            joint_age_s=now_s - joints.stamp_s,
            imu_quat=imu.quat.copy() if imu else _nothing(4),
            imu_gyro_rad_s=imu.gyro_rad_s.copy() if imu else _nothing(3),
            imu_accel_m_s2=imu.accel_m_s2.copy() if imu else _nothing(3),
            imu_age_s=now_s - imu.stamp_s if imu else np.inf,
            estimate=estimator.channels if estimator else {},
            estimate_age_s=now_s - estimator.stamp_s if estimator else np.inf,
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
        self._let_go(command.kind)

    def rearm(self) -> None:
        """Allow motion again after a tripped bus watchdog; there is no stiffness until the next TRACK."""
        for group in self._groups:
            with contextlib.suppress(PortError):
                group.rearm()

    def close(self) -> None:
        """Release the ports; sends nothing, never raises."""
        for port in self._ports:
            port.close()
        self._ports, self._groups, self._imu, self._estimator = [], [], None, None

    def _let_go(self, kind: CommandKind) -> None:
        """Damp every bus or make it limp, whatever becomes of the others; the first error is raised last."""
        errors = []
        for group in self._groups:
            try:
                with contextlib.suppress(PortError):
                    group.damp() if kind is CommandKind.DAMP else group.limp()
            except Exception as error:  # noqa: BLE001 - no error of one bus leaves another one stiff
                errors.append(error)
        if errors:
            raise errors[0]

    def _reopening(self, name: str) -> ReopeningPort:
        _, baud_bd = self._robot.lines[name]
        port = ReopeningPort(partial(self._open_port, self._paths[name], baud_bd))
        self._ports.append(port)
        return port

    def _measure(self, now_s: float) -> None:
        for group in self._groups:  # all of them, before the first is waited for
            with contextlib.suppress(PortError):
                group.begin()
        for group in self._groups:
            with contextlib.suppress(PortError):
                group.collect(now_s, self._readings)
        for sensor in (self._imu, self._estimator):
            if sensor:
                sensor.poll(now_s)

    def _await_imu(self, imu: ImuReader) -> None:
        """Wait until the IMU has sent everything, configuring it if it does not do so by itself."""
        if self._comes(imu):
            return
        imu.configure()
        if not self._comes(imu):
            raise self._silent(
                IMU_LINE,
                "acceleration, angular velocity and quaternion do not arrive",
                "; set it up as in WIRING.md",
            )

    def _await_estimator(self, estimator: Estimator) -> None:
        if self._comes(estimator):
            return
        if estimator.odd_count is None:
            raise self._silent(ESTIMATOR_LINE, "no packets arrive")
        raise DeviceError(
            f"{ESTIMATOR_LINE} on {self._paths[ESTIMATOR_LINE]}: packets hold {estimator.odd_count} values "
            f"instead of {estimator.size}"
        )

    def _silent(self, line: str, what: str, advice: str = "") -> DeviceError:
        _, baud_bd = self._robot.lines[line]
        return DeviceError(
            f"{line} on {self._paths[line]}: {what} at {baud_bd} baud; check power and cable{advice}"
        )

    def _comes(self, sensor: ImuReader | Estimator) -> bool:
        """Read the whole body until the sensor is complete: with emulated time, servo reads let it pass."""
        deadline_s = time.monotonic() + _LISTEN_S
        self._measure(-np.inf)
        while not sensor.complete and time.monotonic() < deadline_s:
            self._measure(-np.inf)
        return sensor.complete


def _paths(robot: RobotSpec, ports: Mapping[str, str]) -> dict[str, str]:
    """Port of every line: robot.toml's, replaced by those given."""
    paths = {name: port for name, (port, _) in robot.lines.items()}
    for name in ports:
        if name not in paths:
            raise BadInputError("the robot has no such port", value=name, allowed=paths)
    return paths | dict(ports)


def _nothing(size: int) -> Floats:
    return np.full(size, np.nan)
