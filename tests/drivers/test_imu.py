"""The WT901: its bytes, its set-up, and the newest sample in the body frame."""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np
import pytest

from robotrl.drivers import imu
from robotrl.drivers.imu import SCALE, FrameParser, Kind, Wt901, encode, encode_frame
from robotrl.spec.robot import ImuSpec
from tests.drivers.fake_bus import FakeImu

SPEC = ImuSpec(model="wt901", port="fake", baud_bd=115200, rate_hz=200, mount_quat=(1.0, 0.0, 0.0, 0.0))
G = 9.80665


def test_a_frame_as_in_the_data_sheet() -> None:
    frame = encode_frame(Kind.ACCEL, [1, -1, 2048, 2500])
    assert frame == bytes.fromhex("55 51 01 00 FF FF 00 08 C4 09") + bytes(
        [(0x55 + 0x51 + 1 + 255 + 255 + 8 + 0xC4 + 9) & 0xFF]
    )
    assert FrameParser().feed(frame) == [(Kind.ACCEL, (1, -1, 2048, 2500))]


def test_scales_are_those_of_the_data_sheet() -> None:
    assert SCALE[Kind.ACCEL] * 2048 == pytest.approx(G)
    assert SCALE[Kind.GYRO] * 32768 == pytest.approx(math.radians(2000))
    assert SCALE[Kind.ANGLE] * 16384 == pytest.approx(math.pi / 2)
    assert SCALE[Kind.QUATERNION] * 32768 == 1


@pytest.mark.parametrize("kind", list(Kind))
def test_values_survive_to_half_a_count_and_saturate(kind: Kind) -> None:
    rng = np.random.default_rng(2)
    for values in rng.uniform(-0.99, 0.99, (200, 3)) * SCALE[kind] * 32768:
        ((_, counts),) = FrameParser().feed(encode(kind, values))
        assert abs(np.array(counts[:3]) * SCALE[kind] - values).max() <= SCALE[kind] / 2 + 1e-12
    ((_, counts),) = FrameParser().feed(encode(kind, [1e9, -1e9, 0.0]))
    assert counts == (32767, -32768, 0, 0)


def random_frames(count: int) -> list[tuple[int, tuple[int, ...]]]:
    rng = random.Random(5)
    return [
        (rng.choice(list(Kind)), tuple(rng.choice([0x5555, 0x5155, rng.randint(-9, 9)]) for _ in range(4)))
        for _ in range(count)
    ]


def test_the_stream_may_be_cut_anywhere() -> None:
    frames = random_frames(100)
    stream = b"".join(encode_frame(*frame) for frame in frames)
    for step in (1, 3, 10, 11, 12, 64):
        parser = FrameParser()
        chunks = [stream[i : i + step] for i in range(0, len(stream), step)]
        assert [f for chunk in chunks for f in parser.feed(chunk)] == frames


def test_every_single_bit_flip_is_rejected() -> None:
    frame = encode(Kind.QUATERNION, [0.5, -0.5, 0.5, -0.5])
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        assert FrameParser().feed(bytes(damaged)) == []


def test_a_broken_frame_does_not_swallow_the_next() -> None:
    frame, following = encode(Kind.GYRO, [0.1, 0.2, 0.3]), encode(Kind.ACCEL, [0.0, 0.0, G])
    for cut in range(11):
        found = FrameParser().feed(frame[:cut] + following + following)
        assert found[-1] == FrameParser().feed(following)[0]


def test_set_up_changes_the_baud_rate_first_and_saves_last() -> None:
    opened: list[tuple[str, int, FakeImu]] = []

    def open_port(path: str, baud_bd: int) -> FakeImu:
        opened.append((path, baud_bd, FakeImu()))
        return opened[-1][2]

    imu.set_up("port", 9600, dataclasses.replace(SPEC, rate_hz=100), open_port)
    assert [(path, baud) for path, baud, _ in opened] == [("port", 9600), ("port", 115200)]
    assert opened[0][2].written == bytes.fromhex("FF AA 69 88 B5  FF AA 04 06 00")
    assert opened[1][2].written == bytes.fromhex(
        "FF AA 69 88 B5  FF AA 02 06 02  FF AA 03 09 00  FF AA 24 01 00  FF AA 1F 02 00  FF AA 00 00 00"
    )
    assert all(port.closed for _, _, port in opened)


def test_the_newest_sample_wins_and_is_stamped() -> None:
    port = FakeImu()
    reader = Wt901(port, SPEC)
    assert not reader.complete
    assert reader.stamp_s == -math.inf
    port.gyro_rad_s = (0.1, -0.2, 0.3)
    reader.poll(5.0)
    assert reader.complete
    assert reader.stamp_s == 5.0
    np.testing.assert_allclose(reader.gyro_rad_s, port.gyro_rad_s, atol=SCALE[Kind.GYRO])
    np.testing.assert_allclose(reader.accel_m_s2, port.accel_m_s2, atol=SCALE[Kind.ACCEL])


def test_values_stay_and_grow_old_when_nothing_comes() -> None:
    port = FakeImu()
    reader = Wt901(port, SPEC)
    reader.poll(1.0)
    port.sending = False
    reader.poll(2.0)
    port.gone = True
    reader.poll(3.0)
    assert reader.stamp_s == 1.0
    assert reader.complete


def test_the_age_is_that_of_the_oldest_quantity() -> None:
    reader = Wt901(stream := ByteStream(), SPEC)
    stream.data = FakeImu().drain()
    reader.poll(1.0)
    stream.data = encode(Kind.ACCEL, [0, 0, G]) + encode(Kind.QUATERNION, [1, 0, 0, 0])
    reader.poll(2.0)
    assert reader.stamp_s == 1.0  # no gyro since


def test_a_quaternion_that_is_none_is_refused() -> None:
    reader = Wt901(stream := ByteStream(), SPEC)
    stream.data = encode(Kind.QUATERNION, [0.0, 0.0, 0.0, 0.0]) + encode(Kind.ACCEL, [0, 0, G])
    reader.poll(1.0)
    assert np.isnan(reader.quat).all()


class ByteStream(FakeImu):
    """Sends exactly the bytes it is given."""

    data = b""

    def drain(self) -> bytes:
        """Hand them out once."""
        data, self.data = self.data, b""
        return data


def test_mounting_turns_vectors_into_the_body_and_the_orientation_with_them() -> None:
    """A sensor turned 90 degrees about body z: its x axis is the body's y axis."""
    half = math.sqrt(0.5)
    port = FakeImu()
    port.gyro_rad_s = (1.0, 2.0, 3.0)
    port.accel_m_s2 = (4.0, 5.0, 6.0)
    reader = Wt901(port, dataclasses.replace(SPEC, mount_quat=(half, 0.0, 0.0, half)))
    port.quat = (half, 0.0, 0.0, half)  # the sensor's own heading when the body's is zero
    reader.poll(0.0)
    np.testing.assert_allclose(reader.gyro_rad_s, [-2.0, 1.0, 3.0], atol=2e-3)
    np.testing.assert_allclose(reader.accel_m_s2, [-5.0, 4.0, 6.0], atol=5e-3)
    np.testing.assert_allclose(reader.quat, [1.0, 0.0, 0.0, 0.0], atol=1e-4)


def test_gravity_agrees_with_orientation_however_the_sensor_is_mounted() -> None:
    """At rest the measured acceleration, turned into the world, points straight up: for any mounting."""
    quats = np.random.default_rng(4).normal(size=(50, 2, 4))
    quats /= np.linalg.norm(quats, axis=2, keepdims=True)
    for mount, true in quats:
        up_body = imu.rotate(imu.conjugate(true), np.array([0.0, 0.0, G]))
        port = FakeImu()
        port.accel_m_s2 = tuple(imu.rotate(imu.conjugate(mount), up_body))
        port.quat = tuple(imu.multiply(true, mount))
        reader = Wt901(port, dataclasses.replace(SPEC, mount_quat=tuple(mount)))
        reader.poll(0.0)
        up_world = imu.rotate(reader.quat, reader.accel_m_s2)
        np.testing.assert_allclose(up_world, [0.0, 0.0, G], atol=0.01)
        assert abs(reader.quat @ true) == pytest.approx(1.0, abs=1e-6)
