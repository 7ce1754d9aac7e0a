"""The emulated arm without clock or port: packets in, packets out, time as an argument.

An exact controller is an assumption: it measures what is true, and carries out a command at once.
"""

from __future__ import annotations

import numpy as np

from robotrl.drivers.arm import Kind, Packet, PacketParser, encode
from robotrl.emulator.cable import Cable, Piece, Way
from robotrl.emulator.faults import FaultScript
from robotrl.emulator.fetch import FetchWorld
from robotrl.emulator.wire import wire_time_s
from robotrl.spec.arm import CONTROLLER, ArmSpec

_ROUNDING_S = 1e-9


class Controller:
    """Firmware of the arm's controller.

    A MOVE counts from where the gripper is when it arrives, and once: without another one the gripper comes
    to rest there, so that a host which has died moves the arm no further than one displacement. A STOP that
    follows another changes nothing, so that the gripper does not creep.

    Args:
        world: what it moves.
    """

    def __init__(self, world: FetchWorld) -> None:
        self._world = world
        self._parser = PacketParser()
        self._stopped = True

    def receive(self, data: bytes) -> list[bytes]:
        """Take bytes and do what the packets say that they complete; return the answers."""
        return [answer for packet in self._parser.feed(data) for answer in self._obey(packet)]

    def _obey(self, packet: Packet) -> list[bytes]:
        if packet.kind is Kind.READ:
            return [encode(Kind.STATE, packet.sequence, self._world.measured())]
        if packet.kind is Kind.MOVE and np.isfinite(packet.values).all():
            self._world.move(packet.values[:3])  # the fingers are blocked
            self._stopped = False
        elif packet.kind is Kind.STOP and not self._stopped:
            self._world.move(np.zeros(3))
            self._stopped = True
        return []


class ArmMachine:
    """Arm, controller and cable in lock-step; a physics step is computed when its 2 ms are over.

    So a command that arrives within a step already counts in it: up to 2 ms of latency are left out, and a
    command that comes right after a read acts for all the steps of its tick, as in the task.

    Args:
        arm: the arm.

    Attributes:
        world: what is true.
        cable: `unplug` and `plug` it.
    """

    def __init__(self, arm: ArmSpec) -> None:
        self.arm = arm
        self.world = FetchWorld(arm.model_file)
        self.cable = Cable(CONTROLLER, FaultScript(), np.random.default_rng(0))
        self._controller = Controller(self.world)
        self._steps = 0

    def run_until(self, time_s: float) -> None:
        """Live on.

        Raises:
            SimulationError: the physics diverged.
        """
        while (self._steps + 1) * self.world.step_s <= time_s + _ROUNDING_S:
            self.world.step()
            self._steps += 1

    def exchange(self, data: bytes, sent_s: float) -> tuple[float, list[Piece]]:
        """Let the host send bytes, and the controller answer.

        Args:
            data: what is sent.
            sent_s: when it begins.

        Returns:
            When the line is free again, and what reaches the host.
        """
        free_s = sent_s + self._wire_s(data)
        self.run_until(free_s)
        heard: list[Piece] = []
        for piece in self.cable.carry(data, free_s, Way.TO_DEVICES):
            for answer in self._controller.receive(piece.data):
                free_s += self._wire_s(answer)
                heard += self.cable.carry(answer, free_s, Way.TO_HOST)
        return free_s, heard

    def _wire_s(self, data: bytes) -> float:
        return wire_time_s(len(data), self.arm.controller.baud_bd)
