"""`robotrl run`: a policy drives a robot, or an emulated one, through the safety gate."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from robotrl.cli.dashboard import open_dashboard, place_of
from robotrl.cli.operators import Operators, ask_to_arm

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from robotrl.runtime.arm_loop import ArmLoop
    from robotrl.runtime.clock import Clock
    from robotrl.runtime.loop import Loop
    from robotrl.runtime.operator import Together
    from robotrl.runtime.parts import Body
    from robotrl.runtime.policy import Policy
    from robotrl.runtime.recorder import Recorders
    from robotrl.runtime.tally import LoopReport
    from robotrl.spec.hardware import Hardware
    from robotrl.spec.robot import RobotSpec

_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Run:
    """Drive a robot with a policy: stand up, walk what the script says, lie down, torque off.

    An arm with a controller of its own has nothing to stand up with: it holds still before and afterwards.

    Example: robotrl run quad12_walk --port legs=/dev/ttyUSB0 --port imu=/dev/ttyUSB1 --script walk.toml --arm
    """

    policy: tyro.conf.Positional[str]
    """Policy file or its folder, or the name of a shipped policy."""
    robot: str = ""
    """robot.toml or its folder, or the name of a shipped robot; by default the one it was trained for."""
    unit: str = ""
    """Serial number of this very robot: its encoder zeros, as `robotrl bus calibrate` has found them."""
    port: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=DEVICE instead of the port in robot.toml; NAME is a bus, imu, estimator or controller. May be
    given several times."""
    operators: tyro.conf.OmitArgPrefixes[Operators] = field(default_factory=Operators)
    record: Path | None = None
    """Write a recording (MCAP) of every tick."""
    dashboard: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[HOST:PORT]")] = None
    """Serve a page that shows the run and commands it, and print its address: of this computer alone, unless
    HOST is another one."""
    arm: bool = False
    """Allow motion. Without it a terminal is asked once, and where there is none the robot stays limp."""
    clock: Literal["real", "bus"] = "real"
    """bus: never sleep; for an emulator whose time advances with the traffic on its bus."""
    duration_s: float | None = None
    """Lie down after this long. Without it: when the script ends limp, or at Ctrl-C."""
    guardian: bool = True
    """A process of its own turns the torque off when this one dies, hangs or is stopped. It goes with the
    real clock; an arm needs none, as its controller stops by itself."""
    realtime: bool = False
    """Ask for SCHED_FIFO and locked memory, and say so where they are not permitted."""
    rt: bool = False
    """Insist on them: without them nothing is opened and nothing moves."""
    json: bool = False
    """Print the figures as JSON."""

    def run(self) -> int:
        """Run to the end; 1 where the gate has stopped the robot."""
        from robotrl.runtime.clock import FakeClock, RealClock
        from robotrl.runtime.recorder import Recorders

        self._check()
        policy, robot = self._load()
        notes = self._ask_for_priority()
        armed = self.arm or ask_to_arm(robot.name)
        clock = FakeClock() if self.clock == "bus" else RealClock()
        with contextlib.ExitStack() as stack:
            recorders = stack.enter_context(Recorders())
            operator = self._operator(stack, policy, robot, recorders, armed=armed)
            loop = self._loop(policy, robot, operator, clock, recorders, armed=armed)
            report = loop.run(math.inf if self.duration_s is None else self.duration_s)
        notes = (
            operator.notes
            + recorders.notes
            + notes
            + policy.unfamiliar()
            + ["it was not armed: nothing was allowed to move"] * (not armed)
        )
        if self.json:
            _print_json(report, notes)
        else:
            _print_tables(report, notes)
        return 1 if {"HOLD", "DAMP", "LIMP"} & report.verdicts.keys() else 0

    def _check(self) -> None:
        """Refuse numbers that mean nothing, before anything is opened."""
        from robotrl.errors import BadInputError

        if self.duration_s is not None and not self.duration_s > 0.0:
            raise BadInputError("is no time", key="--duration-s", value=self.duration_s, allowed="above 0")
        self.operators.check_finite()

    def _loop(
        self,
        policy: Policy,
        robot: Hardware,
        operator: Together,
        clock: Clock,
        recorders: Recorders,
        *,
        armed: bool,
    ) -> Loop | ArmLoop:
        """Connect the parts, and open the recording; nothing else is opened yet."""
        from robotrl.drivers.arm import ArmBody
        from robotrl.drivers.body import SerialBody
        from robotrl.runtime.arm_loop import ArmLoop, with_patient_controller
        from robotrl.runtime.clock import with_patient_buses
        from robotrl.runtime.guarded import guarded_body
        from robotrl.runtime.loop import Loop
        from robotrl.spec.arm import ArmSpec

        patient = self.clock == "bus"
        if isinstance(robot, ArmSpec):
            arm = ArmBody(with_patient_controller(robot) if patient else robot, self._ports())
            return ArmLoop(robot, arm, policy, operator, clock, armed=armed)
        if patient or not self.guardian:
            body: Body = SerialBody(with_patient_buses(robot) if patient else robot, self._ports())
        else:
            body = guarded_body(robot, self._ports())
        self._keep_record(recorders, policy, robot)
        return Loop(robot, body, policy, operator, clock, armed=armed, recorder=recorders)

    def _ask_for_priority(self) -> list[str]:
        """Return what was refused of it, as sentences; what is started later takes no part in it."""
        from robotrl.errors import BadInputError
        from robotrl.runtime.realtime import request_realtime

        refusals = request_realtime() if self.realtime or self.rt else []
        if self.rt and refusals:
            raise BadInputError("; ".join(refusals), key="--rt")
        return refusals

    def _load(self) -> tuple[Policy, Hardware]:
        """Open both; refuse what does not fit, is too slow, or does not compute what was trained."""
        from robotrl.errors import BadInputError, PolicyError
        from robotrl.runtime.inference import time_inference, too_slow
        from robotrl.runtime.policy import Policy
        from robotrl.spec.arm import ArmSpec
        from robotrl.spec.fit import drives_no_robot
        from robotrl.spec.hardware import load_hardware
        from robotrl.spec.shipped import find_shipped
        from robotrl.spec.unit import load_unit, of_unit

        file = find_shipped("policies", self.policy)
        policy = Policy.load(file)
        if sentence := drives_no_robot(policy.contract):
            raise PolicyError(sentence, file=file)
        robot = load_hardware(find_shipped("hardware", self.robot or policy.contract.robot))
        if problems := policy.check(robot):
            raise PolicyError(f"does not fit {robot.file}: {'; '.join(problems)}", file=file)
        policy.replay_golden()
        if problems := too_slow(time_inference(policy), robot):
            raise PolicyError(problems[0], file=file)
        if isinstance(robot, ArmSpec):
            page = None if self.dashboard is None else place_of(self.dashboard)
            for key, given in {"--unit": self.unit, "--record": self.record, "--dashboard": page}.items():
                if given:
                    raise BadInputError("is not an option for an arm", key=key, value=str(given))
            return policy, robot
        return policy, of_unit(robot, load_unit(robot, self.unit)) if self.unit else robot

    def _ports(self) -> Mapping[str, str]:
        from robotrl.errors import BadInputError

        ports = {}
        for text in self.port:
            name, equals, device = text.partition("=")
            if not (name and equals and device):
                raise BadInputError("is no port", key="--port", value=text, allowed="NAME=DEVICE")
            ports[name] = device
        return ports

    def _operator(
        self,
        stack: contextlib.ExitStack,
        policy: Policy,
        robot: Hardware,
        recorders: Recorders,
        *,
        armed: bool,
    ) -> Together:
        """Open everything that commands, and with it the dashboard, whose page does too."""
        from robotrl.spec.arm import ArmSpec

        ranges = policy.contract.operator_ranges
        if isinstance(robot, ArmSpec):
            return self.operators.join(stack, ranges, 0.0)
        buttons = []
        if self.dashboard is not None:
            place, real_time = place_of(self.dashboard), self.clock == "real"
            shown = (place, robot, self.policy, ranges)
            buttons.append(open_dashboard(stack, recorders, *shown, armed=armed, real_time=real_time))
        return self.operators.join(stack, ranges, robot.control.stand_s, buttons)

    def _keep_record(self, recorders: Recorders, policy: Policy, robot: RobotSpec) -> None:
        from robotrl.runtime.recorder import McapRecorder
        from robotrl.runtime.recording import CONTRACT_NAME, ROBOT_NAME

        if self.record is None:
            return
        attachments = {
            ROBOT_NAME: Path(robot.file).read_bytes(),
            CONTRACT_NAME: policy.contract.to_json().encode(),
        }
        recorders.add(McapRecorder(self.record, attachments))


def _print_json(report: LoopReport, notes: list[str]) -> None:
    import dataclasses
    import json

    print(json.dumps({**dataclasses.asdict(report), "notes": notes}))


def bars(octaves: Iterable[tuple[float, int]]) -> str:
    """Draw how often durations of each octave from 1 us to 1 s occurred: a step is ten times as often.

    Args:
        octaves: upper end in seconds, and how often, as in `PhaseTimes`.
    """
    heights = {math.log2(end_s): 1 + int(math.log10(count)) for end_s, count in octaves}
    return "".join(_BARS[min(heights.get(octave, 0), len(_BARS) - 1)] for octave in range(-19, 1))


def _print_tables(report: LoopReport, notes: list[str]) -> None:
    """Print one table of figures, then what happened."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report.ticks} ticks, {report.overruns} overruns, {report.skipped} skipped")
    for column in ("", "p50 ms", "p99 ms", "max ms", "1 us to 1 s"):
        table.add_column(column, justify="right" if column.endswith("ms") else "left")
    for name, times in report.phases.items():
        row = (times.p50_s, times.p99_s, times.max_s)
        table.add_row(name, *(f"{1e3 * seconds:.3f}" for seconds in row), bars(times.octaves))
    table.add_section()
    for level, ticks in report.verdicts.items():
        table.add_row(f"gate {level}", f"{ticks} ticks", f"{100 * ticks / report.ticks:.2f} %")
    for cause, ticks in report.causes.items():
        table.add_row(f"  {cause}", f"{ticks} ticks")
    console = Console()
    console.print(table)
    for last in report.events[-1:]:
        console.print(f"last event: {last.name}: {last.text}")
    for note in notes:
        console.print(note)
