"""One DYNAMIXEL bus: sync reads, fast where the firmware can, and acknowledged writes."""

from __future__ import annotations

import time
from functools import partial

import numpy as np

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel import Fault, StatusPacket
from robotrl.drivers.dynamixel_group import decode_fast_sync_reply, decode_sync_reply
from robotrl.drivers.registers import Bytes2D, Register
from robotrl.drivers.servo_bus import ATTEMPTS, PATIENCE_S, Request, ServoBus, check_range
from robotrl.errors import DeviceError

_PING_SIZE = 3
"""Model number and firmware version."""
_RESTART_PINGS = 10
"""How often a servo that restarts is asked whether it is back; each time it is waited for."""


class DynamixelBus(ServoBus):
    """Servos that speak DYNAMIXEL Protocol 2.0; the CRC tells answers from everything else.

    The first try of a read is a fast sync read where robot.toml allows it; retries ask those that are
    missing by plain sync read, where every servo's answer stands for itself.
    """

    _table_end = x.BACKUP_READY.end

    def ping(self, id_: int) -> int | None:
        """Return a servo's model number, or None when it does not answer."""
        for _ in range(ATTEMPTS):
            status = self._ask_one(dxl.ping(id_), id_, _PING_SIZE)
            if status is not None:
                return int.from_bytes(status.params[:2], "little")
        return None

    def write(self, id_: int, register: Register, value: int) -> None:
        """Write one register of one servo and wait for its acknowledgement.

        Raises:
            DeviceError: the value is not allowed, the servo refuses it, or it does not answer.
        """
        check_range(register, np.array([value]), (id_,))
        for _ in range(ATTEMPTS):
            status = self._ask_one(dxl.write(id_, register.address, register.encode(value)), id_, size=0)
            if status is not None and status.fault not in (Fault.NONE, Fault.CRC):
                raise DeviceError(
                    f"servo {id_} refuses {register.name} ({register.address}) := {value}: "
                    f"{_fault_name(status.fault)}"
                )
            if status is not None and status.fault == Fault.NONE:
                return
        raise DeviceError(f"servo {id_} does not answer a write of {register.name} ({register.address})")

    def reboot(self, id_: int) -> None:
        """Restart one servo and wait until it answers again.

        Raises:
            DeviceError: it refuses, or does not come back.
        """
        status = self._ask_one(dxl.reboot(id_), id_, size=0)
        if status is not None and status.fault != Fault.NONE:
            raise DeviceError(f"servo {id_} refuses to reboot: {_fault_name(status.fault)}")
        if all(self.ping(id_) is None for _ in range(_RESTART_PINGS)):
            raise DeviceError(f"servo {id_} does not answer after a reboot")

    def _sync_write_packet(self, address: int, data: Bytes2D) -> bytes:
        return dxl.sync_write(address, self.ids, data)

    def _requests(self, address: int, size: int, ids: tuple[int, ...], *, first: bool) -> list[Request]:
        fast = self._spec.fast_sync_read and first
        packet = dxl.sync_read(address, size, ids, fast=fast)
        if fast:
            expected = dxl.FAST_HEADER + len(ids) * (dxl.FAST_BLOCK_OVERHEAD + size)
            return [Request(packet, ids, expected, partial(decode_fast_sync_reply, ids=ids, size=size))]
        expected = len(ids) * (dxl.STATUS_OVERHEAD + size)
        return [Request(packet, ids, expected, partial(decode_sync_reply, ids=ids, size=size))]

    def _ask_one(self, request: bytes, id_: int, size: int) -> StatusPacket | None:
        """Send to one servo; return its answer of `size` parameters, or a refusal, or None."""
        parser = dxl.PacketParser()
        self._port.drain()
        self._port.write(request)
        deadline_s = time.monotonic() + PATIENCE_S
        while chunk := self._port.read(deadline_s):
            for packet in parser.feed(chunk):
                if isinstance(packet, StatusPacket) and packet.id == id_ and len(packet.params) in (size, 0):
                    return packet
        return None


def _fault_name(fault: int) -> str:
    return Fault(fault).name.lower().replace("_", " ") if fault in set(Fault) else f"error {fault}"
