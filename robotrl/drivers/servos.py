"""The servos of one bus as joints in SI units: measured each tick, and armed, driven, damped or let go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel import ErrorBit
from robotrl.drivers.dynamixel_bus import DynamixelBus, Ints
from robotrl.drivers.handshake import Handshake, position_limits
from robotrl.drivers.port import Port
from robotrl.drivers.registers import Register
from robotrl.drivers.replies import Replies
from robotrl.errors import DeviceError
from robotrl.spec.robot import JointSpec, RobotSpec
from robotrl.spec.state import Floats

_MEASURED = (
    x.PRESENT_LOAD,
    x.PRESENT_VELOCITY,
    x.PRESENT_POSITION,
    x.PRESENT_INPUT_VOLTAGE,
    x.PRESENT_TEMPERATURE,
)
_BLOCK_START = _MEASURED[0].address
_BLOCK_SIZE = _MEASURED[-1].end - _BLOCK_START
_BLOCK = np.dtype(
    {
        "names": ["load", "velocity", "position", "voltage", "temperature"],
        "formats": [r.dtype for r in _MEASURED],
        "offsets": [r.address - _BLOCK_START for r in _MEASURED],
        "itemsize": _BLOCK_SIZE,
    }
)
"""What is read each tick: registers 126 to 146."""


@dataclass(frozen=True, slots=True)
class Readings:
    """The newest measurement of every joint, in spec order; NaN and stamped -inf before the first."""

    position_rad: Floats
    velocity_rad_s: Floats
    load: Floats
    voltage_v: Floats
    temperature_c: Floats
    hardware_error: Ints
    stamp_s: Floats

    @classmethod
    def none_yet(cls, n: int) -> Self:
        """Return the readings of `n` joints before the first measurement."""
        nan = np.full((5, n), np.nan)
        return cls(nan[0], nan[1], nan[2], nan[3], nan[4], np.zeros(n, np.int64), np.full(n, -np.inf))


class ServoGroup:
    """All servos of one bus.

    Args:
        name: the bus in robot.toml.
        robot: joints, servo types, limits.
        indices: spec indices of the joints on this bus; the order of all arrays here.
        port: the bus's port.
        path: the port's name, for errors.
    """

    def __init__(self, name: str, robot: RobotSpec, indices: Sequence[int], port: Port, path: str) -> None:
        joints = [robot.joint[i] for i in indices]
        n = len(joints)
        self.indices = np.array(indices)
        self._joints = joints
        self._bus = DynamixelBus(port, robot.bus[name], [j.id for j in joints])
        self._handshake = Handshake(self._bus, robot, joints, f"bus {name} on {path}")
        self._scale(robot, joints)
        self._watchdog = np.full(n, round(robot.bus[name].watchdog_s / x.WATCHDOG_UNIT_S))
        self._present = np.zeros(n, np.int64)
        self._error = np.zeros(n, np.int64)
        self._fresh = np.zeros(n, np.bool_)
        self._armed = False

    def _scale(self, robot: RobotSpec, joints: Sequence[JointSpec]) -> None:
        servos = [robot.servo_of(j) for j in joints]
        limits = [position_limits(j, robot) for j in joints]
        self._sign = np.array([float(j.sign) for j in joints])
        self._zero = np.array([float(j.zero_count) for j in joints])
        self._counts_per_rad = np.array([s.counts_per_rad for s in servos])
        self._velocity_unit_rad_s = np.array([s.velocity_unit_rad_s for s in servos])
        self._p_gain = np.array([s.position_p_gain for s in servos])
        self._lowest = np.array([low for low, _ in limits])
        self._highest = np.array([high for _, high in limits])

    def open(self) -> None:
        """Check and configure every servo; torque is off afterwards.

        Raises:
            DeviceError: see `Handshake.run`.
            PortError: the port has gone.
        """
        self._armed = False
        self._handshake.run()

    def measure(self, now_s: float, into: Readings) -> None:
        """Read every servo once; those that answer are stamped `now_s`, the others keep their values.

        Args:
            now_s: time of this tick.
            into: where the values go.

        Raises:
            PortError: the port has gone.
        """
        self._fresh = np.zeros_like(self._fresh)  # stays so when the port fails
        replies = self._bus.sync_read(_BLOCK_START, _BLOCK_SIZE)
        self._fresh = fresh = replies.fresh
        block = replies.data.view(_BLOCK)[:, 0]
        self._present[fresh] = block["position"][fresh]
        self._measure_errors(replies)
        to = self.indices[fresh]
        angle = self._sign * (block["position"] - self._zero) / self._counts_per_rad
        into.position_rad[to] = angle[fresh]
        into.velocity_rad_s[to] = (self._sign * block["velocity"] * self._velocity_unit_rad_s)[fresh]
        into.load[to] = (self._sign * block["load"] * x.LOAD_UNIT)[fresh]
        into.voltage_v[to] = (block["voltage"] * x.VOLTAGE_UNIT_V)[fresh]
        into.temperature_c[to] = block["temperature"][fresh]
        into.hardware_error[self.indices] = self._error
        into.stamp_s[to] = now_s

    def _measure_errors(self, replies: Replies) -> None:
        """Keep register 70 of servos whose alert bit is set; the bit itself until the register is read."""
        alert = (replies.error & ErrorBit.ALERT) != 0
        self._error[replies.fresh & ~alert] = 0
        unknown = alert & ((self._error == 0) | (self._error == ErrorBit.ALERT))
        if unknown.any():
            self._error[unknown] = ErrorBit.ALERT
            status = self._bus.read_register(x.HARDWARE_ERROR_STATUS)
            errors = status.values(x.HARDWARE_ERROR_STATUS)
            known = unknown & status.fresh & (errors != 0)
            self._error[known] = errors[known]

    def counts(self, target_rad: Floats) -> Ints:
        """Return (n,) goal positions for (n,) joint angles.

        Raises:
            DeviceError: a target is not finite or outside the joint's limits.
        """
        exact = self._zero + self._sign * target_rad * self._counts_per_rad
        finite = np.isfinite(exact)
        goals = np.rint(np.where(finite, exact, -np.inf))
        bad = np.flatnonzero((goals < self._lowest) | (goals > self._highest))
        if bad.size:
            joint = self._joints[bad[0]]
            raise DeviceError(
                f"target of {joint.name} cannot be {target_rad[bad[0]]} rad; "
                f"allowed: {joint.position_min_rad} to {joint.position_max_rad}"
            )
        return goals.astype(np.int64)

    def track(self, goals: Ints) -> None:
        """Send goal positions, arming first if need be; where arming fails nothing else is sent.

        Raises:
            PortError: the port has gone.
        """
        if not self._armed:
            self._armed = self._arm()
        if self._armed:
            self._bus.sync_write(x.GOAL_POSITION, goals)

    def damp(self) -> None:
        """Remove all stiffness: no drive shorts the motors, whose back-EMF then brakes them.

        Raises:
            PortError: the port has gone.
        """
        self._armed = False
        self._bus.sync_write(x.POSITION_P_GAIN, np.zeros_like(self._p_gain))

    def limp(self) -> None:
        """Torque off.

        Raises:
            PortError: the port has gone.
        """
        self._armed = False
        self._bus.sync_write(x.TORQUE_ENABLE, np.zeros_like(self._p_gain))

    def rearm(self) -> None:
        """Clear tripped bus watchdogs; stiffness goes first, so that no servo returns to its old goal.

        Raises:
            PortError: the port has gone.
        """
        self.damp()
        self._bus.sync_write(x.BUS_WATCHDOG, np.zeros_like(self._watchdog))

    def _arm(self) -> bool:
        """Make following safe: goals at the measured position, stiffness, watchdog, then torque.

        Each step that a lost packet could make dangerous is read back. A tripped watchdog refuses.
        """
        if not self._fresh.all() or not self._holds(x.BUS_WATCHDOG, lambda now: now != x.WATCHDOG_TRIPPED):
            return False
        here = np.clip(self._present, self._lowest, self._highest)
        self._bus.sync_write(x.GOAL_POSITION, here)
        if not self._holds(x.GOAL_POSITION, lambda now: now == here):
            return False
        self._bus.sync_write(x.POSITION_P_GAIN, self._p_gain)
        self._bus.sync_write(x.BUS_WATCHDOG, self._watchdog)
        if not self._holds(x.BUS_WATCHDOG, lambda now: now == self._watchdog):
            return False
        self._bus.sync_write(x.TORQUE_ENABLE, np.ones_like(self._p_gain))
        return True

    def _holds(self, register: Register, law: Callable[[Ints], NDArray[np.bool_]]) -> bool:
        """Whether every servo answers and its register obeys the law."""
        replies = self._bus.read_register(register)
        return bool((replies.fresh & law(replies.values(register))).all())
