"""Timelines of the Bus Watchdog (98), as the e-Manual tells them."""

from __future__ import annotations

import pytest

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel import Fault
from robotrl.drivers.registers import Register
from tests.emulator.host import Host

ID = 31
FIVE = 5  # 100 ms


@pytest.fixture
def armed() -> Host:
    """Servo 31 torque on, watchdog 100 ms, told to go somewhere else than it is held."""
    host = Host()
    host.write(ID, x.BUS_WATCHDOG, FIVE)
    host.write(ID, x.TORQUE_ENABLE, 1)
    host.write(ID, x.GOAL_POSITION, 2000)
    return host


def trips(host: Host) -> list[tuple[int, float]]:
    return [(e.servo_id, round(e.time_s - 0.019, 6)) for e in host.bus.events if e.kind == "watchdog"]


def test_it_trips_when_silence_is_longer_than_the_setting(armed: Host) -> None:
    armed.live(0.100)
    assert trips(armed) == []
    armed.live(0.001)
    assert trips(armed) == [(ID, 0.101)]


def test_only_the_servo_that_is_armed_trips(armed: Host) -> None:
    armed.live(1.0)
    assert [id_ for id_, _ in trips(armed)] == [ID]
    assert int(armed.bus.watchdog_tripped.sum()) == 1


def test_a_trip_stops_the_servo_where_it_is(armed: Host) -> None:
    armed.live(0.2)
    assert armed.read(ID, x.BUS_WATCHDOG) == x.WATCHDOG_TRIPPED
    assert armed.read(ID, x.GOAL_POSITION) == armed.read(ID, x.PRESENT_POSITION) != 2000
    assert armed.read(ID, x.TORQUE_ENABLE) == 1
    assert armed.read(ID, x.PRESENT_PWM) == 0


def test_any_instruction_on_the_bus_counts_as_communication(armed: Host) -> None:
    for _ in range(10):
        armed.live(0.09)
        armed.send(dxl.ping(99))
    assert trips(armed) == []


def test_noise_is_no_communication(armed: Host) -> None:
    for _ in range(3):
        armed.live(0.04)
        armed.send(b"\xff\xff\xfd\x00\x1f")
    assert len(trips(armed)) == 1


def test_it_counts_only_while_torque_is_on(armed: Host) -> None:
    armed.write(ID, x.TORQUE_ENABLE, 0)
    armed.live(1.0)
    assert trips(armed) == []
    armed.write(ID, x.TORQUE_ENABLE, 1)
    armed.live(0.100)
    assert trips(armed) == []
    armed.live(0.001)
    assert len(trips(armed)) == 1


@pytest.mark.parametrize(
    ("goal", "value"), [(x.GOAL_PWM, 100), (x.GOAL_VELOCITY, 10), (x.GOAL_POSITION, 2100)]
)
def test_goals_are_read_only_after_a_trip(armed: Host, goal: Register, value: int) -> None:
    armed.live(0.2)
    before = armed.read(ID, goal)
    assert armed.write(ID, goal, value) == Fault.DATA_RANGE
    data = dxl.write(ID, goal.address, goal.encode(value))
    armed.send(data)
    assert armed.read(ID, goal) == before


def test_coming_back_does_not_clear_a_trip_and_only_zero_does(armed: Host) -> None:
    armed.live(0.2)
    armed.send(dxl.ping(ID))
    assert armed.write(ID, x.BUS_WATCHDOG, FIVE) == Fault.DATA_RANGE
    assert armed.read(ID, x.BUS_WATCHDOG) == x.WATCHDOG_TRIPPED
    assert armed.write(ID, x.BUS_WATCHDOG, 0) == Fault.NONE
    assert armed.write(ID, x.GOAL_POSITION, 2100) == Fault.NONE
    armed.live(1.0)
    assert len(trips(armed)) == 1


def test_it_trips_again_when_armed_again(armed: Host) -> None:
    armed.live(0.2)
    armed.write(ID, x.BUS_WATCHDOG, 0)
    armed.write(ID, x.BUS_WATCHDOG, 1)
    armed.live(0.021)
    assert len(trips(armed)) == 2


def test_each_servo_has_its_own_setting(armed: Host) -> None:
    armed.write(32, x.BUS_WATCHDOG, 2 * FIVE)
    armed.write(32, x.TORQUE_ENABLE, 1)
    armed.live(0.3)
    assert trips(armed) == [(31, 0.101), (32, 0.201)]
