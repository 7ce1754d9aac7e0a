"""The control tables of all servos on a bus: values by register, and who may write what and when."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel import Fault
from robotrl.drivers.registers import Access, Area, Bytes2D, Register
from robotrl.emulator.register_file import RegisterFile

GOALS = frozenset(r.address for r in (x.GOAL_PWM, x.GOAL_VELOCITY, x.GOAL_POSITION))
"""Read-only after a Bus Watchdog trip (e-Manual, Bus Watchdog)."""

FIXED = frozenset(
    r.address
    for r in (
        x.DRIVE_MODE,
        x.OPERATING_MODE,
        x.SECONDARY_ID,
        x.PROTOCOL_TYPE,
        x.STARTUP_CONFIGURATION,
        x.POSITION_D_GAIN,
        x.POSITION_I_GAIN,
        x.FEEDFORWARD_2ND_GAIN,
        x.FEEDFORWARD_1ST_GAIN,
        x.PROFILE_ACCELERATION,
        x.PROFILE_VELOCITY,
    )
)
"""Registers whose effect is not emulated. They accept only the value they have (Data Range Error
otherwise), so that a host is told rather than misled; those in `OFF_AT_0` accept 0 as well."""

OFF_AT_0 = frozenset(
    r.address
    for r in (
        x.POSITION_D_GAIN,
        x.POSITION_I_GAIN,
        x.FEEDFORWARD_2ND_GAIN,
        x.FEEDFORWARD_1ST_GAIN,
        x.PROFILE_ACCELERATION,
        x.PROFILE_VELOCITY,
    )
)
"""Registers of `FIXED` that have no effect at 0. Some models leave the factory with another value."""


class ControlTables(RegisterFile):
    """Registers of n servos, with the rules of who may read and write what and when."""

    def restart(self, servo: int) -> None:
        """Give one servo's RAM registers their initial values; EEPROM stays."""
        self.reset_ram(servo)
        self.values[x.GOAL_PWM.address][servo] = self.values[x.PWM_LIMIT.address][servo]

    def factory_reset(self, servo: int, kept: Collection[int]) -> None:
        """Give one servo's EEPROM registers, but for those at some addresses, their initial values."""
        for register in self.tables[servo].registers.values():
            if register.area is Area.EEPROM and register.address not in kept:
                self.values[register.address][servo] = register.initial

    def block(self, address: int, size: int) -> Bytes2D | Fault:
        """Return (n, size) bytes from `address` on, or why not.

        Reserved bytes between registers read 0. A read must begin inside a register and end before
        the table does.
        """
        if size == 0:
            return Fault.DATA_LENGTH
        if address + size > self.end or not any(r.address <= address < r.end for r in self.places.values()):
            return Fault.ACCESS
        return self.image(address, size)

    def write(self, servo: int, address: int, data: bytes) -> Fault:
        """Write one servo's registers: all of them, or none and the reason.

        Args:
            servo: row of the servo.
            address: of the first register; `data` must cover whole registers without gaps.
            data: little-endian values.
        """
        entries = self._allowed(servo, address, data)
        if isinstance(entries, Fault):
            return entries
        for register, value in entries:
            self.values[register.address][servo] = value
        return Fault.NONE

    def refusal(self, servo: int, address: int, data: bytes) -> Fault:
        """Return why a `write` would be refused now; NONE if it would not."""
        entries = self._allowed(servo, address, data)
        return entries if isinstance(entries, Fault) else Fault.NONE

    def _allowed(self, servo: int, address: int, data: bytes) -> Sequence[tuple[Register, int]] | Fault:
        entries = self._split(servo, address, data)
        if isinstance(entries, Fault):
            return entries
        faults = (self._refusal(servo, register, value) for register, value in entries)
        return next(filter(None, faults), None) or entries

    def _split(self, servo: int, address: int, data: bytes) -> Sequence[tuple[Register, int]] | Fault:
        if not data:
            return Fault.DATA_LENGTH
        entries = []
        while data:
            register = self.tables[servo].registers.get(address)
            if register is None:
                return Fault.ACCESS
            if len(data) < register.size:
                return Fault.DATA_LENGTH
            entries.append((register, register.decode(data[: register.size])))
            data, address = data[register.size :], register.end
        return entries

    def _refusal(self, servo: int, register: Register, value: int) -> Fault:
        """Why this value must not be written; in the manual's order of access, range, limit."""
        locked = register.area is Area.EEPROM and self.of(x.TORQUE_ENABLE, servo)
        out_of_range = not register.minimum <= value <= register.maximum
        frozen = register.address in FIXED and value != self.of(register, servo)
        frozen = frozen and not (value == 0 and register.address in OFF_AT_0)
        beyond_limit = register.address in GOALS and not self._within_limits(servo, register, value)
        turns_on = register.address == x.TORQUE_ENABLE.address and value == 1
        reasons = (
            (register.access is Access.R or locked, Fault.ACCESS),
            (out_of_range or frozen or self._held_by_watchdog(servo, register, value), Fault.DATA_RANGE),
            (beyond_limit, Fault.DATA_LIMIT),
            (turns_on and self.shut_down(servo), Fault.RESULT_FAIL),
        )
        return next((fault for applies, fault in reasons if applies), Fault.NONE)

    def _held_by_watchdog(self, servo: int, register: Register, value: int) -> bool:
        """After a trip the goals are read-only and Bus Watchdog itself takes nothing but 0."""
        if self.of(x.BUS_WATCHDOG, servo) != x.WATCHDOG_TRIPPED:
            return False
        return register.address in GOALS or (register.address == x.BUS_WATCHDOG.address and value != 0)

    def _within_limits(self, servo: int, goal: Register, value: int) -> bool:
        if goal.address == x.GOAL_POSITION.address:
            low, high = self.of(x.MIN_POSITION_LIMIT, servo), self.of(x.MAX_POSITION_LIMIT, servo)
            return low <= value <= high
        limit = x.PWM_LIMIT if goal.address == x.GOAL_PWM.address else x.VELOCITY_LIMIT
        return abs(value) <= self.of(limit, servo)

    def shut_down(self, servo: int) -> bool:
        """Whether a hardware error has turned the torque off; only a reboot allows it again."""
        return bool(self.of(x.HARDWARE_ERROR_STATUS, servo) & self.of(x.SHUTDOWN, servo))
