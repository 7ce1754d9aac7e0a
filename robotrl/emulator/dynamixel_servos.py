"""Firmware of the X-series servos on one Dynamixel bus: instructions, bus watchdog, protection.

Source: ROBOTIS e-Manual, "Protocol 2.0" and "XC430-W240-T". What the manual leaves open is marked as
an assumption where it is decided. Time is always an argument.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel import Code, Fault, InstructionPacket, StatusPacket
from robotrl.emulator.bus_watchdog import BusWatchdogs
from robotrl.emulator.dynamixel_registers import ControlTables
from robotrl.emulator.firmware import (
    RETURN_DELAY_UNIT_S,
    TURNAROUND_S,
    Firmware,
    Flags,
    Floats,
    Reply,
    ServoEvent,
    collided,
    control_table,
)
from robotrl.emulator.plant import STEP_S
from robotrl.errors import ProtocolError
from robotrl.spec.robot import RobotSpec

FAST_TURNAROUND_S = 10e-6
"""A servo's own time inside the one frame of a fast sync read."""
OVERLOAD_S = 2.0
"""Full drive against a stalled shaft for this long is an Overload Error. Assumption."""
STALLED_SHARE = 0.05
"""Stalled: slower than this share of the no-load speed."""

_BAUDS_BD = (9600, 57600, 115200, 1000000, 2000000, 3000000, 4000000, 4500000)
"""Of each code of Baud Rate (8)."""
_ANSWER_READS = 1
_ANSWER_ALL = 2


class DynamixelServos(Firmware):
    """All servos on one Dynamixel bus. Arrays are (n,) in spec order of the joints on this bus.

    They come as after assembly: ids and baud rate set, everything else at its factory value, torque
    off. A real X-series goal survives torque off; so it does here, and a host that enables torque
    without setting the goal first makes the robot jump.

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
        self._called = self.ids
        self._stalled_rad_s = STALLED_SHARE * np.array([s.no_load_speed_rad_s for s in self._types])
        measured = [table.registers[x.PRESENT_LOAD.address] for table in tables]
        self._current_unit_a = np.array([r.unit.scale if r.unit.symbol == "A" else np.inf for r in measured])
        """(n,) of Present Current (126); infinite where that is Present Load."""
        self._parser = dxl.PacketParser()
        self._watchdogs = BusWatchdogs(self.tables)
        self._overload_s = np.zeros(len(tables))
        self.tables.values[x.GOAL_POSITION.address][:] = self._counts()

    # The firmware's own step ---------------------------------------------------------------

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
        self.tables.values[x.GOAL_POSITION.address][row] = self._counts()[row]
        self._overload_s[row] = 0.0
        self._watchdogs.arm()

    def _counts(self) -> Floats:
        counts: Floats = self._encoder + self.tables.values[x.HOMING_OFFSET.address]
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
        angle: Floats = self._sign * (raw - self._zero) / self._counts_per_rad
        return angle

    # Instructions --------------------------------------------------------------------------

    def _forget(self) -> None:
        self._parser.reset()

    def _obey(self, data: bytes, time_s: float) -> list[Reply]:
        packets = self._parser.feed(data)
        replies = [
            reply
            for packet in packets
            if isinstance(packet, InstructionPacket)
            for reply in self._execute(packet, time_s)
        ]
        return replies if packets else self._complain_of_crc(data)

    def _execute(self, packet: InstructionPacket, time_s: float) -> list[Reply]:
        self._watchdogs.heard(time_s)
        # A new id or baud rate holds from the next instruction on. Assumption: the manual does not say.
        self._called = self.ids
        self._listeners = self.listeners()
        self._refresh(time_s)
        try:
            replies = self._dispatch(packet)
        except ProtocolError:
            replies = self._statuses(packet.id, Fault.DATA_LENGTH)
        self._watchdogs.arm()
        return replies

    def _dispatch(self, packet: InstructionPacket) -> list[Reply]:
        by_id = {Code.PING: self._ping, Code.REBOOT: self._reboot}
        whole = {Code.READ: self._read, Code.WRITE: self._write}
        by_params = {
            Code.SYNC_READ: self._sync_read,
            Code.FAST_SYNC_READ: self._fast_sync_read,
            Code.SYNC_WRITE: self._sync_write,
        }
        if packet.code in by_id:
            return by_id[Code(packet.code)](packet.id)
        if packet.code in whole:
            return whole[Code(packet.code)](packet)
        if packet.code in by_params:
            return by_params[Code(packet.code)](packet.params)
        return self._statuses(packet.id, Fault.INSTRUCTION)

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

    def _status(self, row: int, fault: Fault, params: bytes = b"") -> StatusPacket:
        alert = dxl.ErrorBit.ALERT if self.tables.of(x.HARDWARE_ERROR_STATUS, row) else 0
        return StatusPacket(self._called[row], int(fault) | int(alert), params)

    def _reply(self, row: int, fault: Fault, params: bytes = b"") -> Reply:
        return Reply(self._status(row, fault, params).encode(), TURNAROUND_S + self._return_delay_s(row))

    def _return_delay_s(self, row: int) -> float:
        return RETURN_DELAY_UNIT_S * self.tables.of(x.RETURN_DELAY_TIME, row)

    def _answers(self, row: int, level: int) -> bool:
        return not self.mute[row] and self.tables.of(x.STATUS_RETURN_LEVEL, row) >= level

    def _statuses(self, id_: int, fault: Fault) -> list[Reply]:
        """A status packet without data from the addressed servo; none to a broadcast."""
        if id_ == dxl.BROADCAST_ID:
            return []
        return collided(
            [self._reply(row, fault) for row in self._rows(id_) if self._answers(row, _ANSWER_ALL)]
        )

    def _complain_of_crc(self, data: bytes) -> list[Reply]:
        """The addressed servo's CRC Error, if the bytes are a whole packet for one servo."""
        whole = data.startswith(dxl.HEADER) and len(data) >= dxl.OVERHEAD
        return self._statuses(data[4], Fault.CRC) if whole else []

    def _ping(self, id_: int) -> list[Reply]:
        """Answered at any Status Return Level, by all servos when broadcast."""
        ids = self._listeners if id_ == dxl.BROADCAST_ID else [id_]
        return [reply for each in ids for reply in collided([self._pong(row) for row in self._heard(each)])]

    def _pong(self, row: int) -> Reply:
        model = x.MODEL_NUMBER.encode(self.tables.of(x.MODEL_NUMBER, row))
        firmware = x.FIRMWARE_VERSION.encode(self.tables.of(x.FIRMWARE_VERSION, row))
        return self._reply(row, Fault.NONE, model + firmware)

    def _heard(self, id_: int, level: int = 0) -> list[int]:
        """The servos of an id that hear, and answer at a Status Return Level."""
        return [row for row in self._listeners.get(id_, []) if self._answers(row, level)]

    def _read(self, packet: InstructionPacket) -> list[Reply]:
        address, size, _ = dxl.split_span(packet.params)
        rows = self._heard(packet.id, _ANSWER_READS)
        return collided([self._data_reply(row, address, size) for row in rows])

    def _data_reply(self, row: int, address: int, size: int) -> Reply:
        block = self.tables.block(address, size)
        if isinstance(block, Fault):
            return self._reply(row, block)
        return self._reply(row, Fault.NONE, block[row].tobytes())

    def _write(self, packet: InstructionPacket) -> list[Reply]:
        if len(packet.params) < 3:  # noqa: PLR2004 - an address and at least one byte
            return self._statuses(packet.id, Fault.DATA_LENGTH)
        address, data = int.from_bytes(packet.params[:2], "little"), packet.params[2:]
        replies = []
        for row in self._rows(packet.id):
            fault = self.tables.write(row, address, data)
            if packet.id != dxl.BROADCAST_ID and self._answers(row, _ANSWER_ALL):
                replies.append(self._reply(row, fault))
        return collided(replies)

    def _sync_write(self, params: bytes) -> list[Reply]:
        """Write to the listed servos; nobody answers, and a refused value is just not taken."""
        address, size, rest = dxl.split_span(params)
        for at in range(0, len(rest) - size, 1 + size):
            for row in self._listeners.get(rest[at], ()):
                self.tables.write(row, address, rest[at + 1 : at + 1 + size])
        return []

    def _chain(self, ids: bytes) -> list[list[int]]:
        """The servos that answer a sync read, by id: each waits for the one before it in the list.

        So the first that is missing, or told not to answer, silences the rest. Assumption from the
        manual's "in order"; it says nothing of gaps.
        """
        chain = []
        for id_ in ids:
            if not (rows := self._heard(id_, _ANSWER_READS)):
                break
            chain.append(rows)
        return chain

    def _sync_read(self, params: bytes) -> list[Reply]:
        address, size, ids = dxl.split_span(params)
        return [
            reply
            for rows in self._chain(ids)
            for reply in collided([self._data_reply(row, address, size) for row in rows])
        ]

    def _fast_sync_read(self, params: bytes) -> list[Reply]:
        address, size, ids = dxl.split_span(params)
        chain = self._chain(ids)
        if not chain or len(dxl.HEADER) + len(ids) * size > dxl.MAX_LENGTH:
            return []
        block = self.tables.block(address, size)
        fault = block if isinstance(block, Fault) else Fault.NONE
        data = np.zeros((len(self.ids), size), np.uint8) if isinstance(block, Fault) else block
        replies = []
        # Servos of one id send their blocks at once: one frame with the first of each, one with the second.
        for turn in range(max(map(len, chain))):
            rows = [same[min(turn, len(same) - 1)] for same in chain]
            # The header announces all servos asked; blocks end where the chain does.
            frame = dxl.encode_fast_reply(
                [self._status(row, fault, data[row].tobytes()) for row in rows]
                + [StatusPacket(id_, 0, bytes(size)) for id_ in ids[len(rows) :]]
            )
            sent = dxl.FAST_HEADER + len(rows) * (dxl.FAST_BLOCK_OVERHEAD + size)
            gap_s = self._return_delay_s(rows[0]) + FAST_TURNAROUND_S * len(rows)
            replies.append(Reply(frame[:sent], gap_s))
        return collided(replies)

    def _reboot(self, id_: int) -> list[Reply]:
        """Answer, then start again."""
        replies = self._statuses(id_, Fault.NONE)
        for row in self._rows(id_):
            self.power_cycle(row)
        return replies
