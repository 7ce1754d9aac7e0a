"""A goal policy through loop, gate, driver and emulated robot: how many episodes end in success."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from robotrl.bench.episodes import GOAL_WORLDS, SEEDS, SUCCESS, success_shares
from robotrl.bench.lockstep import LockstepRobot, WitnessedBody
from robotrl.bench.starts import Starts, Trials, first_starts
from robotrl.bench.through_arm import ArmTrials, run_arm_trials
from robotrl.cli.deployed import deployed_env
from robotrl.cli.gymfile import GymJob, parse_training
from robotrl.errors import PolicyError
from robotrl.runtime.clock import FakeClock
from robotrl.runtime.loop import Loop
from robotrl.runtime.modes import Event
from robotrl.runtime.policy import Policy
from robotrl.runtime.tally import Happening, LoopReport, Tick
from robotrl.sim.goal import GoalEnv
from robotrl.spec.arm import ArmSpec
from robotrl.spec.gate import Level
from robotrl.spec.hardware import Hardware, load_hardware
from robotrl.spec.robot import RobotSpec
from robotrl.spec.shipped import find_shipped

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
) -> tuple[JointTrials | ArmTrials, LoopReport]:
    if isinstance(robot, ArmSpec):
        return run_arm_trials(robot, policy, env, starts)
    return run_trials(robot, policy, env, starts)


def run_trials(
    robot: RobotSpec, policy: Policy, env: GoalEnv, starts: Starts
) -> tuple[JointTrials, LoopReport]:
    """Drive an emulated robot through episodes.

    Args:
        robot: the robot.
        policy: may drive it.
        env: one world of the task, to judge by.
        starts: how they begin.
    """
    with LockstepRobot(robot) as emulated:
        body = WitnessedBody(robot, emulated)
        trials = JointTrials(starts, ready_ticks(robot), policy, env, body)
        loop = Loop(robot, body, policy, trials, FakeClock(), armed=True, recorder=trials)
        return trials, loop.run()


def ready_ticks(robot: RobotSpec) -> int:
    """Ticks until the robot has stood up and come to rest."""
    return math.ceil((robot.control.stand_s + SETTLE_S) / robot.control.period_s)


def _starts(job: GymJob, file: Path, episodes: int) -> Starts:
    """The first starts of the training run's evaluation, or more drawn likewise."""
    worlds = max(GOAL_WORLDS, math.ceil(episodes / len(SEEDS)))
    return first_starts([deployed_env(job, file, worlds, seed)[0] for seed in SEEDS], episodes)


class JointTrials(Trials[Tick]):
    """Those of a robot with servos, which stands in its default posture when an episode begins."""

    def _between(self) -> list[Event]:
        return [Event.LIMP] if self.finished() else [*self._rearmed(), Event.STAND]

    def event(self, happening: Happening) -> None:
        """Nothing is kept of events."""
