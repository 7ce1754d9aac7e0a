"""`robotrl bus calibrate`: encoder zeros and reach of one robot, guided by hand with torque off."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from robotrl.errors import BadInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from robotrl.drivers.calibration import GuidedJoints
    from robotrl.drivers.registers import Ints
    from robotrl.spec.robot import RobotSpec
    from robotrl.spec.state import Floats
    from robotrl.spec.unit import JointUnit, UnitSpec

_LOOKS = 200
"""Of a posture that is held still; their middle counts."""
_LOOK_S = 0.05


@dataclass(frozen=True)
class Calibrate:
    """Record where the joints of one robot are zero and how far they reach; torque stays off.

    First hold the robot in a known posture and press Enter, then move every joint from end to end and
    press Enter. Writes hardware/<robot>/units/<serial>.toml; `robotrl run --unit SERIAL` uses it.

    Example: robotrl bus calibrate --robot quad12 --serial A7
    """

    robot: str
    """robot.toml or its folder, or the name of a shipped robot."""
    serial: str
    """Of this one: the file's name."""
    port: tuple[str, ...] = ()
    """NAME=DEVICE instead of the port in robot.toml; NAME is a bus."""
    posture: Literal["zero", "default", "park"] = "zero"
    """The posture to hold: every joint at 0 rad, or one of robot.toml."""
    replace: bool = False
    """Replace the file of this unit if there is one."""
    json: bool = False
    """Print the result as JSON; prompts go to the error output."""

    def run(self) -> int:
        """Guide, measure, check, write."""
        from robotrl.drivers.calibration import calibrated, joint_units, short_of_limits
        from robotrl.spec.robot import load_robot
        from robotrl.spec.shipped import find_shipped
        from robotrl.spec.unit import to_toml, unit_file

        robot = load_robot(find_shipped("hardware", self.robot))
        file = unit_file(robot, self.serial, "--serial")
        if file.exists() and not self.replace:
            raise BadInputError("exists already", file=file, key="--serial", allowed="with --replace")
        with contextlib.ExitStack() as stack:
            buses = [self._guided(stack, robot, name) for name in robot.bus]
            for guided in buses:
                guided.require_limp()
                guided.require_counting()
            zeros = self._zeros(robot, buses)
            self._reach(robot, buses, zeros)
            measured: dict[str, JointUnit] = {}
            for guided, zero in zip(buses, zeros, strict=True):
                guided.require_limp()
                measured |= joint_units(guided, zero)
        unit = calibrated(robot, self.serial, measured, file)
        file.parent.mkdir(exist_ok=True)
        file.write_text(to_toml(unit), encoding="utf-8")
        self._tell(file, robot, unit, short_of_limits(robot, unit))
        return 0

    def _guided(self, stack: contextlib.ExitStack, robot: RobotSpec, name: str) -> GuidedJoints:
        from robotrl.drivers.calibration import GuidedJoints
        from robotrl.drivers.port import SerialPort
        from robotrl.drivers.servo import Line

        spec = robot.bus[name]
        line = Line(self._ports(robot).get(name, spec.port), spec.protocol, spec.baud_bd)
        port = SerialPort(line.path, line.baud_bd)
        stack.callback(port.close)
        return GuidedJoints(port, line, [joint for joint in robot.joint if joint.bus == name], robot)

    def _ports(self, robot: RobotSpec) -> Mapping[str, str]:
        ports = {}
        for text in self.port:
            name, equals, device = text.partition("=")
            if name not in robot.bus or not equals or not device:
                raise BadInputError(
                    "is no port",
                    key="--port",
                    value=text,
                    allowed=f"NAME=DEVICE with NAME of {list(robot.bus)}",
                )
            ports[name] = device
        return ports

    def _zeros(self, robot: RobotSpec, buses: Sequence[GuidedJoints]) -> list[Ints]:
        angles = {"zero": [0.0] * len(robot.joint), "default": robot.default_rad.tolist()}
        angles |= {"park": robot.park_rad.tolist()}
        posture = dict(zip(robot.joint_names, angles[self.posture], strict=True))
        _wait_for_enter(f"Hold every joint in the {self.posture} posture, then press Enter.", lambda: None)
        return [guided.zero_counts(guided.hold_still(_LOOKS), posture) for guided in buses]

    def _reach(self, robot: RobotSpec, buses: Sequence[GuidedJoints], zeros: Sequence[Ints]) -> None:
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), auto_refresh=False) as live:

            def look() -> None:
                for guided in buses:
                    guided.look()
                live.update(_table(robot, buses, zeros), refresh=True)

            _wait_for_enter("Move every joint from end to end, then press Enter.", look)

    def _tell(self, file: Path, robot: RobotSpec, unit: UnitSpec, notes: list[str]) -> None:
        moved = {joint.name: unit.joint[joint.name].zero_count - joint.zero_count for joint in robot.joint}
        if self.json:
            answer = {"file": str(file), "zero_count": {n: of.zero_count for n, of in unit.joint.items()}}
            print(json.dumps(answer | {"moved_counts": moved, "notes": notes}))
            return
        furthest = max(moved, key=lambda name: abs(moved[name]))
        print(f"wrote {file}; the furthest from robot.toml is {furthest} by {moved[furthest]:+d} counts")
        for note in notes:
            print(f"note: {note}")


def _wait_for_enter(prompt: str, meanwhile: Callable[[], None]) -> None:
    """Do something again and again until a line has been typed.

    Raises:
        BadInputError: the input ends first.
    """
    print(prompt, file=sys.stderr)
    typed = b""
    while typed != b"\n":  # byte by byte: what is behind the line belongs to the next prompt
        meanwhile()
        if not select.select([sys.stdin], [], [], _LOOK_S)[0]:
            continue
        if not (typed := os.read(sys.stdin.fileno(), 1)):
            raise BadInputError("ended before Enter was pressed", key="the input")


def _table(robot: RobotSpec, buses: Sequence[GuidedJoints], zeros: Sequence[Ints]) -> Table:
    """What every joint has reached, next to what robot.toml allows."""
    import numpy as np
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("joint", "reached rad", "", "robot.toml rad", ""):
        table.add_column(column, justify="left" if column == "joint" else "right", no_wrap=True)
    reached: dict[str, Floats] = {}
    for guided, zero in zip(buses, zeros, strict=True):
        ends = np.sort([guided.angles_rad(guided.low, zero), guided.angles_rad(guided.high, zero)], axis=0)
        reached |= dict(zip([joint.name for joint in guided.joints], ends.T, strict=True))
    for joint in robot.joint:
        low, high = reached[joint.name]
        table.add_row(
            joint.name,
            Text(f"{low:+.3f}", "green" if low <= joint.position_min_rad else "yellow"),
            Text(f"{high:+.3f}", "green" if high >= joint.position_max_rad else "yellow"),
            f"{joint.position_min_rad:+.3f}",
            f"{joint.position_max_rad:+.3f}",
        )
    return table
