"""Laws of the monitor: SI values with the joint's sign, each with its age, and nothing written."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from robotrl.drivers.monitor import Monitor
from robotrl.drivers.scale import of_joints
from robotrl.spec.buses import ServoProtocol
from tests.drivers.fake_bus import FakeBus
from tests.drivers.rig import ROBOT
from tests.drivers.workbench import IDS, PROTOCOLS, Workbench


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_value_is_in_si_units(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    of = bench.line.series.measured
    raw = {of.position: 700, of.velocity: -30, of.load: 250, of.voltage: 74, of.temperature: 41}
    for register, counts in raw.items():
        bench.servo(12)[register] = counts
    sample = Monitor(bench.port, bench.line, IDS).sample(0.0)
    shown = (sample.position_rad, sample.velocity_rad_s, sample.load, sample.voltage_v, sample.temperature_c)
    for values, (register, counts) in zip(shown, raw.items(), strict=True):
        assert values[1] == pytest.approx(counts * register.unit.scale)
    assert bench.sent_writes() == 0


def test_joints_have_their_sign_and_zero_and_voltage_has_none() -> None:
    line = FakeBus(joint.id for joint in ROBOT.joint)
    bench = Workbench("dynamixel2")
    of = bench.line.series.measured
    for servo in line.servos.values():
        servo[of.position], servo[of.velocity], servo[of.load], servo[of.voltage] = 3048, 100, 500, 121
    ids = [joint.id for joint in ROBOT.joint]
    sample = Monitor(line, bench.line, ids, of_joints(ROBOT, ROBOT.joint)).sample(0.0)
    sign = np.array([joint.sign for joint in ROBOT.joint])
    assert {-1, 1} == set(sign.tolist())
    assert sample.position_rad == pytest.approx(sign * 1000 * 2 * math.pi / 4096)
    assert sample.velocity_rad_s == pytest.approx(sign * 100 * of.velocity.unit.scale)
    assert sample.load == pytest.approx(0.5 * sign)
    assert sample.voltage_v == pytest.approx(np.full(len(sign), 12.1))


def test_a_geared_joint_with_a_servo_that_measures_current_is_shown_as_the_loop_sees_it() -> None:
    """A joint that turns half as far as its servo; 600 mA of 1.5 A at standstill."""
    servo = next(iter(ROBOT.servo))
    geared = replace(ROBOT.servo[servo], model_number=1200, counts_per_rev=8192, velocity_unit_rad_s=0.01)
    robot = replace(ROBOT, servo={servo: geared}, supply=replace(ROBOT.supply, stall_current_a={servo: 1.5}))
    line, bench = FakeBus(joint.id for joint in ROBOT.joint), Workbench("dynamixel2")
    of = bench.line.series.measured
    for fake in line.servos.values():
        fake[of.position], fake[of.velocity], fake[of.load] = 3048, 100, 600
    ids, sign = [joint.id for joint in robot.joint], np.array([joint.sign for joint in robot.joint])
    sample = Monitor(line, bench.line, ids, of_joints(robot, robot.joint)).sample(0.0)
    assert sample.position_rad == pytest.approx(sign * 1000 * 2 * math.pi / 8192)
    assert sample.velocity_rad_s == pytest.approx(sign * 1.0)
    assert sample.load == pytest.approx(sign * 0.4)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_servo_that_falls_silent_keeps_its_values_and_ages(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    of = bench.line.series.measured
    bench.servo(12)[of.position] = 700
    monitor = Monitor(bench.port, bench.line, (*IDS, 99))
    first = monitor.sample(5.0)
    assert first.age_s.tolist() == [0.0, 0.0, 0.0, math.inf]
    assert math.isnan(first.position_rad[3])
    del bench.port.servos[12]
    second = monitor.sample(7.5)
    assert second.age_s.tolist() == [0.0, 2.5, 0.0, math.inf]
    assert second.position_rad[1] == first.position_rad[1] == pytest.approx(700 * of.position.unit.scale)


def test_while_the_port_has_gone_values_only_age() -> None:
    bench = Workbench("dynamixel2")
    monitor = Monitor(bench.port, bench.line, IDS)
    first = monitor.sample(0.0)
    bench.port.gone = True
    gone = monitor.sample(2.0)
    assert gone.age_s.tolist() == [2.0] * 3
    assert np.array_equal(gone.position_rad, first.position_rad)
    bench.port.gone = False
    assert monitor.sample(3.0).age_s.tolist() == [0.0] * 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_hardware_errors_are_named(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    bench.servo(13)[bench.line.series.health] = 0x24
    monitor = Monitor(bench.port, bench.line, IDS)
    sample = monitor.sample(0.0)
    assert [monitor.errors(int(bits)) for bits in sample.error] == ["", "", "overheating, overload"]
    assert monitor.errors(0x40) == "64"


def test_a_sample_does_not_change_when_the_next_is_taken() -> None:
    bench = Workbench("dynamixel2")
    of = bench.line.series.measured
    monitor = Monitor(bench.port, bench.line, IDS)
    first = monitor.sample(0.0)
    before = first.position_rad.copy()
    bench.servo(11)[of.position] = 999
    assert monitor.sample(1.0).position_rad[0] != before[0]
    assert np.array_equal(first.position_rad, before)
