"""Laws of every bus as a timeline of faults: what is lost, late, echoed or garbled never becomes a value."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import feetech as ft
from robotrl.drivers import scs
from robotrl.drivers import xseries as x
from robotrl.drivers.lengths import LENGTHS
from robotrl.errors import DeviceError, PortError
from tests.drivers.bus_kits import ALL, AT_ONCE, EVERY, IDS, Kit, kit
from tests.drivers.fake_bus import FakeBus


@EVERY
def test_a_read_comes_in_the_order_of_the_ids(kind: str) -> None:
    it = kit(kind)
    assert it.positions() == ALL
    assert len(it.port.sent) == it.per_read


@EVERY
def test_the_echo_of_our_own_bytes_is_no_answer(kind: str) -> None:
    it = kit(kind, retries=1)
    it.port.echo = True
    assert it.positions() == ALL
    assert it.bus.ping(11) == it.model
    it.bus.write(11, it.torque, 1)
    assert it.servos[11][it.torque] == 1
    it.port.silence(10)
    assert it.positions() == [None] * 3
    with pytest.raises(DeviceError, match="does not answer"):
        it.bus.write(11, it.torque, 0)


@EVERY
def test_an_echo_in_pieces_is_no_answer(kind: str) -> None:
    it = kit(kind)
    it.port.echo = True
    whole = it.port.read
    pieces: list[bytes] = []

    def one_byte(deadline_s: float) -> bytes:
        pieces.extend(bytes((b,)) for b in whole(deadline_s))
        return pieces.pop(0) if pieces else b""

    it.port.read = one_byte  # type: ignore[method-assign]
    it.port.drain = lambda: whole(0.0)  # type: ignore[method-assign]
    assert it.positions() == ALL


@EVERY
def test_noise_around_the_answer_costs_nothing(kind: str) -> None:
    it = kit(kind)
    rng = random.Random(1)
    for _ in range(200):
        noise = bytes(rng.choices([0xFF, 0xFD, 0x00, 0x55, 0x0B], k=rng.randrange(20)))
        it.port.faults = [surrounded(noise)] * it.per_read
        assert it.positions() == ALL


@EVERY
def test_no_flipped_bit_becomes_a_value(kind: str) -> None:
    it = kit(kind)
    for bit in range(8 * it.whole):
        it.positions()  # a whole answer: the next request is of the plain length again
        it.port.faults = [flip(bit)] * it.per_read
        for got, true in zip(it.positions(), ALL, strict=True):
            assert got in (true, None)
        it.port.faults = []


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


@AT_ONCE
def test_a_lost_answer_is_asked_for_again_within_the_budget(kind: str) -> None:
    it = kit(kind, retries=1)
    it.port.silence(1)
    assert it.positions() == ALL
    it.port.silence(2)
    assert it.positions() == [None] * 3


@AT_ONCE
def test_a_dead_bus_gets_no_retries_until_it_speaks_again(kind: str) -> None:
    it = kit(kind, retries=2)
    it.port.silence(3 * 3 + 2)
    asked = []
    for _ in range(5):
        it.positions()
        asked.append(len(it.port.sent))
        it.port.sent.clear()
    assert asked == [3, 3, 3, 1, 1]
    assert it.positions() == ALL
    it.port.silence(1)
    assert it.positions() == ALL


@EVERY
def test_a_silent_bus_costs_no_more_waits_than_the_budget(kind: str) -> None:
    for retries in range(4):
        it = kit(kind, retries=retries)
        it.port.silence(1 + retries)
        it.positions()
        assert len(it.port.sent) == 1 + retries
        assert it.port.faults == []


@EVERY
def test_an_answer_that_comes_a_tick_late_is_dropped(kind: str) -> None:
    it = kit(kind, retries=2 if kind == "scs" else 0)
    for _ in range(it.per_read):
        it.port.hold_back(by=it.per_read)
    assert it.positions() == [None] * 3
    it.move(7)
    it.port.silence(it.per_read)  # only the late answers arrive
    assert it.positions() == [None] * 3
    for _ in range(it.per_read):
        it.port.hold_back(by=it.per_read)
    assert it.positions() == [None] * 3
    assert it.positions() == [7, 7, 7]  # late and current together


@AT_ONCE
@pytest.mark.parametrize("reads", range(1, LENGTHS))
def test_an_answer_that_comes_several_reads_late_is_dropped(kind: str, reads: int) -> None:
    it = kit(kind)
    for read in range(reads):  # all answers are late, and meet the same read
        it.port.hold_back(by=reads - read)
        assert it.positions() == [None] * 3
    it.move(7)
    it.port.silence(1)
    assert it.positions() == [None] * 3
    assert it.positions() == [7, 7, 7]


@EVERY
@pytest.mark.parametrize("reads", [1, 2])
def test_a_late_answer_is_no_answer_to_a_read_of_other_registers(kind: str, reads: int) -> None:
    it = kit(kind, retries=2 if kind == "scs" else 0)
    for _ in range(it.per_read):
        it.port.hold_back(by=reads * it.per_read)
    it.bus.sync_read(it.position.address, it.position.size + 1)
    it.port.silence(2 * it.per_read)
    for _ in range(2):  # the second one would be one byte longer, as the late answer is
        assert it.positions() == [None] * 3


@EVERY
def test_on_a_bus_that_loses_nothing_more_the_reads_become_short_again(kind: str) -> None:
    it = kit(kind, retries=2 if kind == "scs" else 0)
    it.port.silence(it.per_read)
    it.positions()
    for _ in range(40):
        assert it.positions() == ALL
    sizes = [size for _, size in read_spans(it)][it.per_read :]
    assert sizes == sorted(sizes, reverse=True)
    assert set(sizes) == {it.position.size + 1, it.position.size}


@EVERY
def test_what_is_read_beyond_the_wanted_bytes_stays_within_the_table(kind: str) -> None:
    it = kit(kind)
    last = scs.MOVING if kind in ("sts", "scs") else x.PRESENT_TEMPERATURE
    for servo in it.servos.values():
        servo[last] = 1
    it.port.silence(LENGTHS * it.per_read)
    for _ in range(LENGTHS - 1):
        it.bus.read_register(last)
    it.port.faults.clear()
    replies = it.bus.read_register(last)
    assert replies.fresh.all()
    assert replies.values(last).tolist() == [1, 1, 1]
    end = (scs.MOVING if kind in ("sts", "scs") else x.BACKUP_READY).end
    spans = read_spans(it)
    assert max(at + size for at, size in spans) == end
    assert len({size for _, size in spans}) == LENGTHS


def read_spans(it: Kit) -> list[tuple[int, int]]:
    """Address and size of every read that was sent."""
    split = dxl.split_span if isinstance(it.port, FakeBus) else ft.split_read
    return [split(packet.params)[:2] for packet in it.port.sent]


@AT_ONCE
def test_the_late_answer_to_a_first_try_serves_its_own_read_and_no_other(kind: str) -> None:
    it = kit(kind, retries=1)
    it.port.hold_back()
    it.port.hold_back()  # the retry's own answer comes even later
    assert it.positions() == ALL
    it.move(7)
    it.port.silence(2)  # only the retry's answer from before
    assert it.positions() == [None] * 3


@AT_ONCE
def test_the_halves_of_an_answer_may_come_on_both_sides_of_a_retry(kind: str) -> None:
    it = kit(kind, retries=1)
    rest: list[bytes] = []

    def cut(reply: bytes) -> bytes:
        rest.append(reply[21:])
        return reply[:21]

    it.port.faults = [cut, lambda reply: rest[0] + reply]
    assert it.positions() == ALL


@EVERY
def test_bytes_left_over_from_before_are_thrown_away(kind: str) -> None:
    it = kit(kind)
    it.positions()
    it.port.echo = True
    it.bus.sync_write(it.torque, np.ones(3, np.int64))  # its echo stays unread
    it.port.echo = False
    assert it.positions() == ALL


@EVERY
def test_a_servo_that_is_not_there_leaves_the_others(kind: str) -> None:
    it = kit(kind)
    del it.port.servos[13]
    it.positions()  # may end at the gap, without retries; from now on the missing one is asked last
    for _ in range(3):
        assert it.positions() == [1100, None, 1200]


@EVERY
def test_a_servo_that_comes_back_is_read_at_once(kind: str) -> None:
    it = kit(kind, retries=1)
    gone = it.port.servos.pop(13)
    for _ in range(5):
        it.positions()
    it.port.servos[13] = gone  # type: ignore[assignment]  # of the kind that it was
    assert it.positions() == ALL


@EVERY
def test_sync_write_reaches_every_servo(kind: str) -> None:
    it = kit(kind)
    it.bus.sync_write(it.goal, np.array([1, 2, 3]))
    assert [it.servos[id_][it.goal] for id_ in IDS] == [1, 2, 3]
    assert len(it.port.sent) == 1


@EVERY
@pytest.mark.parametrize("beyond", [-1, 1])
def test_a_value_outside_the_register_is_not_sent(kind: str, beyond: int) -> None:
    it = kit(kind)
    value = it.goal.minimum - 1 if beyond < 0 else it.goal.maximum + 1
    allowed = f"allowed: {it.goal.minimum} to {it.goal.maximum}"
    with pytest.raises(DeviceError, match=rf"servo 12: Goal Position \(\d+\) cannot be {value}; {allowed}"):
        it.bus.sync_write(it.goal, np.array([0, 0, value]))
    assert it.port.sent == []


@EVERY
def test_a_write_is_repeated_until_it_is_acknowledged(kind: str) -> None:
    it = kit(kind)
    it.port.silence(2)
    it.bus.write(11, it.torque, 1)
    assert len(it.port.sent) == 3
    it.port.silence(3)
    with pytest.raises(DeviceError, match="servo 11 does not answer a write of Torque Enable"):
        it.bus.write(11, it.torque, 0)


@EVERY
def test_ping_names_the_model_or_nobody(kind: str) -> None:
    it = kit(kind)
    assert it.bus.ping(11) == it.model
    assert it.bus.ping(99) is None


@EVERY
def test_a_port_that_goes_away_is_told_and_one_that_comes_back_is_used(kind: str) -> None:
    it = kit(kind)
    it.port.gone = True
    with pytest.raises(PortError):
        it.positions()
    it.port.gone = False
    assert it.positions() == ALL
