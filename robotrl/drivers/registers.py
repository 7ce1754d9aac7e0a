"""Registers of servos as typed records, whole control tables, and blocks of registers as arrays."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from robotrl.errors import BadInputError, ProtocolError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes2D = NDArray[np.uint8]
"""(servos, bytes of a register or block)."""

_WORD = 8  # bytes of the integers that registers are decoded into


class Area(Enum):
    """Where a register lives: EEPROM keeps its value without power, RAM does not."""

    EEPROM = "EEPROM"
    RAM = "RAM"


class Access(Enum):
    """Whether the host may write a register."""

    R = "R"
    RW = "RW"


@dataclass(frozen=True, slots=True)
class Unit:
    """What one count means.

    Attributes:
        symbol: of the SI unit (degrees Celsius for temperatures); empty for codes, bits and gains.
        scale: SI value of one count.
    """

    symbol: str
    scale: float


COUNT = Unit("", 1.0)
"""Codes, bits, gains."""
CELSIUS = Unit("degC", 1.0)
TENTH_VOLT = Unit("V", 0.1)
MILLIAMPERE = Unit("A", 1e-3)
PERMILLE = Unit("1", 1e-3)
"""Of full drive or stall torque."""
PERCENT = Unit("1", 0.01)
MILLISECOND = Unit("s", 1e-3)
TEN_MILLISECONDS = Unit("s", 0.01)
TWO_MICROSECONDS = Unit("s", 2e-6)


@dataclass(frozen=True, slots=True)
class Register:
    """One entry of a control table.

    Attributes:
        name: the manual's name.
        address: first byte.
        size: bytes: 1, 2 or 4.
        area: EEPROM or RAM.
        access: read only, or read and write.
        initial: value after factory reset (EEPROM) or power-up (RAM); 0 where the manual has none.
        minimum: lowest value that may be written.
        maximum: highest value that may be written. Goals are bounded further by limit registers.
        unit: of one count.
        signed: whether values below zero exist.
        sign_bit: of a signed register: the bit that holds the sign of a magnitude; None is two's
            complement.
        big_endian: high byte first.
    """

    name: str
    address: int
    size: int
    area: Area
    access: Access
    initial: int
    minimum: int
    maximum: int
    unit: Unit = COUNT
    signed: bool = False
    sign_bit: int | None = None
    big_endian: bool = False

    @property
    def end(self) -> int:
        """Address after the last byte."""
        return self.address + self.size

    @property
    def dtype(self) -> np.dtype[np.integer[Any]]:
        """The register's bytes as a numpy integer; of sign and magnitude, the bits as they are."""
        order = ">" if self.big_endian else "<"
        kind = "i" if self.signed and self.sign_bit is None else "u"
        return np.dtype(f"{order}{kind}{self.size}")

    @property
    def lowest(self) -> int:
        """Lowest value that the bytes can hold."""
        if not self.signed:
            return 0
        return -(1 << 8 * self.size - 1) if self.sign_bit is None else 1 - (1 << self.sign_bit)

    @property
    def highest(self) -> int:
        """Highest value that the bytes can hold."""
        if self.sign_bit is not None:
            return (1 << self.sign_bit) - 1
        return (1 << 8 * self.size - self.signed) - 1

    def encode(self, value: int) -> bytes:
        """Return the register's bytes for a value; `OverflowError` if it does not fit."""
        if not self.lowest <= value <= self.highest:
            raise OverflowError(f"{self.name} ({self.address}) cannot hold {value}")
        if self.sign_bit is not None and value < 0:
            value = 1 << self.sign_bit | -value
        return value.to_bytes(self.size, self._order, signed=value < 0)

    def decode(self, data: bytes) -> int:
        """Return the value of the register's bytes."""
        value = int.from_bytes(data, self._order, signed=self.signed and self.sign_bit is None)
        if self.sign_bit is not None and value & 1 << self.sign_bit:
            return (1 << self.sign_bit) - value
        return value

    @property
    def _order(self) -> Literal["big", "little"]:
        return "big" if self.big_endian else "little"


@dataclass(frozen=True, slots=True)
class ControlTable:
    """All registers of one servo model.

    Attributes:
        model: the manufacturer's name.
        model_number: as the servo reports it.
        registers: address -> register, in order of address; addresses between them are reserved.
    """

    model: str
    model_number: int
    registers: Mapping[int, Register]

    @classmethod
    def of(cls, model: str, model_number: int, registers: Iterable[Register]) -> Self:
        """Sort registers by address into a table."""
        by_address = {r.address: r for r in sorted(registers, key=lambda r: r.address)}
        return cls(model, model_number, MappingProxyType(by_address))

    def variant(
        self,
        model: str,
        model_number: int,
        *,
        initial: Mapping[Register, int] = MappingProxyType({}),
        bounds: Mapping[Register, tuple[int, int]] = MappingProxyType({}),
        instead: Iterable[Register] = (),
    ) -> Self:
        """Return the table of a sister model.

        Args:
            model: its name.
            model_number: its number.
            initial: initial values that differ.
            bounds: minimum and maximum that differ.
            instead: registers of its own, in place of those at the same addresses if there are any.
        """
        registers = dict(self.registers)
        for register, value in initial.items():
            registers[register.address] = dataclasses.replace(registers[register.address], initial=value)
        for register, (low, high) in bounds.items():
            registers[register.address] = dataclasses.replace(
                registers[register.address], minimum=low, maximum=high
            )
        registers |= {r.address: r for r in instead}
        return self.of(model, model_number, registers.values())

    @property
    def end(self) -> int:
        """Address after the last register."""
        return max(r.end for r in self.registers.values())

    def named(self, name: str) -> Register:
        """Return a register by the manual's name; case, spaces, hyphens and underscores do not matter.

        Raises:
            BadInputError: there is none of this name; lists the nearest.
        """
        plain = {_plain(r.name): r for r in self.registers.values()}
        if (register := plain.get(_plain(name))) is not None:
            return register
        near = difflib.get_close_matches(_plain(name), plain, n=5, cutoff=0.4)
        allowed = [plain[n].name for n in near] or [r.name for r in plain.values()]
        raise BadInputError(f"is no register of {self.model}", value=name, allowed=allowed)

    def __contains__(self, register: Register) -> bool:
        own = self.registers.get(register.address)
        return own is not None and own.name == register.name

    def __getitem__(self, register: Register) -> Register:
        """Return this model's entry for a register of its series: other limits, the same place."""
        if register not in self:
            raise ProtocolError(f"{self.model} has no register {register.name} ({register.address})")
        return self.registers[register.address]


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


class Block:
    """Neighbouring registers of many servos, decoded and encoded all at once.

    Args:
        registers: in order of address, without overlap; reserved bytes may lie between them when
            the block is only read.
    """

    def __init__(self, registers: Sequence[Register]) -> None:
        self.registers = tuple(registers)
        self.address = registers[0].address
        self.size = registers[-1].end - self.address
        self.scale: Floats = np.array([r.unit.scale for r in registers])
        """(k,) SI values of one count of each register."""
        places = [self._places(register) for register in registers]
        self._gather = np.array(
            [place + [self.size] * (_WORD - len(place)) for place in places], np.intp
        ).reshape(-1)
        """Where the bytes of each decoded integer are, low byte first; `size` means a zero."""
        written = [(p, _WORD * k + j) for k, place in enumerate(places) for j, p in enumerate(place)]
        self._scatter = np.array([source for _, source in sorted(written)], np.intp)
        twos = [r.signed and r.sign_bit is None for r in registers]
        sizes = np.array([r.size for r in registers])
        self._spare_bits: Ints = np.where(twos, 8 * (_WORD - sizes), 0)
        self._sign: Ints = np.array([0 if r.sign_bit is None else 1 << r.sign_bit for r in registers])
        self._has_magnitudes = bool(self._sign.any())
        self._lowest: Ints = np.array([r.lowest for r in registers])
        self._highest: Ints = np.array([r.highest for r in registers])

    def _places(self, register: Register) -> list[int]:
        """Offsets of a register's bytes inside the block, low byte first."""
        at = register.address - self.address
        places = list(range(at, at + register.size))
        return places[::-1] if register.big_endian else places

    def decode(self, data: Bytes2D) -> Ints:
        """Return (n, k) values of (n, size) bytes."""
        padded = np.zeros((len(data), self.size + 1), np.uint8)
        padded[:, :-1] = data
        raw: Ints = padded.take(self._gather, axis=1).view("<i8")
        values: Ints = (raw << self._spare_bits) >> self._spare_bits
        if self._has_magnitudes:
            values = np.where(values & self._sign != 0, self._sign - values, values)
        return values

    def encode(self, values: Ints) -> Bytes2D:
        """Return (n, size) bytes of (n, k) values.

        Raises:
            ProtocolError: a value does not fit its register, or the block has reserved bytes.
        """
        if len(self._scatter) != self.size:
            raise ProtocolError(f"registers from {self.address} on have gaps and cannot be written at once")
        wrong = (values < self._lowest) | (values > self._highest)
        if wrong.any():
            row, k = np.argwhere(wrong)[0]
            register = self.registers[k]
            raise ProtocolError(
                f"{register.name} ({register.address}) cannot hold {values[row, k]}; "
                f"allowed: {register.lowest} to {register.highest}"
            )
        return self.pack(values)

    def pack(self, values: Ints) -> Bytes2D:
        """Return (n, size) bytes of (n, k) values that are known to fit; see `encode`."""
        if self._has_magnitudes:
            values = np.where((values < 0) & (self._sign != 0), self._sign - values, values)
        raw = np.ascontiguousarray(values, "<i8").view(np.uint8)
        encoded: Bytes2D = raw.take(self._scatter, axis=1)
        return encoded
