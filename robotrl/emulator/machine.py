"""The whole emulated robot without clock or port: packets in, packets out, time as an argument."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from robotrl.emulator.cable import Cable, Piece, Way
from robotrl.emulator.dynamixel_servos import DynamixelServos
from robotrl.emulator.estimator import Estimator
from robotrl.emulator.faults import FaultScript, open_at
from robotrl.emulator.feetech_servos import FeetechServos
from robotrl.emulator.firmware import Firmware
from robotrl.emulator.gx5 import Gx5
from robotrl.emulator.imu_sensor import EmulatedImu
from robotrl.emulator.imus import Wt901
from robotrl.emulator.plant import STEP_S, Plant
from robotrl.emulator.rvc import Bno08x
from robotrl.emulator.servo_faults import ServoFaults
from robotrl.emulator.timeline import Event, Timeline
from robotrl.emulator.truth import STEPS_PER_SAMPLE, TruthLog
from robotrl.emulator.vn100 import Vn100
from robotrl.emulator.wire import wire_time_s
from robotrl.spec.buses import ServoProtocol
from robotrl.spec.robot import ESTIMATOR_LINE, IMU_LINE, ImuSpec, RobotSpec

_ROUNDING_S = 1e-9
_COMMANDS = "imu commands"
"""The IMU's line has a wire of its own for each direction; a servo bus has one for both."""


FIRMWARE: Mapping[ServoProtocol, type[Firmware]] = MappingProxyType(
    {"dynamixel2": DynamixelServos, "feetech_sts": FeetechServos, "feetech_scs": FeetechServos}
)

IMUS: Mapping[str, Callable[[ImuSpec, np.random.Generator], EmulatedImu]] = MappingProxyType(
    {"wt901": Wt901, "bno08x": Bno08x, "vn100": Vn100, "gx5": Gx5}
)
"""`model` in robot.toml -> the device."""


@dataclass(frozen=True, order=True)
class Delivery:
    """A packet that is completely across its line at `time_s`; `order` breaks ties."""

    time_s: float
    order: int
    line: str = field(compare=False)
    data: bytes = field(compare=False)
    carried: bool = field(compare=False, default=False)
    """Whether the cable has done to it what it does."""


class Machine:
    """Body, servos, sensors and cables in lock-step: each millisecond the firmware runs, then physics.

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
        lines = tuple(robot.lines)
        streams = np.random.SeedSequence(seed).spawn(len(lines) + 1)
        self.plant = Plant(robot, seed)
        self.buses = {
            name: FIRMWARE[bus.protocol](robot, name, self.plant.joint_pos_rad())
            for name, bus in robot.bus.items()
        }
        noise = np.random.default_rng(streams[0])
        self.imu = None if robot.imu is None else IMUS[robot.imu.model](robot.imu, noise)
        self._estimator = None if robot.estimator is None else Estimator(robot.estimator)
        self.cables = {
            line: Cable(line, script, np.random.default_rng(stream))
            for line, stream in zip(lines, streams[1:], strict=True)
        }
        self._timeline = Timeline(script)
        self._servo_faults = [ServoFaults(script, name, bus) for name, bus in self.buses.items()]
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
        self._host_baud_bd = {line: self.baud_bd(line) for line in lines}
        self.intact = dict.fromkeys(lines, True)
        """Per line: whether the last packet from the host and everything sent in answer came through."""

    def follow(self, script: FaultScript) -> None:
        """Suffer the faults of another script from now on; those of the present one are over."""
        self._script, self._timeline = script, Timeline(script)
        self._pushes = sorted(script.push, key=lambda push: push.at_s)
        for cable in self.cables.values():
            cable.follow(script)
        for faults in self._servo_faults:
            faults.follow(script)
        self._apply_faults(self._step * STEP_S)

    def baud_bd(self, line: str) -> int:
        """Return the speed of a line's devices, as it is set up."""
        return self.imu.baud_bd if self.imu is not None and line == IMU_LINE else self.robot.lines[line][1]

    def set_host_baud(self, line: str, baud_bd: int) -> None:
        """Let the host use another speed on a line from now on; only devices set to it understand."""
        self._host_baud_bd[line] = baud_bd
        if line in self.buses:
            self.buses[line].line_baud_bd = baud_bd

    def line_free_s(self, line: str) -> float:
        """Return when the last answer on a line has ended, or would have, had it not been lost."""
        return self._line_free_s[line]

    def port_exists(self, line: str, time_s: float) -> bool:
        """Return whether a line's adapter is in the computer."""
        return self.cables[line].port_exists(time_s)

    def transmit(self, line: str, packet: bytes, time_s: float) -> float:
        """Let the host send a packet from `time_s` on, or as soon as its last one is out.

        Returns:
            When the packet has completely arrived at the devices.
        """
        wire = line if line in self.buses else _COMMANDS
        start_s = max(time_s, self._line_free_s[wire])
        end_s = start_s + wire_time_s(len(packet), self._host_baud_bd[line])
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
        times = [sensor.next_sample_s for sensor in (self.imu, self._estimator) if sensor is not None]
        times += [queue[0].time_s for queue in (self._inbox, self.outbox) if queue]
        return min(times, default=math.inf)

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
        if self._estimator is not None and time_s >= self._estimator.next_sample_s - _ROUNDING_S:
            self._say(ESTIMATOR_LINE, [self._estimator.sample(time_s, self.plant.estimate())], time_s)
        self.plant.step(self._torque_nm)
        if self.imu is not None and time_s >= self.imu.next_sample_s - _ROUNDING_S:
            self._sample_imu(self.imu, time_s)
        for line, cable in self.cables.items():
            if cable.shorted(time_s):
                self._short(line, time_s)

    def _scripted(self, time_s: float) -> None:
        while self._pushes and self._pushes[0].at_s <= time_s + _ROUNDING_S:
            x, y = self._pushes.pop(0).velocity_m_s
            self.plant.push((x, y))
            self.events.append(Event(f"push {x:g} {y:g}", time_s))
        if told := self._timeline.turn(time_s):
            self.events += told
            self._apply_faults(time_s)

    def _apply_faults(self, time_s: float) -> None:
        """Put servos and IMU into the state of `time_s`."""
        now_s = time_s + _ROUNDING_S
        for faults in self._servo_faults:
            faults.apply(now_s)
        if self.imu is not None:
            self.imu.frozen = bool(open_at(self._script.imu_freeze, now_s))
            self.imu.broken = bool(open_at(self._script.imu_nan, now_s))
            self.imu.upside_down = bool(open_at(self._script.imu_upside_down, now_s))

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

    def _short(self, line: str, time_s: float) -> None:
        """Let a shorted line bring the host as much garbage as fits into one step."""
        end_s = time_s + STEP_S
        count = int(STEP_S / wire_time_s(1, self._host_baud_bd[line]))
        self._line_free_s[line] = end_s
        self._deliver(line, self.cables[line].garbage(count), end_s)

    def _sample_imu(self, imu: EmulatedImu, time_s: float) -> None:
        frames = imu.sample(time_s, self.plant.imu())
        if not open_at(self._script.imu_silence, time_s):
            self._say(IMU_LINE, frames, time_s)

    def _say(self, line: str, frames: list[bytes], time_s: float) -> None:
        """Let a sensor send what it sends by itself, unless its last words are on the line for longer.

        A step is what the last sample may have been late, and this one not.
        """
        if self._line_free_s[line] < time_s + STEP_S:
            for frame in frames:
                self._answer(line, frame, time_s, 0.0)

    def _arrive(self, arrival: Delivery) -> None:
        if arrival.carried:
            self._receive(arrival)
            return
        pieces = self.cables[arrival.line].carry(arrival.data, arrival.time_s, Way.TO_DEVICES)
        self.intact[arrival.line] = pieces == [Piece(arrival.time_s, arrival.data)]
        for piece in pieces:
            whole = Delivery(piece.time_s, next(self._order), arrival.line, piece.data, carried=True)
            if piece.time_s > arrival.time_s:
                heapq.heappush(self._inbox, whole)
            else:
                self._receive(whole)

    def _receive(self, arrival: Delivery) -> None:
        """Let the devices of a line have bytes that have come through the cable."""
        line, time_s = arrival.line, arrival.time_s
        if line in self.buses:
            for reply in self.buses[line].receive(arrival.data, time_s):
                self._answer(line, reply.data, time_s, reply.gap_s)
        elif self.imu is not None and line == IMU_LINE and self._host_baud_bd[line] == self.imu.baud_bd:
            for answer in self.imu.receive(arrival.data, time_s):
                self._answer(line, answer, time_s, 0.0)

    def _answer(self, line: str, data: bytes, time_s: float, gap_s: float) -> None:
        """Put a device's packet on the line, after what is still on it."""
        start_s = max(time_s, self._line_free_s[line]) + gap_s
        end_s = start_s + wire_time_s(len(data), self.baud_bd(line))
        self._line_free_s[line] = end_s
        cable = self.cables[line]
        if line not in self.buses and self._host_baud_bd[line] != self.baud_bd(line):
            data = cable.garbage(len(data))
        pieces = cable.carry(data, end_s, Way.TO_HOST)
        self.intact[line] &= pieces == [Piece(end_s, data)]
        for piece in pieces:
            self._deliver(line, piece.data, piece.time_s)

    def _deliver(self, line: str, data: bytes, time_s: float) -> None:
        heapq.heappush(self.outbox, Delivery(time_s, next(self._order), line, data))
