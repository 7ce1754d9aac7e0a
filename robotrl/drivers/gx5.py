"""MicroStrain's 3DM-GX5 as an IMU that sends acceleration and angular velocity; orientation is filtered here.

Source: MicroStrain, "3DM-GX5-25 Data Communications Protocol": commands of the 3DM set (0x0C) Get IMU Data
Base Rate (0x06), IMU Message Format (0x08) and Enable/Disable Continuous Data Stream (0x11). Its axes are x
forward, y right, z down; samples are turned by half a turn about x, so that z is up as with other sensors.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from robotrl.drivers.imu import ImuReader, Sample
from robotrl.drivers.microstrain import (
    STANDARD_GRAVITY_M_S2,
    Field,
    Measurement,
    Packet,
    PacketParser,
    measurements,
)
from robotrl.drivers.orientation import Attitude, advance, at_rest
from robotrl.drivers.port import Port
from robotrl.errors import DeviceError
from robotrl.spec.robot import ImuSpec
from robotrl.spec.state import Floats

COMMANDS = 0x0C
"""Descriptor set of the 3DM commands and of the replies to them."""
BASE_RATE, MESSAGE_FORMAT, STREAM = 0x06, 0x08, 0x11
"""Field descriptors of commands."""
BASE_RATE_REPLY, ACK = 0x83, 0xF1
"""Field descriptors of replies."""
APPLY, SAVE = 0x01, 0x03
"""First byte of a setting: it holds now; it is kept without power."""
IMU_STREAM = 0x01
MEASURED = (Measurement.ACCEL_G, Measurement.GYRO_RAD_S)

_REPLY_S = 0.2
_TO_Z_UP = np.array([1.0, -1.0, -1.0])


def base_rate_request() -> Packet:
    """Ask how many samples a second the decimation is counted from."""
    return Packet(COMMANDS, (Field(BASE_RATE, b""),))


def message_format(decimation: int, function: int) -> Packet:
    """Let every so-many-th sample of acceleration and angular velocity be sent; or save that."""
    if function == SAVE:
        return Packet(COMMANDS, (Field(MESSAGE_FORMAT, bytes((SAVE, 0))),))
    entries = b"".join(bytes((kind,)) + decimation.to_bytes(2, "big") for kind in MEASURED)
    return Packet(COMMANDS, (Field(MESSAGE_FORMAT, bytes((function, len(MEASURED))) + entries),))


def stream(function: int) -> Packet:
    """Let the samples be sent continuously; or save that."""
    return Packet(COMMANDS, (Field(STREAM, bytes((function, IMU_STREAM, 1))),))


class Gx5(ImuReader):
    """A 3DM-GX5: every sample that arrives turns the orientation, also where several come with one poll.

    A sample that is lost on the way loses its turn; gravity gives the tilt back, nothing the heading.

    Args:
        port: where the bytes come from.
        imu: rate and mounting.
    """

    def __init__(self, port: Port, imu: ImuSpec) -> None:
        super().__init__(port, imu)
        self._parser = PacketParser()
        self._attitude: Attitude | None = None
        self._before: tuple[tuple[float, ...], ...] = ()

    def configure(self) -> None:
        """Send the settings of robot.toml and save them in the sensor; one that is silent is left alone.

        Raises:
            PortError: the port has gone.
            DeviceError: it cannot send as often as robot.toml says.
        """
        self._port.write(base_rate_request().encode())
        base_rate_hz = next(self._base_rates(), 0)
        if base_rate_hz % self._spec.rate_hz:
            raise DeviceError(
                f"the IMU cannot send {self._spec.rate_hz} samples a second: imu.rate_hz must divide "
                f"{base_rate_hz}"
            )
        for function in (APPLY, SAVE) if base_rate_hz else ():
            self._port.write(message_format(base_rate_hz // self._spec.rate_hz, function).encode())
            self._port.write(stream(function).encode())

    def _base_rates(self) -> Iterator[int]:
        parser, deadline_s = PacketParser(), time.monotonic() + _REPLY_S
        while chunk := self._port.read(deadline_s):
            for packet in parser.feed(chunk):
                for field in packet.fields if packet.descriptor_set == COMMANDS else ():
                    if field.descriptor == BASE_RATE_REPLY:
                        yield int.from_bytes(field.data, "big")

    def _newest(self, data: bytes) -> Sample:
        sample = Sample()
        for packet in self._parser.feed(data):
            found = measurements(packet)
            values = tuple(found.get(kind, ()) for kind in MEASURED)
            if all(values) and values != self._before:  # one that hangs must not turn on
                self._before = values
                accel, gyro = (_TO_Z_UP * value for value in values)
                accel *= STANDARD_GRAVITY_M_S2
                sample = Sample(self._turned(gyro, accel), gyro, accel)
        return sample

    def _turned(self, gyro_rad_s: Floats, accel_m_s2: Floats) -> Floats:
        """(4,) orientation after a sample; one that is no measurement is passed on, to be refused."""
        if not (np.isfinite(gyro_rad_s).all() and np.isfinite(accel_m_s2).all() and accel_m_s2.any()):
            return np.full(4, np.nan)
        if self._attitude is None:
            self._attitude = at_rest(accel_m_s2)
        else:
            self._attitude = advance(self._attitude, gyro_rad_s, accel_m_s2, 1.0 / self._spec.rate_hz)
        return self._attitude.quat
