"""Cycles of whole servo buses, driver against emulated wire: beside the time on the wire, and beside an SDK.

A cycle is what a control tick asks of a bus: one sync read of the block of all servos, decoded into SI
values, and one sync write of their goals.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from robotrl.bench.emulated_wire import (
    BUS,
    Adapter,
    DirectPort,
    EmulatedWire,
    InstantPort,
    InstantSerial,
    hurried,
)
from robotrl.drivers.port import Port, SerialPort
from robotrl.drivers.registers import Block, Floats, Ints
from robotrl.drivers.series import SERIES
from robotrl.errors import DeviceError
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped

USB_LATENCY_S = 1e-3
"""Of the emulated adapter: an FTDI chip with its timer at the least."""

ROUNDS, CYCLES = 40, 50
"""Each round times so many cycles in a row; kinds that are compared take turns."""

_PATIENCE = 5
"""Reads of the SDK's until it counts as failed: a busy computer may be later than its time-out."""

Cycle = Callable[[], Floats]
"""Returns (servos, registers) SI values of the tick."""


def xc430s(count: int, baud_bd: int, *, fast: bool) -> RobotSpec:
    """Return a robot of so many XC430-W240 on one bus."""
    robot = load_robot(find_shipped("hardware", "quad12"))
    return _on_one_bus(robot, count, protocol="dynamixel2", baud_bd=baud_bd, fast_sync_read=fast)


def sts3215s(count: int, baud_bd: int) -> RobotSpec:
    """Return a robot of so many STS3215 on one bus; their motors do not matter, as they hold still."""
    robot = load_robot(find_shipped("hardware", "quad12"))
    (servo,) = robot.servo.values()
    feetech_servo = dataclasses.replace(
        servo,
        protocol="feetech_sts",
        model_number=777,
        pwm_full=1000,
        pwm_limit=800,
        position_p_gain=32,
    )
    robot = dataclasses.replace(robot, servo=dict.fromkeys(robot.servo, feetech_servo))
    return _on_one_bus(robot, count, protocol="feetech_sts", baud_bd=baud_bd, fast_sync_read=False)


def _on_one_bus(robot: RobotSpec, count: int, **bus: Any) -> RobotSpec:  # noqa: ANN401
    (spec,) = robot.bus.values()
    joints = tuple(
        dataclasses.replace(robot.joint[0], name=f"joint{i}", id=i, bus=BUS) for i in range(1, count + 1)
    )
    spec = dataclasses.replace(spec, watchdog="guardian", reply_timeout_s=0.1, **bus)
    return dataclasses.replace(robot, joint=joints, bus={BUS: spec})


def driver_cycle(port: Port, robot: RobotSpec) -> Cycle:
    """Return a cycle of our driver.

    Args:
        port: of the bus.
        robot: its servos, all on the bus `BUS`.
    """
    spec = robot.bus[BUS]
    series, ids = SERIES[spec.protocol], [joint.id for joint in robot.joint]
    bus, block, goals = series.bus(port, spec, ids), _block(robot), _goals(len(ids))

    def cycle() -> Floats:
        replies = bus.sync_read(block.address, block.size)
        if not replies.fresh.all():
            raise DeviceError("a servo of the emulated wire did not answer in time")
        values: Floats = block.decode(replies.data) * block.scale
        bus.sync_write(series.goal, goals)
        return values

    return cycle


def _block(robot: RobotSpec) -> Block:
    """What is read of each servo, as in `drivers.servos`."""
    of = SERIES[robot.bus[BUS].protocol].measured
    wanted = (of.position, of.velocity, of.load, of.voltage, of.temperature)
    return Block(sorted(wanted, key=lambda register: register.address))


def _goals(count: int) -> Ints:
    return np.linspace(1000, 3000, count).astype(np.int64)


def wire_figures(rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure cycles of two buses in real time, beside the time that their bytes need.

    Returns:
        `wire_ratio`, the larger of the two ratios of measured to computed time, and `buses`, what they are
        made of. Computed are the time on the wire, the servos' own pauses and one USB latency.
    """
    kinds = {
        "12 XC430 at 3 Mbit/s": xc430s(12, 3000000, fast=True),
        "14 STS3215 at 1 Mbit/s": sts3215s(14, 1000000),
    }
    buses = [{"bus": name} | _timed(robot, rounds) for name, robot in kinds.items()]
    return {"wire_ratio": max(bus["ratio"] for bus in buses), "buses": buses}


def _timed(robot: RobotSpec, rounds: int) -> dict[str, Any]:
    with hurried(), _cycling(robot, Adapter(timed=True, latency_s=USB_LATENCY_S)) as (cycle, _):
        times_s: list[float] = []
        for _ in range(rounds):
            _time(cycle, times_s)
    cycle_s = statistics.median(times_s)
    counted = DirectPort(robot)
    driver_cycle(counted, robot)()
    return {
        "ratio": cycle_s / (counted.wire_s + counted.pauses_s + USB_LATENCY_S),
        "cycle_ms": 1e3 * cycle_s,
        "wire_ms": 1e3 * counted.wire_s,
        "pauses_ms": 1e3 * counted.pauses_s,
        "usb_ms": 1e3 * USB_LATENCY_S,
    }


@contextlib.contextmanager
def _cycling(robot: RobotSpec, adapter: Adapter) -> Iterator[tuple[Cycle, str]]:
    """A cycle of our driver over a wire of its own, and that wire's port."""
    with EmulatedWire(robot, adapter) as wire:
        port = SerialPort(wire.path, robot.bus[BUS].baud_bd)
        try:
            yield driver_cycle(port, robot), wire.path
        finally:
            port.close()


def _time(cycle: Cycle, times_s: list[float]) -> None:
    """Time each of several cycles in a row; every one also does the last one's share of writing."""
    for _ in range(CYCLES):
        started_s = time.perf_counter()
        cycle()
        times_s.append(time.perf_counter() - started_s)


def sdk_figures(rounds: int = ROUNDS) -> dict[str, float]:
    """Compare our cycles with those of ROBOTIS's own SDK on the same emulated wire without latency.

    Returns:
        `sdk_ratio`: our cycles a second over those of GroupSyncRead and GroupSyncWrite, both by plain sync
        read, on a wire inside this process, so that nothing but the two programs is timed;
        `sdk_fast_ratio`: both by fast sync read; `sdk_pty_ratio`: as `sdk_ratio`, but through a
        pseudo-terminal to another process, whose scheduling costs both the same; and the cycles a second.
    """
    plain, fast = xc430s(12, 3000000, fast=False), xc430s(12, 3000000, fast=True)
    figures: dict[str, float] = {}
    for name, robot in (("sdk", plain), ("sdk_fast", fast)):
        ours = driver_cycle(InstantPort(robot), robot)
        with sdk_cycle(robot, InstantSerial(robot)) as theirs:
            figures |= _compared(name, ours, theirs, rounds)
    # Not hurried: the SDK waits awake, and would keep the kernel from passing the answer on.
    with _cycling(plain, Adapter(timed=False)) as (ours, path), sdk_cycle(plain, path) as theirs:
        return figures | _compared("sdk_pty", ours, theirs, rounds)


def _compared(name: str, ours: Cycle, theirs: Cycle, rounds: int) -> dict[str, float]:
    if not np.allclose(ours(), theirs()):
        raise DeviceError("our driver and the SDK read different values")
    our_s: list[float] = []
    their_s: list[float] = []
    for _ in range(rounds):
        _time(ours, our_s)
        _time(theirs, their_s)
    ours_per_s, theirs_per_s = 1 / statistics.median(our_s), 1 / statistics.median(their_s)
    return {
        f"{name}_ratio": ours_per_s / theirs_per_s,
        f"{name}_cycles_per_s": theirs_per_s,
        f"{name}_our_cycles_per_s": ours_per_s,
    }


@contextlib.contextmanager
def sdk_cycle(robot: RobotSpec, wire: str | InstantSerial) -> Iterator[Cycle]:
    """Return the same cycle as dynamixel-sdk's manual has it.

    Args:
        robot: the servos, all on the bus `BUS`.
        wire: a port, or what is to stand in the place of pyserial.

    Raises:
        DeviceError: the SDK cannot open the port.
    """
    import dynamixel_sdk as sdk

    spec, goal = robot.bus[BUS], SERIES["dynamixel2"].goal
    block, ids = _block(robot), [joint.id for joint in robot.joint]
    port, handler = sdk.PortHandler(wire), sdk.PacketHandler(2.0)
    if not isinstance(wire, str):
        port.ser = wire
    elif not (port.openPort() and port.setBaudRate(spec.baud_bd)):
        raise DeviceError("the SDK cannot open the emulated wire")
    read = sdk.GroupSyncRead(port, handler, block.address, block.size)
    write = sdk.GroupSyncWrite(port, handler, goal.address, goal.size)
    goals = _goals(len(ids)).tolist()
    for id_, count in zip(ids, goals, strict=True):
        read.addParam(id_)
        write.addParam(id_, goal.encode(count))

    def cycle() -> Floats:
        ask = read.fastSyncRead if spec.fast_sync_read else read.txRxPacket
        if all(ask() != sdk.COMM_SUCCESS for _ in range(_PATIENCE)):
            raise DeviceError("the SDK got no answer")
        raw = [[read.getData(id_, of.address, of.size) for of in block.registers] for id_ in ids]
        for id_, count in zip(ids, goals, strict=True):
            write.changeParam(id_, goal.encode(count))
        write.txPacket()
        return _signed(np.array(raw), block) * block.scale

    try:
        yield cycle
    finally:
        port.closePort()


def _signed(raw: Ints, block: Block) -> Ints:
    """(n, k) counts of what the SDK returns without sign."""
    bits = 8 * np.array([of.size for of in block.registers])
    negative = np.array([of.signed for of in block.registers]) & (raw >> (bits - 1) == 1)
    counts: Ints = np.where(negative, raw - (1 << bits), raw)
    return counts
