"""A cable's noise: what becomes of packets and bytes, how often, when, and in which direction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robotrl.emulator.cable import Cable, Piece, Way
from robotrl.emulator.faults import FaultScript, LineFault, Noise

PACKET = bytes(range(40))
TRIES = 1000


def cable(seed: int = 0, **rates: float) -> Cable:
    noise = Noise("legs", 1.0, 2.0, **rates)
    return Cable("legs", FaultScript(noise=(noise,)), np.random.default_rng(seed))


def carried(line: Cable, packet: bytes = PACKET) -> list[Piece]:
    return line.carry(packet, 1.5, Way.TO_HOST)


def share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


def test_truncated_packets_have_lost_their_end() -> None:
    line = cable(truncate=0.3)
    packets = [carried(line)[0].data for _ in range(TRIES)]
    assert all(PACKET.startswith(packet) and packet for packet in packets)
    assert share([packet != PACKET for packet in packets]) == pytest.approx(0.3, abs=0.05)
    assert len({len(packet) for packet in packets}) > 20


def test_delayed_packets_are_whole_and_late() -> None:
    line = cable(delay=0.3, delay_s=0.01)
    pieces = [piece for _ in range(TRIES) for piece in carried(line)]
    assert {piece.time_s for piece in pieces} == {1.5, 1.51}
    assert share([piece.time_s > 1.5 for piece in pieces]) == pytest.approx(0.3, abs=0.05)
    assert all(piece.data == PACKET for piece in pieces)


def test_split_packets_arrive_in_two_pieces() -> None:
    first, second = carried(cable(split=1.0, delay_s=0.01))
    assert first.data + second.data == PACKET
    assert (first.time_s, second.time_s) == (1.5, 1.51)


def test_duplicated_packets_arrive_twice() -> None:
    line = cable(duplicate=0.3)
    counts = [len(carried(line)) for _ in range(TRIES)]
    assert set(counts) == {1, 2}
    assert share([count == 2 for count in counts]) == pytest.approx(0.3, abs=0.05)


def test_a_merged_packet_comes_in_front_of_the_next_of_its_direction() -> None:
    line = cable(merge=1.0)
    assert carried(line, b"one") == []
    assert line.carry(b"other way", 1.5, Way.TO_DEVICES) == []
    assert carried(line, b"two") == [Piece(1.5, b"onetwo")]
    assert line.carry(b" back", 2.5, Way.TO_DEVICES) == [Piece(2.5, b"other way back")]


def test_a_reordered_packet_comes_behind_the_next() -> None:
    line = cable(reorder=1.0)
    assert carried(line, b"one") == []
    assert carried(line, b"two") == [Piece(1.5, b"twoone")]
    assert carried(line, b"three") == []


def test_what_is_held_back_is_lost_with_the_cable() -> None:
    line = cable(merge=1.0)
    carried(line, b"one")
    line.unplug()
    assert carried(line, b"two") == []
    line.plug()
    assert line.carry(b"three", 2.5, Way.TO_HOST) == [Piece(2.5, b"three")]


def test_bytes_vanish_double_and_change_as_often_as_scripted() -> None:
    dropped, doubled, flipped = cable(byte_drop=0.1), cable(byte_duplicate=0.1), cable(byte_flip=0.1)
    lengths = [len(carried(dropped)[0].data) for _ in range(TRIES)]
    assert np.mean(lengths) == pytest.approx(36, abs=0.3)
    lengths = [len(carried(doubled)[0].data) for _ in range(TRIES)]
    assert np.mean(lengths) == pytest.approx(44, abs=0.3)
    arrays = np.array([np.frombuffer(carried(flipped)[0].data, np.uint8) for _ in range(TRIES)])
    changed = arrays ^ np.frombuffer(PACKET, np.uint8)
    assert (changed != 0).mean() == pytest.approx(0.1, abs=0.01)
    assert set(np.unique(changed)) == {0, *(1 << bit for bit in range(8))}


def test_swapped_bytes_are_neighbours() -> None:
    line = cable(byte_swap=0.02)
    packets = [carried(line)[0].data for _ in range(TRIES)]
    assert all(sorted(packet) == sorted(PACKET) for packet in packets)
    assert share([packet != PACKET for packet in packets]) == pytest.approx(1 - 0.98**39, abs=0.05)


def test_outside_its_window_noise_does_nothing() -> None:
    every = dict.fromkeys(("drop", "damage", "truncate", "merge", "reorder", "duplicate", "byte_drop"), 1.0)
    line = cable(0, **every)
    for time_s in (0.999, 2.0):
        assert line.carry(PACKET, time_s, Way.TO_HOST) == [Piece(time_s, PACKET)]


@pytest.mark.parametrize("fault", ["cut", "eject", "short"])
def test_nothing_passes_a_line_that_is_cut_ejected_or_shorted(fault: str) -> None:
    script = replace(FaultScript(), **{fault: (LineFault("legs", 1.0, 2.0),)})  # type: ignore[arg-type]
    line = Cable("legs", script, np.random.default_rng(0))
    assert [bool(line.carry(PACKET, t, Way.TO_DEVICES)) for t in (0.999, 1.0, 1.999, 2.0)] == [
        True,
        False,
        False,
        True,
    ]
    assert line.port_exists(1.5) == (fault != "eject")
    assert line.shorted(1.5) == (fault == "short")
    line.unplug()
    assert not line.shorted(1.5)  # the host hears nothing of it


def test_an_ejected_adapter_is_back_when_it_is_inserted() -> None:
    line = cable()
    line.eject()
    assert not line.port_exists(0.0)
    assert line.carry(PACKET, 0.0, Way.TO_HOST) == []
    line.insert()
    assert line.port_exists(0.0)
    assert line.carry(PACKET, 0.0, Way.TO_HOST) == [Piece(0.0, PACKET)]
