"""Episodes of an arm through loop, gate, driver and emulated controller, judged by the emulated truth."""

from __future__ import annotations

import numpy as np

from robotrl.bench.lockstep import LockstepArm, WitnessedArm
from robotrl.bench.starts import Starts, succeeds
from robotrl.runtime.arm_loop import ArmLoop, ArmTick
from robotrl.runtime.clock import FakeClock
from robotrl.runtime.modes import Event, Mode
from robotrl.runtime.operator import GOAL
from robotrl.runtime.policy import Policy
from robotrl.runtime.tally import LoopReport
from robotrl.sim.goal import GoalEnv
from robotrl.spec.arm import ArmSpec
from robotrl.spec.gate import Level
from robotrl.spec.state import Floats


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
        trials = ArmTrials(starts, policy, env, body)
        loop = ArmLoop(arm, body, policy, trials, FakeClock(), armed=True, watcher=trials)
        return trials, loop.run()


class ArmTrials:
    """The operator who asks for one goal after the other, and the watcher who sees what comes of it.

    An episode begins with a tick of holding still, after whose read the world is put into its start state;
    then the policy has as many ticks as in training.

    Args:
        starts: how they begin.
        policy: asked for no goal beyond those it was trained on.
        env: one world of the task, to judge by.
        body: the arm.

    Attributes:
        commands: the present goal.
        last: of each episode, success after its last step.
        reached: of each episode, success after any.
        stopped: of each episode, whether the gate stopped the arm.
    """

    def __init__(self, starts: Starts, policy: Policy, env: GoalEnv, body: WitnessedArm) -> None:
        self._starts, self._env, self._body = starts, env, body
        self._asked = np.clip(starts.goal, *policy.contract.operator_ranges[GOAL])
        self._length = 1 + env.task.episode_steps
        self._tick, self._fault = -1, False
        self.commands: dict[str, Floats] = {GOAL: np.full_like(self._asked[0], np.nan)}
        self.last, self.reached, self.stopped = ([False] * len(starts) for _ in range(3))

    def poll(self, elapsed_s: float) -> list[Event]:
        """Return what this tick asks for."""
        self._tick += 1
        episode, phase = divmod(self._tick, self._length)
        if phase == 0:
            return self._between(episode)
        if phase == 1:
            self.commands = {GOAL: self._asked[episode]}
            return [Event.POLICY]
        return []

    def _between(self, episode: int) -> list[Event]:
        """Hold still, and have the world put into the next start state."""
        rearm, self._fault = self._fault, False
        if not self.finished():
            self._body.place(self._starts.qpos[episode], self._starts.qvel[episode])
        return [Event.LIMP] + [Event.REARM] * rearm

    def finished(self) -> bool:
        """Return whether every episode is over."""
        return self._tick >= self._length * len(self._starts)

    def tick(self, tick: ArmTick) -> None:
        """Judge what the tick before has led to."""
        self._fault |= tick.verdict.level >= Level.HOLD
        episode, phase = divmod(self._tick - 1, self._length)
        if phase < 1:
            return
        success = succeeds(self._env, self._body.qpos, self._body.qvel, self._starts.goal[episode])
        self.last[episode] = success
        self.reached[episode] |= success
        if self._tick % self._length and tick.mode is not Mode.POLICY:
            self.stopped[episode] = True
