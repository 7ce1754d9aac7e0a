"""What an export needs of a training run of either kind: interface, network, robot and recorded channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robotrl.cli.gymfile import GymJob, read_training
from robotrl.cli.runfile import SCORES, config_of, load_actor, load_run, read_scores, record_channels
from robotrl.cli.simulated import control_interface, record_observations, simulated_name, simulated_task
from robotrl.errors import ConfigError
from robotrl.learn.networks import Actor
from robotrl.learn.playing import play
from robotrl.sim.goal import GoalEnv
from robotrl.spec.arm import CONTROLLER, ArmSpec
from robotrl.spec.hardware import Driven, Hardware, load_hardware, rate_hz
from robotrl.spec.robot import RobotSpec
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.goal import Deployment, GoalFacts
from robotrl.tasks.task import PolicyInterface, WorldView

RANGE_WORLDS, RANGE_EPISODES = 256, 16
"""Episodes whose goals make the range of what an operator may ask for: 4,096."""

Recording = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Trained:
    """A trained run, ready to be exported."""

    interface: PolicyInterface
    actor: Actor
    robot: Driven
    recorded: Recording
    """Channel -> (T, ...) along one world."""
    command_range: tuple[tuple[float, ...], tuple[float, ...]]
    config_text: str
    seed: int
    steps: int
    scores: dict[str, float]


def read_trained(folder: Path, ticks: int) -> Trained:
    """Load the newest state of a run and record the channels of `ticks` control periods.

    Raises:
        CheckpointError: the folder holds no run, or a damaged one.
        ConfigError: the run's environment is other people's.
    """
    job = read_training(config_of(folder))
    if isinstance(job, GymJob):
        return (_simulated_run if simulated_name(job) else _goal_run)(job, folder, ticks)
    run = load_run(folder)
    task = run.task
    commands = task.command_low, task.command_high
    recorded = record_channels(run, ticks)
    made = task.policy, run.actor, run.robot, recorded, commands
    return Trained(*made, run.config_text, run.seed, run.steps, run.scores)


def _simulated_run(job: GymJob, folder: Path, ticks: int) -> Trained:
    env = job.evaluation_env(1, seed=1, threads=1)
    actor, progress = load_actor(job.learner(), job.owner, folder)
    return Trained(
        interface=control_interface(env),
        actor=actor,
        robot=simulated_task(job, env),
        recorded=record_observations(env, actor.to("cpu"), ticks),
        command_range=((), ()),
        config_text=job.config_text,
        seed=job.config.seed,
        steps=progress.steps,
        scores=read_scores(folder / SCORES),
    )


def _goal_run(job: GymJob, folder: Path, ticks: int) -> Trained:
    file = config_of(folder)
    env, deployment = deployed_env(job, file, worlds=1, seed=1)
    robot, interface = load_hardware(find_shipped("hardware", deployment.robot)), deployment.policy(env.facts)
    check_robot(robot, env.facts)
    actor, progress = load_actor(job.learner(), job.owner, folder)
    return Trained(
        interface=interface,
        actor=actor,
        robot=robot,
        recorded=_record(env, deployment, actor.to("cpu"), ticks),
        command_range=_goal_range(job, file),
        config_text=job.config_text,
        seed=job.config.seed,
        steps=progress.steps,
        scores=read_scores(folder / SCORES),
    )


def deployed_env(job: GymJob, file: Path, worlds: int, seed: int) -> tuple[GoalEnv, Deployment]:
    """Build worlds, on the CPU, of a task whose policies drive a robot.

    Raises:
        ConfigError: they are other people's.
    """
    env = job.evaluation_env(worlds, seed, threads=1).inner
    if not isinstance(env, GoalEnv) or env.task.deployment is None:
        raise ConfigError(
            "cannot be exported",
            file=file,
            key="env",
            value=job.config.env,
            allowed="a task of robotrl's own, or a run of a robot",
        )
    return env, env.task.deployment


def check_robot(robot: Hardware, facts: GoalFacts) -> None:
    """Refuse a robot.toml that does not describe the robot that the task simulates.

    Raises:
        ConfigError: other joints, another order or control rate, or limits within the task's.
    """
    if isinstance(robot, RobotSpec):
        _check_joints(robot, facts)
    if not np.isclose(rate_hz(robot) * facts.period_s, 1.0):
        raise ConfigError(
            "is not the task's",
            file=robot.file,
            key=f"{CONTROLLER if isinstance(robot, ArmSpec) else 'control'}.rate_hz",
            value=rate_hz(robot),
            allowed=f"{1 / facts.period_s:g}",
        )


def _check_joints(robot: RobotSpec, facts: GoalFacts) -> None:
    passive = robot.estimator.joints if robot.estimator else ()
    for key, names in (("joint", robot.joint_names), ("estimator.joints", passive)):
        wanted = tuple(name for name in facts.joint_qpos if (name in passive) == (names is passive))
        if names != wanted:
            raise ConfigError(
                "are not the task's", file=robot.file, key=key, value=list(names), allowed=wanted
            )
    for i, joint in enumerate(robot.joint):
        low, high = facts.control_low[i], facts.control_high[i]
        if joint.position_min_rad > low or joint.position_max_rad < high:
            limits = [joint.position_min_rad, joint.position_max_rad]
            raise ConfigError(
                "do not contain the task's targets",
                file=robot.file,
                key=f"joint[{i}] limits",
                value=limits,
                allowed=f"{low} to {high}",
            )


def channels_of_world(
    deployment: Deployment, env: GoalEnv
) -> Callable[[WorldView, Tensor], dict[str, Tensor]]:
    """Return what turns worlds and goals (B, g) into every channel (B, ...) of the task's policies."""
    sensed = deployment.channels(env.facts)
    return lambda view, goal: {**sensed(view), "goal": goal}


@torch.no_grad()
def _record(env: GoalEnv, deployment: Deployment, actor: Actor, ticks: int) -> Recording:
    rows: list[dict[str, NDArray[np.float32]]] = []
    channels, advance = channels_of_world(deployment, env), play(env, actor)
    for _ in range(ticks):
        found = channels(env.worlds, env.goal)
        rows.append({name: values[0].float().numpy().copy() for name, values in found.items()})
        advance()
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _goal_range(job: GymJob, file: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Lowest and highest value of each number of the goals that episodes draw."""
    env, _ = deployed_env(job, file, RANGE_WORLDS, seed=2)
    drawn = []
    for _ in range(RANGE_EPISODES):
        env.restart()
        drawn.append(env.goal)
    goals = torch.cat(drawn)
    return tuple(goals.amin(0).tolist()), tuple(goals.amax(0).tolist())
