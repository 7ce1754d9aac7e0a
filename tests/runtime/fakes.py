"""A body that obeys at once, a policy that sways, and a recorder that remembers; each fails on demand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robotrl.runtime.clock import FakeClock
from robotrl.runtime.loop import Loop
from robotrl.runtime.operator import Script, Source, Step, Together
from robotrl.runtime.parts import Recorder
from robotrl.runtime.tally import Happening, Tick
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, Floats, JointCommand, RobotState
from tests.laws.rig import QUAD12, calm

QUICK = dataclasses.replace(
    QUAD12,
    control=dataclasses.replace(QUAD12.control, stand_s=0.3, park_s=0.3),
    limits=dataclasses.replace(QUAD12.limits, blend_in_s=0.1),
)
"""The shipped robot, in a hurry."""

RANGES = {"velocity_command": ((-0.4, -0.2, -1.0), (0.4, 0.2, 1.0))}


class BrokenError(Exception):
    """What a failing part raises."""


class FakeBody:
    """Joints that are where the last TRACK command wanted them; `change` spoils what is measured.

    Attributes:
        calls: names of the calls so far, a run of equal ones once.
        written: every command.
    """

    def __init__(self, robot: RobotSpec = QUICK) -> None:
        self.robot = robot
        self.pos_rad = robot.park_rad.copy()
        self.calls: list[str] = []
        self.written: list[JointCommand] = []
        self.fail_in = ""
        self.fail_at_s = math.inf
        self.now_s = 0.0
        self.change: Callable[[float], dict[str, Any]] = lambda now_s: {}
        self.work: Callable[[float], None] = lambda now_s: None

    def open(self) -> None:
        """Leave torque off."""
        self._call("open")

    def read(self, now_s: float) -> RobotState:
        """Measure where the joints are, with the changes."""
        self.now_s = now_s
        self._call("read")
        self.work(now_s)
        state = calm(self.robot, now_s, joint_pos_rad=self.pos_rad.copy())
        return dataclasses.replace(state, **self.change(now_s))

    def write(self, command: JointCommand) -> None:
        """Obey at once."""
        if command.kind is CommandKind.TRACK:
            self._call("write")
            self.pos_rad = command.joint_target_rad.copy()
        else:
            self._call(f"write {command.kind.name}")
        self.written.append(command)

    def rearm(self) -> None:
        """Take note."""
        self._call("rearm")

    def close(self) -> None:
        """Take note."""
        self._call("close")

    @property
    def ended_limp(self) -> bool:
        """The last two calls were torque off, with nothing in between, and close."""
        return self.written[-1].kind is CommandKind.LIMP and self.calls[-2:] == ["write LIMP", "close"]

    def _call(self, name: str) -> None:
        if name == self.fail_in and self.now_s >= self.fail_at_s:
            raise BrokenError(name)
        if not (self.calls and self.calls[-1] == name):
            self.calls.append(name)


class FakePolicy:
    """Sways about the default posture by the commanded forward speed; its memory counts ticks."""

    def __init__(self) -> None:
        self.ticks = 0
        self.resets = 0
        self.fail_at_tick = -1

    def reset(self) -> None:
        """Forget the ticks."""
        self.ticks = 0
        self.resets += 1

    def step(self, channels: Mapping[str, NDArray[np.floating]]) -> Floats:
        """Sway."""
        if self.ticks == self.fail_at_tick:
            raise BrokenError("infer")
        self.ticks += 1
        speed = float(channels["velocity_command"][0])
        sway = 0.05 * speed * math.sin(0.3 * self.ticks) + 0.01 * channels["joint_pos"].astype(np.float64)
        return np.asarray(QUAD12.default_rad + sway, dtype=np.float64)


class FakeRecorder:
    """Keeps everything."""

    def __init__(self) -> None:
        self.ticks: list[Tick] = []
        self.events: list[Happening] = []
        self.fail_at_tick = -1

    def tick(self, tick: Tick) -> None:
        """Keep it."""
        if tick.index == self.fail_at_tick:
            raise BrokenError("record")
        self.ticks.append(tick)

    def event(self, happening: Happening) -> None:
        """Keep it."""
        self.events.append(happening)


WALK = (
    Step(0.0, mode="stand"),
    Step(0.5, mode="policy", velocity=(0.3, 0.0, 0.0)),
    Step(0.8, velocity=(0.9, 0.0, -5.0)),
    Step(1.0, mode="limp"),
)
"""Stand up, walk from 10.5 s, walk faster than trained, lie down from 11.0 s."""


class Rig:
    """A loop with fake parts on a fake clock."""

    def __init__(
        self,
        steps: Iterable[Step] = WALK,
        *,
        armed: bool = True,
        robot: RobotSpec = QUICK,
        recorder: Recorder | None = None,
        further: Iterable[Source] = (),
    ) -> None:
        self.clock = FakeClock(10.0)
        self.body = FakeBody(robot)
        self.policy = FakePolicy()
        self.recorder = FakeRecorder()
        self.operator = Together([Script(steps, RANGES), *further], RANGES)
        kept = recorder or self.recorder
        self.loop = Loop(robot, self.body, self.policy, self.operator, self.clock, armed=armed, recorder=kept)

    @property
    def modes(self) -> list[str]:
        """The modes that the run went through."""
        names = [t.mode.value for t in self.recorder.ticks]
        return [name for i, name in enumerate(names) if i == 0 or name != names[i - 1]]

    def said(self, name: str) -> list[str]:
        """Texts of the events of one name."""
        return [e.text for e in self.recorder.events if e.name == name]
