"""A policy through loop, gate, driver and emulated robot: does it do there what it does in training?"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from robotrl.bench.episodes import GOAL_WORLDS, SEEDS, SUCCESS, success_shares
from robotrl.bench.in_original import RATIO, TRAINING
from robotrl.bench.lockstep import LockstepRobot, WitnessedBody
from robotrl.bench.resimulate import FileDriver, Training, training_env
from robotrl.bench.starts import Starts, Trials, first_starts
from robotrl.bench.through_arm import ArmTrials, run_arm_trials
from robotrl.bench.through_walk import differences, walk_in_training, walk_through_runtime
from robotrl.cli.deployed import deployed_env
from robotrl.cli.gymfile import GymJob, parse_training
from robotrl.cli.runfile import Job
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
DIFFERS, SHOWN = "differs/", 5
"""Prefix of the channels that differ most, and how many are told."""
GOAL_EPISODES, WALKS = 200, 16
"""By default."""


def evaluate_through_runtime(file: Path, episodes: int | None = None) -> dict[str, float]:
    """Run whole episodes as on the robot, on the bus clock, and judge them by the emulated world's truth.

    Start states and goals, or velocity commands, are those of an evaluation in the training environment,
    there without randomisation and on flat ground, and an episode has as many steps as one there. Between
    episodes a robot with servos returns to its default posture; that it holds, and an arm the place where
    it is, when the emulated world is put into the next start state, a tick before the policy takes over.

    Args:
        file: a policy of a goal task or of walking.
        episodes: how many; by default 200 for a goal and 16 of 20 seconds each for walking.

    Returns:
        `episodes`, how many of them the gate `stopped`, and the `limited_ticks` of all `ticks`. Of a goal
        task as `robotrl.bench.episodes.score_actor` the shares of success at the last step and at any,
        with their intervals; of walking `return_mean` and `survived_share`. Both of them in training too,
        prefixed. `return_ratio` is the mean return, or the successes at the last step, over those in
        training. Of walking also the channels whose values are furthest from those in training, prefixed
        by `DIFFERS`, as `robotrl.bench.through_walk.differences` tells.

    Raises:
        PolicyError: it is no such policy, or must not drive its robot.
    """
    policy = Policy.load(file)
    if not policy.contract.provenance.config:
        raise PolicyError("does not say how it was trained", file=file, key="contract.provenance.config")
    job = parse_training(policy.contract.provenance.config, file)
    robot = load_hardware(find_shipped("hardware", policy.contract.robot))
    if problems := policy.check(robot):
        raise PolicyError(f"does not fit {robot.file}: {'; '.join(problems)}", file=file)
    policy.replay_golden()
    if isinstance(job, GymJob):
        if SUCCESS[0] not in policy.contract.provenance.scores:
            raise PolicyError("was not scored in training", file=file, key="contract.provenance.scores")
        return _reach(job, robot, policy, file, episodes or GOAL_EPISODES)
    assert isinstance(robot, RobotSpec)  # whose policy walks
    return _walk(job, robot, policy, file, episodes or WALKS)


def _reach(job: GymJob, robot: Hardware, policy: Policy, file: Path, episodes: int) -> dict[str, float]:
    env = deployed_env(job, file, 1, seed=1)[0]
    starts = _starts(job, file, episodes)
    trials, report = _trials(robot, policy, env, starts)
    trained = policy.contract.provenance.scores
    shares = success_shares(torch.tensor((trials.last, trials.reached)))
    return {
        "episodes": float(episodes),
        **({RATIO: shares[SUCCESS[0]] / trained[SUCCESS[0]]} if trained[SUCCESS[0]] > 0 else {}),
        **shares,
        **{TRAINING + name: value for name, value in trained.items() if name.startswith(SUCCESS)},
        **_stops(sum(trials.stopped), report),
    }


def _walk(job: Job, robot: RobotSpec, policy: Policy, file: Path, episodes: int) -> dict[str, float]:
    env = training_env(
        Training(str(file), job, lambda worlds: FileDriver(file, worlds)), episodes, randomized=False
    )
    walked = walk_in_training(env, file)
    walks, report = walk_through_runtime(robot, policy, env, walked, ready_ticks(robot))
    far = list(differences(walks.seen, walked.walks.seen).items())[:SHOWN]
    trained_mean = float(walked.walks.returns.mean())
    return {
        "episodes": float(episodes),
        RATIO: float(walks.returns.mean()) / trained_mean,
        "return_mean": float(walks.returns.mean()),
        "survived_share": float(walks.survived.mean()),
        TRAINING + "return_mean": trained_mean,
        TRAINING + "survived_share": float(walked.walks.survived.mean()),
        **_stops(int((~walks.survived).sum()), report),
        **{DIFFERS + name: distance for name, distance in far},
    }


def _stops(stopped: int, report: LoopReport) -> dict[str, float]:
    return {
        "stopped": float(stopped),
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
