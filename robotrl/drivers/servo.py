"""One servo on the bench, by id: its registers by name and unit, its id, its baud rate; nothing moves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from robotrl.drivers.models import MODELS
from robotrl.drivers.port import Port
from robotrl.drivers.registers import Access, Area, ControlTable, Register
from robotrl.drivers.series import SERIES, Series
from robotrl.drivers.servo_bus import ServoBus
from robotrl.errors import BadInputError, DeviceError
from robotrl.spec.buses import BusSpec, ServoProtocol

OpenPort = Callable[[str, int], Port]
"""Opens a device file at a baud rate."""

_REPLY_TIMEOUT_S = 0.02
"""Longer than an FTDI adapter with factory settings holds bytes back."""


@dataclass(frozen=True)
class Line:
    """A servo bus as one finds it: a device file, a protocol and a speed."""

    path: str
    protocol: ServoProtocol
    baud_bd: int

    @property
    def series(self) -> Series:
        """What servos of this protocol call things."""
        return SERIES[self.protocol]

    def bus(self, port: Port, ids: tuple[int, ...]) -> ServoBus:
        """Return the bus of some servos behind a port; nothing is sent."""
        return self.series.bus(port, self._spec(), ids)

    def _spec(self) -> BusSpec:
        return BusSpec(
            protocol=self.protocol,
            port=self.path,
            baud_bd=self.baud_bd,  # type: ignore[arg-type]  # servos know more rates than robots may have
            fast_sync_read=False,
            reply_timeout_s=_REPLY_TIMEOUT_S,
            retries_per_tick=1,
            watchdog_s=0.1,
        )

    def __str__(self) -> str:
        return f"{self.path} at {self.baud_bd} baud"


class Servo:
    """One servo of a known model behind an open port.

    Args:
        port: where the bytes go; its `PortError` passes through every method.
        line: the port's protocol and speed.
        id_: the servo.
        table: its registers.
    """

    def __init__(self, port: Port, line: Line, id_: int, table: ControlTable) -> None:
        self.id = id_
        self.line = line
        self.table = table
        self._port = port
        self._series = line.series
        self._bus = line.bus(port, (id_,))

    @classmethod
    def find(cls, port: Port, line: Line, id_: int) -> Self:
        """Ask a servo for its model.

        Raises:
            DeviceError: it does not answer, or is of a model without a register table.
        """
        model = line.bus(port, (id_,)).ping(id_)
        if model is None:
            raise DeviceError(f"servo {id_} does not answer on {line}; `robotrl bus scan` tries every speed")
        if model not in MODELS:
            known = ", ".join(f"{number} ({table.model})" for number, table in MODELS.items())
            raise DeviceError(f"servo {id_} has model number {model}, which has no table; known: {known}")
        return cls(port, line, id_, MODELS[model])

    @property
    def firmware(self) -> str:
        """Its version; read from the servo."""
        return ".".join(str(self.read(part)) for part in self._series.service.firmware)

    def read(self, register: Register) -> int:
        """Return the value of a register, in counts.

        Raises:
            DeviceError: the servo does not answer.
        """
        own = self.table[register]
        replies = self._bus.read_patiently(own)
        if not replies.fresh[0]:
            raise DeviceError(f"servo {self.id} does not answer a read of {own.name} ({own.address})")
        return int(replies.values(own)[0])

    def write(self, register: Register, value: int) -> int:
        """Write a register and read it back.

        Args:
            register: of this servo's series.
            value: in counts.

        Returns:
            What it reads afterwards, which is `value`.

        Raises:
            BadInputError: a register or value that is never written: read only, out of range, torque on, or
                one of those that have a method of their own.
            DeviceError: the servo refuses, is silent or does not keep the value; or it holds torque, which
                can then only be turned off.
        """
        own = self.table[register]
        self._refuse(own, value)
        self._put(own, value)
        after = self.read(own)
        if after != value:
            raise DeviceError(
                f"servo {self.id}: {own.name} ({own.address}) was written as {value} but reads {after}"
            )
        return after

    def set_id(self, new: int) -> Servo:
        """Give the servo another id.

        Returns:
            The servo under its new id.

        Raises:
            BadInputError: the id does not exist.
            DeviceError: the id is taken, torque is on, or the servo does not answer to it afterwards.
        """
        own = self.table[self._series.service.id]
        _check_value(own, new)
        if new == self.id:
            return self
        if self._bus.ping(new) is not None:
            raise DeviceError(f"id {new} is taken by another servo on {self.line}")
        self._require_limp("given another id")
        self._unlock(own)
        self._bus.write(self.id, own, new)
        moved = Servo(self._port, self.line, new, self.table)
        if moved._bus.ping(new) != self.table.model_number:
            raise DeviceError(f"servo {self.id} was given id {new} but does not answer to it")
        moved._lock(own)
        return moved

    def set_baud(self, baud_bd: int, open_port: OpenPort) -> Line:
        """Give the servo another speed; the other servos of the bus do not hear it any more.

        Args:
            baud_bd: bits per second.
            open_port: opens the line anew; this servo's own port is closed.

        Returns:
            The line on which it answers now.

        Raises:
            BadInputError: the model has no such speed.
            DeviceError: torque is on, or the servo does not answer at the new speed.
        """
        own, codes = self.table[self._series.service.baud_rate], self._series.service.baud_codes
        possible = {bd: code for bd, code in codes.items() if own.minimum <= code <= own.maximum}
        if baud_bd not in possible:
            raise BadInputError(f"is no baud rate of {self.table.model}", value=baud_bd, allowed=possible)
        faster = Line(self.line.path, self.line.protocol, baud_bd)
        if faster == self.line:
            return faster
        self._require_limp("given another speed")
        self._unlock(own)
        self._bus.write(self.id, own, possible[baud_bd])
        self._port.close()
        port = open_port(faster.path, baud_bd)
        try:
            moved = Servo(port, faster, self.id, self.table)
            if moved._bus.ping(self.id) != self.table.model_number:
                raise DeviceError(f"servo {self.id} was set to {baud_bd} baud but does not answer there")
            moved._lock(own)
        finally:
            port.close()
        return faster

    def reboot(self) -> None:
        """Restart the servo; refused while it holds torque, as its joint would fall.

        Raises:
            DeviceError: torque is on, the servo does not come back, or its protocol has no such instruction.
        """
        self._require_limp("rebooted")
        self._bus.reboot(self.id)

    def _refuse(self, own: Register, value: int) -> None:
        service = self._series.service
        if own.access is Access.R:
            raise BadInputError("is read only", key=own.name, value=value)
        for special, command in ((service.id, "set-id"), (service.baud_rate, "set-baud")):
            if own.address == special.address:
                raise BadInputError(
                    "has a command of its own", key=own.name, allowed=f"robotrl bus {command}"
                )
        if own.address == self._series.torque.address and value:
            raise BadInputError(
                "turns torque on, which only `robotrl run --arm` does", key=own.name, value=value
            )
        _check_value(own, value)

    def _put(self, own: Register, value: int) -> None:
        if own.address == self._series.service.status_level.address and own.area is Area.RAM:
            self._bus.sync_write(own, np.array([value]))  # it may have been told not to acknowledge
            return
        if own.address != self._series.torque.address:  # a goal or a gain would move what is stiff
            self._require_limp(f"given another {own.name}")
        self._unlock(own)
        self._bus.write(self.id, own, value)
        self._lock(own)

    def _unlock(self, own: Register) -> None:
        """Let a write to EEPROM last."""
        if own.area is Area.EEPROM and (lock := self._series.service.lock) is not None:
            self._bus.write(self.id, lock, 0)

    def _lock(self, own: Register) -> None:
        if own.area is Area.EEPROM and (lock := self._series.service.lock) is not None:
            self._bus.write(self.id, lock, 1)

    def _require_limp(self, done: str) -> None:
        torque = self._series.torque
        if self.read(torque):
            raise DeviceError(
                f"servo {self.id} holds torque and cannot be {done}; hold the joint, then "
                f"`robotrl bus write` {torque.name} 0"
            )


def counts_of(register: Register, value: float) -> int:
    """Return the count nearest to a value in the register's SI unit.

    Raises:
        BadInputError: not finite, or outside the register's range; states the range in that unit.
    """
    unit = register.unit
    if not math.isfinite(value):
        raise BadInputError("is no number", key=register.name, value=value)
    counts = round(value / unit.scale)
    _check_value(register, counts, value)
    return counts


def whole(register: Register, value: float) -> int:
    """Return a value that was given in counts.

    Raises:
        BadInputError: it is no whole number, or outside the register's range.
    """
    if not value.is_integer():
        raise BadInputError("is no whole number of counts", key=register.name, value=value)
    _check_value(register, int(value))
    return int(value)


def _check_value(register: Register, counts: int, given: float | None = None) -> None:
    unit = register.unit
    if not register.minimum <= counts <= register.maximum:
        low, high = register.minimum, register.maximum
        allowed = f"{low} to {high} counts" if unit.symbol else f"{low} to {high}"
        if unit.symbol:
            allowed += f", which is {low * unit.scale:.6g} to {high * unit.scale:.6g} {unit.symbol}"
        raise BadInputError(
            "is out of range", key=register.name, value=counts if given is None else given, allowed=allowed
        )
