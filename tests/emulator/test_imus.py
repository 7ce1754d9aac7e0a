"""The emulated WT901: frames, quantisation, noise, mounting and its configuration commands."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from robotrl.drivers import imu as codec
from robotrl.drivers.imu import Kind, Register
from robotrl.emulator import imus
from robotrl.emulator.imus import Wt901
from robotrl.emulator.plant import ImuTruth
from tests.emulator.host import quad12

_IMU = quad12().imu
assert _IMU is not None
SPEC = _IMU
LEVEL = ImuTruth(np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3), np.array([0.0, 0.0, 9.81]))
UNLOCK = bytes.fromhex("FF AA 69 88 B5")


def sensor(seed: int = 0, **changes: object) -> Wt901:
    return Wt901(dataclasses.replace(SPEC, **changes), np.random.default_rng(seed))  # type: ignore[arg-type]


def decoded(frames: list[bytes]) -> dict[int, np.ndarray]:
    parsed = codec.FrameParser().feed(b"".join(frames))
    return {kind: np.array(counts) * codec.SCALE[Kind(kind)] for kind, counts in parsed}


def kinds(frames: list[bytes]) -> list[int]:
    return [frame[1] for frame in frames]


def test_it_sends_acceleration_gyro_and_quaternion_at_the_rate_of_robot_toml() -> None:
    imu = sensor()
    assert imu.rate_hz == 200
    assert kinds(imu.sample(0.1, LEVEL)) == [0x51, 0x52, 0x59]
    assert imu.next_sample_s == pytest.approx(0.105)
    imu.sample(0.1062, LEVEL)
    assert imu.next_sample_s == pytest.approx(0.11), "one that is late delays none after it"


def test_a_level_sensor_at_rest_reads_gravity_up_and_no_rotation() -> None:
    values = decoded(sensor().sample(0.0, LEVEL))
    assert values[Kind.ACCEL][:3] == pytest.approx([0, 0, 9.81], abs=5 * imus.ACCEL_BIAS_M_S2)
    assert values[Kind.GYRO][:3] == pytest.approx([0, 0, 0], abs=5 * imus.GYRO_BIAS_RAD_S)
    assert values[Kind.QUATERNION] == pytest.approx([1, 0, 0, 0], abs=5 * imus.TILT_BIAS_RAD)


def test_noise_has_the_stated_size_around_a_constant_bias() -> None:
    imu = sensor(seed=4)
    gyro = np.array([decoded(imu.sample(0.0, LEVEL))[Kind.GYRO][:3] for _ in range(500)])
    assert gyro.std(axis=0) == pytest.approx(imus.GYRO_NOISE_RAD_S, rel=0.2)
    other = np.array([decoded(sensor(seed=5).sample(0.0, LEVEL))[Kind.GYRO][:3] for _ in range(5)])
    assert (abs(gyro.mean(axis=0) - other.mean(axis=0)) > 1e-4).all()


def test_values_saturate_at_the_sensors_range() -> None:
    fast = dataclasses.replace(LEVEL, gyro_rad_s=np.array([100.0, -100.0, 0.0]))
    gyro = decoded(sensor().sample(0.0, fast))[Kind.GYRO]
    assert gyro[:2] == pytest.approx([math.radians(2000), -math.radians(2000)], rel=1e-4)


def test_a_turned_sensor_measures_in_its_own_axes() -> None:
    quarter_about_z = (math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5))
    turned = sensor(mount_quat=quarter_about_z)
    truth = dataclasses.replace(LEVEL, gyro_rad_s=np.array([1.0, 0.0, 0.0]))
    values = decoded(turned.sample(0.0, truth))
    # v_body = R v_sensor: body x is the sensor's -y.
    assert values[Kind.GYRO][:3] == pytest.approx([0, -1, 0], abs=0.05)
    assert values[Kind.QUATERNION] == pytest.approx(quarter_about_z, abs=0.05)


def test_angles_are_those_of_the_quaternion() -> None:
    imu = sensor()
    imu.receive(UNLOCK + codec.command(Register.CONTENT, 1 << 3), 0.0)
    pitched = dataclasses.replace(LEVEL, quat=np.array([math.cos(0.2), 0.0, math.sin(0.2), 0.0]))
    frames = imu.sample(0.0, pitched)
    assert kinds(frames) == [0x53]
    assert decoded(frames)[Kind.ANGLE][:3] == pytest.approx([0, 0.4, 0], abs=0.05)


def test_commands_need_an_unlock_within_ten_seconds() -> None:
    imu = sensor()
    slow = codec.command(Register.RATE, codec.RATE_CODES[50])
    imu.receive(slow, 1.0)
    assert imu.rate_hz == 200
    imu.receive(UNLOCK, 1.0)
    imu.receive(slow, 1.0 + imus.UNLOCK_S + 0.1)
    assert imu.rate_hz == 200
    imu.receive(UNLOCK + slow, 20.0)
    assert imu.rate_hz == 50


def test_only_what_was_saved_survives_a_restart() -> None:
    imu = sensor()
    save, restart = codec.command(Register.SAVE, 0), codec.command(Register.SAVE, 0x00FF)
    imu.receive(UNLOCK + codec.command(Register.RATE, codec.RATE_CODES[50]) + save, 0.0)
    imu.receive(codec.command(Register.BAUD, codec.BAUD_CODES[9600]), 0.1)
    assert (imu.rate_hz, imu.baud_bd) == (50, 9600)
    imu.receive(restart, 0.2)
    assert (imu.rate_hz, imu.baud_bd) == (50, SPEC.baud_bd)


def test_factory_settings_are_slow_and_lack_the_quaternion() -> None:
    imu = sensor()
    imu.receive(UNLOCK + codec.command(Register.SAVE, 1), 0.0)
    assert (imu.rate_hz, imu.baud_bd) == (10, 9600)
    assert kinds(imu.sample(0.0, LEVEL)) == [0x51, 0x52, 0x53]


def test_the_drivers_set_up_brings_a_factory_sensor_to_robot_toml() -> None:
    imu = sensor()
    imu.receive(UNLOCK + codec.command(Register.SAVE, 1), 0.0)
    imu.receive(UNLOCK + codec.command(Register.BAUD, codec.BAUD_CODES[SPEC.baud_bd]), 0.1)
    for command in codec.settings(SPEC):
        imu.receive(command, 0.2)
    assert (imu.rate_hz, imu.baud_bd) == (SPEC.rate_hz, SPEC.baud_bd)
    assert kinds(imu.sample(0.0, LEVEL)) == [0x51, 0x52, 0x59]


def test_commands_may_come_in_pieces_and_between_noise() -> None:
    imu = sensor()
    stream = b"\x00\xff" + UNLOCK + b"\x13" + codec.command(Register.RATE, codec.RATE_CODES[20])
    for byte in stream:
        imu.receive(bytes([byte]), 0.0)
    assert imu.rate_hz == 20


def test_unknown_codes_change_nothing() -> None:
    imu = sensor()
    imu.receive(UNLOCK + codec.command(Register.RATE, 0x77) + codec.command(Register.BAUD, 0x77), 0.0)
    assert (imu.rate_hz, imu.baud_bd) == (SPEC.rate_hz, SPEC.baud_bd)
