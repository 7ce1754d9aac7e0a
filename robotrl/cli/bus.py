"""`robotrl bus`: find servos, look after them one by one, watch them, and say what is wrong with a bus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from robotrl.cli.bus_calibrate import Calibrate
from robotrl.cli.bus_doctor import Doctor
from robotrl.cli.bus_monitor import Monitor
from robotrl.cli.bus_register import Read, Reboot, SetBaud, SetId, Write
from robotrl.cli.bus_scan import Ping, Scan

Action = (
    Annotated[Scan, tyro.conf.subcommand("scan")]
    | Annotated[Ping, tyro.conf.subcommand("ping")]
    | Annotated[Read, tyro.conf.subcommand("read")]
    | Annotated[Write, tyro.conf.subcommand("write")]
    | Annotated[SetId, tyro.conf.subcommand("set-id")]
    | Annotated[SetBaud, tyro.conf.subcommand("set-baud")]
    | Annotated[Reboot, tyro.conf.subcommand("reboot")]
    | Annotated[Monitor, tyro.conf.subcommand("monitor")]
    | Annotated[Calibrate, tyro.conf.subcommand("calibrate")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


@dataclass(frozen=True)
class Bus:
    """Servos on a serial line: find, read, write, rename, watch, calibrate, diagnose. Nothing ever moves.

    Works with a port directly (--port, --protocol, --baud) or with a robot (--robot).

    Example: robotrl bus scan --port /dev/ttyUSB0
    """

    action: tyro.conf.OmitSubcommandPrefixes[Action]
    """What to do."""

    def run(self) -> int:
        """Do it and return an exit code."""
        return self.action.run()
