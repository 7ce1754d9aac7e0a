"""VectorNav's VN-100 as an IMU: one binary message with orientation, angular velocity and acceleration.

Source: VectorNav, VN-100 user manual: "Write Register", registers 6 (asynchronous ASCII output) and 75
(binary output 1), "Write Settings". Its axes are x forward, y right, z down and its world is north, east,
down; samples are turned by half a turn about x, so that z is up as with other sensors.
"""

from __future__ import annotations

from functools import reduce
from operator import xor

import numpy as np

from robotrl.drivers.imu import ImuReader, Sample, send_commands
from robotrl.drivers.port import Port
from robotrl.drivers.vectornav import Field, MessageParser, Values
from robotrl.spec.robot import ImuSpec

IMU_RATE_HZ = 800
"""From which the rate of the output is divided."""
MEASURED = (Field.QUATERNION_XYZW, Field.ANGULAR_RATE_RAD_S, Field.ACCEL_M_S2)
ASCII_OUTPUT, BINARY_OUTPUT = 6, 75
"""Registers."""
Z_UP = np.array([1.0, -1.0, -1.0])
"""Turns a vector by half a turn about x; of a quaternion w x y z, its vector part."""

_SERIAL_PORT_1 = 1


def ascii_command(body: str) -> bytes:
    """Return a command with its checksum, the exclusive or of its characters."""
    return f"${body}*{reduce(xor, body.encode('ascii'), 0):02X}\r\n".encode("ascii")


def settings(imu: ImuSpec) -> list[bytes]:
    """Return the commands that make the sensor send what robot.toml says, except its baud rate."""
    fields = sum(1 << field for field in MEASURED)
    divisor = IMU_RATE_HZ // imu.rate_hz
    return [
        ascii_command(f"VNWRG,{ASCII_OUTPUT:02d},0"),
        ascii_command(f"VNWRG,{BINARY_OUTPUT},{_SERIAL_PORT_1},{divisor},01,{fields:04X}"),
        ascii_command("VNWNV"),
    ]


class Vn100(ImuReader):
    """A VN-100 whose first binary output is the Common group's message of what a robot needs.

    Args:
        port: where the bytes come from.
        imu: rate and mounting.
    """

    def __init__(self, port: Port, imu: ImuSpec) -> None:
        super().__init__(port, imu)
        self._parser = MessageParser()

    def configure(self) -> None:
        """Send the settings of robot.toml and save them in the sensor.

        Raises:
            PortError: the port has gone.
        """
        send_commands(self._port, settings(self._spec))

    def _newest(self, data: bytes) -> Sample:
        whole = [values for values in self._parser.feed(data) if set(MEASURED) <= values.keys()]
        return _sample(whole[-1]) if whole else Sample()


def _sample(values: Values) -> Sample:
    x, y, z, w = values[Field.QUATERNION_XYZW]
    return Sample(
        np.array([w, x, -y, -z]),
        Z_UP * values[Field.ANGULAR_RATE_RAD_S],
        Z_UP * values[Field.ACCEL_M_S2],
    )
