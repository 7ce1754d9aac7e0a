"""`robotrl bus scan` and `robotrl bus ping`: which servos answer."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from robotrl.cli.bus_place import Ids, Place
from robotrl.errors import DeviceError
from robotrl.spec.buses import ServoProtocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from robotrl.drivers.scan import Found, Heard


@dataclass(frozen=True)
class Scan:
    """Find every servo on a line: every id at every speed, both manufacturers. Nothing is written.

    Takes some 30 seconds; naming --protocol or --baud makes it shorter.

    Example: robotrl bus scan --port /dev/ttyUSB0
    """

    place: tyro.conf.OmitArgPrefixes[Place]
    """The line."""
    json: bool = False
    """Print what was found as JSON."""

    def run(self) -> int:
        """Print the servos; an error where there are none."""
        robot = self.place.spec()
        path = self.place.port if robot is None else self.place.line().path
        heard = self._listen(path)
        names = {joint.id: joint.name for joint in self.place.joints()}
        found = [servo for each in heard for servo in each.servos]
        if self.json:
            print(json.dumps({"port": path, "heard": [dataclasses.asdict(each) for each in heard]}))
        elif found:
            _print_servos(path, found, names)
        for each in heard:
            if not self.json and (note := _note(each)):
                print(note)
        if not found:
            raise DeviceError(f"no servo answers on {path}; check power and cable, then `robotrl bus doctor`")
        return 0

    def _listen(self, path: str) -> list[Heard]:
        from rich.console import Console

        from robotrl.drivers.doctor import latency_ms
        from robotrl.drivers.port import SerialPort
        from robotrl.drivers.scan import BAUD_RATES, scan

        protocols = self._protocols()
        rates = [self.place.baud] if self.place.baud else []
        steps = sum(len(rates or BAUD_RATES[protocol]) for protocol in protocols)
        held_back_ms = latency_ms(path)
        heard: list[Heard] = []
        with Console(stderr=True).status("listening") as status:
            for each in scan(path, SerialPort, protocols, rates, held_back_s=(held_back_ms or 16) / 1e3):
                heard.append(each)
                servos = sum(len(one.servos) for one in heard)
                status.update(f"{path}: {len(heard)} of {steps} speeds tried, {servos} servos found")
        return heard

    def _protocols(self) -> tuple[ServoProtocol, ...]:
        robot = self.place.spec()
        if robot is not None:
            return (robot.bus[self.place.bus_name(robot)].protocol,)
        return (self.place.protocol,) if self.place.protocol else ("dynamixel2", "feetech_sts")


@dataclass(frozen=True)
class Ping:
    """Ask servos whether they are there: model, firmware and the time until the answer.

    Example: robotrl bus ping --robot quad12
    """

    place: tyro.conf.OmitArgPrefixes[Place]
    """The line."""
    id: Ids = ()
    """The servos; without it those of the robot."""
    json: bool = False
    """Print what was found as JSON."""

    def run(self) -> int:
        """Print who answers; an error where one does not."""
        from robotrl.drivers.scan import Found
        from robotrl.drivers.servo import Servo

        answers = []
        with self.place.opened() as (port, line):
            for id_ in self.place.ids(self.id):
                servo = Servo.find(port, line, id_)
                started_s = time.perf_counter()
                line.bus(port, (id_,)).ping(id_)
                took_s = time.perf_counter() - started_s
                table = servo.table
                found = Found(
                    id_, table.model_number, table.model, servo.firmware, line.protocol, line.baud_bd
                )
                answers.append((found, took_s))
        if self.json:
            print(json.dumps([dataclasses.asdict(found) | {"round_trip_s": s} for found, s in answers]))
        for found, took_s in () if self.json else answers:
            print(f"servo {found.id}: {found.model}, firmware {found.firmware}, {1e3 * took_s:.1f} ms")
        return 0


def _print_servos(path: str, found: list[Found], names: Mapping[int, str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    count = f"{len(found)} servo{'s' if len(found) > 1 else ''} on {path}"
    table = Table(title=count, title_justify="left", box=box.SIMPLE)
    for column, justify in (("id", "right"), ("model", "left"), ("firmware", "right"), ("baud", "right")):
        table.add_column(column, justify="right" if justify == "right" else "left")
    table.add_column("joint" if names else "protocol")
    for servo in sorted(found, key=lambda servo: (servo.baud_bd, servo.id)):
        model = servo.model or f"unknown ({servo.model_number})"
        last = names.get(servo.id, "-") if names else servo.protocol
        table.add_row(str(servo.id), model, servo.firmware or "?", str(servo.baud_bd), last)
    Console().print(table)


def _note(heard: Heard) -> str:
    at = f"{heard.protocol} at {heard.baud_bd} baud"
    if heard.problem:
        return f"{at} was not tried: {heard.problem}"
    if heard.stray_bytes:
        return f"{at}: {heard.stray_bytes} bytes were no answer: noise, or two servos with one id"
    return ""
