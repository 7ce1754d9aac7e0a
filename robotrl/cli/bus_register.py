"""`robotrl bus read`, `write`, `set-id`, `set-baud` and `reboot`: one servo at a time, nothing moves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tyro

from robotrl.cli.bus_place import Ids, Place

if TYPE_CHECKING:
    from robotrl.drivers.registers import Register
    from robotrl.drivers.servo import Servo


@dataclass(frozen=True)
class Read:
    """Read a register by its name in the manual, or all of them; values in SI units and in counts.

    Example: robotrl bus read "Present Position" --port /dev/ttyUSB0 --baud 1000000 --id 11
    """

    place: tyro.conf.OmitArgPrefixes[Place]
    """The line."""
    id: int
    """The servo."""
    register: tyro.conf.Positional[str] = ""
    """Name, however it is written: "Goal Position" or goal_position; without it every register."""
    json: bool = False
    """Print values as JSON."""

    def run(self) -> int:
        """Print the value or the table."""
        from robotrl.drivers.servo import Servo

        with self.place.opened() as (port, line):
            servo = Servo.find(port, line, self.id)
            table = servo.table
            wanted = [table.named(self.register)] if self.register else list(table.registers.values())
            values = [(register, servo.read(register)) for register in wanted]
        if self.json:
            print(json.dumps({"id": self.id, "registers": [_record(*value) for value in values]}))
        elif self.register:
            print(_sentence(*values[0]))
        else:
            _print_registers(servo, values)
        return 0


@dataclass(frozen=True)
class Write:
    """Write a register by its name and read it back.

    Refused: read-only registers, values out of range, EEPROM under torque, and turning torque on.

    Example: robotrl bus write "Return Delay Time" 0 --port /dev/ttyUSB0 --baud 1000000 --id 11
    """

    place: tyro.conf.OmitArgPrefixes[Place]
    """The line."""
    id: Ids
    """The servos: one or more."""
    register: tyro.conf.Positional[str]
    """Name, however it is written: "Goal Position" or goal_position."""
    value: tyro.conf.Positional[float]
    """In the register's SI unit: rad, rad/s, V, A, s; codes and gains as they are."""
    counts: bool = False
    """The value is in counts of the register."""
    json: bool = False
    """Print what the register reads afterwards as JSON."""

    def run(self) -> int:
        """Write, read back, print."""
        from robotrl.drivers.servo import Servo, counts_of, whole

        written = []
        with self.place.opened() as (port, line):
            for id_ in self.id:
                servo = Servo.find(port, line, id_)
                register = servo.table.named(self.register)
                counts = whole(register, self.value) if self.counts else counts_of(register, self.value)
                written.append((id_, register, servo.write(register, counts)))
        if self.json:
            print(json.dumps([{"id": id_, **_record(register, after)} for id_, register, after in written]))
        for id_, register, after in () if self.json else written:
            print(f"servo {id_}: {_sentence(register, after)}")
        return 0


@dataclass(frozen=True)
class SetId:
    """Give a servo another id: the new one must be free, and is pinged afterwards.

    Example: robotrl bus set-id --port /dev/ttyUSB0 --id 1 --to 11
    """

    place: tyro.conf.OmitArgPrefixes[Place]
    """The line."""
    id: int
    """Its id now."""
    to: int
    """Its new id."""
    json: bool = False
    """Print the new id as JSON."""

    def run(self) -> int:
        """Change it and ask for the servo."""
        from robotrl.drivers.servo import Servo

        with self.place.opened() as (port, line):
            moved = Servo.find(port, line, self.id).set_id(self.to)
        print(
            json.dumps({"was": self.id, "id": moved.id})
            if self.json
            else f"servo {self.id} is now {moved.id}"
        )
        return 0


@dataclass(frozen=True)
class SetBaud:
    """Give a servo another speed; it is pinged there afterwards.

    Example: robotrl bus set-baud --port /dev/ttyUSB0 --id 11 --to 1000000
    """

    place: tyro.conf.OmitArgPrefixes[Place]
    """The line, at the servo's speed now."""
    id: int
    """The servo."""
    to: int
    """Bits per second."""
    json: bool = False
    """Print the new speed as JSON."""

    def run(self) -> int:
        """Change it and ask for the servo at the new speed."""
        from robotrl.drivers.port import SerialPort
        from robotrl.drivers.servo import Servo

        with self.place.opened() as (port, line):
            now = Servo.find(port, line, self.id).set_baud(self.to, SerialPort)
        answer = {"id": self.id, "was_bd": line.baud_bd, "baud_bd": now.baud_bd}
        print(json.dumps(answer) if self.json else f"servo {self.id} answers at {now.baud_bd} baud")
        return 0


@dataclass(frozen=True)
class Reboot:
    """Restart servos, which forget their hardware errors; refused while they hold torque.

    Example: robotrl bus reboot --robot quad12 --id 11
    """

    place: tyro.conf.OmitArgPrefixes[Place]
    """The line."""
    id: Ids
    """The servos: one or more."""
    json: bool = False
    """Print the hardware errors that are left as JSON."""

    def run(self) -> int:
        """Restart it and wait until it is back; 1 where an error is still there."""
        from robotrl.drivers.servo import Servo

        errors = {}
        with self.place.opened() as (port, line):
            health = line.series.health
            for id_ in self.id:
                servo = Servo.find(port, line, id_)
                servo.reboot()
                errors[id_] = servo.read(health)
        if self.json:
            print(json.dumps([{"id": id_, "error": error} for id_, error in errors.items()]))
        for id_, error in () if self.json else errors.items():
            print(f"servo {id_} is back" + (f"; {health.name} is still {error}" if error else ""))
        return 1 if any(errors.values()) else 0


def _record(register: Register, counts: int) -> dict[str, Any]:
    return {
        "name": register.name,
        "address": register.address,
        "counts": counts,
        "value": round(counts * register.unit.scale, 9),
        "unit": register.unit.symbol,
    }


def _sentence(register: Register, counts: int) -> str:
    name = f"{register.name} ({register.address})"
    if not register.unit.symbol:
        return f"{name} = {counts}"
    return f"{name} = {_si(register, counts)} ({counts} counts)"


def _si(register: Register, counts: int) -> str:
    symbol = register.unit.symbol
    return f"{counts * register.unit.scale:.5g}" + ("" if symbol in ("", "1") else f" {symbol}")


def _print_registers(servo: Servo, values: list[tuple[Register, int]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"servo {servo.id}, {servo.table.model}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for column in ("at", "register", "counts", "value", "may be"):
        table.add_column(column, justify="left" if column == "register" else "right", no_wrap=True)
    area = None
    for register, counts in values:
        if area is not None and register.area is not area:
            table.add_section()
        area = register.area
        bounds = f"{register.minimum} to {register.maximum}" if register.access.value == "RW" else ""
        value = _si(register, counts) if register.unit.symbol else ""
        table.add_row(str(register.address), register.name, str(counts), value, bounds)
    Console().print(table)
