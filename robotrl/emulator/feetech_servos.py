"""Firmware of the STS or SCS servos on one Feetech bus: instructions, position control, protection.

Source: Feetech, "Communication Protocol User Manual" (191218) and the memory tables named in `sts` and
`scs`. What they leave open is marked as an assumption where it is decided. Time is always an argument.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robotrl.drivers import feetech as ft
from robotrl.drivers import scs, sts
from robotrl.drivers.feetech import Code, HardwareError, InstructionPacket, StatusPacket
from robotrl.drivers.registers import Bytes2D, Ints, Register
from robotrl.emulator.feetech_layout import SCS, STS
from robotrl.emulator.feetech_registers import FeetechMemory
from robotrl.emulator.firmware import (
    RETURN_DELAY_UNIT_S,
    TURNAROUND_S,
    Firmware,
    Flags,
    Floats,
    Reply,
    collided,
    control_table,
)
from robotrl.emulator.plant import STEP_S
from robotrl.errors import ProtocolError
from robotrl.spec.buses import BAUD_RATES
from robotrl.spec.robot import RobotSpec

_PERCENT = 0.01
_PROTECTION_TIME_UNIT_S = sts.PROTECTION_TIME.unit.scale
_MIDPOINT = 2048
_MOVING_COUNTS = 1
"""Turned this far within the velocity window is moving. Assumption."""


class FeetechServos(Firmware):
    """All servos on one Feetech bus, of one series. Arrays are (n,) in spec order of its joints.

    They come as after assembly: ids and baud rate set, everything else at its factory value, torque
    off, goal 0: a host that enables torque without setting the goal first makes the robot jump. There
    is no watchdog: with the host gone they hold their last goal.

    Args:
        robot: the robot.
        bus: name of the bus.
        joint_pos_rad: (all joints,) angles at power-up.

    Raises:
        SimulationError: a servo's model is not known.
    """

    def __init__(self, robot: RobotSpec, bus: str, joint_pos_rad: Floats) -> None:
        super().__init__(robot, bus, joint_pos_rad)
        protocol = robot.bus[bus].protocol
        self._layout = STS if protocol == "feetech_sts" else SCS
        self._has_sync_read = protocol == "feetech_sts"
        self._bauds_bd = BAUD_RATES[protocol]
        """Of each code of Baud Rate."""
        tables = [control_table(servo) for servo in self._types]
        assembled = {
            self._layout.id.address: np.array(self._assembled_ids),
            self._layout.baud_rate.address: np.full(len(tables), self._bauds_bd.index(self.line_baud_bd)),
        }
        self.tables = FeetechMemory(tables, assembled, self._layout)
        self._registered: dict[int, bytes] = {}
        """Row -> the reg write that waits for an action."""
        self._parser = ft.InstructionParser()
        self._overload_s = np.zeros(len(tables))
        self._overloaded = np.zeros(len(tables), np.bool_)

    def _of(self, register: Register) -> Ints:
        return self.tables.values[register.address]

    # The firmware's own step ---------------------------------------------------------------

    @property
    def ids(self) -> Sequence[int]:
        """(n,) the ids that the servos have now."""
        return self._of(self._layout.id).tolist()  # type: ignore[no-any-return]

    @property
    def bauds_bd(self) -> Sequence[int]:
        """(n,) the baud rates that they are set to; 0 for those of which the documents differ."""
        known = (*self._bauds_bd, *[0] * len(self._bauds_bd))
        return [known[code] for code in self._of(self._layout.baud_rate).tolist()]

    def set_id(self, row: int, id_: int) -> None:
        """Give a servo another id, as if it had come with it."""
        self.tables.burn(row, self._layout.id, id_)

    def set_baud(self, row: int, baud_bd: int) -> None:
        """Give a servo another baud rate, as if it had come with it."""
        self.tables.burn(row, self._layout.baud_rate, self._bauds_bd.index(baud_bd))

    @property
    def torque_enabled(self) -> Flags:
        """(n,) whether the motor is driven or braked."""
        enabled: Flags = self._of(self._layout.torque_enable) != 0
        return enabled

    @property
    def watchdog_tripped(self) -> Flags:
        """(n,) never: there is none."""
        return np.zeros(self.tables.count, np.bool_)

    @property
    def goal_rad(self) -> Floats:
        """(n,) Goal Position as a joint angle."""
        encoder = self._of(self._layout.goal_position) + self._offset()
        angle: Floats = self._sign * (encoder - self._zero) / self._counts_per_rad
        return angle

    def _offset(self) -> Ints:
        """(n,) what is taken off the encoder's count."""
        register = self._layout.homing_offset
        return np.zeros(self.tables.count, np.int64) if register is None else self._of(register)

    def _counts(self) -> Floats:
        counts = self._encoder - self._offset()
        steps = self._layout.steps
        within: Floats = np.mod(counts, steps) if self._layout.wraps else np.clip(counts, 0, steps - 1)
        return within

    def _control(self, time_s: float, speed: Floats) -> Floats:
        del time_s, speed  # no watchdog; load is judged by the drive alone
        layout = self._layout
        goal = self._of(layout.goal_position)
        goal = np.clip(goal, self._of(layout.min_position), self._of(layout.max_position))
        error = goal - self._counts()
        limit = self._drive_limit()
        dead = np.where(error > 0, self._of(layout.cw_dead_zone), self._of(layout.ccw_dead_zone))
        startup = np.minimum(self._of(layout.min_startup_force), limit)
        pwm = self._proportional(self._of(layout.p_gain), error, limit)
        pwm = np.sign(pwm) * np.maximum(abs(pwm), np.where(pwm != 0, startup, 0))
        pwm = np.where((abs(error) > dead) & (self._of(layout.torque_enable) == 1), pwm, 0.0)
        self._watch_load(abs(pwm) / self._pwm_full)
        return pwm

    def _drive_limit(self) -> Floats:
        """(n,) PWM counts that the registers allow, less under overload protection."""
        layout = self._layout
        limit = self._of(layout.max_torque)
        if layout.torque_limit is not None:
            limit = np.minimum(limit, self._of(layout.torque_limit))
        protective = _PERCENT * self._of(layout.protective_torque) * self._pwm_full
        protected = self._overloaded & self._unloads_on(HardwareError.OVERLOAD)
        return np.where(protected, np.minimum(limit, protective), limit)

    def _unloads_on(self, error: HardwareError) -> Flags:
        unloads: Flags = (self._of(self._layout.unloading_condition) & int(error)) != 0
        return unloads

    def _watch_load(self, drive: Floats) -> None:
        """Overload: a drive above Overload Torque for Protection Time; it ends with torque off."""
        heavy = drive > _PERCENT * self._of(self._layout.overload_torque)
        self._overload_s = np.where(heavy, self._overload_s + STEP_S, 0.0)
        allowed_s = _PROTECTION_TIME_UNIT_S * self._of(self._layout.protection_time)
        self._overloaded |= self._overload_s > allowed_s + STEP_S / 2
        self._overloaded &= self.torque_enabled

    def _check_health(self, time_s: float) -> None:
        """Set the bits of Status, which hold as long as their causes; let go of what is too hot."""
        layout = self._layout
        volts = round(self._supply_v / layout.present_voltage.unit.scale)
        bad_voltage = (volts > self._of(layout.max_voltage)) | (volts < self._of(layout.min_voltage))
        hot = self.temperature_c > self._of(layout.max_temperature)
        self._of(layout.status)[:] = (
            np.where(bad_voltage, int(HardwareError.VOLTAGE), 0)
            | np.where(hot, int(HardwareError.OVERHEATING), 0)
            | np.where(self._overloaded, int(HardwareError.OVERLOAD), 0)
        )
        failed = (hot & self._unloads_on(HardwareError.OVERHEATING)) | (
            bad_voltage & self._unloads_on(HardwareError.VOLTAGE)
        )
        failed &= self.torque_enabled
        self._of(layout.torque_enable)[failed] = 0
        self._shut_down(failed, time_s)

    def power_cycle(self, row: int) -> None:
        """Start a servo anew: torque off, RAM initial, unlocked writes kept."""
        self.tables.restart(row)
        self._registered.pop(row, None)
        self._overload_s[row] = 0.0
        self._overloaded[row] = False

    # Instructions --------------------------------------------------------------------------

    def _forget(self) -> None:
        self._parser.reset()

    def _obey(self, data: bytes, time_s: float) -> list[Reply]:
        del time_s  # nothing in these servos counts it
        return [reply for packet in self._parser.feed(data) for reply in self._execute(packet)]

    def _execute(self, packet: InstructionPacket) -> list[Reply]:
        self._listeners = self.listeners()
        self._refresh()
        try:
            return self._dispatch(packet)
        except ProtocolError:
            return []  # an instruction whose parameters are not whole is not obeyed

    def _dispatch(self, packet: InstructionPacket) -> list[Reply]:
        instructions = {
            Code.PING: self._ping,
            Code.READ: self._read,
            Code.WRITE: self._write,
            Code.REG_WRITE: self._write,
            Code.ACTION: self._act,
            Code.SYNC_WRITE: self._sync_write,
            Code.SYNC_READ: self._sync_read,
        }
        known = packet.code in set(Code)
        return instructions[Code(packet.code)](packet) if known else []

    def _spoken(self, rows: Sequence[int], data: Bytes2D | None = None) -> list[Reply]:
        """What servos that answer at once put on the line: bytes of their registers, or a bare status."""
        replies = [self._reply(row, b"" if data is None else data[row].tobytes()) for row in rows]
        return collided([reply for row, reply in zip(rows, replies, strict=True) if not self.mute[row]])

    def _reply(self, row: int, params: bytes = b"") -> Reply:
        layout = self._layout
        status = StatusPacket(self.tables.of(layout.id, row), self.tables.of(layout.status, row), params)
        delay = 0 if layout.return_delay is None else self.tables.of(layout.return_delay, row)
        return Reply(status.encode(), TURNAROUND_S + RETURN_DELAY_UNIT_S * delay)

    def _acknowledge(self, id_: int, rows: Sequence[int]) -> list[Reply]:
        """Answer an instruction other than ping and read, unless it was a broadcast or is not wanted."""
        if id_ == ft.BROADCAST_ID:
            return []
        return self._spoken([row for row in rows if self.tables.of(self._layout.response_level, row)])

    def _ping(self, packet: InstructionPacket) -> list[Reply]:
        """All servos answer a broadcast, as if only one were connected: the manual wants no other use."""
        ids = self._listeners if packet.id == ft.BROADCAST_ID else [packet.id]
        return [reply for id_ in ids for reply in self._spoken(self._rows(id_))]

    def _read(self, packet: InstructionPacket) -> list[Reply]:
        address, size, _ = ft.split_read(packet.params)
        if packet.id == ft.BROADCAST_ID:
            return []
        block = self.tables.block(address, size)
        return self._spoken(self._rows(packet.id), block)

    def _sync_read(self, packet: InstructionPacket) -> list[Reply]:
        """Each servo waits for the one before it in the list; the first missing one silences the rest.

        Assumption, as for Dynamixel; the manual says nothing of gaps.
        """
        if not self._has_sync_read:
            return []
        address, size, ids = ft.split_read(packet.params)
        block = self.tables.block(address, size)
        replies: list[Reply] = []
        for id_ in ids:
            if not (spoken := self._spoken(self._rows(id_), block)):
                break
            replies += spoken
        return replies

    def _write(self, packet: InstructionPacket) -> list[Reply]:
        """Write now, or at the next action. A new id or baud rate holds from the reply after this one on."""
        address, data = ft.split_write(packet.params)
        rows = self._rows(packet.id)
        replies = self._acknowledge(packet.id, rows)
        for row in rows:
            if packet.code == Code.REG_WRITE:
                self._registered[row] = bytes((address,)) + data
                self._of(self._layout.registered_instruction)[row] = 1
            else:
                self._take(row, address, data)
        return replies

    def _act(self, packet: InstructionPacket) -> list[Reply]:
        rows = self._rows(packet.id)
        for row in rows:
            self._of(self._layout.registered_instruction)[row] = 0
            if registered := self._registered.pop(row, b""):
                self._take(row, registered[0], registered[1:])
        return self._acknowledge(packet.id, rows)

    def _sync_write(self, packet: InstructionPacket) -> list[Reply]:
        address, ids, data = ft.split_sync_write(packet.params)
        for id_, bytes_ in zip(ids, data, strict=True):
            for row in self._rows(id_):
                self._take(row, address, bytes_.tobytes())
        return []

    def _take(self, row: int, address: int, data: bytes) -> None:
        torque, before = self._layout.torque_enable, self.tables.of(self._layout.torque_enable, row)
        taken = self.tables.write(row, address, data)
        value = self.tables.of(torque, row)
        if torque in taken and value > scs.DAMPING:  # no state of the motor; only one of them means anything
            self._of(torque)[row] = before
            if value == sts.SET_MIDPOINT:
                self._centre(row)

    def _centre(self, row: int) -> None:
        """The present position becomes 2048."""
        offset = self._layout.homing_offset
        if offset is not None:
            turned = int(self._encoder[row]) % self._layout.steps - _MIDPOINT
            self.tables.put(row, offset, max(offset.minimum, min(offset.maximum, turned)))

    def _refresh(self) -> None:
        """Bring the Present registers up to the last control step."""
        layout = self._layout
        speed = np.rint(self._measured_velocity())
        load = self._pwm / self._pwm_full / layout.present_load.unit.scale
        volts = round(self._supply_v / layout.present_voltage.unit.scale)
        present: list[tuple[Register | None, Floats]] = [
            (layout.present_position, self._counts()),
            (layout.present_velocity, speed),
            (layout.present_load, np.rint(load)),
            (layout.present_voltage, np.full(len(load), volts)),
            (layout.present_temperature, np.rint(self.temperature_c)),
            (layout.moving, abs(self._encoder - self._oldest) > _MOVING_COUNTS),
            (layout.present_current, np.rint(self._current_a / sts.CURRENT.scale)),
        ]
        for register, values in present:
            if register is not None:
                self._of(register)[:] = np.clip(values, register.lowest, register.highest)
