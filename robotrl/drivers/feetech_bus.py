"""One Feetech bus: sync reads of STS servos, one read after the other of SCS servos, acknowledged writes.

Nothing but the id tells a status packet from an instruction: where the adapter echoes, our own read of
servo N parses as servo N's answer. So all copies of a request among the bytes that follow it are taken
out before anything is decoded. A damaged echo fails its checksum. An answer that equals the request byte
for byte (a servo with an encoder error, in one position of 65,536) is lost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from robotrl.drivers import feetech as ft
from robotrl.drivers import scs
from robotrl.drivers.port import Port
from robotrl.drivers.registers import Bytes2D, Register
from robotrl.drivers.replies import Replies
from robotrl.drivers.servo_bus import ATTEMPTS, PATIENCE_S, Request, ServoBus, check_range
from robotrl.errors import DeviceError
from robotrl.spec.buses import BusSpec


class FeetechBus(ServoBus):
    """Servos that speak FT-SCS; a status packet's error byte tells of the servo, never of a refusal.

    Args:
        port: where the bytes go; its `PortError` passes through every method.
        spec: baud rate, time-outs and retries.
        ids: the servos, in the order of all arrays.
        model_number: the series' register of that name; both series have it at the same address, with
            another byte order.
        has_sync_read: STS servos know sync read, SCS servos do not.
    """

    _table_end = scs.MOVING.end  # STS servos have more

    def __init__(
        self, port: Port, spec: BusSpec, ids: Sequence[int], model_number: Register, *, has_sync_read: bool
    ) -> None:
        super().__init__(port, spec, ids)
        self._model_number = model_number
        self._has_sync_read = has_sync_read

    def ping(self, id_: int) -> int | None:
        """Return a servo's model number, or None when it does not answer."""
        register = self._model_number
        for _ in range(ATTEMPTS):
            data = self._ask_one(ft.read(id_, register.address, register.size), id_, register.size)
            if data is not None:
                return register.decode(data)
        return None

    def write(self, id_: int, register: Register, value: int) -> None:
        """Write one register of one servo and wait for its acknowledgement.

        A servo that refuses acknowledges all the same; only reading back tells.

        Raises:
            DeviceError: the value is not allowed, or the servo does not answer.
        """
        check_range(register, np.array([value]), (id_,))
        request = ft.write(id_, register.address, register.encode(value))
        if all(self._ask_one(request, id_, size=0) is None for _ in range(ATTEMPTS)):
            raise DeviceError(f"servo {id_} does not answer a write of {register.name} ({register.address})")

    def reboot(self, id_: int) -> None:
        """Refuse: FT-SCS has no such instruction.

        Raises:
            DeviceError: always.
        """
        raise DeviceError(f"servo {id_}: Feetech servos have no reboot instruction; cycle their power")

    def _sync_write_packet(self, address: int, data: Bytes2D) -> bytes:
        return ft.sync_write(address, self.ids, data)

    def _requests(self, address: int, size: int, ids: tuple[int, ...], *, first: bool) -> list[Request]:
        del first  # a retry is asked for like the first try
        if self._has_sync_read:
            return [_request(ft.sync_read(address, size, ids), ids, size)]
        return [_request(ft.read(id_, address, size), (id_,), size) for id_ in ids]

    def _ask_one(self, packet: bytes, id_: int, size: int) -> bytes | None:
        """Send to one servo; return the `size` bytes of its answer, or None."""
        request = _request(packet, (id_,), size)
        received = b""
        self._port.drain()
        self._port.write(packet)
        deadline_s = time.monotonic() + PATIENCE_S
        while chunk := self._port.read(deadline_s):
            received += chunk
            replies = request.decode(received)
            if replies.fresh[0]:
                return bytes(replies.data[0])
        return None


def _request(packet: bytes, ids: tuple[int, ...], size: int) -> Request:
    expected = len(ids) * (ft.OVERHEAD + size)
    return Request(packet, ids, expected, partial(_decode, packet=packet, ids=ids, size=size))


def _decode(data: bytes, packet: bytes, ids: tuple[int, ...], size: int) -> Replies:
    return ft.decode_sync_reply(_without_echo(data, packet), ids, size)


def _without_echo(data: bytes, packet: bytes) -> bytes:
    """Return the data with a byte that begins nothing in the place of every copy of `packet`."""
    return data.replace(packet, b"\x00")
