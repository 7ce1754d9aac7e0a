"""The MicroStrain 3DM-GX5 as a device: commands in, replies and packets of acceleration and turn rate out.

Source: MicroStrain, "3DM-GX5-25 Data Communications Protocol"; noise from its data sheet. Commands beyond
those of `robotrl.drivers.gx5` are answered as not known.
"""

from __future__ import annotations

import math

import numpy as np

from robotrl.drivers import gx5 as codec
from robotrl.drivers import microstrain as mip
from robotrl.drivers.microstrain import Field, Measurement, Packet, PacketParser
from robotrl.emulator.imu_sensor import EmulatedImu, Figures, Floats, Measured
from robotrl.spec.robot import GX5_BASE_RATE_HZ, ImuSpec

_BANDWIDTH_HZ = 50
"""Assumption: half of a usual rate, for the noise densities."""
_NOT_KNOWN, _BAD_SIZE = 0x01, 0x02
"""Error codes of a reply; 0 is none."""

_FIGURES = Figures(
    gyro_noise_rad_s=math.radians(0.005) * math.sqrt(_BANDWIDTH_HZ),
    gyro_bias_rad_s=math.radians(0.04),
    accel_noise_m_s2=25e-6 * mip.STANDARD_GRAVITY_M_S2 * math.sqrt(_BANDWIDTH_HZ),
    accel_bias_m_s2=0.002 * mip.STANDARD_GRAVITY_M_S2,
    tilt_noise_rad=0.0,
    tilt_bias_rad=0.0,
)
"""Densities 0.005 deg/s/sqrt(Hz) and 25 ug/sqrt(Hz), initial biases 0.04 deg/s and 2 mg. It sends no tilt."""

_Z_DOWN = np.array([1.0, -1.0, -1.0])


class Gx5(EmulatedImu):
    """One sensor, set up as robot.toml says and saved.

    Args:
        spec: rate, baud rate, mounting.
        rng: for the biases, drawn once, and the noise.
    """

    def __init__(self, spec: ImuSpec, rng: np.random.Generator) -> None:
        super().__init__(spec, rng, _FIGURES)
        self._baud_bd: int = spec.baud_bd
        self._decimation = max(1, GX5_BASE_RATE_HZ // spec.rate_hz)
        self._sent: tuple[Measurement, ...] = codec.MEASURED
        self._streams = True
        self._parser = PacketParser()

    @property
    def baud_bd(self) -> int:
        """Speed of its line."""
        return self._baud_bd

    @property
    def rate_hz(self) -> int:
        """Samples per second now."""
        return GX5_BASE_RATE_HZ // self._decimation

    def receive(self, data: bytes, time_s: float) -> list[bytes]:
        """Take bytes of the host's, carry out the commands that they complete, and answer them."""
        del time_s
        return [self._answer(packet).encode() for packet in self._parser.feed(data)]

    def _answer(self, packet: Packet) -> Packet:
        fields: list[Field] = []
        for field in packet.fields:
            known = packet.descriptor_set == codec.COMMANDS
            fields += self._obey(field) if known else [_ack(field, _NOT_KNOWN)]
        return Packet(packet.descriptor_set, tuple(fields))

    def _obey(self, field: Field) -> list[Field]:
        if field.descriptor == codec.BASE_RATE:
            rate = Field(codec.BASE_RATE_REPLY, GX5_BASE_RATE_HZ.to_bytes(2, "big"))
            return [_ack(field, 0), rate]
        if field.descriptor == codec.MESSAGE_FORMAT:
            return [_ack(field, self._set_format(field.data))]
        if field.descriptor == codec.STREAM and len(field.data) == 3:  # noqa: PLR2004 - function, device, flag
            if field.data[0] == codec.APPLY:
                self._streams = field.data[2] == 1
            return [_ack(field, 0)]
        return [_ack(field, _NOT_KNOWN)]

    def _set_format(self, data: bytes) -> int:
        """Apply a message format; return the error. One decimation for all is all that is emulated."""
        if data[:1] == bytes((codec.SAVE,)):
            return 0
        entries = [data[at : at + 3] for at in range(2, len(data), 3)]
        if len(data) < 2 or data[1] != len(entries) or any(len(e) != 3 for e in entries):  # noqa: PLR2004
            return _BAD_SIZE
        decimations = {int.from_bytes(entry[1:], "big") for entry in entries}
        if len(decimations) != 1 or not decimations.isdisjoint({0}) or not _all_known(entries):
            return _NOT_KNOWN
        self._sent = tuple(Measurement(entry[0]) for entry in entries)
        (self._decimation,) = decimations
        return 0

    def _frames(self, measured: Measured) -> list[bytes]:
        values: dict[Measurement, Floats] = {
            Measurement.ACCEL_G: _Z_DOWN * measured.accel_m_s2 / mip.STANDARD_GRAVITY_M_S2,
            Measurement.GYRO_RAD_S: _Z_DOWN * measured.gyro_rad_s,
        }
        if not self._streams:
            return []
        return [mip.imu_packet({kind: values[kind].tolist() for kind in self._sent}).encode()]


def _all_known(entries: list[bytes]) -> bool:
    return {entry[0] for entry in entries} <= set(codec.MEASURED)


def _ack(field: Field, error: int) -> Field:
    return Field(codec.ACK, bytes((field.descriptor, error)))
