"""The emulator as a process: pseudo-terminals, the wall or bus clock, commands and events as JSON."""

from __future__ import annotations

import itertools
import math
import os
import select
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Protocol

from robotrl.drivers import dynamixel, feetech, sts
from robotrl.drivers import xseries as x
from robotrl.drivers.framing import Framing
from robotrl.drivers.registers import Register
from robotrl.emulator.adapter import Adapter
from robotrl.emulator.console import Console
from robotrl.emulator.host_time import HostTime
from robotrl.emulator.machine import Delivery, Machine
from robotrl.emulator.wire import PacketFramer, PseudoTerminal
from robotrl.errors import ProtocolError
from robotrl.spec.buses import ServoProtocol

_IDLE_WAIT_S = 0.2
_LONGEST_BATCH_S = 0.02
"""Physics never falls further behind than this while nothing happens on the lines."""


class Clock(Protocol):
    """What drives emulated time. All times are seconds since the emulator started."""

    origin_s: float
    """Added to emulated time to give the stamps of events and truth."""

    def host_sent(self, line: str, packet: bytes) -> None:
        """A packet of the host's has come out of its port."""

    def advance(self) -> list[Delivery]:
        """Let the robot live on; return what has now reached the host."""

    def wait_s(self) -> float:
        """How long the process may sleep if no byte comes."""

    def now_s(self) -> float:
        """The emulated time at which a command takes effect."""


class WallClock(HostTime):
    """Emulated time is `time.monotonic`; replies come when the wire would have brought them."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    def host_sent(self, line: str, packet: bytes) -> None:
        """Put the packet on the line now."""
        self._machine.transmit(line, packet, self.now_s())

    def advance(self) -> list[Delivery]:
        """Catch up with the present."""
        now_s = self.now_s()
        self._machine.run_until(now_s)
        return self._machine.released(now_s)

    def wait_s(self) -> float:
        """Until the next reply, arrival or IMU sample is due."""
        return min(max(0.0, self._machine.pending_s() - self.now_s()), _LONGEST_BATCH_S)


class BusClock:
    """Emulated time advances only with the host's traffic, so that runs repeat exactly.

    Every packet takes its time on the wire. A sync read of Present Position begins a control tick: it
    waits for the next multiple of the control period. The tick holds one such read for each bus, and
    after a reply that did not come through whole as many retries as robot.toml allows. The clock
    watches the host's port, so it also runs while a cable is out.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.origin_s = 0.0
        self._now_s = 0.0
        self._period_s = machine.robot.control.period_s
        self._unanswered = dict.fromkeys(machine.robot.bus, 0)
        self._read_in_tick: set[str] = set()
        self._done: list[Delivery] = []

    def now_s(self) -> float:
        """The end of the last transaction."""
        return self._now_s

    def host_sent(self, line: str, packet: bytes) -> None:
        """Live through the whole transaction of this packet."""
        machine = self._machine
        reads_state = line in machine.buses and _BEGINS_TICK[machine.robot.bus[line].protocol](packet)
        if reads_state and not self._is_retry(line):
            self._begin_read(line)
        self._now_s = machine.transmit(line, packet, self._now_s)
        machine.run_until(self._now_s)
        if line in machine.buses:
            give_up_s = machine.line_free_s(line) + machine.robot.bus[line].reply_timeout_s
            replies = [d for d in machine.outbox if d.line == line and d.time_s <= give_up_s]
            self._now_s = max([self._now_s, *(d.time_s for d in replies)])
        machine.run_until(self._now_s)
        if reads_state:
            self._unanswered[line] = 0 if machine.intact[line] else self._unanswered[line] + 1
        elif line in machine.buses:
            self._unanswered[line] = 0
        self._done += machine.released(self._now_s)

    def _is_retry(self, line: str) -> bool:
        retries = self._machine.robot.bus[line].retries_per_tick
        return 0 < self._unanswered[line] <= retries

    def _begin_read(self, line: str) -> None:
        """Begin the next tick, unless this is another bus's read in the present one."""
        if not self._read_in_tick or line in self._read_in_tick:
            self._read_in_tick.clear()
            self._now_s = (math.floor(self._now_s / self._period_s + 1e-6) + 1) * self._period_s
        self._read_in_tick.add(line)

    def advance(self) -> list[Delivery]:
        """Hand out what the transactions brought: the IMU's bytes before the bus's."""
        done, self._done = self._done, []
        return sorted(done, key=lambda d: (d.line in self._machine.buses, d.time_s, d.order))

    def wait_s(self) -> float:
        """Nothing happens without the host."""
        return _IDLE_WAIT_S


def _reads_dynamixel_position(packet: bytes) -> bool:
    """Whether a host's packet is a sync read, fast or not, that covers Present Position."""
    for parsed in dynamixel.PacketParser().feed(packet):
        codes = (dynamixel.Code.SYNC_READ, dynamixel.Code.FAST_SYNC_READ)
        if isinstance(parsed, dynamixel.InstructionPacket) and parsed.code in codes:
            try:
                address, size, _ = dynamixel.split_span(parsed.params)
            except ProtocolError:
                return False
            return _covers(address, size, x.PRESENT_POSITION)
    return False


def _reads_sts_position(packet: bytes) -> bool:
    """Whether a host's packet is a sync read that covers Present Position."""
    for parsed in feetech.InstructionParser().feed(packet):
        if parsed.code == feetech.Code.SYNC_READ:
            try:
                address, size, _ = feetech.split_read(parsed.params)
            except ProtocolError:
                return False
            return _covers(address, size, sts.PRESENT_POSITION)
    return False


def _writes_scs_goals(packet: bytes) -> bool:
    """Whether a host's packet is a sync write: SCS servos are read one by one, but get goals together."""
    return any(p.code == feetech.Code.SYNC_WRITE for p in feetech.InstructionParser().feed(packet))


def _covers(address: int, size: int, register: Register) -> bool:
    return address <= register.address and address + size >= register.end


_FRAMINGS: Mapping[ServoProtocol, Framing] = MappingProxyType(
    {"dynamixel2": dynamixel.FRAMING, "feetech_sts": feetech.FRAMING, "feetech_scs": feetech.FRAMING}
)
_BEGINS_TICK: Mapping[ServoProtocol, Callable[[bytes], bool]] = MappingProxyType(
    {
        "dynamixel2": _reads_dynamixel_position,
        "feetech_sts": _reads_sts_position,
        "feetech_scs": _writes_scs_goals,
    }
)
"""By which packet the bus clock knows that a control tick begins."""


class Emulator:
    """Joins a machine, a clock and the ports; serves until it is told to stop.

    Commands, one a line: `unplug LINE` and `plug LINE` (the cable), `eject LINE` and `insert LINE` (the
    serial adapter, whose port vanishes and comes back under the same name), `push VX VY`, `stop`; the end
    of the input means `stop`. Each is answered by one JSON line with `event` and `stamp_s`, as are the
    robot's own events (`watchdog`, `shutdown` with `id`) and those of the fault script.

    Args:
        machine: the robot.
        clock: `wall` or `bus`.
        commands: file descriptor of the command input.
        report: where JSON lines go.

    Raises:
        PortError: no pseudo-terminal can be had.
    """

    def __init__(self, machine: Machine, clock: str, commands: int, report: IO[str]) -> None:
        self._machine = machine
        self._console = Console(commands, report)
        self._folder = tempfile.TemporaryDirectory(prefix="robotrl-ports-")
        folder = Path(self._folder.name)
        self._ports = {line: Adapter(folder / line, machine.baud_bd(line)) for line in machine.cables}
        self._framers = {
            name: PacketFramer(_FRAMINGS[bus.protocol]) for name, bus in machine.robot.bus.items()
        }
        self._stopped = False
        self._clock: Clock = WallClock(machine) if clock == "wall" else BusClock(machine)

    def run(self, truth: Path | None = None, meanwhile: Callable[[], None] | None = None) -> None:
        """Announce the ports and serve; at the end write the truth log to `truth`.

        Args:
            truth: where to; None writes nothing.
            meanwhile: called between any two turns, to show what the robot does.

        Raises:
            SimulationError: the physics diverged.
        """
        self._console.say(
            {"ports": {line: port.path for line, port in self._ports.items()}, "pid": os.getpid()}
        )
        try:
            while not self._stopped:
                self._serve_once()
                if meanwhile is not None:
                    meanwhile()
        except BrokenPipeError:
            return  # nobody reads the reports any more
        finally:
            for port in self._ports.values():
                port.eject()
            self._folder.cleanup()
            if truth is not None and self._machine.truth is not None:
                self._machine.truth.save(truth, self._clock.origin_s)

    def _serve_once(self) -> None:
        by_fd = {t.fd: line for line, port in self._ports.items() if (t := port.terminal) is not None}
        ready, _, _ = select.select([*by_fd, self._console.fd], [], [], self._clock.wait_s())
        for line, port in self._ports.items():
            if port.terminal is not None:
                self._machine.set_host_baud(line, port.terminal.baud_bd)
        for fd in ready:
            if fd != self._console.fd and (terminal := self._ports[by_fd[fd]].terminal) is not None:
                self._take_bytes(by_fd[fd], terminal)
        if self._console.fd in ready:
            self._take_commands()
        self._send(self._clock.advance())
        self._move_adapters()
        self._tell_events()

    def _move_adapters(self) -> None:
        """Let ports vanish and come back with their adapters."""
        now_s = self._clock.now_s()
        for line, port in self._ports.items():
            exists = self._machine.port_exists(line, now_s)
            if exists and port.terminal is None:
                port.insert()
            elif not exists:
                port.eject()

    def _take_bytes(self, line: str, terminal: PseudoTerminal) -> None:
        data = terminal.read()
        packets = self._framers[line].feed(data) if line in self._framers else [data]
        for packet in packets:
            self._clock.host_sent(line, packet)

    def _send(self, deliveries: list[Delivery]) -> None:
        """Write what the devices sent; with several lines, each must be readable before the next."""
        several = len({d.line for d in deliveries}) > 1
        for line, group in itertools.groupby(deliveries, key=lambda d: d.line):
            data = b"".join(d.data for d in group)
            terminal = self._ports[line].terminal
            if terminal is None:
                continue
            if several and line not in self._machine.buses and isinstance(self._clock, BusClock):
                terminal.write_through(data)
            else:
                terminal.write(data)

    def _take_commands(self) -> None:
        for words in self._console.take():
            if not self._stopped:
                self._obey(words)
        self._stopped |= self._console.ended

    def _obey(self, words: list[str]) -> None:
        now_s = self._clock.now_s()
        self._machine.run_until(now_s)
        match words:
            case ["stop"]:
                self._stopped = True
            case ["unplug", line] if line in self._ports:
                self._machine.cables[line].unplug()
            case ["plug", line] if line in self._ports:
                self._machine.cables[line].plug()
            case ["eject", line] if line in self._ports:
                self._machine.cables[line].eject()
                self._move_adapters()
            case ["insert", line] if line in self._ports:
                self._machine.cables[line].insert()
                self._move_adapters()
            case ["push", vx, vy] if _is_number(vx) and _is_number(vy):
                self._machine.plant.push((float(vx), float(vy)))
            case _:
                self._tell("not understood: " + " ".join(words), now_s)
                return
        self._tell(" ".join(words), now_s)

    def _tell_events(self) -> None:
        for event in self._machine.events:
            self._tell(event.name, event.time_s, event.servo_id)
        self._machine.events.clear()

    def _tell(self, event: str, time_s: float, servo_id: int = -1) -> None:
        line: dict[str, object] = {"event": event}
        if servo_id >= 0:
            line["id"] = servo_id
        self._console.say({**line, "stamp_s": time_s + self._clock.origin_s})


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
