"""The lines: time on the wire, packets cut out of bytes, cables out and in, noise by seed."""

from __future__ import annotations

import select

import numpy as np
import pytest

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import xseries as x
from robotrl.emulator.cable import Cable, Way
from robotrl.emulator.dynamixel_servos import DynamixelServos
from robotrl.emulator.faults import FaultScript, LineFault, Noise
from robotrl.emulator.wire import PacketFramer, PseudoTerminal, wire_time_s
from tests.emulator.host import BUS, many_servos

QUIET = FaultScript()


def through(cable: Cable, packet: bytes, time_s: float) -> bytes:
    """What the host has of a packet in the end."""
    return b"".join(piece.data for piece in cable.carry(packet, time_s, Way.TO_HOST))


@pytest.mark.parametrize(
    ("baud_bd", "servos", "plain_ms", "fast_ms"),
    [
        (1000000, 6, 2.20, 1.62),
        (1000000, 14, 4.76, 3.30),
        (1000000, 20, 6.68, 4.56),
        (1000000, 30, 9.88, 6.66),
        (2000000, 6, 1.25, 0.84),
        (2000000, 14, 2.73, 1.72),
        (2000000, 20, 3.84, 2.38),
        (2000000, 30, 5.69, 3.48),
        (4000000, 6, 0.78, 0.45),
        (4000000, 14, 1.72, 0.93),
        (4000000, 20, 2.42, 1.29),
        (4000000, 30, 3.60, 1.89),
    ],
)
def test_one_cycle_takes_the_time_of_the_published_table(
    baud_bd: int, servos: int, plain_ms: float, fast_ms: float
) -> None:
    """A sync write of goals and a sync read of load, speed and position, as in protocols.md section 3."""
    robot = many_servos(servos, baud_bd)
    bus = DynamixelServos(robot, BUS, np.zeros(servos))
    prompt = dxl.write(dxl.BROADCAST_ID, x.RETURN_DELAY_TIME.address, b"\x00")
    bus.receive(prompt, 0.0)
    for fast, expected_ms in ((False, plain_ms), (True, fast_ms)):
        goals = dxl.sync_write(x.GOAL_POSITION.address, bus.ids, np.zeros((servos, 4), np.uint8))
        ask = dxl.sync_read(x.PRESENT_LOAD.address, 10, bus.ids, fast=fast)
        total_s = wire_time_s(len(goals) + len(ask), baud_bd)
        for reply in bus.receive(ask, 0.0):
            total_s += reply.gap_s + wire_time_s(len(reply.data), baud_bd)
        assert 1000 * total_s == pytest.approx(expected_ms, abs=0.0051)


def test_the_framer_cuts_packets_whatever_the_chunks() -> None:
    packets = [dxl.ping(11), dxl.write(12, 116, bytes(4)), dxl.sync_read(126, 21, range(30), fast=True)]
    stream = b"".join(packets)
    for size in (1, 3, 7, len(stream)):
        framer = PacketFramer(dxl.FRAMING)
        cut = [p for at in range(0, len(stream), size) for p in framer.feed(stream[at : at + size])]
        assert cut == packets


def test_the_framer_passes_noise_on_and_finds_the_next_packet() -> None:
    noise = b"\xff\xff\x00\x12"
    assert PacketFramer(dxl.FRAMING).feed(noise + dxl.ping(11)) == [noise, dxl.ping(11)]


def test_the_framer_keeps_packets_with_a_wrong_crc_whole() -> None:
    broken = dxl.ping(11)[:-1] + b"\x00"
    assert PacketFramer(dxl.FRAMING).feed(broken + dxl.ping(12)) == [broken, dxl.ping(12)]


def test_an_impossible_length_does_not_swallow_what_follows() -> None:
    framer = PacketFramer(dxl.FRAMING)
    pieces = framer.feed(dxl.HEADER + b"\x0b\xff\xff\x01" + dxl.ping(12))
    assert pieces[-1] == dxl.ping(12)


def test_a_pulled_cable_carries_nothing_until_plugged() -> None:
    cable = Cable("legs", QUIET, np.random.default_rng(0))
    assert through(cable, b"abc", 0.0) == b"abc"
    cable.unplug()
    assert through(cable, b"abc", 1.0) == b""
    cable.plug()
    assert through(cable, b"abc", 2.0) == b"abc"


def test_a_scripted_cut_holds_from_its_start_up_to_its_end() -> None:
    script = FaultScript(cut=(LineFault("legs", 1.0, 2.0),))
    cable = Cable("legs", script, np.random.default_rng(0))
    assert [cable.connected(t) for t in (0.999, 1.0, 1.999, 2.0)] == [True, False, False, True]
    other = Cable("imu", script, np.random.default_rng(0))
    assert other.connected(1.5)


def noisy(drop: float, damage: float, seed: int = 3) -> Cable:
    script = FaultScript(noise=(Noise("legs", 1.0, 2.0, drop, damage),))
    return Cable("legs", script, np.random.default_rng(seed))


def test_packets_are_dropped_as_often_as_scripted() -> None:
    cable = noisy(0.3, 0.0)
    lost = sum(through(cable, b"abc", 1.5) == b"" for _ in range(2000))
    assert lost / 2000 == pytest.approx(0.3, abs=0.04)


def test_damage_changes_one_byte_at_most_and_always_something() -> None:
    cable = noisy(0.0, 1.0)
    packet = dxl.ping(11)
    damaged = [through(cable, packet, 1.5) for _ in range(300)]
    assert {len(d) - len(packet) for d in damaged} == {-1, 0, 1}
    assert all(not dxl.PacketParser().feed(d) for d in damaged if len(d) == len(packet))


def test_noise_is_the_same_for_the_same_seed_and_only_in_its_window() -> None:
    first, again, other = (noisy(0.5, 0.5, seed) for seed in (1, 1, 2))
    runs = [[through(c, b"abcdef", 1.5) for _ in range(50)] for c in (first, again, other)]
    assert runs[0] == runs[1] != runs[2]
    assert through(first, b"abcdef", 2.0) == b"abcdef"


def test_a_pseudo_terminal_passes_every_byte_value_raw() -> None:
    port = PseudoTerminal(115200)
    try:
        with open(port.path, "r+b", buffering=0) as host:  # noqa: PTH123 - a device, unbuffered
            port.write_through(bytes(range(256)))
            assert host.read(256) == bytes(range(256))
            assert port.read() == b""
            host.write(b"\x03\x04\r\n\x11\xff")
            received = b""
            while len(received) < 6 and select.select([port.fd], [], [], 10.0)[0]:
                received += port.read()
            assert received == b"\x03\x04\r\n\x11\xff"
    finally:
        port.close()


def test_a_full_host_loses_bytes_instead_of_blocking_the_device() -> None:
    port = PseudoTerminal(115200)
    try:
        with open(port.path, "r+b", buffering=0) as host:  # noqa: PTH123 - a device, unbuffered
            for _ in range(100):
                port.write(bytes(1000))
            received = 0
            while select.select([host], [], [], 0)[0]:
                received += len(host.read(4096))
            assert 0 < received < 100 * 1000
    finally:
        port.close()
