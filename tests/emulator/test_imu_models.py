"""Every IMU model behind its reader: what the body turns and feels is what the reader says, in body axes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from robotrl.drivers import bno08x, vectornav
from robotrl.drivers.imu import ImuReader, Wt901, conjugate, multiply, rotate
from robotrl.drivers.rvc import Bno08x, orientation
from robotrl.drivers.vectornav import Field
from robotrl.drivers.vn100 import MEASURED, Vn100, ascii_command, settings
from robotrl.emulator.imu_sensor import EmulatedImu
from robotrl.emulator.imus import Wt901 as EmulatedWt901
from robotrl.emulator.plant import ImuTruth
from robotrl.emulator.rvc import Bno08x as EmulatedBno08x
from robotrl.emulator.vn100 import Vn100 as EmulatedVn100
from robotrl.errors import ConfigError
from robotrl.spec.records import load_toml
from robotrl.spec.robot import ImuSpec, load_robot
from robotrl.spec.shipped import find_shipped
from tests.spec.toml_text import to_toml

Model = Literal["wt901", "bno08x", "vn100"]
MODELS: tuple[Model, ...] = ("wt901", "bno08x", "vn100")
DEVICES: dict[str, type[EmulatedImu]] = {
    "wt901": EmulatedWt901,
    "bno08x": EmulatedBno08x,
    "vn100": EmulatedVn100,
}
READERS: dict[str, type[ImuReader]] = {"wt901": Wt901, "bno08x": Bno08x, "vn100": Vn100}
G = 9.81
LEVEL = ImuTruth(np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3), np.array([0.0, 0.0, G]))


class Cord:
    """A `Port` between a reader and a device that needs no time."""

    def __init__(self, device: EmulatedImu) -> None:
        self.device = device
        self.answers: list[bytes] = []
        self._incoming = b""

    def sample(self, time_s: float, truth: ImuTruth) -> None:
        """Let the device measure."""
        self._incoming += b"".join(self.device.sample(time_s, truth))

    def write(self, data: bytes) -> None:
        """Pass commands on, and answers back."""
        self.answers += self.device.receive(data, 0.0)
        self._incoming += b"".join(self.answers[-1:])

    def read(self, deadline_s: float) -> bytes:
        """Return what has come."""
        data, self._incoming = self._incoming, b""
        return data

    def drain(self) -> bytes:
        """Return what has come."""
        return self.read(0.0)

    def close(self) -> None:
        """Nothing to release."""


def spec_of(model: Model, mount: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)) -> ImuSpec:
    return ImuSpec(model, "fake", 115200, 100, mount)  # type: ignore[arg-type]


def pair(
    model: Model, seed: int = 0, mount: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)
) -> tuple[Cord, ImuReader]:
    """A device and its reader."""
    spec = spec_of(model, mount)
    device = DEVICES[model](spec, np.random.default_rng(seed))  # type: ignore[call-arg]
    cord = Cord(device)
    return cord, READERS[model](cord, spec)


def unit(rng: np.random.Generator) -> np.ndarray:
    quat = rng.normal(size=4)
    return quat / np.linalg.norm(quat)


def turned(quat: np.ndarray, turn_rad: np.ndarray) -> np.ndarray:
    """A quaternion after a turn about an axis in its own frame."""
    angle = float(np.linalg.norm(turn_rad))
    axis = turn_rad / angle
    return multiply(quat, np.array([math.cos(angle / 2), *(math.sin(angle / 2) * axis)]))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seed", range(8))
def test_a_turning_body_is_read_in_its_own_axes_however_the_sensor_is_mounted(
    model: Model, seed: int
) -> None:
    rng = np.random.default_rng(100 + seed)
    cord, reader = pair(model, seed, tuple(unit(rng)))
    quat, gyro = unit(rng), rng.uniform(-3, 3, 3)
    for step in range(20):
        quat = turned(quat, gyro / 100)
        up_body = rotate(conjugate(quat), np.array([0.0, 0.0, G]))
        cord.sample(step / 100, ImuTruth(quat, gyro, up_body))
        reader.poll(step / 100)
    assert reader.complete
    assert reader.stamp_s == 19 / 100
    assert 2 * math.acos(min(1.0, abs(float(reader.quat @ quat)))) < math.radians(3)
    # The BNO08x's is made of angles of 0.01 degrees, which count for more near the poles of its yaw.
    np.testing.assert_allclose(reader.gyro_rad_s, gyro, atol=0.3 if model == "bno08x" else 0.05)
    np.testing.assert_allclose(reader.accel_m_s2, up_body, atol=0.8)


@pytest.mark.parametrize("model", MODELS)
def test_at_rest_the_noise_is_small_and_the_bias_stays(model: Model) -> None:
    cord, reader = pair(model)
    seen = []
    for step in range(400):
        cord.sample(step / 100, LEVEL)
        reader.poll(step / 100)
        if reader.complete:
            seen.append(np.concatenate([reader.gyro_rad_s, reader.accel_m_s2]))
    spread, mean = np.std(seen, axis=0), np.mean(seen, axis=0)
    assert (spread[:3] < 0.03).all()
    assert (spread[3:] < 0.12).all()
    assert (spread > 0).all()
    np.testing.assert_allclose(mean, [0, 0, 0, 0, 0, G], atol=0.5)


@pytest.mark.parametrize("model", MODELS)
def test_a_frozen_sensor_and_one_without_numbers_grow_old_until_they_are_well(model: Model) -> None:
    cord, reader = pair(model)

    def live(step: int) -> float:
        cord.sample(step / 100, LEVEL)
        reader.poll(step / 100)
        return reader.stamp_s

    for step in range(5):
        live(step)
    for fault in ("frozen", "broken"):
        before = reader.quat.copy()
        setattr(cord.device, fault, True)
        assert [live(step) for step in range(10, 15)] == [reader.stamp_s] * 5
        np.testing.assert_array_equal(reader.quat, before)
        setattr(cord.device, fault, False)
        live(20)
        assert live(21) == 21 / 100


@pytest.mark.parametrize("model", MODELS)
def test_a_sensor_upside_down_has_gravity_below(model: Model) -> None:
    cord, reader = pair(model)
    cord.device.upside_down = True
    for step in range(3):
        cord.sample(step / 100, LEVEL)
        reader.poll(step / 100)
    np.testing.assert_allclose(reader.accel_m_s2, [0, 0, -G], atol=0.6)
    np.testing.assert_allclose(rotate(reader.quat, np.array([0.0, 0.0, 1.0])), [0, 0, -1], atol=0.05)


def test_the_angular_velocity_of_a_bno08x_is_not_made_across_a_gap() -> None:
    cord, reader = pair("bno08x")
    for step in range(3):
        cord.sample(step / 100, LEVEL)
    reader.poll(0.0)
    for _ in range(20):
        cord.device.sample(0.0, LEVEL)  # lost on the way
    yawed = ImuTruth(np.array([math.cos(0.5), 0, 0, math.sin(0.5)]), np.zeros(3), LEVEL.accel_m_s2)
    cord.sample(0.2, yawed)
    reader.poll(1.0)
    assert np.abs(reader.gyro_rad_s).max() < 0.1
    assert reader.stamp_s == 0.0


def test_a_lost_frame_of_a_bno08x_makes_the_turn_longer_and_not_faster() -> None:
    cord, reader = pair("bno08x")
    quat, gyro = LEVEL.quat, np.array([0.0, 0.0, 2.0])
    for step in range(12):
        quat = turned(quat, gyro / 100)
        truth = ImuTruth(quat, gyro, LEVEL.accel_m_s2)
        if step % 3 == 0:
            cord.sample(step / 100, truth)
        else:
            cord.device.sample(step / 100, truth)  # lost on the way
        reader.poll(step / 100)
    np.testing.assert_allclose(reader.gyro_rad_s, gyro, atol=0.05)


def test_angles_of_the_data_sheets_frame_make_its_orientation() -> None:
    """The frame of the BNO080 data sheet, UART-RVC: 0.01, -1.10 and 20.85 degrees."""
    (frame,) = bno08x.RvcParser().feed(
        bytes.fromhex("AA AA DE 01 00 92 FF 25 08 8D FE EC FF D1 03 00 00 00 E7")
    )
    up_sensor = rotate(conjugate(orientation(frame)), np.array([0.0, 0.0, 1.0]))
    pitch, roll = math.radians(-1.10), math.radians(20.85)
    expected = [-math.sin(pitch), math.cos(pitch) * math.sin(roll), math.cos(pitch) * math.cos(roll)]
    np.testing.assert_allclose(up_sensor, expected, atol=1e-9)


def test_commands_of_the_vn100_have_the_checksums_of_its_manual() -> None:
    manual = (b"$VNWNV*57\r\n", b"$VNRST*4D\r\n", b"$VNRFS*5F\r\n", b"$VNTAR*5F\r\n")
    for command in manual:
        assert ascii_command(command[1:6].decode()) == command
    assert settings(spec_of("vn100"))[1].startswith(b"$VNWRG,75,1,8,01,0130*")


def test_a_vn100_that_sends_nothing_is_configured_and_says_yes_to_each_command() -> None:
    cord, reader = pair("vn100")
    cord.write(ascii_command("VNWRG,75,0,80,01,0130"))
    cord.sample(0.0, LEVEL)
    reader.poll(0.0)
    assert not reader.complete
    cord.answers.clear()
    reader.configure()
    assert cord.answers == settings(spec_of("vn100"))
    assert cord.device.rate_hz == 100
    cord.sample(0.1, LEVEL)
    reader.poll(0.1)
    assert reader.complete


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (b"$VNWNV*58\r\n", 3),
        (ascii_command("VNXYZ"), 4),
        (ascii_command("VNWRG,75,1,0,01,0130"), 7),
        (ascii_command("VNWRG,75,1,8,01,FFFF"), 7),
        (ascii_command("VNWRG,75,one,8,01,0130"), 7),
        (ascii_command("VNWRG,75"), 7),
        (ascii_command("VNWRG,06,14"), 7),
        (ascii_command("VNWRG,5,921600"), 8),
    ],
)
def test_a_vn100_refuses_what_it_does_not_know_and_goes_on(command: bytes, error: int) -> None:
    cord, _ = pair("vn100")
    assert cord.device.receive(b"noise" + command, 0.0) == [ascii_command(f"VNERR,{error:02d}")]
    (message,) = vectornav.MessageParser().feed(b"".join(cord.device.sample(0.0, LEVEL)))
    assert set(message) == set(MEASURED)
    assert message[Field.ACCEL_M_S2][2] == pytest.approx(-G, abs=0.1)


@pytest.mark.parametrize(("key", "value"), [("baud_bd", 9600), ("rate_hz", 200)])
def test_a_bno08x_has_one_rate_only(tmp_path: Path, key: str, value: int) -> None:
    file = find_shipped("hardware", "quad12")
    table = load_toml(file)
    table["model"] = str(file.parent / table["model"])
    table["imu"] |= {"model": "bno08x", "rate_hz": 100}
    table["imu"][key] = value
    copy = tmp_path / "robot.toml"
    copy.write_text(to_toml(table), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"imu.{key}: is not that of a bno08x"):
        load_robot(copy)
