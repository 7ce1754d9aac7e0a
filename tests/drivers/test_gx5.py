"""Laws of the 3DM-GX5: the manual's bytes, and an orientation that nobody sent, on the emulated sensor."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from robotrl.drivers import gx5, microstrain
from robotrl.drivers.body import SerialBody
from robotrl.drivers.gx5 import Gx5
from robotrl.drivers.imu import conjugate, multiply, rotate
from robotrl.drivers.microstrain import Measurement
from robotrl.emulator.faults import FaultScript
from robotrl.emulator.gx5 import Gx5 as EmulatedGx5
from robotrl.emulator.machine import Machine
from robotrl.emulator.plant import ImuTruth
from robotrl.errors import ConfigError, DeviceError, PortError
from robotrl.spec.records import load_toml
from robotrl.spec.robot import ImuSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import CommandKind, Floats, JointCommand
from tests.drivers.machine_line import MachineLines
from tests.feetech_robot import feetech_robot
from tests.spec.toml_text import to_toml

SPEC = ImuSpec(model="gx5", port="fake", baud_bd=115200, rate_hz=100, mount_quat=(1.0, 0.0, 0.0, 0.0))
G = 9.80665
UP = np.array([0.0, 0.0, 1.0])
STILL = np.zeros(3)


class Wire:
    """A `Port` to an emulated sensor that measures when the test says so."""

    def __init__(self, spec: ImuSpec = SPEC, seed: int = 0) -> None:
        self.device = EmulatedGx5(spec, np.random.default_rng(seed))
        self.arrived = b""
        self.gone = False
        self.deaf = False

    def write(self, data: bytes) -> None:
        """Take commands and answer them."""
        if not self.deaf:
            self.arrived += b"".join(self.device.receive(data, 0.0))

    def read(self, deadline_s: float) -> bytes:
        """Return what has arrived; time stands still."""
        return self.drain()

    def drain(self) -> bytes:
        """Return what has arrived."""
        if self.gone:
            raise PortError("port fake has gone away")
        data, self.arrived = self.arrived, b""
        return data

    def close(self) -> None:
        """Nothing to release."""

    def measure(self, quat: Floats, gyro_rad_s: Floats = STILL) -> None:
        """Send one sample of a body in this orientation that turns so fast and does not accelerate."""
        truth = ImuTruth(quat, gyro_rad_s, G * rotate(conjugate(quat), UP))
        self.arrived += b"".join(self.device.sample(0.0, truth))


def turn(axis: Floats, angle_rad: float) -> Floats:
    return np.array([math.cos(angle_rad / 2), *(math.sin(angle_rad / 2) * axis / np.linalg.norm(axis))])


def tilt_rad(a: Floats, b: Floats) -> float:
    cosine = rotate(conjugate(a), UP) @ rotate(conjugate(b), UP)
    return math.acos(min(1.0, float(cosine)))


@pytest.mark.parametrize(
    ("packet", "manual"),
    [
        (gx5.base_rate_request(), "7565 0C02 0206 F0F7"),
        (gx5.message_format(10, gx5.APPLY), "7565 0C0A 0A08 0102 0400 0A05 000A 22A0"),
        (gx5.stream(gx5.APPLY), "7565 0C05 0511 0101 0104 1A"),
    ],
)
def test_commands_are_the_manuals_bytes(packet: microstrain.Packet, manual: str) -> None:
    assert packet.encode() == bytes.fromhex(manual)


def test_settings_are_saved_without_saying_them_again() -> None:
    (field,) = gx5.message_format(10, gx5.SAVE).fields
    assert (field.descriptor, field.data) == (gx5.MESSAGE_FORMAT, bytes((gx5.SAVE, 0)))


@pytest.mark.parametrize(
    "odd",
    [
        {Measurement.ACCEL_G: (0.0, 0.0, 0.0), Measurement.GYRO_RAD_S: (0.1, 0.0, 0.0)},
        {Measurement.ACCEL_G: (0.0, 0.0, -1.0), Measurement.GYRO_RAD_S: (math.nan, 0.0, 0.0)},
        {Measurement.ACCEL_G: (0.0, math.inf, -1.0), Measurement.GYRO_RAD_S: (0.1, 0.0, 0.0)},
        {Measurement.GYRO_RAD_S: (0.1, 0.0, 0.0)},
    ],
)
def test_a_sample_that_is_no_measurement_is_not_taken(odd: dict[Measurement, tuple[float, ...]]) -> None:
    wire = Wire()
    imu = Gx5(wire, SPEC)
    wire.arrived = microstrain.imu_packet(odd).encode()
    imu.poll(1.0)
    assert imu.stamp_s == -math.inf
    wire.measure(np.array([1.0, 0.0, 0.0, 0.0]))
    imu.poll(2.0)
    assert tilt_rad(imu.quat, np.array([1.0, 0.0, 0.0, 0.0])) < 0.01


def test_the_orientation_is_right_from_the_first_sample_on() -> None:
    wire = Wire()
    imu = Gx5(wire, SPEC)
    assert not imu.complete
    quat = turn(np.array([1.0, 2.0, 0.0]), 0.5)
    wire.measure(quat)
    imu.poll(1.0)
    assert imu.complete
    assert imu.stamp_s == 1.0
    assert tilt_rad(imu.quat, quat) < 0.01
    assert imu.accel_m_s2 == pytest.approx(G * rotate(conjugate(quat), UP), abs=0.1)


def test_at_rest_and_level_gravity_is_up_though_the_sensors_z_axis_is_down() -> None:
    wire = Wire()
    wire.measure(np.array([1.0, 0.0, 0.0, 0.0]))
    (packet,) = microstrain.PacketParser().feed(wire.arrived)
    assert microstrain.measurements(packet)[Measurement.ACCEL_G][2] == pytest.approx(-1.0, abs=0.02)
    imu = Gx5(wire, SPEC)
    imu.poll(0.0)
    assert imu.accel_m_s2[2] == pytest.approx(G, abs=0.2)


@pytest.mark.parametrize("mount", [(1.0, 0.0, 0.0, 0.0), (0.5, 0.5, -0.5, 0.5)])
@pytest.mark.parametrize("per_poll", [1, 2, 5])
def test_a_turning_body_is_followed_however_many_samples_come_at_once(
    per_poll: int, mount: tuple[float, float, float, float]
) -> None:
    spec = dataclasses.replace(SPEC, mount_quat=mount)
    wire = Wire(spec)
    imu = Gx5(wire, spec)
    truth = np.array([1.0, 0.0, 0.0, 0.0])
    worst = 0.0
    for k in range(1000):
        rate = np.array([1.5 * math.sin(0.05 * k), 1.2 * math.cos(0.03 * k), 0.5])
        truth = multiply(truth, turn(rate, float(np.linalg.norm(rate)) / SPEC.rate_hz))
        wire.measure(truth, rate)
        if k % per_poll == per_poll - 1:
            imu.poll(k / SPEC.rate_hz)
            worst = max(worst, tilt_rad(imu.quat, truth))
            assert imu.gyro_rad_s == pytest.approx(rate, abs=0.01)
    assert worst < math.radians(1.0)


def test_a_sensor_that_hangs_neither_turns_on_nor_is_believed() -> None:
    wire = Wire()
    imu = Gx5(wire, SPEC)
    quat, rate = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    wire.measure(quat, rate)
    imu.poll(1.0)
    before = imu.quat.copy()
    wire.device.frozen = True
    for k in range(50):
        wire.measure(quat, rate)
        imu.poll(2.0 + k)
    assert np.array_equal(imu.quat, before)
    assert imu.stamp_s == 1.0


def test_a_sensor_without_numbers_grows_old_and_recovers() -> None:
    wire = Wire()
    imu = Gx5(wire, SPEC)
    quat = turn(np.array([0.0, 1.0, 0.0]), 0.3)
    wire.measure(quat)
    imu.poll(1.0)
    wire.device.broken = True
    wire.measure(quat)
    imu.poll(2.0)
    assert imu.stamp_s == 1.0
    wire.device.broken = False
    wire.measure(quat)
    imu.poll(3.0)
    assert imu.stamp_s == 3.0
    assert tilt_rad(imu.quat, quat) < 0.01


def test_configuring_sets_what_robot_toml_says() -> None:
    wire = Wire(dataclasses.replace(SPEC, rate_hz=10))
    imu = Gx5(wire, SPEC)
    imu.configure()
    assert wire.device.rate_hz == 100
    answers = microstrain.PacketParser().feed(wire.arrived)
    assert [field.data[1] for packet in answers for field in packet.fields] == [0] * 4
    wire.measure(np.array([1.0, 0.0, 0.0, 0.0]))
    imu.poll(0.0)
    assert imu.complete


def test_a_silent_sensor_is_left_alone_and_a_rate_that_cannot_be_is_refused() -> None:
    wire = Wire()
    wire.deaf = True
    Gx5(wire, SPEC).configure()
    wire.deaf = False
    with pytest.raises(DeviceError, match="must divide 500"):
        Gx5(wire, dataclasses.replace(SPEC, rate_hz=200)).configure()


def test_the_device_refuses_what_it_does_not_know() -> None:
    wire = Wire()
    unknown = microstrain.Packet(gx5.COMMANDS, (microstrain.Field(0x77, b"\x01"),))
    twice = microstrain.Packet(
        gx5.COMMANDS, (microstrain.Field(gx5.MESSAGE_FORMAT, bytes.fromhex("0102 04000A 050005")),)
    )
    short = microstrain.Packet(gx5.COMMANDS, (microstrain.Field(gx5.MESSAGE_FORMAT, b"\x01\x02\x04"),))
    for packet in (unknown, twice, short):
        (answer,) = microstrain.PacketParser().feed(wire.device.receive(packet.encode(), 0.0)[0])
        assert answer.fields[0].descriptor == gx5.ACK
        assert answer.fields[0].data[1] != 0
    assert wire.device.rate_hz == 100


def test_robot_toml_may_name_it_at_a_rate_that_it_has(tmp_path: Path) -> None:
    table = load_toml(find_shipped("hardware", "quad12"))
    table["imu"] |= {"model": "gx5", "rate_hz": 100}
    file = tmp_path / "robot.toml"
    file.write_text(to_toml(table), encoding="utf-8")
    imu = load_robot(file).imu
    assert imu is not None
    assert imu.model == "gx5"
    table["imu"]["rate_hz"] = 200
    file.write_text(to_toml(table), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"imu.rate_hz: does not divide the 500 Hz of a gx5, got 200"):
        load_robot(file)


def test_a_body_with_it_stands_up_and_knows_its_tilt() -> None:
    """On emulated servos with physics behind, from lying on the floor."""
    robot = dataclasses.replace(feetech_robot("feetech_sts"), imu=SPEC)
    machine = Machine(robot, FaultScript(), seed=0, log=False)
    lines = MachineLines(machine)
    ports = {"legs": "legs", "imu": "imu"}
    body = SerialBody(robot, ports, lambda path, _: lines.port(path), guarded=True)
    body.open()
    start_s, worst_rad = lines.now_s, 0.0
    lying = body.read(start_s).joint_pos_rad
    for tick in range(1, 76):
        lines.live_until(start_s + 0.02 * tick)
        state = body.read(start_s + 0.02 * tick)
        worst_rad = max(worst_rad, tilt_rad(state.imu_quat, machine.plant.imu().quat))
        share = min(1.0, tick / 50)
        target = (1 - share) * lying + share * robot.default_rad
        target = np.clip(target, robot.position_min_rad, robot.position_max_rad)
        body.write(JointCommand(CommandKind.TRACK, target))
        assert state.imu_age_s == 0.0
    assert worst_rad < math.radians(2.0)
    assert abs(state.joint_pos_rad - robot.default_rad).max() < 0.2
