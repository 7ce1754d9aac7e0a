"""A goal policy through loop, gate, driver and emulated robot: how many episodes end in success."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from robotrl.bench.episodes import GOAL_WORLDS, SEEDS, SUCCESS, success_shares
from robotrl.bench.lockstep import LockstepRobot, WitnessedBody
from robotrl.bench.starts import Starts, first_starts, succeeds
from robotrl.bench.through_arm import ArmTrials, run_arm_trials
from robotrl.cli.deployed import deployed_env
from robotrl.cli.gymfile import GymJob, parse_training
from robotrl.errors import PolicyError
from robotrl.runtime.clock import FakeClock
from robotrl.runtime.loop import Loop
from robotrl.runtime.modes import Event, Mode
from robotrl.runtime.operator import GOAL
from robotrl.runtime.policy import Policy
from robotrl.runtime.tally import Happening, LoopReport, Tick
from robotrl.sim.goal import GoalEnv
from robotrl.spec.arm import ArmSpec
from robotrl.spec.gate import Level
from robotrl.spec.hardware import Hardware, load_hardware
from robotrl.spec.robot import RobotSpec
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import Floats

SETTLE_S = 0.2
"""From standing in the default posture to the policy's first tick."""
TRAINING = "training_"
"""Prefix of what the policy's own training run scored in the training environment."""


def evaluate_through_runtime(file: Path, episodes: int) -> dict[str, float]:
    """Run whole episodes as on the robot, on the bus clock, and judge them by the emulated world's truth.

    Goals and start states are those of the training run's evaluation, and an episode has as many ticks as
    one there. Between episodes a robot with servos returns to its default posture; that it holds, and an
    arm the place where it is, when the emulated world is put into the next start state, a tick before the
    policy takes over.

    Args:
        file: a policy of a goal task.
        episodes: how many.

    Returns:
        As `robotrl.bench.episodes.score_actor` the shares of success at the last step and at any, with
        their intervals; those of the training run, prefixed; `episodes`, how many of them the gate
        `stopped`, and the `limited_ticks` of all `ticks`.

    Raises:
        PolicyError: it is no such policy, or must not drive its robot.
    """
    policy = Policy.load(file)
    job = parse_training(policy.contract.provenance.config, file)
    if not isinstance(job, GymJob):
        raise PolicyError("is of a task without goals", file=file, allowed="policies of goal tasks")
    robot = load_hardware(find_shipped("hardware", policy.contract.robot))
    if problems := policy.check(robot):
        raise PolicyError(f"does not fit {robot.file}: {'; '.join(problems)}", file=file)
    policy.replay_golden()
    env = deployed_env(job, file, 1, seed=1)[0]
    starts = _starts(job, file, episodes)
    trials, report = _trials(robot, policy, env, starts)
    trained = policy.contract.provenance.scores
    return {
        "episodes": float(episodes),
        **success_shares(torch.tensor((trials.last, trials.reached))),
        **{TRAINING + name: value for name, value in trained.items() if name.startswith(SUCCESS)},
        "stopped": float(sum(trials.stopped)),
        "ticks": float(report.ticks),
        "limited_ticks": float(report.verdicts.get(Level.LIMITING.name, 0)),
    }


def _trials(
    robot: Hardware, policy: Policy, env: GoalEnv, starts: Starts
) -> tuple[Trials | ArmTrials, LoopReport]:
    if isinstance(robot, ArmSpec):
        return run_arm_trials(robot, policy, env, starts)
    return run_trials(robot, policy, env, starts)


def run_trials(robot: RobotSpec, policy: Policy, env: GoalEnv, starts: Starts) -> tuple[Trials, LoopReport]:
    """Drive an emulated robot through episodes.

    Args:
        robot: the robot.
        policy: may drive it.
        env: one world of the task, to judge by.
        starts: how they begin.
    """
    with LockstepRobot(robot) as emulated:
        body = WitnessedBody(robot, emulated)
        trials = Trials(starts, robot, policy, env, body)
        loop = Loop(robot, body, policy, trials, FakeClock(), armed=True, recorder=trials)
        return trials, loop.run()


def _starts(job: GymJob, file: Path, episodes: int) -> Starts:
    """The first starts of the training run's evaluation, or more drawn likewise."""
    worlds = max(GOAL_WORLDS, math.ceil(episodes / len(SEEDS)))
    return first_starts([deployed_env(job, file, worlds, seed)[0] for seed in SEEDS], episodes)


class Trials:
    """The operator who asks for one goal after the other, and the recorder who sees what comes of it.

    Attributes:
        commands: the present goal.
        last: of each episode, success after its last step.
        reached: of each episode, success after any.
        stopped: of each episode, whether the gate stopped the robot.
    """

    def __init__(
        self, starts: Starts, robot: RobotSpec, policy: Policy, env: GoalEnv, body: WitnessedBody
    ) -> None:
        """Begin with the first episode.

        Args:
            starts: how they begin.
            robot: how long it takes to stand up.
            policy: asked for no goal beyond those it was trained on.
            env: one world of the task, to judge by.
            body: the robot.
        """
        self._starts, self._env, self._body = starts, env, body
        self._asked = np.clip(starts.goal, *policy.contract.operator_ranges[GOAL])
        self._begin = math.ceil((robot.control.stand_s + SETTLE_S) * robot.control.rate_hz)
        self._length = self._begin + env.task.episode_steps
        self._tick, self._fault = -1, False
        self.commands: dict[str, Floats] = {GOAL: np.full_like(self._asked[0], np.nan)}
        self.last, self.reached, self.stopped = ([False] * len(starts) for _ in range(3))

    def poll(self, elapsed_s: float) -> list[Event]:
        """Return what this tick asks for."""
        self._tick += 1
        episode, phase = divmod(self._tick, self._length)
        if self.finished():
            return [Event.LIMP] if phase == 0 else []
        if phase == 0:
            rearm, self._fault = self._fault, False
            return [Event.REARM] * rearm + [Event.STAND]
        if phase == self._begin - 1:
            self._body.place(self._starts.qpos[episode], self._starts.qvel[episode])
        if phase == self._begin:
            self.commands = {GOAL: self._asked[episode]}
            return [Event.POLICY]
        return []

    def finished(self) -> bool:
        """Return whether every episode is over."""
        return self._tick >= self._length * len(self._starts)

    def tick(self, tick: Tick) -> None:
        """Judge what the tick before has led to."""
        self._fault |= tick.verdict.level >= Level.HOLD
        episode, phase = divmod(self._tick - 1, self._length)
        if phase < self._begin or not 0 <= episode < len(self._starts):
            return
        success = self._succeeds(episode)
        self.last[episode] = success
        self.reached[episode] |= success
        if self._tick % self._length and tick.mode is not Mode.POLICY:
            self.stopped[episode] = True

    def _succeeds(self, episode: int) -> bool:
        """Whether the emulated world, as it was last seen, achieves the episode's goal."""
        return succeeds(self._env, self._body.qpos, self._body.qvel, self._starts.goal[episode])

    def event(self, happening: Happening) -> None:
        """Nothing is kept of events."""
