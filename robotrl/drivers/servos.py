"""The servos of one bus as joints in SI units: measured each tick, and armed, driven, damped or let go."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from robotrl.drivers import xseries as x
from robotrl.drivers.handshake import Handshake, position_limits, ram_settings
from robotrl.drivers.plausibility import Plausibility
from robotrl.drivers.port import Port
from robotrl.drivers.registers import Block, Ints, Register
from robotrl.drivers.replies import Replies
from robotrl.drivers.scale import of_joints
from robotrl.drivers.series import SERIES
from robotrl.drivers.servo_bus import Started
from robotrl.errors import DeviceError
from robotrl.spec.robot import JointSpec, RobotSpec
from robotrl.spec.state import Floats

TORQUE_LOST = 0x100
"""In `Readings.hardware_error`, above the servo's own bits: it is there and healthy, but its torque has gone
off since it was armed. Most likely it has restarted for want of voltage and forgotten its RAM registers."""


@dataclass(frozen=True, slots=True)
class Readings:
    """The newest measurement of every joint, in spec order; NaN and stamped -inf before the first."""

    measured: Floats
    """(5, n) position rad, velocity rad/s, load, voltage V, temperature degrees Celsius."""
    hardware_error: Ints
    stamp_s: Floats

    @classmethod
    def none_yet(cls, n: int) -> Self:
        """Return the readings of `n` joints before the first measurement."""
        return cls(np.full((5, n), np.nan), np.zeros(n, np.int64), np.full(n, -np.inf))


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
        self._layout(robot)
        doubtful = self._series.weak_checksum
        self._plausibility = Plausibility([robot.servo_of(j) for j in joints]) if doubtful else None
        self._present = np.zeros(n, np.int64)
        self._error = np.zeros(n, np.int64)
        self._fresh = np.zeros(n, np.bool_)
        self._heard = np.ones(n, np.bool_)
        """Of the last read, or of the handshake."""
        self._away = np.zeros(n, np.bool_)
        """Servos that may have restarted: they have missed a read, or are well again after an error."""
        self._lost = np.zeros(n, np.bool_)
        self._armed = False
        self._started: Started | None = None

    def _scale(self, robot: RobotSpec, joints: Sequence[JointSpec]) -> None:
        servos = [robot.servo_of(j) for j in joints]
        limits = [position_limits(j, robot) for j in joints]
        sign = np.array([float(j.sign) for j in joints])
        scale = of_joints(robot, joints)
        self._zero = scale.zero
        self._counts_per_rad = sign * [s.counts_per_rad for s in servos]
        self._offset = np.zeros((5, len(joints)))
        self._offset[0] = self._zero
        self._unit = scale.unit
        self._unit[0] = 1.0  # the position is divided: the nearest number to the quotient
        self._stiff = np.array([self._series.stiff(s) for s in servos])
        self._lowest = np.array([low for low, _ in limits])
        self._highest = np.array([high for _, high in limits])

    def _layout(self, robot: RobotSpec) -> None:
        """Where the measured registers are in the block that is read each tick, and what RAM must hold."""
        measured = self._series.measured
        wanted = (measured.position, measured.velocity, measured.load, measured.voltage, measured.temperature)
        by_place = sorted(wanted, key=lambda register: register.address)
        self._block = Block(by_place)
        self._columns = [by_place.index(register) for register in wanted]
        self._ram = dict(ram_settings(robot, self._joints))
        self._ram_block = Block(sorted(self._ram, key=lambda register: register.address))

    def open(self) -> None:
        """Check and configure every servo; torque is off afterwards.

        Raises:
            DeviceError: see `Handshake.run`.
            PortError: the port has gone.
        """
        self._armed = False
        self._handshake.run()
        self._away[:] = self._lost[:] = False
        self._heard = np.ones_like(self._fresh)

    def begin(self) -> None:
        """Ask every servo for its state and return at once, so that several buses answer side by side.

        Raises:
            PortError: the port has gone.
        """
        self._away |= ~self._heard
        self._started = None
        self._fresh = self._heard = np.zeros(len(self._joints), np.bool_)  # stays so when the port fails
        self._started = self._bus.begin_read(self._block.address, self._block.size)

    def collect(self, now_s: float, into: Readings) -> None:
        """Take in what `begin` asked for; nothing where it failed.

        Servos that answered are stamped `now_s`, the others keep their values.

        Args:
            now_s: time of this tick.
            into: where the values go.

        Raises:
            PortError: the port has gone.
        """
        if self._started is None:
            return
        started, self._started = self._started, None
        replies = self._bus.collect(started)
        counts = self._block.decode(replies.data).T[self._columns]
        measured = (counts - self._offset) * self._unit
        measured[0] /= self._counts_per_rad
        if self._plausibility is not None:
            believed = self._plausibility.judge(now_s, measured[0], measured[1], replies.fresh)
            replies = dataclasses.replace(replies, fresh=believed)
        self._fresh = self._heard = fresh = replies.fresh
        np.copyto(self._present, counts[0], where=fresh)
        if np.count_nonzero(replies.error) or np.count_nonzero(self._error):
            ill = self._error != 0
            self._measure_errors(replies)
            self._away |= ill & (self._error == 0)  # whatever healed it may have let go
        if self._armed and np.count_nonzero(fresh & self._away):
            self._look_for_torque()
        whole = np.count_nonzero(fresh) == fresh.size
        to = self.indices if whole else self.indices[fresh]
        into.measured[:, to] = measured if whole else measured[:, fresh]
        into.hardware_error[self.indices] = self._error | TORQUE_LOST * self._lost
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

    def _look_for_torque(self) -> None:
        """Tell servos that were only unheard from those that have let go meanwhile."""
        torque = self._series.torque
        replies = self._bus.read_once(torque.address, torque.size)
        back = replies.fresh & self._away
        on = replies.values(torque) != 0
        self._away &= ~(back & on)
        self._lost |= back & ~on

    def counts(self, target_rad: Floats) -> Ints:
        """Return (n,) goal positions for (n,) joint angles.

        Raises:
            DeviceError: a target is not finite or outside the joint's limits.
        """
        goals: Floats = np.rint(self._zero + target_rad * self._counts_per_rad)
        good = (goals >= self._lowest) & (goals <= self._highest)  # NaN is not
        if np.count_nonzero(good) < good.size:
            bad = int(np.argmin(good))
            joint = self._joints[bad]
            raise DeviceError(
                f"target of {joint.name} cannot be {target_rad[bad]} rad; "
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
        self._disarm()
        self._write_all(self._series.stiffness, self._series.damped)

    def limp(self) -> None:
        """Torque off.

        Raises:
            PortError: the port has gone.
        """
        self._disarm()
        self._write_all(self._series.torque, 0)

    def rearm(self) -> None:
        """Clear tripped bus watchdogs; stiffness goes first, so that no servo returns to its old goal.

        Raises:
            PortError: the port has gone.
        """
        self.damp()
        if self._series.watchdog is not None:
            self._write_all(self._series.watchdog, 0)

    def _disarm(self) -> None:
        self._armed = False
        self._away |= self._lost
        self._lost[:] = False

    def _write_all(self, register: Register, value: int) -> None:
        self._bus.sync_write(register, np.full(len(self._joints), value))

    def _arm(self) -> bool:
        """Make following safe: goals at the measured position, stiffness, watchdog, then torque.

        Each step that a lost packet could make dangerous is read back. A tripped watchdog refuses.
        """
        series = self._series
        if not self._fresh.all() or self._tripped() or not self._configured():
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

    def _configured(self) -> bool:
        """Whether RAM holds what `open` made it hold; what a restart has changed is written again."""
        if not self._away.any() or not self._ram:
            return True
        block = self._ram_block
        replies = self._bus.read_once(block.address, block.size)
        held = block.decode(replies.data)
        wanted = np.column_stack([self._ram[register] for register in block.registers])
        for k, register in enumerate(block.registers):
            if (held[:, k] != wanted[:, k])[replies.fresh].any():
                self._bus.sync_write(register, wanted[:, k])
        self._away &= ~(replies.fresh & (held == wanted).all(axis=1))
        return not self._away.any()

    def _tripped(self) -> bool:
        """Whether a watchdog has tripped, or may have."""
        watchdog = self._series.watchdog
        return watchdog is not None and not self._holds(watchdog, lambda now: now != x.WATCHDOG_TRIPPED)

    def _holds(self, register: Register, law: Callable[[Ints], NDArray[np.bool_]]) -> bool:
        """Whether every servo answers and its register obeys the law."""
        replies = self._bus.read_once(register.address, register.size)
        return bool((replies.fresh & law(replies.values(register))).all())
