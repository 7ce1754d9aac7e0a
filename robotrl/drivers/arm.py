"""The arm controller's protocol: its packets both ways, and the body that speaks it and never waits long.

The protocol is robotrl's own. A packet is ``E5 7B KIND SEQUENCE``, the values of its kind as float32 (little
endian, SI units) and the CRC-16 of all bytes before it (little endian, `robotrl.drivers.crc`):

| kind | from | values |
|---|---|---|
| 01 READ | host | none; asks for a STATE |
| 02 MOVE | host | as `GRIPPER_AXES`: displacement of the gripper from where it is, opening of the fingers |
| 03 STOP | host | none; the gripper stays where it is |
| 81 STATE | controller | gripper position (3) and velocity (3), finger positions (2) and velocities (2) |

SEQUENCE grows by one with each packet of the host's and wraps after 255; a STATE repeats that of its READ, so
that an answer that comes too late is not taken for a newer one. The controller speaks only when it is asked.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from types import MappingProxyType

import numpy as np

from robotrl.drivers.crc import crc16
from robotrl.drivers.framing import FrameFinder, Framing
from robotrl.drivers.port import Port, ReopeningPort, SerialPort
from robotrl.errors import BadInputError, DeviceError, PortError, ProtocolError
from robotrl.spec.arm import CONTROLLER, ArmSpec
from robotrl.spec.gripper import ArmState, GripperCommand
from robotrl.spec.state import Floats

HEADER = b"\xe5\x7b"
OVERHEAD = 6
"""Bytes beside the values: header, kind, sequence number and CRC."""
SEQUENCES = 256
OPENING_S = 0.5
"""How long `ArmBody.open` waits for the controller's first answer."""
_VALUE_SIZE = 4


class Kind(IntEnum):
    """What a packet says."""

    READ = 0x01
    MOVE = 0x02
    STOP = 0x03
    STATE = 0x81


SIZES: Mapping[int, int] = MappingProxyType({Kind.READ: 0, Kind.MOVE: 4, Kind.STOP: 0, Kind.STATE: 10})
"""Number of values in each kind of packet."""
STATE_PARTS = (3, 6, 8)
"""Where a STATE's values are cut: gripper position, gripper velocity, finger positions, finger velocities."""


@dataclass(frozen=True)
class Packet:
    """One packet.

    Attributes:
        kind: what it says.
        sequence: its number, 0 to 255.
        values: as many as its kind has, as float32 carries them.
    """

    kind: Kind
    sequence: int
    values: Floats


def encode(kind: Kind, sequence: int, values: Floats | None = None) -> bytes:
    """Return the bytes of a packet.

    Raises:
        ProtocolError: another number of values than its kind has, or no such number.
    """
    held = np.empty(0) if values is None else values
    if held.shape != (SIZES[kind],) or not 0 <= sequence < SEQUENCES:
        raise ProtocolError(f"no {kind.name} holds {held.size} values under number {sequence}")
    body = HEADER + bytes((kind, sequence)) + held.astype("<f4").tobytes()
    return body + crc16(body).to_bytes(2, "little")


class PacketParser:
    """Turns a stream of bytes into packets; see `FrameFinder`."""

    def __init__(self) -> None:
        self._frames = FrameFinder(FRAMING)

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets completed by `data`, in order."""
        return [
            Packet(Kind(frame[2]), frame[3], np.frombuffer(frame[4:-2], "<f4").astype(np.float64))
            for frame in self._frames.feed(data)
        ]


def _measure(buffer: bytes | bytearray) -> int:
    if len(buffer) <= len(HEADER):
        return OVERHEAD
    count = SIZES.get(buffer[2])
    return 0 if count is None else OVERHEAD + _VALUE_SIZE * count


def _intact(frame: bytes) -> bool:
    return crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little")


FRAMING = Framing(HEADER, _measure, _intact)


class ArmBody:
    """The arm behind its controller's serial port.

    Nothing is opened before `open`, and `open` moves nothing. A cable that is pulled or an adapter that
    vanishes raises nothing after that: the age in `ArmState` grows, and a port that comes back is opened
    again.

    Args:
        arm: what the body is.
        ports: device file that replaces that of robot.toml, under the name `controller`.
        open_port: opens a device file at a baud rate.

    Raises:
        BadInputError: `ports` names something else.
    """

    def __init__(
        self,
        arm: ArmSpec,
        ports: Mapping[str, str] | None = None,
        open_port: Callable[[str, int], Port] = SerialPort,
    ) -> None:
        self._spec = arm.controller
        paths = {CONTROLLER: self._spec.port, **(ports or {})}
        for name in paths:
            if name != CONTROLLER:
                raise BadInputError("the robot has no such port", value=name, allowed=[CONTROLLER])
        self._path = paths[CONTROLLER]
        self._open_port = open_port
        self._port: ReopeningPort | None = None
        self._forget()

    def open(self) -> None:
        """Open the port and wait for the controller; the arm stays where it is.

        Raises:
            PortError: the port is missing, busy or not permitted.
            DeviceError: the controller does not answer.
        """
        self.close()
        self._port = ReopeningPort(partial(self._open_port, self._path, self._spec.baud_bd))
        self._forget()
        deadline_s = time.monotonic() + OPENING_S
        while not self._ask(-np.inf):
            if time.monotonic() >= deadline_s:
                self.close()
                raise DeviceError(
                    f"{CONTROLLER} on {self._path} does not answer at {self._spec.baud_bd} baud; check power "
                    "and cable"
                )

    def read(self, now_s: float) -> ArmState:
        """Ask for the state; without an answer in time it keeps its values and grows older.

        Args:
            now_s: time of this tick; ages are counted from the `now_s` of the read that brought a state.

        Raises:
            DeviceError: the body is not open.
        """
        self._ask(now_s)
        position, velocity, finger_pos, finger_vel = np.split(self._values, STATE_PARTS)
        return ArmState(now_s, position, velocity, finger_pos, finger_vel, now_s - self._seen_s)

    def write(self, command: GripperCommand) -> None:
        """Send a command; call it every tick, also to repeat a stop.

        Raises:
            DeviceError: a number is not finite, or the body is not open; nothing was sent.
        """
        if command.move_m is None:
            self._send(Kind.STOP)
            return
        if not np.isfinite(command.move_m).all():
            raise DeviceError(f"a gripper cannot be moved by {command.move_m.tolist()} m")
        self._send(Kind.MOVE, command.move_m)

    def close(self) -> None:
        """Release the port; sends nothing, never raises."""
        if self._port is not None:
            self._port.close()
        self._port = None

    def _forget(self) -> None:
        self._parser, self._sequence = PacketParser(), 0
        self._values, self._seen_s = np.full(SIZES[Kind.STATE], np.nan), -np.inf

    def _send(self, kind: Kind, values: Floats | None = None) -> bool:
        """Send a packet; return whether the port took it."""
        if self._port is None:
            raise DeviceError("the body is not open")
        self._sequence = (self._sequence + 1) % SEQUENCES
        try:
            self._port.write(encode(kind, self._sequence, values))
        except PortError:
            return False
        return True

    def _ask(self, now_s: float) -> bool:
        """Ask for the state and wait for it; return whether it came."""
        if not self._send(Kind.READ):
            return False
        with contextlib.suppress(PortError):
            return self._hear(now_s, time.monotonic() + self._spec.reply_timeout_s)
        return False

    def _hear(self, now_s: float, deadline_s: float) -> bool:
        """Take in what arrives until the answer to the last packet is among it."""
        assert self._port is not None  # `_send` has looked
        while True:
            for packet in self._parser.feed(self._port.read(deadline_s)):
                if packet.kind is Kind.STATE and packet.sequence == self._sequence:
                    self._values, self._seen_s = packet.values, now_s
                    return True
            if time.monotonic() >= deadline_s:
                return False
