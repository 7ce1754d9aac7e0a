"""Laws of the estimator's protocol: what is sent arrives bit for bit, and nothing else ever does."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from robotrl.drivers.crc import crc16
from robotrl.drivers.estimator import FRAMING, MOST_VALUES, OVERHEAD, Estimator, PacketParser, encode
from robotrl.errors import PortError, ProtocolError
from robotrl.spec.robot import EstimatorSpec

SPEC = EstimatorSpec("/dev/null", 921600, 100, ("a", "b"), ("tip",))
COUNT = 2 + 2 + 3


class Bytes:
    """A port that has some bytes, or has gone."""

    def __init__(self) -> None:
        self.data = b""
        self.gone = False

    def write(self, data: bytes) -> None:
        """Nothing is ever sent."""
        raise AssertionError(data)

    def read(self, deadline_s: float) -> bytes:
        """Never used."""
        raise AssertionError(deadline_s)

    def drain(self) -> bytes:
        """What there is."""
        if self.gone:
            raise PortError("gone")
        data, self.data = self.data, b""
        return data

    def close(self) -> None:
        """Nothing to do."""


def values(seed: int, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, count).astype(np.float32).astype(np.float64)


def test_the_bytes_are_those_of_the_protocols_description() -> None:
    packet = encode(7, np.array([1.5, -2.0]))
    assert packet[:-2] == b"\xe5\x7a\x02\x07" + struct.pack("<2f", 1.5, -2.0)
    assert packet[-2:] == struct.pack("<H", crc16(packet[:-2]))
    assert len(packet) == OVERHEAD + 8


@pytest.mark.parametrize("count", [0, 1, COUNT, MOST_VALUES])
@pytest.mark.parametrize("chunk", [1, 3, 10_000])
def test_packets_come_back_bit_for_bit_however_they_are_cut(count: int, chunk: int) -> None:
    sent = [(number, values(number, count)) for number in (0, 1, 255)]
    stream = b"".join(encode(*packet) for packet in sent)
    parser = PacketParser()
    found = [p for i in range(0, len(stream), chunk) for p in parser.feed(stream[i : i + chunk])]
    assert [p.sequence for p in found] == [0, 1, 255]
    for packet, (_, wanted) in zip(found, sent, strict=True):
        assert packet.values.tobytes() == wanted.tobytes()


def test_values_that_are_no_numbers_arrive_as_such_for_the_gate_to_judge() -> None:
    [packet] = PacketParser().feed(encode(0, np.array([math.nan, math.inf, -math.inf])))
    np.testing.assert_array_equal(packet.values, [math.nan, math.inf, -math.inf])


def test_no_single_flipped_bit_is_believed_and_the_next_packet_is_found() -> None:
    packet, following = encode(3, values(3)), encode(4, values(4))
    for bit in range(8 * len(packet)):
        damaged = bytearray(packet)
        damaged[bit // 8] ^= 1 << bit % 8
        # A damaged count may announce more bytes than there are: nobody waits for those.
        assert [p.sequence for p in PacketParser().feed(bytes(damaged) + following)] == [4]


def test_packets_are_found_among_noise_and_parts_of_packets() -> None:
    packet = encode(9, values(9))
    noise = np.random.default_rng(0).bytes(200).replace(FRAMING.start, b"")
    stream = noise + packet[:11] + packet + noise + packet[5:] + encode(10, values(10)) + bytes(2000)
    assert [p.sequence for p in PacketParser().feed(stream)] == [9, 10]


@pytest.mark.parametrize(("sequence", "count"), [(0, MOST_VALUES + 1), (256, 1), (-1, 1)])
def test_what_no_packet_holds_is_refused(sequence: int, count: int) -> None:
    with pytest.raises(ProtocolError, match=f"no packet holds {count} values under number {sequence}"):
        encode(sequence, np.zeros(count))


def test_channels_lie_in_a_packet_as_the_spec_orders_them() -> None:
    assert list(SPEC.channels.items()) == [
        ("passive_joint_pos", (2,)),
        ("passive_joint_vel", (2,)),
        ("point_pos", (1, 3)),
    ]
    port = Bytes()
    estimator = Estimator(port, SPEC)
    assert estimator.size == COUNT
    port.data = encode(0, np.arange(7.0))
    estimator.poll(1.0)
    assert {name: part.tolist() for name, part in estimator.channels.items()} == {
        "passive_joint_pos": [0.0, 1.0],
        "passive_joint_vel": [2.0, 3.0],
        "point_pos": [[4.0, 5.0, 6.0]],
    }


def test_only_the_channels_that_are_told_of_exist() -> None:
    assert list(EstimatorSpec("/dev/null", 921600, 100, (), ("tip",)).channels) == ["point_pos"]
    assert list(EstimatorSpec("/dev/null", 921600, 100, ("a",)).channels) == [
        "passive_joint_pos",
        "passive_joint_vel",
    ]


def test_the_newest_packet_counts_and_its_age_is_that_of_the_poll() -> None:
    port = Bytes()
    estimator = Estimator(port, SPEC)
    assert (estimator.complete, estimator.stamp_s) == (False, -math.inf)
    assert all(np.isnan(part).all() for part in estimator.channels.values())
    port.data = encode(0, values(0)) + encode(1, values(1))[:20]
    estimator.poll(1.0)
    assert estimator.complete
    np.testing.assert_array_equal(estimator.channels["point_pos"], [values(0)[4:]])
    port.data = encode(1, values(1))[20:] + encode(2, values(2))
    estimator.poll(2.0)
    np.testing.assert_array_equal(estimator.channels["passive_joint_pos"], values(2)[:2])
    estimator.poll(3.0)
    assert estimator.stamp_s == 2.0


def test_an_estimator_that_repeats_itself_grows_old() -> None:
    port = Bytes()
    estimator = Estimator(port, SPEC)
    for now_s in (1.0, 2.0):
        port.data = encode(5, values(5))
        estimator.poll(now_s)
    assert estimator.stamp_s == 1.0


def test_a_packet_of_another_size_is_passed_over_and_remembered() -> None:
    port = Bytes()
    estimator = Estimator(port, SPEC)
    port.data = encode(5, values(5, COUNT + 1))
    estimator.poll(1.0)
    assert not estimator.complete
    assert estimator.odd_count == COUNT + 1


def test_a_port_that_has_gone_brings_nothing() -> None:
    port = Bytes()
    estimator = Estimator(port, SPEC)
    port.data = encode(0, values(0))
    estimator.poll(1.0)
    port.gone = True
    estimator.poll(2.0)
    assert estimator.stamp_s == 1.0
