"""The measured ticks and cycles of bus traffic do the work that they are timed for."""

from __future__ import annotations

import numpy as np
import pytest

from robotrl.bench import bus_cycle
from robotrl.bench.bus import SERVOS, codec_medians_us, ticks
from robotrl.bench.bus_cycle import driver_cycle, sdk_cycle, sts3215s, xc430s
from robotrl.bench.emulated_wire import BUS, Adapter, DirectPort, EmulatedWire, InstantPort, InstantSerial
from robotrl.drivers import sts
from robotrl.drivers import xseries as x
from robotrl.drivers.port import SerialPort
from robotrl.drivers.registers import Register
from robotrl.drivers.series import SERIES
from robotrl.spec.robot import RobotSpec

X_BLOCK = (
    x.PRESENT_LOAD,
    x.PRESENT_VELOCITY,
    x.PRESENT_POSITION,
    x.PRESENT_INPUT_VOLTAGE,
    x.PRESENT_TEMPERATURE,
)
STS_BLOCK = (
    sts.PRESENT_POSITION,
    sts.PRESENT_VELOCITY,
    sts.PRESENT_LOAD,
    sts.PRESENT_VOLTAGE,
    sts.PRESENT_TEMPERATURE,
    sts.STATUS,
    sts.PRESENT_CURRENT,
)


@pytest.mark.parametrize(
    ("kind", "registers"), [("dynamixel_fast", X_BLOCK), ("dynamixel", X_BLOCK), ("sts", STS_BLOCK)]
)
def test_a_tick_decodes_every_register_of_every_servo(kind: str, registers: tuple[Register, ...]) -> None:
    decoded = ticks()[kind]()
    first = registers[0].address
    size = registers[-1].end - first
    for servo in range(len(SERVOS)):
        data = bytes(byte % 256 % 253 for byte in range(servo * size, (servo + 1) * size))
        alone = [r.decode(data[r.address - first : r.end - first]) * r.unit.scale for r in registers]
        assert decoded[servo].tolist() == pytest.approx(alone)


def test_each_kind_of_bus_is_timed() -> None:
    medians = codec_medians_us(rounds=3)
    assert set(medians) == set(ticks())
    assert all(figure > 0 for figure in medians.values())


ROBOTS = {
    "fast": xc430s(12, 3000000, fast=True),
    "sync": xc430s(12, 3000000, fast=False),
    "sts": sts3215s(14, 1000000),
}
EACH = pytest.mark.parametrize("robot", ROBOTS.values(), ids=list(ROBOTS))


@EACH
def test_a_cycle_reads_every_servo_and_writes_its_goal(robot: RobotSpec) -> None:
    port = DirectPort(robot)
    cycle = driver_cycle(port, robot)
    values = cycle()
    voltage_v = values[:, 3]
    assert values.shape == (len(robot.joint), 5)
    assert voltage_v == pytest.approx(np.full(len(robot.joint), robot.supply.open_v), abs=0.06)
    goal = SERIES[robot.bus[BUS].protocol].goal
    ids = tuple(joint.id for joint in robot.joint)
    line = SERIES[robot.bus[BUS].protocol].bus(port, robot.bus[BUS], ids)
    assert line.read_register(goal).values(goal).tolist() == bus_cycle._goals(len(ids)).tolist()


@pytest.mark.parametrize(
    ("kind", "byte_count", "pauses_us"),
    [
        ("fast", (14 + 12) + (8 + 12 * (4 + 21)) + (14 + 12 * 5), 12 * 10),
        ("sync", (14 + 12) + 12 * (11 + 21) + (14 + 12 * 5), 12 * 50),
        ("sts", (8 + 14) + 14 * (6 + 8) + (8 + 14 * 3), 14 * 50),
    ],
)
def test_the_computed_time_is_that_of_the_bytes_and_the_servos_pauses(
    kind: str, byte_count: int, pauses_us: int
) -> None:
    robot = ROBOTS[kind]
    port = DirectPort(robot)
    driver_cycle(port, robot)()
    assert port.wire_s == pytest.approx(10 * byte_count / robot.bus[BUS].baud_bd)
    assert port.pauses_s == pytest.approx(pauses_us * 1e-6)


@EACH
@pytest.mark.parametrize("timed", [False, True])
def test_the_wire_in_another_process_brings_the_same_values(robot: RobotSpec, timed: bool) -> None:
    with EmulatedWire(robot, Adapter(timed=timed, latency_s=1e-3)) as wire:
        port = SerialPort(wire.path, robot.bus[BUS].baud_bd)
        cycle = driver_cycle(port, robot)
        values = [cycle() for _ in range(3)]
        port.close()
    assert np.array_equal(values, [driver_cycle(DirectPort(robot), robot)()] * 3)


@pytest.mark.parametrize("kind", ["fast", "sync"])
def test_the_sdk_does_the_same_cycle(kind: str) -> None:
    robot = ROBOTS[kind]
    with sdk_cycle(robot, InstantSerial(robot)) as theirs:
        for _ in range(3):
            assert theirs() == pytest.approx(driver_cycle(InstantPort(robot), robot)())


def test_kept_answers_are_those_of_the_firmware() -> None:
    robot = ROBOTS["sync"]
    port, kept = DirectPort(robot), InstantPort(robot)
    for _ in range(3):
        assert np.array_equal(driver_cycle(kept, robot)(), driver_cycle(port, robot)())


def test_every_figure_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_cycle, "CYCLES", 3)
    wire, sdk = bus_cycle.wire_figures(rounds=1), bus_cycle.sdk_figures(rounds=1)
    assert wire["wire_ratio"] == max(bus["ratio"] for bus in wire["buses"])
    assert [bus["wire_ms"] for bus in wire["buses"]] == pytest.approx([1.36, 2.68])
    assert {"sdk_ratio", "sdk_fast_ratio", "sdk_pty_ratio"} <= sdk.keys()
    assert all(figure > 0 for figure in sdk.values())
