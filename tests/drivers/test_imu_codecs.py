"""BNO08x UART-RVC, VectorNav and MicroStrain: published vectors, round trips and damaged bytes."""

from __future__ import annotations

import math
import random
import struct
from binascii import crc_hqx
from collections.abc import Callable

import pytest

from robotrl.drivers import bno08x, microstrain, vectornav
from robotrl.drivers.bno08x import RvcParser, RvcSample
from robotrl.drivers.framing import FrameFinder, Framing
from robotrl.drivers.microstrain import Measurement, Packet
from robotrl.drivers.vectornav import Field, MessageParser
from robotrl.errors import ProtocolError

RVC = bytes.fromhex("AA AA DE 01 00 92 FF 25 08 8D FE EC FF D1 03 00 00 00 E7")
YPR = bytes.fromhex("FA 01 08 00 93 50 2E 42 83 3E F1 3F 48 B5 04 BB 92 88")
MIP = bytes.fromhex("7565800E0E043E7A63A0BB8E3B297FE5BF7F84EE")
G = 9.80665


def test_the_data_sheets_rvc_frame() -> None:
    (sample,) = RvcParser().feed(RVC)
    assert sample.index == 222
    assert [math.degrees(angle) for angle in sample.yaw_pitch_roll_rad] == pytest.approx([0.01, -1.1, 20.85])
    assert [force / G for force in sample.accel_m_s2] == pytest.approx([-0.371, -0.020, 0.977])
    assert bno08x.encode(sample) == RVC


def test_rvc_samples_survive_to_half_a_count() -> None:
    rng = random.Random(1)
    for index in range(256):
        angles = (rng.uniform(-3, 3), rng.uniform(-1, 1), rng.uniform(-3, 3))
        forces = (rng.uniform(-80, 80), rng.uniform(-80, 80), rng.uniform(-80, 80))
        (back,) = RvcParser().feed(bno08x.encode(RvcSample(index, angles, forces)))
        assert back.index == index
        assert back.yaw_pitch_roll_rad == pytest.approx(angles, abs=bno08x.ANGLE * 0.501)
        assert back.accel_m_s2 == pytest.approx(forces, abs=bno08x.ACCELERATION * 0.501)


def test_the_manuals_vectornav_message() -> None:
    (values,) = MessageParser().feed(YPR)
    assert list(values) == [Field.YAW_PITCH_ROLL_DEG]
    assert values[Field.YAW_PITCH_ROLL_DEG] == pytest.approx((43.5787, 1.8847, -0.0020), abs=5e-5)
    assert vectornav.encode(values) == YPR


def test_every_vectornav_field_survives_alone_and_with_others() -> None:
    sizes = (8, 8, 8, 12, 16, 12, 24, 12, 12, 24, 20, 28, 2, 4, 8)  # the manual's, in bytes
    whole: dict[Field, tuple[float, ...]] = {}
    for one, size in zip(Field, sizes, strict=True):
        frame = vectornav.encode({one: values_of(one)})
        assert len(frame) == 4 + size + 2
        assert MessageParser().feed(frame) == [{one: values_of(one)}]
        whole[one] = values_of(one)
    assert MessageParser().feed(vectornav.encode(whole)) == [whole]


def values_of(one: Field) -> tuple[float, ...]:
    """Numbers that a float holds exactly, and differ from field to field."""
    count = {
        Field.QUATERNION_XYZW: 4,
        Field.UNCOMPENSATED_ACCEL_M_S2_RATE_RAD_S: 6,
        Field.MAGNETIC_GAUSS_TEMPERATURE_C_PRESSURE_KPA: 5,
        Field.DELTA_TIME_S_THETA_DEG_VELOCITY_M_S: 7,
    }
    scalars = ("TIME", "INS", "SYNC")
    n = 1 if one.name.startswith(scalars) else count.get(one, 3)
    return tuple(100 * one + k for k in range(n))


def test_vectornav_messages_of_other_groups_are_passed_over() -> None:
    for head, payload in (
        ("04 08 00", YPR[4:-2]),
        ("05 08 00", YPR[4:-2]),
        ("01 08 80", YPR[4:-2]),
        ("01 00 00", b""),
    ):
        body = bytes.fromhex(head) + payload
        other = YPR[:1] + body + crc_hqx(body, 0).to_bytes(2, "big")
        assert MessageParser().feed(other + YPR) == MessageParser().feed(YPR)


def test_the_manuals_mip_packet() -> None:
    """Its third number is printed as a NaN there; the checksum is right."""
    (packet,) = microstrain.PacketParser().feed(MIP)
    accel = microstrain.measurements(packet)[Measurement.ACCEL_G]
    assert accel[:2] == pytest.approx((0.244521, -0.004341), abs=1e-6)
    assert packet.encode() == MIP


def test_mip_measurements_survive() -> None:
    sent = {
        Measurement.GYRO_RAD_S: (0.5, -0.25, 2.0),
        Measurement.QUATERNION_WXYZ: (0.5, -0.5, 0.5, 0.5),
        Measurement.ORIENTATION_MATRIX: tuple(float(k) for k in range(9)),
    }
    (packet,) = microstrain.PacketParser().feed(microstrain.imu_packet(sent).encode())
    assert microstrain.measurements(packet) == sent


def test_mip_fields_that_are_unknown_or_of_another_size_are_passed_over() -> None:
    fields = (microstrain.Field(0x12, bytes(12)), microstrain.Field(Measurement.GYRO_RAD_S, bytes(8)))
    (packet,) = microstrain.PacketParser().feed(Packet(microstrain.IMU_DATA, fields).encode())
    assert packet.fields == fields
    assert microstrain.measurements(packet) == {}
    (other,) = microstrain.PacketParser().feed(Packet(0x82, fields).encode())
    assert microstrain.measurements(other) == {}


def test_mip_fields_that_do_not_fill_their_packet_are_no_packet() -> None:
    for payload in (b"\x05\x04\x00", b"\x00\x04", b"\x03\x04\x00\x01"):
        body = b"\x75\x65\x80" + bytes((len(payload),)) + payload
        assert microstrain.PacketParser().feed(body + microstrain.fletcher(body)) == []


def test_a_mip_packet_holds_255_bytes_of_fields() -> None:
    full = Packet(1, (microstrain.Field(1, bytes(253)),))
    assert microstrain.PacketParser().feed(full.encode()) == [full]
    with pytest.raises(ProtocolError, match="255 bytes at most"):
        Packet(1, (microstrain.Field(1, bytes(254)),)).encode()


FRAMES = [
    pytest.param(bno08x.FRAMING, RVC, id="rvc"),
    pytest.param(vectornav.FRAMING, YPR, id="vectornav"),
    pytest.param(microstrain.FRAMING, MIP, id="microstrain"),
]


@pytest.mark.parametrize(("framing", "frame"), FRAMES)
def test_every_single_bit_flip_is_rejected(framing: Framing, frame: bytes) -> None:
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        finder = FrameFinder(framing)
        assert finder.feed(bytes(damaged)) + finder.flush() == []


@pytest.mark.parametrize(("framing", "frame"), FRAMES)
def test_a_broken_frame_does_not_swallow_the_next(framing: Framing, frame: bytes) -> None:
    """Two follow: an 8-bit sum lets a cut RVC frame and the start of the next pass for a whole one."""
    for cut in range(len(frame)):
        finder = FrameFinder(framing)
        assert (finder.feed(frame[:cut] + frame + frame) + finder.flush())[-1] == frame


@pytest.mark.parametrize(
    ("parse", "frame"),
    [(RvcParser, RVC), (MessageParser, YPR), (microstrain.PacketParser, MIP[:6] + bytes(14))],
)
def test_the_stream_may_be_cut_anywhere(
    parse: Callable[[], RvcParser | MessageParser | microstrain.PacketParser], frame: bytes
) -> None:
    if frame[:2] == MIP[:2]:
        frame = frame[:-2] + microstrain.fletcher(frame[:-2])
    stream = 5 * (frame + b"\x01")
    whole = parse().feed(stream)
    assert len(whole) == 5
    for step in (1, 2, 7):
        parser = parse()
        assert [
            found for at in range(0, len(stream), step) for found in parser.feed(stream[at : at + step])
        ] == whole


def test_an_rvc_value_beyond_its_word_is_not_encoded() -> None:
    with pytest.raises(struct.error):
        bno08x.encode(RvcSample(0, (0.0, 0.0, 7.0), (0.0, 0.0, 0.0)))
