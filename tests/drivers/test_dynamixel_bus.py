"""The bus as a timeline of faults: what is lost, late, echoed or garbled never becomes a value."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import numpy as np
import pytest

from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel import Code, split_span
from robotrl.drivers.dynamixel_bus import DynamixelBus
from robotrl.drivers.replies import Replies
from robotrl.errors import DeviceError, PortError
from robotrl.spec.robot import BusSpec
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
def test_a_read_is_one_instruction_and_comes_in_the_order_of_the_ids(fast: bool) -> None:
    port, bus = make(fast=fast)
    assert positions(bus) == ALL
    assert [p.code for p in port.sent] == [Code.FAST_SYNC_READ if fast else Code.SYNC_READ]


@BOTH
def test_negative_values_and_header_bytes_in_data_come_through(fast: bool) -> None:
    port, bus = make(fast=fast)
    for servo, value in zip(port.servos.values(), (-1, -131073, 0x00FDFFFF), strict=True):
        servo[x.PRESENT_POSITION] = value
    assert positions(bus) == [-1, -131073, 0x00FDFFFF]


@BOTH
def test_the_echo_of_our_own_bytes_is_no_answer(fast: bool) -> None:
    port, bus = make(fast=fast)
    port.echo = True
    assert positions(bus) == ALL
    assert bus.ping(11) == 1080
    bus.write(11, x.LED, 1)
    assert port.servos[11][x.LED] == 1


@BOTH
def test_noise_around_the_answer_costs_nothing(fast: bool) -> None:
    port, bus = make(fast=fast)
    rng = random.Random(1)
    for _ in range(200):
        noise = bytes(rng.choices([0xFF, 0xFD, 0x00, 0x55, 0x0B], k=rng.randrange(20)))
        port.faults = [surrounded(noise)]
        assert positions(bus) == ALL


@BOTH
def test_no_flipped_bit_becomes_a_value(fast: bool) -> None:
    port, bus = make(fast=fast)
    length = 8 + 3 * 8 if fast else 3 * 15
    for bit in range(8 * length):
        positions(bus)  # a whole answer: the next request is of the plain length again
        port.faults = [flip(bit)]
        for got, true in zip(positions(bus), ALL, strict=True):
            assert got in (true, None)


def surrounded(noise: bytes) -> Callable[[bytes], bytes]:
    """Add bytes before and after."""
    return lambda reply: noise + reply + noise


def flip(bit: int) -> Callable[[bytes], bytes]:
    """Damage one bit."""

    def damage(reply: bytes) -> bytes:
        data = bytearray(reply)
        if bit // 8 < len(data):
            data[bit // 8] ^= 1 << bit % 8
        return bytes(data)

    return damage


def test_a_broken_off_fast_frame_gives_its_first_servos() -> None:
    port, bus = make()
    port.faults = [lambda reply: reply[:-1]]
    assert positions(bus) == [1100, 1300, None]


@BOTH
def test_a_lost_answer_is_asked_for_again_within_the_budget(fast: bool) -> None:
    port, bus = make(fast=fast, retries=1)
    port.silence(1)
    assert positions(bus) == ALL
    port.silence(2)
    assert positions(bus) == [None] * 3


def test_a_retry_asks_only_those_missing_and_by_plain_sync_read() -> None:
    port, bus = make(retries=1)
    port.faults = [lambda reply: reply[:-10]]
    assert positions(bus) == ALL
    first, second = port.sent
    assert split_span(first.params)[2] == bytes(IDS)
    assert (second.code, split_span(second.params)[2]) == (Code.SYNC_READ, bytes((13, 12)))


def test_a_dead_bus_gets_no_retries_until_it_speaks_again() -> None:
    port, bus = make(retries=2)
    port.silence(3 * 3 + 2)
    asked = []
    for _ in range(5):
        positions(bus)
        asked.append(len(port.sent))
        port.sent.clear()
    assert asked == [3, 3, 3, 1, 1]
    assert positions(bus) == ALL
    port.silence(1)
    assert positions(bus) == ALL


@BOTH
def test_an_answer_that_comes_a_tick_late_is_dropped(fast: bool) -> None:
    port, bus = make(fast=fast)
    port.hold_back()
    assert positions(bus) == [None] * 3
    for servo in port.servos.values():
        servo[x.PRESENT_POSITION] = 7
    port.silence(1)  # only the late answer arrives
    assert positions(bus) == [None] * 3
    port.hold_back()
    assert positions(bus) == [None] * 3
    assert positions(bus) == [7, 7, 7]  # late and current together


@BOTH
def test_the_late_answer_to_a_first_try_serves_its_own_read_and_no_other(fast: bool) -> None:
    port, bus = make(fast=fast, retries=1)
    port.hold_back()
    port.hold_back()  # the retry's own answer comes even later
    assert positions(bus) == ALL
    for servo in port.servos.values():
        servo[x.PRESENT_POSITION] = 7
    port.silence(2)  # only the retry's answer from before
    assert positions(bus) == [None] * 3


@BOTH
def test_the_halves_of_an_answer_may_come_on_both_sides_of_a_retry(fast: bool) -> None:
    port, bus = make(fast=fast, retries=1)
    rest: list[bytes] = []

    def cut(reply: bytes) -> bytes:
        rest.append(reply[21:])
        return reply[:21]

    port.faults = [cut, lambda reply: rest[0] + reply]
    assert positions(bus) == ALL


def test_bytes_left_over_from_before_are_thrown_away() -> None:
    port, bus = make(fast=False)
    positions(bus)
    port.echo = True
    bus.sync_write(x.LED, np.ones(3, np.int64))  # its echo stays unread
    port.echo = False
    assert positions(bus) == ALL


def test_a_servo_that_is_not_there_leaves_the_others() -> None:
    port, bus = make(fast=False)
    del port.servos[13]
    assert positions(bus) == [1100, None, 1200]


def test_the_alert_bit_arrives_with_the_data() -> None:
    port, bus = make()
    port.servos[13][x.HARDWARE_ERROR_STATUS] = 0x20
    replies: Replies = bus.read_register(x.PRESENT_POSITION)
    assert list(replies.error) == [0, 0x80, 0]
    assert replies.fresh.all()


def test_sync_write_reaches_every_servo() -> None:
    port, bus = make()
    bus.sync_write(x.GOAL_POSITION, np.array([1, 2, 3]))
    assert [port.servos[id_][x.GOAL_POSITION] for id_ in IDS] == [1, 2, 3]
    assert len(port.sent) == 1


@pytest.mark.parametrize("value", [-1, 4096, 2**31])
def test_a_value_outside_the_register_is_not_sent(value: int) -> None:
    port, bus = make()
    with pytest.raises(DeviceError, match=r"servo 12: Goal Position \(116\) cannot be .*allowed: 0 to 4095"):
        bus.sync_write(x.GOAL_POSITION, np.array([0, 0, value]))
    assert port.sent == []


def test_a_refused_write_says_what_and_why() -> None:
    port, bus = make()
    port.servos[11][x.TORQUE_ENABLE] = 1
    with pytest.raises(DeviceError, match=r"servo 11 refuses Operating Mode \(11\) := 3: access"):
        bus.write(11, x.OPERATING_MODE, 3)


def test_a_write_is_repeated_until_it_is_acknowledged() -> None:
    port, bus = make()
    port.silence(2)
    bus.write(11, x.LED, 1)
    assert len(port.sent) == 3
    port.silence(3)
    with pytest.raises(DeviceError, match="servo 11 does not answer a write of LED"):
        bus.write(11, x.LED, 0)


def test_ping_names_the_model_or_nobody() -> None:
    _, bus = make()
    assert bus.ping(11) == 1080
    assert bus.ping(99) is None


def test_a_port_that_goes_away_is_told() -> None:
    port, bus = make()
    port.gone = True
    with pytest.raises(PortError):
        bus.read_register(x.PRESENT_POSITION)
