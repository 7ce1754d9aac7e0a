"""`robotrl run`: a policy drives a robot, or an emulated one, through the safety gate."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from collections.abc import Mapping

    from robotrl.runtime.arm_loop import ArmLoop
    from robotrl.runtime.clock import Clock
    from robotrl.runtime.loop import Loop
    from robotrl.runtime.operator import Script
    from robotrl.runtime.policy import Policy
    from robotrl.runtime.recorder import McapRecorder
    from robotrl.runtime.tally import LoopReport
    from robotrl.spec.hardware import Hardware
    from robotrl.spec.robot import RobotSpec


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
    script: Path | None = None
    """TOML file of [[step]] tables: at_s and any of rearm, mode, velocity, goal."""
    velocity: tuple[float, float, float] | None = None
    """Without a script: forward m/s, left m/s, yaw rate rad/s; by default none."""
    goal: tuple[float, ...] = ()
    """Without a script, for a policy that reads one."""
    record: Path | None = None
    """Write a recording (MCAP) of every tick."""
    arm: bool = False
    """Allow motion. Without it everything runs and the robot stays limp."""
    clock: Literal["real", "bus"] = "real"
    """bus: never sleep; for an emulator whose time advances with the traffic on its bus."""
    duration_s: float | None = None
    """Lie down after this long. Without it: when the script ends limp, or at Ctrl-C."""
    realtime: bool = False
    """Ask for SCHED_FIFO and locked memory."""
    json: bool = False
    """Print the figures as JSON."""

    def run(self) -> int:
        """Run to the end; 1 where the gate has stopped the robot."""
        import math

        from robotrl.runtime.clock import FakeClock, RealClock
        from robotrl.runtime.realtime import request_realtime

        policy, robot = self._load()
        script = self._script(policy, robot)
        clock = FakeClock() if self.clock == "bus" else RealClock()
        notes = list(script.clipped)
        with contextlib.ExitStack() as stack:
            loop = self._loop(stack, policy, robot, script, clock)
            # After the recorder's thread has started, so that it does not inherit the priority.
            notes += request_realtime() if self.realtime else []
            report = loop.run(math.inf if self.duration_s is None else self.duration_s)
        if self.json:
            _print_json(report, notes)
        else:
            _print_tables(report, notes)
        return 1 if {"HOLD", "DAMP", "LIMP"} & report.verdicts.keys() else 0

    def _loop(
        self, stack: contextlib.ExitStack, policy: Policy, robot: Hardware, script: Script, clock: Clock
    ) -> Loop | ArmLoop:
        """Connect the parts, and open the recording; nothing else is opened yet."""
        from robotrl.drivers.arm import ArmBody
        from robotrl.drivers.body import SerialBody
        from robotrl.runtime.arm_loop import ArmLoop, with_patient_controller
        from robotrl.runtime.clock import with_patient_buses
        from robotrl.runtime.loop import Loop
        from robotrl.spec.arm import ArmSpec

        patient = self.clock == "bus"
        if isinstance(robot, ArmSpec):
            arm = ArmBody(with_patient_controller(robot) if patient else robot, self._ports())
            return ArmLoop(robot, arm, policy, script, clock, armed=self.arm)
        body = SerialBody(with_patient_buses(robot) if patient else robot, self._ports())
        recorder = self._recorder(stack, policy, robot)
        return Loop(robot, body, policy, script, clock, armed=self.arm, recorder=recorder)

    def _load(self) -> tuple[Policy, Hardware]:
        """Open policy and robot; refuse what does not fit or does not compute what was trained."""
        from robotrl.errors import BadInputError, PolicyError
        from robotrl.runtime.policy import Policy
        from robotrl.spec.arm import ArmSpec
        from robotrl.spec.hardware import load_hardware
        from robotrl.spec.shipped import find_shipped
        from robotrl.spec.unit import load_unit, of_unit

        file = find_shipped("policies", self.policy)
        policy = Policy.load(file)
        robot = load_hardware(find_shipped("hardware", self.robot or policy.contract.robot))
        if problems := policy.check(robot):
            raise PolicyError(f"does not fit {robot.file}: {'; '.join(problems)}", file=file)
        policy.replay_golden()
        if isinstance(robot, ArmSpec):
            for key, given in {"--unit": self.unit, "--record": self.record}.items():
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

    def _script(self, policy: Policy, robot: Hardware) -> Script:
        from robotrl.runtime.operator import Script, constant_steps, load_steps
        from robotrl.spec.arm import ArmSpec

        if self.script is None:
            stand_s = 0.0 if isinstance(robot, ArmSpec) else robot.control.stand_s
            steps = constant_steps(stand_s, self.velocity or (), self.goal)
        else:
            steps = load_steps(self.script)
        return Script(steps, policy.contract.operator_ranges)

    def _recorder(self, stack: contextlib.ExitStack, policy: Policy, robot: RobotSpec) -> McapRecorder | None:
        from robotrl.runtime.recorder import McapRecorder
        from robotrl.runtime.recording import CONTRACT_NAME, ROBOT_NAME

        if self.record is None:
            return None
        attachments = {
            ROBOT_NAME: Path(robot.file).read_bytes(),
            CONTRACT_NAME: policy.contract.to_json().encode(),
        }
        return stack.enter_context(McapRecorder(self.record, attachments))


def _print_json(report: LoopReport, notes: list[str]) -> None:
    import dataclasses
    import json

    print(json.dumps({**dataclasses.asdict(report), "notes": notes}))


def _print_tables(report: LoopReport, notes: list[str]) -> None:
    """Print one table of figures, then what happened."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report.ticks} ticks, {report.overruns} overruns, {report.skipped} skipped")
    for column in ("", "p50 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="right" if column else "left")
    for name, times in report.phases.items():
        row = (times.p50_s, times.p99_s, times.max_s)
        table.add_row(name, *(f"{1e3 * seconds:.3f}" for seconds in row))
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
