"""What every IMU's reader does, and the WitMotion WT901: its frames and commands both ways, and its reader.

Source: WitMotion, "WT901 Datasheet v20-0702" section 5 and "WIT Standard Communication Protocol".
A frame is ``55 KIND`` + four int16 + sum of the ten bytes before; a command is ``FF AA REG LO HI``.
"""

from __future__ import annotations

import math
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import numpy as np

from robotrl.drivers.framing import FrameFinder, Framing
from robotrl.drivers.port import Port, SerialPort
from robotrl.errors import PortError
from robotrl.spec.robot import ImuSpec
from robotrl.spec.state import Floats

FRAME_SIZE = 11
_START = 0x55
_KINDS = range(0x50, 0x60)
_UNLOCK = bytes.fromhex("FF AA 69 88 B5")
_COMMAND_GAP_S = 0.02
"""Between commands: the sensor works each one off before it listens again."""
_NORM_TOLERANCE = 0.05
"""Quaternions further from unit length are no orientation."""


class Kind(IntEnum):
    """Frame types in use; the sensor has more."""

    ACCEL = 0x51
    GYRO = 0x52
    ANGLE = 0x53
    QUATERNION = 0x59


SCALE = MappingProxyType(
    {
        Kind.ACCEL: 16 * 9.80665 / 32768,
        Kind.GYRO: math.radians(2000) / 32768,
        Kind.ANGLE: math.pi / 32768,
        Kind.QUATERNION: 1 / 32768,
    }
)
"""SI units per count: m/s^2, rad/s, rad, 1."""


class Register(IntEnum):
    """Configuration registers."""

    SAVE = 0x00
    CONTENT = 0x02
    RATE = 0x03
    BAUD = 0x04
    BANDWIDTH = 0x1F
    ALGORITHM = 0x24


_PARTS = ((Kind.QUATERNION, 4), (Kind.GYRO, 3), (Kind.ACCEL, 3))
"""The parts of a `Sample`, and how many of a frame's four counts are theirs."""
CONTENT = sum(1 << (kind - 0x50) for kind, _ in _PARTS)
"""Output content register: one bit per frame type."""
_BANDWIDTH_98_HZ = 2
_SIX_AXES = 1
"""Orientation without the magnetometer, which motors and steel disturb."""
RATE_CODES = MappingProxyType({10: 0x06, 20: 0x07, 50: 0x08, 100: 0x09, 200: 0x0B})
BAUD_CODES = MappingProxyType({9600: 0x02, 115200: 0x06, 230400: 0x07, 460800: 0x08, 921600: 0x09})


def encode_frame(kind: int, counts: Sequence[int]) -> bytes:
    """Return the frame of four int16."""
    frame = bytes((_START, kind)) + struct.pack("<4h", *counts)
    return frame + bytes((sum(frame) & 0xFF,))


def encode(kind: Kind, values: Sequence[float] | Floats) -> bytes:
    """Return the frame of three or four physical values, rounded and saturated as the sensor does.

    Args:
        kind: which quantity.
        values: x y z in SI units (the fourth count, a temperature, is sent as 0), or w x y z.
    """
    counts = np.clip(np.rint(np.asarray(values) / SCALE[kind]), -32768, 32767).astype(int)
    return encode_frame(kind, [*counts.tolist(), 0][:4])


class FrameParser:
    """Turns a stream of bytes into frames; see `FrameFinder`."""

    def __init__(self) -> None:
        self._frames = FrameFinder(FRAMING)

    def feed(self, data: bytes) -> list[tuple[int, tuple[int, ...]]]:
        """Return (kind, four counts) of the frames completed by `data`, in order."""
        return [(frame[1], struct.unpack("<4h", frame[2:10])) for frame in self._frames.feed(data)]


def _measure(buffer: bytes | bytearray) -> int:
    return 0 if len(buffer) > 1 and buffer[1] not in _KINDS else FRAME_SIZE


def _intact(frame: bytes) -> bool:
    return sum(frame[:10]) & 0xFF == frame[10]


FRAMING = Framing(bytes((_START,)), _measure, _intact)


def command(register: Register, value: int) -> bytes:
    """Return the command that writes one register."""
    return bytes((0xFF, 0xAA, register)) + value.to_bytes(2, "little")


def settings(imu: ImuSpec) -> list[bytes]:
    """Return the commands that make the sensor send what robot.toml says, except its baud rate."""
    return [
        _UNLOCK,
        command(Register.CONTENT, CONTENT),
        command(Register.RATE, RATE_CODES[imu.rate_hz]),
        command(Register.ALGORITHM, _SIX_AXES),
        command(Register.BANDWIDTH, _BANDWIDTH_98_HZ),
        command(Register.SAVE, 0),
    ]


def set_up(
    path: str, from_baud_bd: int, imu: ImuSpec, open_port: Callable[[str, int], Port] = SerialPort
) -> None:
    """Bring a sensor with factory settings to those of robot.toml, baud rate included, and save them.

    Args:
        path: its port.
        from_baud_bd: the baud rate it has now; 9600 ex works.
        imu: what it is to become.
        open_port: opens a path at a baud rate.

    Raises:
        PortError: the port cannot be opened or goes away.
    """
    _send(path, from_baud_bd, [_UNLOCK, command(Register.BAUD, BAUD_CODES[imu.baud_bd])], open_port)
    _send(path, imu.baud_bd, settings(imu), open_port)


def _send(path: str, baud_bd: int, commands: list[bytes], open_port: Callable[[str, int], Port]) -> None:
    port = open_port(path, baud_bd)
    try:
        send_commands(port, commands)
    finally:
        port.close()


def send_commands(port: Port, commands: list[bytes]) -> None:
    """Write commands at the pace the sensor can take."""
    for one in commands:
        port.write(one)
        time.sleep(_COMMAND_GAP_S)


@dataclass(frozen=True, slots=True)
class Sample:
    """What arrived together, in the sensor's axes; None where nothing did. At rest and level: +g along z.

    Attributes:
        quat: (4,) world <- sensor, w x y z, the world's z axis up.
        gyro_rad_s: (3,) angular velocity.
        accel_m_s2: (3,) specific force.
    """

    quat: Floats | None = None
    gyro_rad_s: Floats | None = None
    accel_m_s2: Floats | None = None

    @property
    def parts(self) -> dict[str, Floats]:
        """What there is, by name."""
        every = {"quat": self.quat, "gyro_rad_s": self.gyro_rad_s, "accel_m_s2": self.accel_m_s2}
        return {name: part for name, part in every.items() if part is not None}


class ImuReader(ABC):
    """Keeps the newest orientation, angular velocity and acceleration, in the body frame.

    A sample of which one part is no measurement is not taken at all. One that repeats the last one to the
    last bit is not taken either: what a sensor measures is never twice the same, what it sends when it
    hangs is. So whatever a broken sensor does, its values grow old.

    Args:
        port: where the bytes come from.
        imu: mounting; ``v_body = R(mount_quat) v_sensor``.
    """

    def __init__(self, port: Port, imu: ImuSpec) -> None:
        self.quat = np.full(4, np.nan)
        self.gyro_rad_s = np.full(3, np.nan)
        self.accel_m_s2 = np.full(3, np.nan)
        self._port = port
        self._spec = imu
        mount = np.array(imu.mount_quat) / np.linalg.norm(imu.mount_quat)
        self._to_body = np.column_stack([rotate(mount, axis) for axis in np.eye(3)])
        self._unmount = np.column_stack([multiply(part, conjugate(mount)) for part in np.eye(4)])
        self._stamps_s = {"quat": -math.inf, "gyro_rad_s": -math.inf, "accel_m_s2": -math.inf}
        self._last: dict[str, bytes] = {}

    @property
    def stamp_s(self) -> float:
        """Time of the poll that brought the oldest of the three quantities; -inf before the first."""
        return min(self._stamps_s.values())

    @property
    def complete(self) -> bool:
        """Whether all three quantities have arrived at least once."""
        return not any(np.isnan(part).any() for part in (self.quat, self.gyro_rad_s, self.accel_m_s2))

    @abstractmethod
    def configure(self) -> None:
        """Make the sensor send what robot.toml says, for good.

        Raises:
            PortError: the port has gone.
        """

    @abstractmethod
    def _newest(self, data: bytes) -> Sample:
        """Return the newest of every quantity that these bytes complete."""

    def poll(self, now_s: float) -> None:
        """Take in everything that has arrived, stamped `now_s`; a port that has gone brings nothing."""
        try:
            data = self._port.drain()
        except PortError:
            return
        sample = self._newest(data)
        parts = sample.parts
        lengths = {name: math.hypot(*part.tolist()) for name, part in parts.items()}
        length = lengths.get("quat", 1.0)
        sane = all(map(math.isfinite, lengths.values())) and abs(length - 1.0) <= _NORM_TOLERANCE
        if not parts or not sane or self._repeats(parts):
            return
        if sample.quat is not None:
            self.quat = self._unmount @ (sample.quat / length)
        if sample.gyro_rad_s is not None:
            self.gyro_rad_s = self._to_body @ sample.gyro_rad_s
        if sample.accel_m_s2 is not None:
            self.accel_m_s2 = self._to_body @ sample.accel_m_s2
        self._stamps_s |= dict.fromkeys(parts, now_s)

    def _repeats(self, parts: Mapping[str, Floats]) -> bool:
        """Whether these are the last ones again; if not, they are so from now on."""
        seen = {name: part.tobytes() for name, part in parts.items()}
        if all(self._last.get(name) == bits for name, bits in seen.items()):
            return True
        self._last |= seen
        return False


class Wt901(ImuReader):
    """A WitMotion WT901."""

    def __init__(self, port: Port, imu: ImuSpec) -> None:
        super().__init__(port, imu)
        self._parser = FrameParser()

    def configure(self) -> None:
        """Send the settings of robot.toml and save them in the sensor.

        Raises:
            PortError: the port has gone.
        """
        send_commands(self._port, settings(self._spec))

    def _newest(self, data: bytes) -> Sample:
        newest = dict(self._parser.feed(data))
        return Sample(*(_physical(kind, newest.get(kind), size) for kind, size in _PARTS))


def _physical(kind: Kind, counts: tuple[int, ...] | None, size: int) -> Floats | None:
    scale = SCALE[kind]
    return None if counts is None else np.array([count * scale for count in counts[:size]])


def conjugate(quat: Floats) -> Floats:
    """Return the inverse rotation of a unit quaternion w x y z."""
    inverse: Floats = quat * np.array([1.0, -1.0, -1.0, -1.0])
    return inverse


def multiply(a: Floats, b: Floats) -> Floats:
    """Return the quaternion product a b: first rotate by b, then by a."""
    vector = a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])
    return np.array([a[0] * b[0] - a[1:] @ b[1:], *vector])


def rotate(quat: Floats, vector: Floats) -> Floats:
    """Return a vector rotated by a unit quaternion."""
    turned: Floats = multiply(multiply(quat, np.array([0.0, *vector])), conjugate(quat))[1:]
    return turned
