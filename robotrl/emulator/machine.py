"""The whole emulated robot without clock or port: packets in, packets out, time as an argument."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from robotrl.emulator.dynamixel_servos import DynamixelServos
from robotrl.emulator.faults import IMU_LINE, FaultScript, in_window
from robotrl.emulator.feetech_servos import FeetechServos
from robotrl.emulator.firmware import Firmware
from robotrl.emulator.imus import Wt901
from robotrl.emulator.plant import STEP_S, Plant
from robotrl.emulator.truth import STEPS_PER_SAMPLE, TruthLog
from robotrl.emulator.wire import Cable, wire_time_s
from robotrl.spec.buses import ServoProtocol
from robotrl.spec.robot import RobotSpec

_ROUNDING_S = 1e-9
_COMMANDS = "imu commands"
"""The IMU's line has a wire of its own for each direction; a servo bus has one for both."""


FIRMWARE: Mapping[ServoProtocol, type[Firmware]] = MappingProxyType(
    {"dynamixel2": DynamixelServos, "feetech_sts": FeetechServos, "feetech_scs": FeetechServos}
)


@dataclass(frozen=True, order=True)
class Delivery:
    """A packet that is completely across its line at `time_s`; `order` breaks ties."""

    time_s: float
    order: int
    line: str = field(compare=False)
    data: bytes = field(compare=False)


@dataclass(frozen=True)
class Event:
    """Something worth telling: what, when, and to which servo (-1: none)."""

    name: str
    time_s: float
    servo_id: int = -1


class Machine:
    """Body, servos, IMU and cables in lock-step: each millisecond the firmware runs, then physics.

    The firmware step at t sees the encoders at t and sets the torque for t to t + 1 ms. A packet that
    has arrived at t finds the registers of the last firmware step and is obeyed from the next one on.

    Args:
        robot: the robot.
        script: its faults.
        seed: of everything random: start posture, IMU noise, damage on the wires.
        log: whether to keep the truth log.
    """

    def __init__(self, robot: RobotSpec, script: FaultScript, seed: int, *, log: bool) -> None:
        self.robot = robot
        self._script = script
        lines = (*robot.bus, IMU_LINE)
        streams = np.random.SeedSequence(seed).spawn(len(lines) + 1)
        self.plant = Plant(robot, seed)
        self.buses = {
            name: FIRMWARE[bus.protocol](robot, name, self.plant.joint_pos_rad())
            for name, bus in robot.bus.items()
        }
        self.imu = Wt901(robot.imu, np.random.default_rng(streams[0]))
        self.cables = {
            line: Cable(line, script, np.random.default_rng(stream))
            for line, stream in zip(lines, streams[1:], strict=True)
        }
        self.truth = TruthLog(self.plant) if log else None
        self.events: list[Event] = []
        self.outbox: list[Delivery] = []
        """Heap of what reaches the host, and when."""
        self._inbox: list[Delivery] = []
        self._order = itertools.count()
        self._line_free_s = dict.fromkeys((*lines, _COMMANDS), 0.0)
        self._step = 0
        self._supply_v = robot.supply.open_v
        self._torque_nm = np.zeros(len(robot.joint))
        self._pushes = sorted(script.push, key=lambda push: push.at_s)
        self._cut = dict.fromkeys(lines, False)
        self.intact = dict.fromkeys(lines, True)
        """Per line: whether the last packet from the host and everything sent in answer came through."""

    def baud_bd(self, line: str) -> int:
        """Return the speed of a line."""
        return self.imu.baud_bd if line == IMU_LINE else self.robot.bus[line].baud_bd

    def transmit(self, line: str, packet: bytes, time_s: float) -> float:
        """Let the host send a packet from `time_s` on, or as soon as its last one is out.

        Returns:
            When the packet has completely arrived at the devices.
        """
        wire = _COMMANDS if line == IMU_LINE else line
        start_s = max(time_s, self._line_free_s[wire])
        end_s = start_s + wire_time_s(len(packet), self.baud_bd(line))
        self._line_free_s[wire] = end_s
        heapq.heappush(self._inbox, Delivery(end_s, next(self._order), line, packet))
        return end_s

    def run_until(self, time_s: float) -> None:
        """Live on until `time_s`: firmware and physics steps and arriving packets in order of time.

        Raises:
            SimulationError: the physics diverged.
        """
        while self._inbox and self._inbox[0].time_s <= time_s + _ROUNDING_S:
            arrival = heapq.heappop(self._inbox)
            self._step_to(arrival.time_s)
            self._arrive(arrival)
        self._step_to(time_s)

    def pending_s(self) -> float:
        """Return when the next thing happens that the host can see or is waiting for."""
        times = [self.imu.next_sample_s]
        times += [queue[0].time_s for queue in (self._inbox, self.outbox) if queue]
        return min(times)

    def released(self, time_s: float) -> list[Delivery]:
        """Take what has reached the host by `time_s` off the outbox, in order of time."""
        due = []
        while self.outbox and self.outbox[0].time_s <= time_s + _ROUNDING_S:
            due.append(heapq.heappop(self.outbox))
        return due

    def _step_to(self, time_s: float) -> None:
        while self._step * STEP_S <= time_s + _ROUNDING_S:
            self._advance(self._step * STEP_S)
            self._step += 1

    def _advance(self, time_s: float) -> None:
        self._scripted(time_s)
        position, velocity = self.plant.joint_pos_rad(), self.plant.joint_vel_rad_s()
        drawn_a = 0.0
        for bus in self.buses.values():
            drawn_a += bus.step(time_s, position, velocity, self._supply_v)
            self._torque_nm[bus.index] = bus.torque_nm
            self._report(bus)
        self._supply_v = self.robot.supply.voltage_v(drawn_a)
        if self._step % STEPS_PER_SAMPLE == 0:
            self.plant.check_finite()
            if self.truth is not None:
                self.truth.sample(time_s, self._joint_truth())
        self.plant.step(self._torque_nm)
        if time_s >= self.imu.next_sample_s - _ROUNDING_S:
            self._sample_imu(time_s)

    def _scripted(self, time_s: float) -> None:
        while self._pushes and self._pushes[0].at_s <= time_s + _ROUNDING_S:
            x, y = self._pushes.pop(0).velocity_m_s
            self.plant.push((x, y))
            self.events.append(Event(f"push {x:g} {y:g}", time_s))
        for cut in self._script.cut:
            out = self.cables[cut.line].cut(time_s)
            if out != self._cut[cut.line]:
                self._cut[cut.line] = out
                self.events.append(Event(f"{'unplug' if out else 'plug'} {cut.line}", time_s))

    def _report(self, bus: Firmware) -> None:
        if bus.events:
            self.events += [Event(e.kind, e.time_s, e.servo_id) for e in bus.events]
            bus.events.clear()

    def _joint_truth(self) -> dict[str, NDArray[np.generic]]:
        count = len(self.robot.joint)
        goal_rad = np.empty(count)
        tripped, enabled = np.empty(count, bool), np.empty(count, bool)
        temperature_c = np.empty(count)
        for bus in self.buses.values():
            goal_rad[bus.index] = bus.goal_rad
            tripped[bus.index] = bus.watchdog_tripped
            enabled[bus.index] = bus.torque_enabled
            temperature_c[bus.index] = bus.temperature_c
        return {
            "joint_torque_nm": self._torque_nm.copy(),
            "goal_rad": goal_rad,
            "watchdog_tripped": tripped,
            "torque_enabled": enabled,
            "voltage_v": np.full(count, self._supply_v),
            "temperature_c": temperature_c,
        }

    def _sample_imu(self, time_s: float) -> None:
        frames = self.imu.sample(time_s, self.plant.imu())
        silent = in_window(self._script.imu_silence, time_s)
        if not silent and self._line_free_s[IMU_LINE] <= time_s + _ROUNDING_S:
            for frame in frames:
                self._answer(IMU_LINE, frame, time_s, 0.0)

    def _arrive(self, arrival: Delivery) -> None:
        data = self.cables[arrival.line].carry(arrival.data, arrival.time_s)
        self.intact[arrival.line] = data == arrival.data
        if not data:
            return
        if arrival.line == IMU_LINE:
            self.imu.receive(data, arrival.time_s)
            return
        for reply in self.buses[arrival.line].receive(data, arrival.time_s):
            self._answer(arrival.line, reply.data, arrival.time_s, reply.gap_s)

    def _answer(self, line: str, data: bytes, time_s: float, gap_s: float) -> None:
        """Put a device's packet on the line, after what is still on it."""
        start_s = max(time_s, self._line_free_s[line]) + gap_s
        end_s = start_s + wire_time_s(len(data), self.baud_bd(line))
        self._line_free_s[line] = end_s
        arrived = self.cables[line].carry(data, end_s)
        self.intact[line] &= arrived == data
        if arrived:
            heapq.heappush(self.outbox, Delivery(end_s, next(self._order), line, arrived))
