"""`robotrl bus monitor`: a live table of what the servos measure."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tyro

from robotrl.cli.bus_place import Ids, Place
from robotrl.errors import BadInputError

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from robotrl.drivers.monitor import Monitor as Watch
    from robotrl.drivers.monitor import Sample
    from robotrl.spec.robot import JointSpec, RobotSpec

_STALE_S = 0.5
_WARM_C = 60.0
_BAR = 5
"""Characters of a load's bar on either side of zero."""


@dataclass(frozen=True)
class Monitor:
    """Watch position, velocity, load, voltage, temperature, errors and age of servos; nothing is written.

    With --robot, positions are angles of joints; without, of the servos. A cable or adapter that is pulled
    out may be plugged in again: meanwhile values only age. Ctrl-C ends it.

    Example: robotrl bus monitor --robot quad12
    """

    place: tyro.conf.OmitArgPrefixes[Place]
    """The line."""
    id: Ids = ()
    """The servos; without it those of the robot."""
    unit: str = ""
    """Which one of the robot's kind, by the serial that `robotrl bus calibrate` was given."""
    rate_hz: float = 10.0
    """Reads a second."""
    samples: int | None = None
    """End after so many reads."""
    json: bool = False
    """Print a JSON line for each read instead of the table."""

    def run(self) -> int:
        """Show until interrupted."""
        from robotrl.drivers.monitor import Monitor as Watch
        from robotrl.drivers.scale import of_joints

        if not 0.0 < self.rate_hz <= 1000.0:  # noqa: PLR2004 - also refuses NaN
            raise BadInputError(
                "is no rate", key="--rate-hz", value=self.rate_hz, allowed="above 0, up to 1000"
            )
        if self.samples is not None and self.samples < 1:
            raise BadInputError("is too few", key="--samples", value=self.samples, allowed="1 or more")
        ids = self.place.ids(self.id)
        robot = self._robot()
        bus = self.place.bus_name(robot) if robot else ""
        joints = {joint.id: joint for joint in (robot.joint if robot else ()) if joint.bus == bus}
        if missing := [id_ for id_ in ids if joints and id_ not in joints]:
            raise BadInputError("is no servo of this bus", key="--id", value=missing[0], allowed=joints)
        named = [joints[id_] for id_ in ids if joints]
        with self.place.opened(again=True) as (port, line):
            watch = Watch(port, line, ids, of_joints(robot, named) if robot else None)
            try:
                self._watch(watch, named, str(line))
            except KeyboardInterrupt:
                return 0
        return 0

    def _robot(self) -> RobotSpec | None:
        """The robot, if one is named, with the encoder zeros of its unit."""
        from robotrl.spec.unit import load_unit, of_unit

        robot = self.place.spec()
        if not self.unit:
            return robot
        if robot is None:
            raise BadInputError("needs --robot", key="--unit", value=self.unit)
        return of_unit(robot, load_unit(robot, self.unit))

    def _watch(self, watch: Watch, joints: list[JointSpec], title: str) -> None:
        from rich.console import Console
        from rich.live import Live

        count, due_s = 0, time.monotonic()
        console = Console()
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while self.samples is None or count < self.samples:
                sample = watch.sample(time.monotonic())
                if self.json:
                    console.file.write(json.dumps(_record(watch, joints, sample)) + "\n")
                    console.file.flush()
                else:
                    live.update(_table(watch, joints, sample, title), refresh=True)
                count, due_s = count + 1, due_s + 1.0 / self.rate_hz
                time.sleep(max(0.0, due_s - time.monotonic()))


def _record(watch: Watch, joints: list[JointSpec], sample: Sample) -> dict[str, Any]:
    """One read as JSON has it: null for what has not come yet."""
    servos = []
    for k, id_ in enumerate(watch.ids):
        values = {
            "position_rad": sample.position_rad[k],
            "velocity_rad_s": sample.velocity_rad_s[k],
            "load": sample.load[k],
            "voltage_v": sample.voltage_v[k],
            "temperature_c": sample.temperature_c[k],
            "age_s": sample.age_s[k],
        }
        plain = {name: round(float(v), 9) if math.isfinite(v) else None for name, v in values.items()}
        joint = {"joint": joints[k].name} if joints else {}
        servos.append({"id": id_, **joint, **plain, "errors": watch.errors(int(sample.error[k]))})
    return {"servos": servos}


def _table(watch: Watch, joints: list[JointSpec], sample: Sample, title: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("id", justify="right", no_wrap=True)
    if joints:
        table.add_column("joint", no_wrap=True)
    for column in ("rad", "rad/s", "load", "", "V", "degC", "age ms"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    table.add_column("errors")
    for k, id_ in enumerate(watch.ids):
        name = [joints[k].name] if joints else []
        age_s, error = float(sample.age_s[k]), watch.errors(int(sample.error[k]))
        cells = _cells(sample, k) if math.isfinite(age_s) else [""] * 6
        age = Text(f"{1e3 * age_s:.0f}" if math.isfinite(age_s) else "never", _age_style(age_s))
        style = "dim" if age_s > _STALE_S else ""
        table.add_row(str(id_), *name, *cells, age, Text(error, "bold red"), style=style)
    return table


def _cells(sample: Sample, k: int) -> list[str | Text]:
    from rich.text import Text

    load, temperature_c = float(sample.load[k]), float(sample.temperature_c[k])
    return [
        f"{sample.position_rad[k]:+.3f}",
        f"{round(float(sample.velocity_rad_s[k]), 2) + 0.0:+.2f}",  # no minus before a zero
        f"{round(100 * load):+d} %",
        _bar(load),
        f"{sample.voltage_v[k]:.1f}",
        Text(f"{temperature_c:.0f}", "yellow" if temperature_c >= _WARM_C else ""),
    ]


def _age_style(age_s: float) -> str:
    return "red" if age_s > _STALE_S else ""


def _bar(load: float) -> str:
    """The load as a bar from the middle: left is negative."""
    filled = min(_BAR, round(abs(load) * _BAR))
    left, right = ("█" * filled, "") if load < 0 else ("", "█" * filled)
    return f"{left:>{_BAR}}│{right:<{_BAR}}"
