"""Time to limp after the control loop has died, hung or been stopped, at the servos of an emulated robot."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import FrameType, MappingProxyType

import numpy as np
from numpy.typing import NDArray

from robotrl.bench.emulated import EmulatedRobot
from robotrl.drivers.body import SerialBody
from robotrl.errors import DeviceError
from robotrl.runtime.clock import RealClock
from robotrl.runtime.guarded import guarded_body
from robotrl.runtime.loop import Loop
from robotrl.runtime.modes import Mode
from robotrl.runtime.operator import Script, Step
from robotrl.runtime.policy import Policy
from robotrl.runtime.realtime import request_realtime
from robotrl.runtime.tally import Happening, Tick
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import CommandKind, Floats

POLICY = "quad12_walk"
VELOCITY = (0.25, 0.0, 0.0)
"""Walked with in mode POLICY: m/s forward, m/s left, rad/s."""
READY_TICKS = 5
"""The loop has been in its mode for so many ticks, with torque, before it is struck."""
AFTERWARDS_S = 0.5
"""How long the servos are watched after everything has ended."""
_READY = "ready"


class Stall(Enum):
    """What happens to the process of the loop."""

    KILL = "kill -9"
    STOP = "SIGSTOP"
    DEADLOCK = "deadlock"


_STRIKE: Mapping[Stall, signal.Signals] = MappingProxyType(
    {Stall.KILL: signal.SIGKILL, Stall.STOP: signal.SIGSTOP, Stall.DEADLOCK: signal.SIGUSR1}
)
_PREPARE: Mapping[Mode, str] = MappingProxyType(
    {Mode.RISE: "", Mode.STAND: "", Mode.POLICY: "", Mode.HOLD: "unplug imu"}
)
"""What the emulator is told so that the loop gets into the mode."""


@dataclass(frozen=True)
class TimeToLimp:
    """How one stall ended.

    Attributes:
        kind: what happened to the loop.
        mode: in which it happened.
        limp_s: until no servo had torque any more, late by up to the 10 ms between two samples of the truth;
            infinite where one always had.
        stays: whether no servo had torque ever after, also when a stopped loop went on.
        said: what loop and guardian had to say.
    """

    kind: Stall
    mode: Mode
    limp_s: float
    stays: bool
    said: str


def time_to_limp_after(kind: Stall, mode: Mode = Mode.POLICY, *, guardian: bool = True) -> TimeToLimp:
    """Drive the shipped robot, emulated on the wall clock, and stall its loop; see `strike`.

    Raises:
        DeviceError: emulator or loop ended too early, or the robot was limp before.
    """
    with tempfile.TemporaryDirectory() as folder:
        truth = Path(folder) / "truth.npz"
        with EmulatedRobot("quad12", truth) as emulated:
            struck_s, said = strike(kind, mode, emulated.ports, guardian=guardian, send=emulated.send)
            time.sleep(AFTERWARDS_S)
        with np.load(truth, allow_pickle=False) as log:
            limp_s, stays = judge(log["stamp_s"], log["torque_enabled"], struck_s)
    return TimeToLimp(kind, mode, limp_s, stays, said)


def judge(stamp_s: Floats, enabled: NDArray[np.bool_], struck_s: float) -> tuple[float, bool]:
    """Return `TimeToLimp.limp_s` and `TimeToLimp.stays` of a truth log.

    Args:
        stamp_s: (T,) times of its samples.
        enabled: (T, n) whether a servo's torque was on.
        struck_s: when the loop was struck.

    Raises:
        DeviceError: the robot was limp before that.
    """
    struck = int(np.searchsorted(stamp_s, struck_s, side="right"))
    if not enabled[struck - 1].all():
        raise DeviceError("the emulated robot was limp before anything happened to its loop")
    limp = np.logical_not(enabled[struck:].any(axis=1))
    if not limp.any():
        return math.inf, False
    first = int(np.argmax(limp))
    return float(stamp_s[struck + first] - struck_s), bool(limp[first:].all())


def bench_stall(tell: Callable[[str], None]) -> dict[str, float | bool]:
    """Stall the loop of the shipped robot in every way in every mode; once without a guardian.

    Args:
        tell: called with a line for each.

    Returns:
        `<what>_<mode>_s` until the robot was limp, the longest of them as `limp_s`, whether it always stayed
        so, and whether it held its torque where there was no guardian.

    Raises:
        DeviceError: emulator or loop ended too early.
    """
    figures: dict[str, float | bool] = {}
    stays = True
    for kind, mode in itertools.product(Stall, _PREPARE):
        found = time_to_limp_after(kind, mode)
        tell(f"{kind.value} in mode {mode.value}: limp after {1e3 * found.limp_s:.0f} ms")
        figures[f"{kind.name.lower()}_{mode.value}_s"] = found.limp_s
        stays &= found.stays
    alone = time_to_limp_after(Stall.KILL, guardian=False)
    tell(f"{Stall.KILL.value} without a guardian: limp after {alone.limp_s} s")
    held = math.isinf(alone.limp_s)
    return {"limp_s": max(figures.values()), "stays": stays, "torque_on_without_guardian": held, **figures}


def strike(
    kind: Stall,
    mode: Mode,
    ports: Mapping[str, str],
    *,
    robot: str = "quad12",
    guardian: bool = True,
    send: Callable[[str], object],
    loop_program: Sequence[str] = ("-m", "robotrl.bench.stall"),
) -> tuple[float, str]:
    """Start a loop on an emulated robot, strike it when it is in its mode, and wait for its end.

    A loop that was stopped is let go on as soon as the guardian says that the torque is off.

    Args:
        kind: what happens to the loop.
        mode: in which it happens: RISE, STAND, POLICY or HOLD.
        ports: those of the robot, by line.
        robot: name or path of a robot that `POLICY` may drive.
        guardian: whether there is one; without it, only KILL makes sense.
        send: gives the emulator a command.
        loop_program: what Python is told to run, `main` as a rule.

    Returns:
        When it was struck, of `time.monotonic`, and what loop and guardian have said. Both have ended.

    Raises:
        DeviceError: the loop ended too early.
    """
    prepare = _PREPARE[mode]
    orders = {"robot": robot, "ports": ports, "mode": mode.value, "guardian": guardian}
    command = [sys.executable, *loop_program, json.dumps(orders)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=alone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as loop:
        assert loop.stdout is not None
        assert loop.stderr is not None
        if prepare:
            _await(loop.stdout.readline(), loop)
            send(prepare)
        _await(loop.stdout.readline(), loop)
        struck_s = time.monotonic()
        loop.send_signal(_STRIKE[kind])
        said = "" if kind is Stall.KILL else loop.stderr.readline()
        loop.send_signal(signal.SIGCONT if kind is Stall.STOP else signal.SIGKILL)
        return struck_s, said + loop.stderr.read()  # the guardian holds the other end of this pipe too


def _await(line: str, loop: subprocess.Popen[str]) -> None:
    if line.strip() != _READY:
        raise DeviceError(f"the loop ended early: {loop.communicate()[1]}")


class _Herald:
    """A recorder that says when its loop is ready to be struck, and that can hang it for ever.

    Args:
        modes: what has to be reached, one after the other.
    """

    def __init__(self, *modes: Mode) -> None:
        self._modes = list(modes)
        self._ticks = 0
        self._hang = False
        signal.signal(signal.SIGUSR1, self._note)

    def tick(self, tick: Tick) -> None:
        """See one tick."""
        while self._hang:
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
        if self._modes and tick.mode is self._modes[0] and tick.command.kind is CommandKind.TRACK:
            self._ticks += 1
            if self._ticks == READY_TICKS:
                sys.stdout.write(_READY + "\n")
                sys.stdout.flush()
                self._ticks = 0
                self._modes.pop(0)

    def event(self, happening: Happening) -> None:
        """Events do not matter here."""

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._hang = True


def main() -> None:
    """Be the loop that is struck, as the first argument says."""
    orders = json.loads(sys.argv[1])
    robot = load_robot(find_shipped("hardware", orders["robot"]))
    policy = Policy.load(find_shipped("policies", POLICY))
    mode = Mode(orders["mode"])
    herald = _Herald(Mode.POLICY, mode) if _PREPARE[mode] else _Herald(mode)
    stand_s = robot.control.stand_s + 0.5
    steps = [Step(0.0, mode="stand"), Step(stand_s, mode="policy", velocity=VELOCITY)]
    script = Script(steps, policy.contract.operator_ranges)
    body = guarded_body(robot, orders["ports"]) if orders["guardian"] else SerialBody(robot, orders["ports"])
    request_realtime()
    try:
        Loop(robot, body, policy, script, RealClock(), armed=True, recorder=herald).run()
    except DeviceError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
