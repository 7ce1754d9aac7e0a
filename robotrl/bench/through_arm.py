"""Episodes of an arm through loop, gate, driver and emulated controller, judged by the emulated truth."""

from __future__ import annotations

from robotrl.bench.lockstep import LockstepArm, WitnessedArm
from robotrl.bench.starts import Starts, Trials
from robotrl.runtime.arm_loop import ArmLoop, ArmTick
from robotrl.runtime.clock import FakeClock
from robotrl.runtime.modes import Event
from robotrl.runtime.policy import Policy
from robotrl.runtime.tally import LoopReport
from robotrl.sim.goal import GoalEnv
from robotrl.spec.arm import ArmSpec

HOLD_TICKS = 1
"""Before the policy's first tick; in the last of them the world is put into its start state."""


def run_arm_trials(
    arm: ArmSpec, policy: Policy, env: GoalEnv, starts: Starts
) -> tuple[ArmTrials, LoopReport]:
    """Drive an emulated arm through episodes.

    Args:
        arm: the arm.
        policy: may drive it.
        env: one world of the task, to judge by.
        starts: how they begin.
    """
    with LockstepArm(arm) as emulated:
        body = WitnessedArm(arm, emulated)
        trials = ArmTrials(starts, HOLD_TICKS, policy, env, body)
        loop = ArmLoop(arm, body, policy, trials, FakeClock(), armed=True, watcher=trials)
        return trials, loop.run()


class ArmTrials(Trials[ArmTick]):
    """Those of an arm, which holds still for a tick when an episode begins."""

    def _between(self) -> list[Event]:
        return [Event.LIMP, *self._rearmed()]
