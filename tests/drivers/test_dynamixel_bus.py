"""What only a Dynamixel bus has: fast frames, stuffing, the alert bit, refusals; see test_bus_laws."""

from __future__ import annotations

import dataclasses

import pytest

from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel import Code, split_span
from robotrl.drivers.dynamixel_bus import DynamixelBus
from robotrl.drivers.replies import Replies
from robotrl.errors import DeviceError
from robotrl.spec.buses import BusSpec
from tests.drivers.fake_bus import FakeBus

IDS = (11, 13, 12)
SPEC = BusSpec(
    protocol="dynamixel2",
    port="fake",
    baud_bd=1000000,
    fast_sync_read=True,
    reply_timeout_s=0.001,
    retries_per_tick=0,
    watchdog_s=0.1,
)
BOTH = pytest.mark.parametrize("fast", [False, True], ids=["sync", "fast"])


def make(*, fast: bool = True, retries: int = 0) -> tuple[FakeBus, DynamixelBus]:
    """A bus of three servos; servo i measures position 100 i."""
    port = FakeBus(IDS)
    for id_, servo in port.servos.items():
        servo[x.PRESENT_POSITION] = 100 * id_
    spec = dataclasses.replace(SPEC, fast_sync_read=fast, retries_per_tick=retries)
    return port, DynamixelBus(port, spec, IDS)


def positions(bus: DynamixelBus) -> list[int | None]:
    """Present Position by servo; None where none came."""
    replies = bus.read_register(x.PRESENT_POSITION)
    values = replies.values(x.PRESENT_POSITION)
    return [int(v) if fresh else None for v, fresh in zip(values, replies.fresh, strict=True)]


ALL = [1100, 1300, 1200]


@BOTH
def test_negative_values_and_header_bytes_in_data_come_through(fast: bool) -> None:
    port, bus = make(fast=fast)
    for servo, value in zip(port.servos.values(), (-1, -131073, 0x00FDFFFF), strict=True):
        servo[x.PRESENT_POSITION] = value
    assert positions(bus) == [-1, -131073, 0x00FDFFFF]


def test_a_broken_off_fast_frame_gives_its_first_servos() -> None:
    port, bus = make()
    port.faults = [lambda reply: reply[:-1]]
    assert positions(bus) == [1100, 1300, None]


def test_a_retry_asks_only_those_missing_and_by_plain_sync_read() -> None:
    port, bus = make(retries=1)
    port.faults = [lambda reply: reply[:-10]]
    assert positions(bus) == ALL
    first, second = port.sent
    assert split_span(first.params)[2] == bytes(IDS)
    assert (second.code, split_span(second.params)[2]) == (Code.SYNC_READ, bytes((13, 12)))


def test_the_alert_bit_arrives_with_the_data() -> None:
    port, bus = make()
    port.servos[13][x.HARDWARE_ERROR_STATUS] = 0x20
    replies: Replies = bus.read_register(x.PRESENT_POSITION)
    assert list(replies.error) == [0, 0x80, 0]
    assert replies.fresh.all()


def test_a_refused_write_says_what_and_why() -> None:
    port, bus = make()
    port.servos[11][x.TORQUE_ENABLE] = 1
    with pytest.raises(DeviceError, match=r"servo 11 refuses Operating Mode \(11\) := 3: access"):
        bus.write(11, x.OPERATING_MODE, 3)
