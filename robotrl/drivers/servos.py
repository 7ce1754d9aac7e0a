"""The servos of one bus as joints in SI units: measured each tick, and armed, driven, damped or let go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from robotrl.drivers import xseries as x
from robotrl.drivers.handshake import Handshake, position_limits
from robotrl.drivers.port import Port
from robotrl.drivers.registers import Block, Ints, Register
from robotrl.drivers.replies import Replies
from robotrl.drivers.series import SERIES
from robotrl.errors import DeviceError
from robotrl.spec.robot import JointSpec, RobotSpec
from robotrl.spec.state import Floats


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
        guarded: whether a guardian process turns torque off when this one stalls.
    """

    def __init__(
        self, name: str, robot: RobotSpec, indices: Sequence[int], port: Port, path: str, *, guarded: bool
    ) -> None:
        joints = [robot.joint[i] for i in indices]
        n = len(joints)
        self.indices = np.array(indices)
        self._joints = joints
        spec = robot.bus[name]
        self._name = name
        self._series = SERIES[spec.protocol]
        self._bus = self._series.bus(port, spec, [j.id for j in joints])
        self._handshake = Handshake(self._bus, robot, joints, f"bus {name} on {path}")
        self._scale(robot, joints)
        self._watchdog = np.full(n, round(spec.watchdog_s / x.WATCHDOG_UNIT_S))
        self._unwatched = spec.watchdog == "guardian" and not guarded
        self._layout()
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
        self._stiff = np.array([self._series.stiff(s) for s in servos])
        self._lowest = np.array([low for low, _ in limits])
        self._highest = np.array([high for _, high in limits])

    def _layout(self) -> None:
        """Where in the block that is read each tick the measured registers are."""
        measured = self._series.measured
        wanted = (measured.position, measured.velocity, measured.load, measured.voltage, measured.temperature)
        by_place = sorted(wanted, key=lambda register: register.address)
        self._block = Block(by_place)
        self._columns = [by_place.index(register) for register in wanted]
        self._load_unit = measured.load.unit.scale
        self._voltage_unit_v = measured.voltage.unit.scale

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
        replies = self._bus.sync_read(self._block.address, self._block.size)
        self._fresh = fresh = replies.fresh
        values = self._block.decode(replies.data).T
        position, velocity, load, voltage, temperature = (values[k] for k in self._columns)
        self._present[fresh] = position[fresh]
        self._measure_errors(replies)
        to = self.indices[fresh]
        angle = self._sign * (position - self._zero) / self._counts_per_rad
        into.position_rad[to] = angle[fresh]
        into.velocity_rad_s[to] = (self._sign * velocity * self._velocity_unit_rad_s)[fresh]
        into.load[to] = (self._sign * load * self._load_unit)[fresh]
        into.voltage_v[to] = (voltage * self._voltage_unit_v)[fresh]
        into.temperature_c[to] = temperature[fresh]
        into.hardware_error[self.indices] = self._error
        into.stamp_s[to] = now_s

    def _measure_errors(self, replies: Replies) -> None:
        """Keep every servo's hardware errors; where only an alert tells of them, that until they are read."""
        if not self._series.alert:
            self._error[replies.fresh] = replies.error[replies.fresh]
            return
        alert = (replies.error & self._series.alert) != 0
        self._error[replies.fresh & ~alert] = 0
        unknown = alert & ((self._error == 0) | (self._error == self._series.alert))
        if unknown.any():
            self._error[unknown] = self._series.alert
            status = self._bus.read_register(self._series.health)
            errors = status.values(self._series.health)
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

    def require_watch(self) -> None:
        """Refuse motion that nothing would end.

        Raises:
            DeviceError: nothing would stop the servos if this process stalled.
        """
        if self._unwatched:
            raise DeviceError(
                f"bus {self._name}: its servos have no watchdog, and no guardian process runs that would "
                "turn their torque off when the control loop stalls"
            )

    def track(self, goals: Ints) -> None:
        """Send goal positions, arming first if need be; where arming fails nothing else is sent.

        Raises:
            PortError: the port has gone.
        """
        if not self._armed:
            self._armed = self._arm()
        if self._armed:
            self._bus.sync_write(self._series.goal, goals)

    def damp(self) -> None:
        """Remove all stiffness.

        Raises:
            PortError: the port has gone.
        """
        self._armed = False
        self._write_all(self._series.stiffness, self._series.damped)

    def limp(self) -> None:
        """Torque off.

        Raises:
            PortError: the port has gone.
        """
        self._armed = False
        self._write_all(self._series.torque, 0)

    def rearm(self) -> None:
        """Clear tripped bus watchdogs; stiffness goes first, so that no servo returns to its old goal.

        Raises:
            PortError: the port has gone.
        """
        self.damp()
        if self._series.watchdog is not None:
            self._write_all(self._series.watchdog, 0)

    def _write_all(self, register: Register, value: int) -> None:
        self._bus.sync_write(register, np.full(len(self._joints), value))

    def _arm(self) -> bool:
        """Make following safe: goals at the measured position, stiffness, watchdog, then torque.

        Each step that a lost packet could make dangerous is read back. A tripped watchdog refuses.
        """
        series = self._series
        if not self._fresh.all() or self._tripped():
            return False
        here = np.clip(self._present, self._lowest, self._highest)
        self._bus.sync_write(series.goal, here)
        if not self._holds(series.goal, lambda now: now == here):
            return False
        self._bus.sync_write(series.stiffness, self._stiff)
        if series.watchdog is not None:
            self._bus.sync_write(series.watchdog, self._watchdog)
            if not self._holds(series.watchdog, lambda now: now == self._watchdog):
                return False
        self._write_all(series.torque, 1)
        return True

    def _tripped(self) -> bool:
        """Whether a watchdog has tripped, or may have."""
        watchdog = self._series.watchdog
        return watchdog is not None and not self._holds(watchdog, lambda now: now != x.WATCHDOG_TRIPPED)

    def _holds(self, register: Register, law: Callable[[Ints], NDArray[np.bool_]]) -> bool:
        """Whether every servo answers and its register obeys the law."""
        replies = self._bus.read_register(register)
        return bool((replies.fresh & law(replies.values(register))).all())
