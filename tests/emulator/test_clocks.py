"""Timelines of the bus clock: what makes emulated time pass, and how much of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robotrl.drivers import dynamixel as dxl
from robotrl.emulator.faults import FaultScript
from robotrl.emulator.machine import Machine
from robotrl.emulator.process import BusClock
from robotrl.spec.robot import RobotSpec
from tests.emulator.host import quad12

ROBOT = quad12()
IDS = [joint.id for joint in ROBOT.joint]
READ = dxl.sync_read(126, 21, IDS, fast=True)
PLAIN_READ = dxl.sync_read(124, 23, IDS)
GOALS = dxl.sync_write(116, IDS, np.zeros((12, 4), np.uint8))
PERIOD_S = 0.02


def clock(robot: RobotSpec = ROBOT) -> tuple[BusClock, Machine]:
    machine = Machine(robot, FaultScript(), 0, log=False)
    return BusClock(machine), machine


def ticks(bus: BusClock, packets: list[bytes], line: str = "legs") -> list[int]:
    """The control tick in which each packet's transaction ended."""
    found = []
    for packet in packets:
        bus.host_sent(line, packet)
        found.append(int(bus.now_s() / PERIOD_S))
    return found


def test_each_read_of_the_positions_begins_the_next_control_period() -> None:
    bus, machine = clock()
    assert ticks(bus, [READ, GOALS, PLAIN_READ, GOALS, READ]) == [1, 1, 2, 2, 3]
    assert machine.plant.data.time == pytest.approx(bus.now_s(), abs=1.1e-3)


def test_everything_else_takes_only_its_time_on_the_wire() -> None:
    bus, _ = clock()
    for packet in (dxl.ping(11), dxl.read(11, 132, 4), dxl.sync_read(116, 4, IDS), GOALS):
        before_s = bus.now_s()
        bus.host_sent("legs", packet)
        assert 0 < bus.now_s() - before_s < 0.02
    assert bus.now_s() < 0.04


def test_a_goal_is_obeyed_only_after_its_own_wire_time() -> None:
    bus, _ = clock()
    bus.host_sent("legs", READ)
    before_s = bus.now_s()
    bus.host_sent("legs", GOALS)
    assert bus.now_s() - before_s == pytest.approx(len(GOALS) * 1e-5)


def test_the_imus_bytes_of_the_period_come_before_the_reply() -> None:
    bus, _ = clock()
    bus.host_sent("legs", READ)
    bus.advance()
    bus.host_sent("legs", GOALS)
    bus.host_sent("legs", READ)
    lines = [d.line for d in bus.advance()]
    assert lines == sorted(lines, key=lambda line: line != "imu")
    assert lines.count("imu") == 12
    assert lines[-1] == "legs"


def test_time_also_passes_while_the_cable_is_out() -> None:
    bus, machine = clock()
    machine.cables["legs"].unplug()
    assert ticks(bus, [READ, GOALS, READ, GOALS, READ, GOALS]) == [1, 1, 2, 2, 3, 3]
    assert "legs" not in [d.line for d in bus.advance()]


def test_a_retry_of_a_lost_reply_stays_in_its_tick_but_not_for_ever() -> None:
    assert ROBOT.bus["legs"].retries_per_tick == 1
    bus, machine = clock()
    machine.cables["legs"].unplug()
    assert ticks(bus, [READ, PLAIN_READ, GOALS, READ, PLAIN_READ]) == [1, 1, 1, 2, 2]
    assert ticks(bus, [READ, READ]) == [3, 4]
    machine.cables["legs"].plug()
    assert ticks(bus, [READ, READ]) == [5, 6]


def test_two_buses_share_a_tick() -> None:
    spec = ROBOT.bus["legs"]
    joints = tuple(
        dataclasses.replace(joint, bus="front" if joint.name.startswith("F") else "rear")
        for joint in ROBOT.joint
    )
    bus, _ = clock(dataclasses.replace(ROBOT, bus={"front": spec, "rear": spec}, joint=joints))
    front, rear = (dxl.sync_read(126, 21, ids, fast=True) for ids in (IDS[:6], IDS[6:]))
    for tick in (1, 2, 3):
        assert ticks(bus, [front], "front") == [tick]
        assert ticks(bus, [rear], "rear") == [tick]
