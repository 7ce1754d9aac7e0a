"""Where `robotrl bus` finds its servos: a port and a protocol, or a bus of a robot."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.constructors import PrimitiveConstructorSpec

from robotrl.errors import BadInputError
from robotrl.spec.buses import ServoProtocol

if TYPE_CHECKING:
    from robotrl.drivers.port import Port
    from robotrl.drivers.servo import Line
    from robotrl.spec.robot import JointSpec, RobotSpec


def parse_ids(text: str) -> tuple[int, ...]:
    """Return the ids of a list such as `11,12,21-23`.

    Raises:
        ValueError: it is none, which tells the parser of arguments that the use is wrong.
    """
    ids: list[int] = []
    for part in text.split(","):
        first, hyphen, last = part.partition("-")
        some = range(int(first), int(last if hyphen else first) + 1)
        if not some:
            raise ValueError(f"{part} ends before it begins")
        ids += some
    return tuple(ids)


Ids = Annotated[
    tuple[int, ...],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="11,12,21-23",
        instance_from_str=lambda words: parse_ids(words[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda ids: [",".join(map(str, ids))],
    ),
]
"""Several servos in one argument, so that what follows cannot be taken for another id."""


@dataclass(frozen=True)
class Place:
    """A port, directly or as a robot's."""

    port: str = ""
    """Device file, such as /dev/ttyUSB0; with --robot, instead of the one in robot.toml."""
    protocol: ServoProtocol | None = None
    """What the servos speak; without it dynamixel2, or what robot.toml says. `scan` tries all."""
    baud: int | None = None
    """Bits per second; without it what servos have ex works (57600 or 1000000), or what robot.toml says."""
    robot: str = ""
    """robot.toml or its folder, or the name of a shipped robot, instead of port and protocol."""
    bus: str = ""
    """Which bus of the robot, where it has several."""

    def spec(self) -> RobotSpec | None:
        """Return the robot, if one is named.

        Raises:
            BadInputError: neither port nor robot, or options that contradict each other.
        """
        from robotrl.spec.robot import load_robot
        from robotrl.spec.shipped import find_shipped

        if not self.robot:
            if not self.port:
                raise BadInputError(
                    "says where the servos are", key="--port or --robot", allowed="one of them"
                )
            if self.bus:
                raise BadInputError("needs --robot", key="--bus", value=self.bus)
            return None
        if self.protocol or self.baud:
            raise BadInputError(
                "come from robot.toml", key="--protocol and --baud", allowed="without --robot"
            )
        return load_robot(find_shipped("hardware", self.robot))

    def line(self) -> Line:
        """Return the serial line.

        Raises:
            BadInputError: as in `spec`, or the robot has no such bus.
        """
        from robotrl.drivers.series import SERIES
        from robotrl.drivers.servo import Line

        robot = self.spec()
        if robot is not None:
            spec = robot.bus[self.bus_name(robot)]
            return Line(self.port or spec.port, spec.protocol, spec.baud_bd)
        protocol: ServoProtocol = self.protocol or "dynamixel2"
        return Line(self.port, protocol, self.baud or SERIES[protocol].service.factory_baud_bd)

    def bus_name(self, robot: RobotSpec) -> str:
        """Return the name of the robot's bus that is meant.

        Raises:
            BadInputError: it has no such bus, or several and none is named.
        """
        if self.bus and self.bus not in robot.bus:
            raise BadInputError("names no [bus]", key="--bus", value=self.bus, allowed=robot.bus)
        if not self.bus and len(robot.bus) > 1:
            raise BadInputError("is needed: the robot has several", key="--bus", allowed=robot.bus)
        return self.bus or next(iter(robot.bus))

    def joints(self) -> tuple[JointSpec, ...]:
        """Return the joints of the robot's bus; none without a robot."""
        robot = self.spec()
        if robot is None:
            return ()
        name = self.bus_name(robot)
        return tuple(joint for joint in robot.joint if joint.bus == name)

    def ids(self, named: tuple[int, ...]) -> tuple[int, ...]:
        """Return the ids named, or else those of the robot's bus.

        Raises:
            BadInputError: neither, or as in `spec`.
        """
        if self.spec() is None and not named:
            raise BadInputError("names the servos", key="--id", allowed="one or more, or --robot")
        return named or tuple(joint.id for joint in self.joints())

    @contextlib.contextmanager
    def opened(self, *, again: bool = False) -> Iterator[tuple[Port, Line]]:
        """Open the line, and if so told again whenever it has gone away; it is closed afterwards.

        Raises:
            PortError: it is missing, busy or not permitted.
        """
        from robotrl.drivers.port import ReopeningPort, SerialPort

        line = self.line()
        opener = functools.partial(SerialPort, line.path, line.baud_bd)
        port = ReopeningPort(opener) if again else opener()
        try:
            yield port, line
        finally:
            port.close()
