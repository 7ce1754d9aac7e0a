"""The memory of all Feetech servos on a bus: who may write what, and what survives without power.

Source: the memory tables named in `sts` and `scs`. What they leave open is marked as an assumption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robotrl.drivers import scs, sts
from robotrl.drivers.registers import Access, Area, Bytes2D, ControlTable, Ints, Register
from robotrl.emulator.feetech_layout import FeetechLayout
from robotrl.emulator.register_file import RegisterFile

_MEMORY = 256
"""Bytes that an address of one byte can name."""

FIXED = frozenset(
    r.name for r in (sts.PHASE, sts.ANGULAR_RESOLUTION, sts.OPERATING_MODE, sts.GOAL_TIME, sts.GOAL_VELOCITY)
) | {scs.GOAL_TIME.name, scs.GOAL_VELOCITY.name, sts.ACCELERATION_LIMIT.name}
"""Registers whose effect is not emulated. They keep the value they have, so that a host that reads back
is told rather than misled."""


class FeetechMemory(RegisterFile):
    """Registers of n servos; a write that is not allowed is not taken, and nobody is told.

    That values out of range are dropped, not clipped, is an assumption.

    Args:
        tables: the memory table of each servo.
        initial: register address -> (n,) values that differ from the tables' initial ones.
        layout: of their series.
    """

    def __init__(
        self, tables: Sequence[ControlTable], initial: Mapping[int, Ints], layout: FeetechLayout
    ) -> None:
        super().__init__(tables, initial)
        self._layout = layout
        self._stored = {
            address: self.values[address].copy()
            for address, register in self.places.items()
            if register.area is Area.EEPROM
        }
        for row in range(self.count):
            self.restart(row)

    def restart(self, servo: int) -> None:
        """Power-up: RAM as in the table, EEPROM as it was stored, drive bounded by Max Torque."""
        self.reset_ram(servo)
        for address, stored in self._stored.items():
            self.values[address][servo] = stored[servo]
        if self._layout.torque_limit is not None:
            limit = self.values[self._layout.torque_limit.address]
            limit[servo] = self.of(self._layout.max_torque, servo)

    def block(self, address: int, size: int) -> Bytes2D:
        """Return (n, size) bytes from `address` on; whatever is no register reads 0. Assumption."""
        end = min(address + size, _MEMORY)
        block = np.zeros((self.count, size), np.uint8)
        block[:, : end - address] = self.image(address, end - address)
        return block

    def write(self, servo: int, address: int, data: bytes) -> list[Register]:
        """Write one servo's registers; return those that were taken.

        Bytes for parts of a register, or for none, are dropped. Assumption.
        """
        taken = []
        while data:
            register = self.tables[servo].registers.get(address)
            size = 1 if register is None else register.size
            if register is not None and len(data) >= size:
                value = register.decode(data[:size])
                if self._allowed(servo, register, value):
                    self._store(servo, register, value)
                    taken.append(register)
            data, address = data[size:], address + size
        return taken

    def put(self, servo: int, register: Register, value: int) -> None:
        """Let the firmware itself set a register, as if written."""
        self._store(servo, register, value)

    def burn(self, servo: int, register: Register, value: int) -> None:
        """Set an EEPROM register for good."""
        self.values[register.address][servo] = value
        self._stored[register.address][servo] = value

    def _allowed(self, servo: int, register: Register, value: int) -> bool:
        if register.access is Access.R or not register.minimum <= value <= register.maximum:
            return False
        return register.name not in FIXED or value == self.of(register, servo)

    def _store(self, servo: int, register: Register, value: int) -> None:
        self.values[register.address][servo] = value
        if register.area is Area.EEPROM and self.of(self._layout.lock, servo) == 0:
            self._stored[register.address][servo] = value
