"""The registers of all servos on a bus as arrays: their bytes, and what a write would put where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robotrl.drivers.registers import Area, Bytes2D, ControlTable, Ints, Register

_WORD = 8


class RegisterFile:
    """Registers of n servos; every register is an (n,) array of its values, keyed by address.

    Args:
        tables: the control table of each servo; they agree in the registers' places.
        initial: register address -> (n,) values that differ from the tables' initial ones.
    """

    def __init__(self, tables: Sequence[ControlTable], initial: Mapping[int, Ints]) -> None:
        self.count = len(tables)
        self.tables = tuple(tables)
        self.end = max(table.end for table in tables)
        self.places: dict[int, Register] = {}
        for table in tables:
            self.places |= table.registers
        self.values: dict[int, Ints] = {
            address: initial.get(address, self._initial(address)).copy() for address in self.places
        }

    def _initial(self, address: int) -> Ints:
        """(n,) values after factory reset or power-up; 0 where a servo has no register there."""
        owned = [table.registers.get(address) for table in self.tables]
        return np.array([0 if register is None else register.initial for register in owned])

    def of(self, register: Register, servo: int) -> int:
        """Return one servo's value of a register."""
        return int(self.values[register.address][servo])

    def reset_ram(self, servo: int) -> None:
        """Give one servo's RAM registers their initial values; EEPROM stays."""
        for register in self.tables[servo].registers.values():
            if register.area is Area.RAM:
                self.values[register.address][servo] = register.initial

    def image(self, address: int, size: int) -> Bytes2D:
        """Return (n, size) bytes from `address` on; reserved bytes between registers read 0."""
        image = np.zeros((self.count, max(self.end, address + size)), np.uint8)
        for register in self.places.values():
            if register.address < address + size and register.end > address:
                image[:, register.address : register.end] = _raw(register, self.values[register.address])
        return image[:, address : address + size]


def _raw(register: Register, values: Ints) -> Bytes2D:
    """Return (n, size) bytes of a register's values."""
    if register.sign_bit is not None:
        values = np.where(values < 0, (1 << register.sign_bit) - values, values)
    low_first: Bytes2D = values.astype("<i8").view(np.uint8).reshape(-1, _WORD)[:, : register.size]
    return low_first[:, ::-1] if register.big_endian else low_first
