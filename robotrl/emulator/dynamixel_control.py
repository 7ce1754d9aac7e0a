"""X-series servos between two packets: position control, bus watchdog, protection, Present registers.

Source: ROBOTIS e-Manual, "XC430-W240-T". What the manual leaves open is marked as an assumption where it
is decided. Time is always an argument.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robotrl.drivers import xseries as x
from robotrl.emulator.bus_watchdog import BusWatchdogs
from robotrl.emulator.dynamixel_registers import ControlTables
from robotrl.emulator.firmware import Firmware, Flags, Floats, ServoEvent, control_table
from robotrl.emulator.plant import STEP_S
from robotrl.spec.robot import RobotSpec

OVERLOAD_S = 2.0
"""Full drive against a stalled shaft for this long is an Overload Error. Assumption."""
STALLED_SHARE = 0.05
"""Stalled: slower than this share of the no-load speed."""

_BAUDS_BD = (9600, 57600, 115200, 1000000, 2000000, 3000000, 4000000, 4500000)
"""Of each code of Baud Rate (8)."""


class DynamixelControl(Firmware):
    """All servos on one Dynamixel bus, but for what they hear and say.

    Arrays are (n,) in spec order of the joints on this bus. They come as after assembly: ids and baud rate
    set, everything else at its factory value, torque off. A real X-series goal survives torque off; so it
    does here, and a host that enables torque without setting the goal first makes the robot jump.

    Args:
        robot: the robot.
        bus: name of the bus.
        joint_pos_rad: (all joints,) angles at power-up.

    Raises:
        SimulationError: a servo's model is not known.
    """

    def __init__(self, robot: RobotSpec, bus: str, joint_pos_rad: Floats) -> None:
        super().__init__(robot, bus, joint_pos_rad)
        tables = [control_table(servo) for servo in self._types]
        assembled = {
            x.ID.address: np.array(self._assembled_ids),
            x.BAUD_RATE.address: np.full(len(tables), _BAUDS_BD.index(self.line_baud_bd)),
        }
        self.tables = ControlTables(tables, assembled)
        self._stalled_rad_s = STALLED_SHARE * np.array([s.no_load_speed_rad_s for s in self._types])
        measured = [table.registers[x.PRESENT_LOAD.address] for table in tables]
        self._current_unit_a = np.array([r.unit.scale if r.unit.symbol == "A" else np.inf for r in measured])
        """(n,) of Present Current (126); infinite where that is Present Load."""
        self._watchdogs = BusWatchdogs(self.tables)
        self._overload_s = np.zeros(len(tables))
        self._counts_per_turn = np.array([s.counts_per_rev for s in self._types])
        self._turns = self._encoder // self._counts_per_turn
        """(n,) whole turns of the encoder that the servo does not count."""
        self.tables.values[x.GOAL_POSITION.address][:] = self._counts()

    @property
    def ids(self) -> Sequence[int]:
        """(n,) ID (7)."""
        return self.tables.values[x.ID.address].tolist()  # type: ignore[no-any-return]

    @property
    def bauds_bd(self) -> Sequence[int]:
        """(n,) Baud Rate (8)."""
        return [_BAUDS_BD[code] for code in self.tables.values[x.BAUD_RATE.address].tolist()]

    def set_id(self, row: int, id_: int) -> None:
        """Give a servo another id, as if it had come with it."""
        self.tables.values[x.ID.address][row] = id_

    def set_baud(self, row: int, baud_bd: int) -> None:
        """Give a servo another baud rate, as if it had come with it."""
        self.tables.values[x.BAUD_RATE.address][row] = _BAUDS_BD.index(baud_bd)

    def power_cycle(self, row: int) -> None:
        """Start a servo anew: torque off, RAM initial, errors cleared, goal where the shaft is."""
        self.tables.restart(row)
        self._forget_turns(row)
        self.tables.values[x.GOAL_POSITION.address][row] = self._counts()[row]
        self._overload_s[row] = 0.0
        self._watchdogs.arm()

    def _forget_turns(self, row: int) -> None:
        """Count from within one turn of the encoder again; Homing Offset (20) is added to that."""
        self._turns[row] = self._encoder[row] // self._counts_per_turn[row]

    def _counts(self) -> Floats:
        offset = self.tables.values[x.HOMING_OFFSET.address] - self._turns * self._counts_per_turn
        counts: Floats = self._encoder + offset
        return counts

    def _control(self, time_s: float, speed: Floats) -> Floats:
        if self._watchdogs.due(time_s):
            self._trip_watchdogs(time_s)
        values = self.tables.values
        limit = np.minimum(abs(values[x.GOAL_PWM.address]), values[x.PWM_LIMIT.address])
        error = values[x.GOAL_POSITION.address] - self._counts()
        driven = self._proportional(values[x.POSITION_P_GAIN.address], error, limit)
        pwm = np.where(self.torque_enabled, driven, 0.0)
        saturated = self.torque_enabled & (abs(pwm) >= limit) & (limit > 0)
        stalled = saturated & (abs(speed) < self._stalled_rad_s)
        self._overload_s = np.where(stalled, self._overload_s + STEP_S, 0.0)
        return pwm

    def _check_health(self, time_s: float) -> None:
        """Raise Hardware Error bits, and turn off the torque where Shutdown says so."""
        values = self.tables.values
        volts = round(self._supply_v / x.VOLTAGE_UNIT_V)
        bad_voltage = (volts > values[x.MAX_VOLTAGE_LIMIT.address]) | (
            volts < values[x.MIN_VOLTAGE_LIMIT.address]
        )
        hot = self.temperature_c > values[x.TEMPERATURE_LIMIT.address]
        status = values[x.HARDWARE_ERROR_STATUS.address]
        status |= np.where(bad_voltage, int(x.HardwareError.INPUT_VOLTAGE), 0)
        status |= np.where(hot, int(x.HardwareError.OVERHEATING), 0)
        status |= np.where(self._overload_s > OVERLOAD_S, int(x.HardwareError.OVERLOAD), 0)
        failed = (status & values[x.SHUTDOWN.address] != 0) & self.torque_enabled
        values[x.TORQUE_ENABLE.address][failed] = 0
        self._shut_down(failed, time_s)

    def _trip_watchdogs(self, time_s: float) -> None:
        """Stop the servos for which the host has been silent too long: hold the present position."""
        tripped = self._watchdogs.trip(time_s)
        # Profile Velocity and Acceleration count as 0 on a trip: the goal is taken over at once.
        self.tables.values[x.GOAL_POSITION.address][tripped] = self._counts()[tripped]
        self.events += [ServoEvent("watchdog", self.ids[i], time_s) for i in np.flatnonzero(tripped).tolist()]

    @property
    def watchdog_tripped(self) -> Flags:
        """(n,) whether Bus Watchdog (98) reads -1."""
        return self._watchdogs.tripped

    @property
    def torque_enabled(self) -> Flags:
        """(n,) Torque Enable (64)."""
        enabled: Flags = self.tables.values[x.TORQUE_ENABLE.address] == 1
        return enabled

    @property
    def goal_rad(self) -> Floats:
        """(n,) Goal Position (116) as a joint angle."""
        values = self.tables.values
        raw = values[x.GOAL_POSITION.address] - values[x.HOMING_OFFSET.address]
        encoder = raw + self._turns * self._counts_per_turn
        angle: Floats = self._sign * (encoder - self._zero) / self._counts_per_rad
        return angle

    def _refresh(self, time_s: float) -> None:
        """Bring the Present registers up to the last control step."""
        values = self.tables.values
        speed = self._measured_velocity()
        load = self._pwm / self._pwm_full / x.LOAD_UNIT
        effort = np.where(np.isfinite(self._current_unit_a), self._current_a / self._current_unit_a, load)
        for register, value in (
            (x.REALTIME_TICK, np.full(len(self.ids), int(time_s * 1000) % 32768)),
            (x.MOVING, abs(speed) > values[x.MOVING_THRESHOLD.address]),
            (x.PRESENT_PWM, self._pwm),
            (x.PRESENT_LOAD, np.rint(effort)),
            (x.PRESENT_VELOCITY, np.rint(speed)),
            (x.PRESENT_POSITION, self._counts()),
            (x.POSITION_TRAJECTORY, values[x.GOAL_POSITION.address]),
            (x.PRESENT_INPUT_VOLTAGE, np.full(len(self.ids), round(self._supply_v / x.VOLTAGE_UNIT_V))),
            (x.PRESENT_TEMPERATURE, np.rint(self.temperature_c)),
        ):
            values[register.address][:] = value
