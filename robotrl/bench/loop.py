"""The control loop on the wall clock, against an emulated quad12: deadlines, lateness and software time.

Software time is all of a tick from the moment the loop wakes up until it goes to sleep again, polling the
operator and recording included, less the time in which it is blocked in `select` because no byte has come
over the wire yet. The processor time of the same span is told beside it: it lacks what other threads and
processes take away, which the software time has.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from robotrl.bench.soak import emulated
from robotrl.drivers.body import SerialBody
from robotrl.drivers.port import SerialPort
from robotrl.emulator.faults import FaultScript
from robotrl.errors import BadInputError, RobotrlError
from robotrl.runtime.clock import Clock, RealClock
from robotrl.runtime.dashboard.encode import subject_of
from robotrl.runtime.dashboard.feed import Dashboard
from robotrl.runtime.loop import Loop
from robotrl.runtime.operator import Script, constant_steps
from robotrl.runtime.policy import Policy
from robotrl.runtime.realtime import request_realtime
from robotrl.runtime.recorder import McapRecorder, Recorders
from robotrl.runtime.recording import CONTRACT_NAME, ROBOT_NAME
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import Floats

RATE_HZ, FAST_RATE_HZ = 200.0, 500.0
BAUD_BD: Final = 4_000_000
"""The fastest of these servos: a read and a write of all twelve take 1.1 ms on the line."""
REPLY_TIMEOUT_S = 0.001
"""An answer later than this is left to the next tick: no tick waits long enough to miss its deadline."""
POLICY = "quad12_walk"
NOBODY = "127.0.0.1", 9
"""Where the dashboard's buttons go."""
VELOCITY = (0.2, 0.0, 0.0)
"""Forward m/s, left m/s, yaw rate rad/s."""
SETTLE_S = 2.0
"""After standing up, before the first tick that counts: half of it at rest, half of it walking."""
QUANTILES = {"p50": 50, "p99": 99, "max": 100}

Report = Callable[[str], None]


class Wire:
    """Opens ports that add up how long they have been waiting for bytes.

    Attributes:
        waited_s: of all of them.
    """

    def __init__(self) -> None:
        self.waited_s = 0.0

    def open(self, path: str, baud_bd: int) -> SerialPort:
        """Open a port; raises as `SerialPort`."""
        return _TimedPort(path, baud_bd, self)


class _TimedPort(SerialPort):
    def __init__(self, path: str, baud_bd: int, wire: Wire) -> None:
        super().__init__(path, baud_bd)
        self._wire = wire

    def wait_readable(self, timeout_s: float) -> bool:
        if not timeout_s:  # it only looks whether something is there
            return super().wait_readable(timeout_s)
        started_s = time.perf_counter()
        readable = super().wait_readable(timeout_s)
        self._wire.waited_s += time.perf_counter() - started_s
        return readable


class MeteredClock:
    """A clock that notes of every tick when it woke up, when it went to sleep, and what it waited for.

    Args:
        clock: whose time it is.
        waited_s: returns how long the loop has been waiting for the wire so far.
    """

    def __init__(self, clock: Clock, waited_s: Callable[[], float]) -> None:
        self._clock, self._waited_s = clock, waited_s
        self._rows = array("d")
        self._woken: tuple[float, ...] = ()

    def now_s(self) -> float:
        """Return the clock's time."""
        return self._clock.now_s()

    def sleep_until(self, deadline_s: float) -> None:
        """Note the tick that ends here, and sleep."""
        now = self._clock.now_s(), self._waited_s(), time.thread_time()
        if self._woken:
            self._rows.extend((*self._woken, *now))
        self.sleep(deadline_s)
        cpu_s = time.thread_time()  # costs a system call, so it goes before the tick begins
        self._woken = deadline_s, self._clock.now_s(), self._waited_s(), cpu_s

    def sleep(self, deadline_s: float) -> None:
        """Sleep as the clock does."""
        self._clock.sleep_until(deadline_s)

    def ticks(self, start_s: float, end_s: float) -> Ticks:
        """Return the ticks that woke up between two times."""
        rows = np.array(self._rows).reshape(-1, 7)
        deadline_s, woken_s, waited_s, cpu_s, asleep_s, waited_end_s, cpu_end_s = rows[
            (rows[:, 1] >= start_s) & (rows[:, 1] < end_s)
        ].T
        return Ticks(deadline_s, woken_s, asleep_s, waited_end_s - waited_s, cpu_end_s - cpu_s)


class RelativeClock(MeteredClock):
    """Sleeps as the loops of most robots do: for what the tick has left of its period, as it seems to it.

    Args:
        clock: whose time it is.
        waited_s: as for `MeteredClock`.
        period_s: of the loop.
    """

    def __init__(self, clock: Clock, waited_s: Callable[[], float], period_s: float) -> None:
        super().__init__(clock, waited_s)
        self._period_s = period_s
        self._started_s = clock.now_s()

    def sleep(self, deadline_s: float) -> None:
        """Sleep for the rest of the period, whatever the deadline."""
        now_s = self.now_s()
        self._clock.sleep_until(now_s + max(0.0, self._period_s - (now_s - self._started_s)))
        self._started_s = self.now_s()


@dataclasses.dataclass(frozen=True)
class Ticks:
    """What a metered clock has noted of T ticks; every array is (T,) s."""

    deadline_s: Floats
    woken_s: Floats
    asleep_s: Floats
    """When the tick had done its work."""
    waited_s: Floats
    """For the wire."""
    cpu_s: Floats

    def figures(self, period_s: float) -> dict[str, Any]:
        """Return what a loop with deadlines has kept of them: none is lost, so drift is but lateness."""
        skipped = int(np.rint(np.diff(self.deadline_s) / period_s).sum()) - (self.woken_s.size - 1)
        overrun = np.count_nonzero(self.asleep_s > self.deadline_s + period_s)
        return {
            **self._figures(period_s, skipped),
            "missed": int(overrun) + skipped,
            "lateness_us": _quantiles_us(self.woken_s - self.deadline_s),
        }

    def relative_figures(self, period_s: float) -> dict[str, Any]:
        """Return the same of a loop that has no deadlines: its ticks are where they have drifted to."""
        missed = np.count_nonzero(self.asleep_s - self.woken_s > period_s)
        return {**self._figures(period_s, 0), "missed": int(missed)}

    def _figures(self, period_s: float, skipped: int) -> dict[str, Any]:
        work_s = self.asleep_s - self.woken_s
        periods = self.woken_s.size - 1 + skipped
        return {
            "rate_hz": 1.0 / period_s,
            "ticks": self.woken_s.size,
            "drift_s": float(self.woken_s[-1] - self.woken_s[0] - periods * period_s),
            "software_us": _quantiles_us(work_s - self.waited_s),
            "cpu_us": _quantiles_us(self.cpu_s),
            "tick_us": _quantiles_us(work_s),
        }


def _quantiles_us(values_s: Floats) -> dict[str, float]:
    return {name: float(1e6 * np.percentile(values_s, share)) for name, share in QUANTILES.items()}


def looped_robot(rate_hz: float) -> RobotSpec:
    """Return quad12 with its loop, not its policy, at another rate, on its fastest bus."""
    robot = load_robot(find_shipped("hardware", "quad12"))
    bus = {
        name: dataclasses.replace(spec, baud_bd=BAUD_BD, reply_timeout_s=REPLY_TIMEOUT_S, retries_per_tick=0)
        for name, spec in robot.bus.items()
    }
    return dataclasses.replace(
        robot, bus=bus, control=dataclasses.replace(robot.control, bus_rate_hz=rate_hz)
    )


def bench_loop(seconds: float, report: Report) -> dict[str, Any]:
    """Walk on the wall clock: at 200 Hz, at 500 Hz, at 200 Hz with relative sleeps, and observed.

    Args:
        seconds: that count of each.
        report: takes lines that tell what is going on.

    Returns:
        The figures of 200 Hz, those of the others as `at_500_hz`, `relative_sleep` and `observed`, and how
        much slower one tick in a hundred gets by recording and dashboard, `observed_tick_p99_ratio`.

    Raises:
        BadInputError: no time at all.
        RobotrlError: the robot did not walk to the end.
    """
    if not seconds > 0.0:
        raise BadInputError("is too short", key="--seconds", value=seconds, allowed="above 0")
    for refusal in request_realtime():
        report(refusal)
    usual = _measure(RATE_HZ, seconds, report)
    observed = _measure(RATE_HZ, seconds, report, observed=True)
    return {
        **usual,
        "at_500_hz": _measure(FAST_RATE_HZ, seconds, report),
        "relative_sleep": _measure(RATE_HZ, seconds, report, relative=True),
        "observed": observed,
        "observed_tick_p99_ratio": observed["tick_us"]["p99"] / usual["tick_us"]["p99"],
    }


def _measure(
    rate_hz: float, seconds: float, report: Report, *, relative: bool = False, observed: bool = False
) -> dict[str, Any]:
    """Stand up, walk, lie down; return the figures of the walk."""
    how = " with relative sleeps" * relative + " with recording and dashboard" * observed
    report(f"{seconds:g} s at {rate_hz:g} Hz{how}")
    robot, wire = looped_robot(rate_hz), Wire()
    period_s = robot.control.period_s
    policy = Policy.load(find_shipped("policies", POLICY))
    script = Script(constant_steps(robot.control.stand_s, VELOCITY), policy.contract.operator_ranges)
    clock = (
        RelativeClock(RealClock(), lambda: wire.waited_s, period_s)
        if relative
        else MeteredClock(RealClock(), lambda: wire.waited_s)
    )
    with emulated(robot, FaultScript()) as (_, ports), ExitStack() as stack:
        recorder = stack.enter_context(_observers(robot, policy)) if observed else None
        body = SerialBody(robot, ports, wire.open)
        loop = Loop(robot, body, policy, script, clock, armed=True, recorder=recorder)
        ready_s = robot.control.stand_s + SETTLE_S
        done = loop.run(ready_s + seconds)
    if {"HOLD", "DAMP", "LIMP"} & done.verdicts.keys():
        raise RobotrlError(f"the gate has stopped the robot: {done.events[-1].text}")
    start_s = next(e.stamp_s for e in done.events if e.text == "stand -> policy") + SETTLE_S / 2
    ticks = clock.ticks(start_s, start_s + seconds)
    return ticks.relative_figures(period_s) if relative else ticks.figures(period_s)


@contextmanager
def _observers(robot: RobotSpec, policy: Policy) -> Iterator[Recorders]:
    """A recording and a dashboard as `robotrl run` has them; the file goes when they are done."""
    attachments = {
        ROBOT_NAME: Path(robot.file).read_bytes(),
        CONTRACT_NAME: policy.contract.to_json().encode(),
    }
    subject = subject_of(robot, POLICY, policy.contract.operator_ranges, armed=True)
    with tempfile.TemporaryDirectory() as folder, Recorders() as observers:
        observers.add(McapRecorder(Path(folder) / "run.mcap", attachments))
        observers.add(Dashboard(subject, "127.0.0.1:0", NOBODY, ""))
        yield observers
    if observers.notes:
        raise RobotrlError("; ".join(observers.notes))
