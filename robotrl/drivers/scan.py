"""Who is on a serial line, whatever id, speed and protocol; only pings and reads are sent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import feetech as ft
from robotrl.drivers.models import MODELS
from robotrl.drivers.port import Port
from robotrl.drivers.servo import Line, OpenPort, Servo
from robotrl.errors import DeviceError, PortError
from robotrl.spec.buses import ServoProtocol

BAUD_RATES: Mapping[ServoProtocol, tuple[int, ...]] = MappingProxyType(
    {
        "dynamixel2": (57600, 1000000, 2000000, 3000000, 4000000, 115200, 4500000, 9600),
        "feetech_sts": (1000000, 500000, 250000, 128000, 115200, 76800, 57600, 38400),
        "feetech_scs": (1000000, 500000, 250000, 128000, 115200, 76800, 57600, 38400),
    }
)
"""Every speed of each protocol, the usual ones first."""

_SLOT_S = 0.003
"""So long each id may take to answer a ping to all; ROBOTIS's own SDK waits as long."""
_LATENCY_S = 0.02
"""An FTDI adapter with factory settings holds bytes back for 16 ms."""
_PING_S = 0.004
"""A servo's answer to a ping of its own, where no adapter holds it back."""
_BITS_PER_BYTE = 10


@dataclass(frozen=True)
class Found:
    """One servo that answered.

    Attributes:
        id: its id.
        model_number: as it says.
        model: the manufacturer's name; empty where there is no register table.
        firmware: its version; empty where it does not let itself be read.
        protocol: what it speaks.
        baud_bd: the speed at which it answered.
    """

    id: int
    model_number: int
    model: str
    firmware: str
    protocol: ServoProtocol
    baud_bd: int


@dataclass(frozen=True)
class Heard:
    """What one speed of one protocol brought.

    Attributes:
        protocol: of the pings.
        baud_bd: their speed.
        servos: those that answered, by id.
        stray_bytes: bytes that were no answer: noise, another speed, or two servos with one id.
        problem: why this speed could not be tried; empty if it was.
    """

    protocol: ServoProtocol
    baud_bd: int
    servos: tuple[Found, ...] = ()
    stray_bytes: int = 0
    problem: str = ""


def scan(
    path: str,
    open_port: OpenPort,
    protocols: Sequence[ServoProtocol] | None = None,
    rates: Sequence[int] = (),
    *,
    held_back_s: float = _LATENCY_S,
) -> Iterator[Heard]:
    """Try speed after speed; nothing moves and nothing is written.

    Args:
        path: device file.
        open_port: opens it at a speed.
        protocols: of the servos; both manufacturers' if None, as STS and SCS servos answer the same pings.
        rates: speeds to try; every one of each protocol if empty.
        held_back_s: how long the adapter may hold bytes back.

    Yields:
        What each speed brought, as soon as it is known.

    Raises:
        PortError: the port cannot be opened at any speed, or goes away.
    """
    opened = False
    for protocol in protocols or ("dynamixel2", "feetech_sts"):
        for baud_bd in rates or BAUD_RATES[protocol]:
            line = Line(path, protocol, baud_bd)
            try:
                port = open_port(path, baud_bd)
            except PortError as error:
                if not opened:
                    raise
                yield Heard(protocol, baud_bd, problem=str(error))
                continue
            opened = True
            try:
                yield _listen(port, line, held_back_s)
            finally:
                port.close()


def _listen(port: Port, line: Line, held_back_s: float) -> Heard:
    """Ask everybody on an open line."""
    here = _dynamixels if line.protocol == "dynamixel2" else _feetechs
    ids, stray = here(port, line.baud_bd, held_back_s)
    servos = tuple(found for id_ in ids if (found := _found(port, line, id_)) is not None)
    return Heard(line.protocol, line.baud_bd, servos, stray)


def _dynamixels(port: Port, baud_bd: int, held_back_s: float) -> tuple[list[int], int]:
    """Return the ids that answer one ping to all, and how many bytes were none of their answers."""
    parser = dxl.PacketParser()
    port.drain()
    port.write(dxl.ping(dxl.BROADCAST_ID))
    deadline_s = time.monotonic() + held_back_s + _SLOT_S * dxl.MAX_ID
    received, ids, known = 0, set(), 0
    while chunk := port.read(deadline_s + received * _BITS_PER_BYTE / baud_bd):
        received += len(chunk)
        for packet in parser.feed(chunk):
            known += len(packet.encode())
            if isinstance(packet, dxl.StatusPacket):
                ids.add(packet.id)
    return sorted(ids), received - known


def _feetechs(port: Port, baud_bd: int, held_back_s: float) -> tuple[list[int], int]:
    """Ask one id after the other: a ping to all makes them talk at once."""
    ids, stray = [], 0
    for id_ in range(ft.MAX_ID + 1):
        request = ft.ping(id_)
        port.drain()
        port.write(request)
        wire_s = 2 * len(request) * _BITS_PER_BYTE / baud_bd
        received, answered = _answer(port, id_, request, time.monotonic() + wire_s + held_back_s + _PING_S)
        if answered:
            ids.append(id_)
        else:
            stray += len(received.replace(request, b""))
    return ids, stray


def _answer(port: Port, id_: int, request: bytes, deadline_s: float) -> tuple[bytes, bool]:
    """Return what came before the deadline, and whether it holds an answer; an echo is none."""
    received = b""
    while chunk := port.read(deadline_s):
        received += chunk
        if any(
            p.id == id_ and not p.params for p in ft.StatusParser().feed(received.replace(request, b"\0"))
        ):
            return received, True
    return received, False


def _found(port: Port, line: Line, id_: int) -> Found | None:
    """Ask one servo for its model and firmware; of Feetech's two byte orders the one that makes sense."""
    model = line.bus(port, (id_,)).ping(id_)
    if model is None:
        return None
    other = Line(line.path, "feetech_scs", line.baud_bd)
    if model not in MODELS and line.protocol == "feetech_sts":
        swapped = other.bus(port, (id_,)).ping(id_)
        line, model = (other, swapped) if swapped in MODELS and swapped is not None else (line, model)
    if model not in MODELS:
        return Found(id_, model, "", "", line.protocol, line.baud_bd)
    try:
        firmware = Servo(port, line, id_, MODELS[model]).firmware
    except DeviceError:
        firmware = ""
    return Found(id_, model, MODELS[model].model, firmware, line.protocol, line.baud_bd)
