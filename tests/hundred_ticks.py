"""The runtime with the shipped policy over a hundred ticks of walking, for a process of its own."""

from __future__ import annotations

from robotrl.runtime.clock import FakeClock
from robotrl.runtime.loop import Loop
from robotrl.runtime.modes import Mode
from robotrl.runtime.operator import Script, Step
from robotrl.runtime.policy import Policy
from robotrl.runtime.tally import Happening, Tick
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped
from tests.runtime.fakes import FakeBody

TICKS = 100


class PolicyTicks:
    """A recorder that counts the ticks in which the policy was in charge."""

    def __init__(self) -> None:
        self.count = 0

    def tick(self, tick: Tick) -> None:
        """Count."""
        self.count += tick.mode is Mode.POLICY

    def event(self, happening: Happening) -> None:
        """Events do not matter here."""


def run() -> int:
    """Stand up and let the shipped policy drive a body that obeys; return the policy's ticks."""
    robot = load_robot(find_shipped("hardware", "quad12"))
    policy = Policy.load(find_shipped("policies", "quad12_walk"))
    assert policy.check(robot) == []
    policy.replay_golden()
    begin_s = robot.control.stand_s + 0.1
    steps = (Step(0.0, mode="stand"), Step(begin_s, mode="policy"))
    script = Script(steps, policy.contract.operator_ranges)
    counted = PolicyTicks()
    loop = Loop(robot, FakeBody(robot), policy, script, FakeClock(), armed=True, recorder=counted)
    loop.run(begin_s + (TICKS + 2) / robot.control.rate_hz)
    return counted.count
