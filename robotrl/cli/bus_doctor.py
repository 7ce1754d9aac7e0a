"""`robotrl bus doctor`: what is wrong with a port and the servos behind it, and what repairs it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from robotrl.cli.bus_place import Place

if TYPE_CHECKING:
    from robotrl.drivers.doctor import Finding
    from robotrl.drivers.scan import Found


@dataclass(frozen=True)
class Doctor:
    """Examine a port, its adapter and the servos; say what is wrong and the command that repairs it.

    Finds: a missing, busy or forbidden port, the 16 ms latency timer of FTDI adapters, servos that are
    missing or at another speed, mixed or old firmware, return delays, wrong status levels, hardware errors.

    Example: robotrl bus doctor --robot quad12
    """

    place: tyro.conf.OmitArgPrefixes[Place]
    """The line."""
    json: bool = False
    """Print the findings as JSON."""

    def run(self) -> int:
        """Examine and print; 1 where something is wrong."""
        from robotrl.drivers.doctor import examine_port

        path = self.place.line().path
        findings = examine_port(path)
        found: list[Found] = []
        if all(finding.harmless for finding in findings):
            found = self._scan(path)
            findings += self._servos(path, found)
        if self.json:
            answer = {"port": path, "findings": [dataclasses.asdict(finding) for finding in findings]}
            print(json.dumps(answer | {"servos": [dataclasses.asdict(servo) for servo in found]}))
        else:
            _print(path, found, findings)
        return 1 if findings else 0

    def _scan(self, path: str) -> list[Found]:
        from rich.console import Console

        from robotrl.drivers.doctor import latency_ms
        from robotrl.drivers.port import SerialPort
        from robotrl.drivers.scan import scan

        robot = self.place.spec()
        protocols = [self.place.line().protocol] if robot or self.place.protocol else None
        rates = [self.place.baud] if self.place.baud else []
        held_back_s = (latency_ms(path) or 16) / 1e3
        with Console(stderr=True).status(f"listening on {path}"):
            heard = scan(path, SerialPort, protocols, rates, held_back_s=held_back_s)
            return [servo for each in heard for servo in each.servos]

    def _servos(self, path: str, found: list[Found]) -> list[Finding]:
        from robotrl.drivers import doctor
        from robotrl.drivers.models import MODELS
        from robotrl.drivers.port import SerialPort
        from robotrl.drivers.servo import Line, Servo

        findings = doctor.examine_firmware(found)
        if (robot := self.place.spec()) is not None:
            findings += doctor.examine_crew(self.place.joints(), found, self.place.line())
            if robot.bus[self.place.bus_name(robot)].fast_sync_read:
                findings += doctor.examine_fast_sync_read(found)
        elif not found:
            findings.append(doctor.NOBODY)
        for line in sorted({(servo.protocol, servo.baud_bd) for servo in found}):
            at = Line(path, *line)
            port = SerialPort(path, at.baud_bd)
            try:
                known = [
                    Servo(port, at, servo.id, MODELS[servo.model_number])
                    for servo in found
                    if (servo.protocol, servo.baud_bd) == line and servo.model
                ]
                findings += doctor.examine_servos(known)
            finally:
                port.close()
        return findings


def _print(path: str, found: list[Found], findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    for finding in findings:
        console.print(Text("x ", "bold red") + Text(finding.problem))
        console.print(Text("  fix: ", "dim") + Text(finding.fix, "bold"))
    who = f"{len(found)} servo{'' if len(found) == 1 else 's'} answer{'s' if len(found) == 1 else ''}"
    number = f"{len(findings)} thing{'' if len(findings) == 1 else 's'} to repair"
    console.print(Text(f"{path}: {who}, {number if findings else 'nothing to repair'}"))
