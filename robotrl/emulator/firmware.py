"""What the firmware of all servos has in common: encoders, position control, heat, and bytes in and out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robotrl.drivers.models import MODELS
from robotrl.drivers.registers import ControlTable, Ints
from robotrl.emulator.backlash import Backlash
from robotrl.emulator.motor import AMBIENT_C, Motors, warmed_c
from robotrl.emulator.plant import STEP_S
from robotrl.errors import SimulationError
from robotrl.spec.robot import RobotSpec
from robotrl.spec.servos import ServoType

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

TURNAROUND_S = 50e-6
"""A servo's own time from instruction to reply with a return delay of 0."""
RETURN_DELAY_UNIT_S = 2e-6
IDLE_RESET_S = 0.002
"""A started packet is forgotten after this long without a byte. Assumption."""
VELOCITY_WINDOW = 10
"""Present Velocity = encoder difference over this many steps, so 5 ms late and 0.15 rad/s coarse.
Assumption: the servo's filter is not published."""
HEALTH_STEPS = 20
"""Steps between two looks at temperature, voltage and load."""

_BROADCAST_ID = 0xFE
"""In both protocols."""


@dataclass(frozen=True)
class Reply:
    """Bytes that a servo sends, and the pause before them since the line fell silent."""

    data: bytes
    gap_s: float


@dataclass(frozen=True)
class ServoEvent:
    """Something that a servo did by itself: its bus watchdog tripped, or it shut down."""

    kind: str
    servo_id: int
    time_s: float


def control_table(servo: ServoType) -> ControlTable:
    """Return the registers of a servo type.

    Raises:
        SimulationError: there is no such model.
    """
    table = MODELS.get(servo.model_number)
    if table is None:
        known = ", ".join(f"{number} ({t.model})" for number, t in MODELS.items())
        raise SimulationError(f"no servo model has number {servo.model_number}; known: {known}")
    return table


class Firmware(ABC):
    """All servos on one bus. Arrays are (n,) in spec order of the joints on this bus.

    Args:
        robot: the robot.
        bus: name of the bus.
        joint_pos_rad: (all joints,) angles at power-up.
    """

    def __init__(self, robot: RobotSpec, bus: str, joint_pos_rad: Floats) -> None:
        self.index = np.array([i for i, joint in enumerate(robot.joint) if joint.bus == bus])
        joints = [robot.joint[i] for i in self.index]
        self._types = [robot.servo_of(joint) for joint in joints]
        self._assembled_ids = [joint.id for joint in joints]
        self._motors = Motors.of(robot, joints)
        self._sign = np.array([float(joint.sign) for joint in joints])
        self._zero = np.array([float(joint.zero_count) for joint in joints])
        self._counts_per_rad = np.array([s.counts_per_rad for s in self._types])
        self._velocity_unit = np.array([s.velocity_unit_rad_s for s in self._types])
        self._p_divisor = np.array([s.p_gain_divisor for s in self._types])
        self._pwm_full = np.array([float(s.pwm_full) for s in self._types])
        self.events: list[ServoEvent] = []
        self.line_baud_bd: int = robot.bus[bus].baud_bd
        """The host's; servos set to another one hear nothing."""
        self.powered = np.ones(len(joints), np.bool_)
        """(n,) whether the servo has power; change it together with `power_cycle`."""
        self.mute = np.zeros(len(joints), np.bool_)
        """(n,) whether its answers are lost."""
        self.encoder_stuck = np.zeros(len(joints), np.bool_)
        """(n,) whether its encoder goes on giving the last count."""
        self.heat_c = np.full(len(joints), -math.inf)
        """(n,) what its thermometer shows at least."""
        self._winding_c = np.full(len(joints), AMBIENT_C)
        self.torque_nm = np.zeros(len(joints))
        """(n,) motor torque of the last step, in the joint's direction."""
        self._current_a = np.zeros(len(joints))
        self._pwm = np.zeros(len(joints))
        self._heat_j = np.zeros(len(joints))
        self._supply_v = robot.supply.open_v
        self._step = 0
        self._listeners: dict[int, list[int]] = {}
        """Who hears the present instruction; see `listeners`."""
        self._last_byte_s = -math.inf
        self._backlash = Backlash(self._types)
        self._encoder = self._encode(joint_pos_rad[self.index], self._backlash.lead_rad)
        """(n,) counts of the encoder itself, whole numbers, before any offset."""
        self._history = np.tile(self._encoder, (VELOCITY_WINDOW, 1))
        self._oldest = self._history[0]

    @property
    @abstractmethod
    def ids(self) -> Sequence[int]:
        """(n,) the ids that the servos have now."""

    @property
    @abstractmethod
    def bauds_bd(self) -> Sequence[int]:
        """(n,) the baud rates that they are set to; 0 for a code without a meaning."""

    @abstractmethod
    def set_id(self, row: int, id_: int) -> None:
        """Give a servo another id, as if it had come with it."""

    @abstractmethod
    def set_baud(self, row: int, baud_bd: int) -> None:
        """Give a servo another baud rate, as if it had come with it."""

    @abstractmethod
    def power_cycle(self, row: int) -> None:
        """Start a servo anew: torque off, RAM initial, EEPROM as stored."""

    @property
    @abstractmethod
    def torque_enabled(self) -> Flags:
        """(n,) whether the motor is driven."""

    @property
    @abstractmethod
    def goal_rad(self) -> Floats:
        """(n,) the goal position as a joint angle."""

    @property
    @abstractmethod
    def watchdog_tripped(self) -> Flags:
        """(n,) whether the servo has stopped itself because the host fell silent."""

    @abstractmethod
    def _counts(self) -> Floats:
        """Return (n,) positions as the servo counts them, its offset applied."""

    @abstractmethod
    def _control(self, time_s: float, speed: Floats) -> Floats:
        """Return (n,) PWM counts of this step.

        Args:
            time_s: now.
            speed: (n,) true speeds in the servo's direction, in rad/s.
        """

    @abstractmethod
    def _check_health(self, time_s: float) -> None:
        """Raise error bits, and turn off the torque where the servo protects itself."""

    @abstractmethod
    def _forget(self) -> None:
        """Drop a started packet."""

    @abstractmethod
    def _obey(self, data: bytes, time_s: float) -> list[Reply]:
        """Take bytes that follow the last ones without a pause."""

    def step(self, time_s: float, joint_pos_rad: Floats, joint_vel_rad_s: Floats, supply_v: float) -> float:
        """Run one control step at `time_s`; the torques are then in `torque_nm`.

        Args:
            time_s: now.
            joint_pos_rad: (all joints,) true angles; the encoder rounds them to counts.
            joint_vel_rad_s: (all joints,) true speeds, for the back-EMF.
            supply_v: voltage at the servos.

        Returns:
            The current drawn from the supply, in A.
        """
        counts = self._encode(joint_pos_rad[self.index], self._backlash.lead_rad)
        self._encoder = np.where(self.encoder_stuck, self._encoder, counts)
        self._remember()
        self._supply_v = supply_v
        speed = self._sign * joint_vel_rad_s[self.index]
        self._pwm = self._control(time_s, speed)
        drive = self._pwm / self._pwm_full
        torque = self._motors.torque_nm(drive, self.torque_enabled, supply_v, speed)
        torque = self._backlash.cross(torque)
        self._current_a = self._motors.current_a(torque)
        self._heat_j += self._motors.heat_w(self._current_a) * STEP_S
        self.torque_nm = self._sign * torque
        if self._step % HEALTH_STEPS == 0:
            period_s = HEALTH_STEPS * STEP_S
            self._winding_c = warmed_c(self._winding_c, self._heat_j / period_s, period_s)
            self._heat_j[:] = 0.0
            self._check_health(time_s)
        self._step += 1
        return float(drive @ self._current_a)

    @property
    def temperature_c(self) -> Floats:
        """(n,) what the servos' thermometers show, in degrees Celsius."""
        shown: Floats = np.maximum(self._winding_c, self.heat_c)
        return shown

    def listeners(self) -> dict[int, list[int]]:
        """Return the rows of the servos that hear the host, by id, in order of the ids."""
        rows: dict[int, list[int]] = {}
        bauds_bd = self.bauds_bd
        for row, id_ in sorted(enumerate(self.ids), key=lambda servo: servo[1]):
            if self.powered[row] and bauds_bd[row] == self.line_baud_bd:
                rows.setdefault(id_, []).append(row)
        return rows

    def _rows(self, id_: int) -> list[int]:
        """The servos that hear themselves addressed; broadcast means all, in order of their ids."""
        if id_ == _BROADCAST_ID:
            return [row for rows in self._listeners.values() for row in rows]
        return self._listeners.get(id_, [])

    def receive(self, data: bytes, time_s: float) -> list[Reply]:
        """Take bytes that have just completely arrived; return what is sent in answer, in order."""
        if time_s - self._last_byte_s > IDLE_RESET_S:
            self._forget()
        self._last_byte_s = time_s
        self._listeners = self.listeners()
        return self._obey(data, time_s)

    def _encode(self, joint_pos_rad: Floats, lead_rad: Floats) -> Floats:
        shaft_rad = self._sign * joint_pos_rad + lead_rad
        return np.rint(self._zero + shaft_rad * self._counts_per_rad)  # type: ignore[no-any-return]

    def _remember(self) -> None:
        slot = self._step % VELOCITY_WINDOW
        self._oldest = self._history[slot].copy()
        self._history[slot] = self._encoder

    def _measured_velocity(self) -> Floats:
        """(n,) speed in the servo's own unit."""
        turned = (self._encoder - self._oldest) / self._counts_per_rad
        velocity: Floats = turned / (VELOCITY_WINDOW * STEP_S) / self._velocity_unit
        return velocity

    def _proportional(self, p_gain: Ints, error: Floats, limit: Floats) -> Floats:
        """(n,) PWM counts of the law in `ServoType`'s docstring."""
        wanted = p_gain / self._p_divisor * error
        return np.rint(np.minimum(np.maximum(wanted, -limit), limit))  # type: ignore[no-any-return]

    def _shut_down(self, failed: Flags, time_s: float) -> None:
        self.events += [ServoEvent("shutdown", self.ids[i], time_s) for i in np.flatnonzero(failed).tolist()]


def collided(replies: Sequence[Reply]) -> list[Reply]:
    """Return what is on the line when servos of one id answer at once: a bit is low if one pulls it low."""
    if len(replies) < 2:  # noqa: PLR2004 - it takes two
        return list(replies)
    data = np.full(max(len(reply.data) for reply in replies), 0xFF, np.uint8)
    for reply in replies:
        data[: len(reply.data)] &= np.frombuffer(reply.data, np.uint8)
    return [Reply(data.tobytes(), min(reply.gap_s for reply in replies))]
