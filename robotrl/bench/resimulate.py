"""The training simulation under a recording's commands, from the recorded start posture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import mujoco
import numpy as np
import torch
from torch import Tensor

from robotrl.bench.evaluate import TIMESTEP_S
from robotrl.bench.playback import ENDLESS_S
from robotrl.bench.stretch import Stretch
from robotrl.cli.runfile import CONFIG, Job, load_run, parse_job
from robotrl.errors import ConfigError
from robotrl.learn.networks import Actor
from robotrl.learn.playing import Playing
from robotrl.runtime.policy import Policy
from robotrl.sim.build import build_scene
from robotrl.sim.env import Env
from robotrl.spec.robot import RobotSpec
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.task import PolicyInterface
from robotrl.tasks.velocity import LEGS, VelocityStep

Tensors = Mapping[str, Tensor]
SEED = 5
DROP_M = 1.0
"""Where a posture is held while its lowest foot is looked for."""


class Driver(Protocol):
    """A policy in B worlds at once, with its memory."""

    def step(self, channels: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        """Channels (B, ...) -> joint targets (B, n) rad, and what it remembers (B, ...) afterwards."""
        ...


class FileDriver:
    """A policy file, as the robot runs it."""

    def __init__(self, file: Path, worlds: int) -> None:
        self._policies = [Policy.load(file) for _ in range(worlds)]

    def step(self, channels: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Driver`."""
        given = {name: values.numpy() for name, values in channels.items()}
        targets = [
            policy.step({name: values[i] for name, values in given.items()})
            for i, policy in enumerate(self._policies)
        ]
        memories = [policy.memory for policy in self._policies]
        memory = {name: torch.from_numpy(np.stack([m[name] for m in memories])) for name in memories[0]}
        return torch.from_numpy(np.stack(targets)).float(), memory


class ActorDriver:
    """A training run's newest network."""

    def __init__(self, interface: PolicyInterface, actor: Actor, worlds: int) -> None:
        self._interface = interface
        self._playing = Playing(actor, torch.zeros(worlds, actor.memory_size))
        self._memory = initial_memory(interface, worlds)

    def step(self, channels: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Driver`."""
        policy = self._interface
        action = self._playing(policy.observe(channels, self._memory))
        self._memory = policy.advance(channels, self._memory, action)
        return policy.target(channels, action), self._memory


def initial_memory(interface: PolicyInterface, worlds: int) -> dict[str, Tensor]:
    """What a policy remembers at its first step, (B, ...)."""
    return {m.name: torch.tensor(m.initial).repeat(worlds, 1) for m in interface.memory}


@dataclass(frozen=True)
class Training:
    """A training run, or a policy that remembers its own.

    Attributes:
        name: as it was asked for.
        job: robot, task and simulation.
        driver: number of worlds -> what drives them.
    """

    name: str
    job: Job
    driver: Callable[[int], Driver]


def find_training(name: str, robot: RobotSpec) -> Training:
    """Return what a recording is to be compared with.

    Args:
        name: folder of a training run; or policy file, its folder, or the name of a shipped policy, each of
            which holds its training's configuration.
        robot: the recorded one.

    Raises:
        BadInputError: there is no such thing.
        ConfigError: it is of another robot, or not about walking.
    """
    if (Path(name) / CONFIG).is_file():
        run = load_run(Path(name))
        interface, actor = run.task.policy, run.actor
        training = Training(name, run.job, lambda worlds: ActorDriver(interface, actor, worlds))
    else:
        file = find_shipped("policies", name)
        job = parse_job(Policy.load(file).contract.provenance.config, file)
        training = Training(name, job, lambda worlds: FileDriver(file, worlds))
    trained = training.job.robot
    for key, found, wanted in (
        ("joint", trained.joint_names, robot.joint_names),
        ("control.rate_hz", trained.control.rate_hz, robot.control.rate_hz),
    ):
        if found != wanted:
            raise ConfigError(
                "is not that of the recording", file=name, key=key, value=found, allowed=f"{wanted}"
            )
    return training


def training_env(training: Training, worlds: int, *, randomized: bool) -> Env[VelocityStep]:
    """Build worlds of the training's robots on flat ground, with the full physics and without pushes."""
    config = training.job.config
    calm = dataclasses.replace(config.randomize, push_every_s=0.0)
    scene = build_scene(dataclasses.replace(config, terrain=None, randomize=calm), Path(training.name))
    return scene.evaluation_env(worlds, SEED, threads=1, timestep_s=TIMESTEP_S, randomized=randomized)


@dataclass(frozen=True)
class Rollout:
    """What B worlds did in T steps; a world that has fallen is NaN from then on.

    Attributes:
        channels: name -> (T, B, ...)
        target_rad: (T, B, n)
        steps: the task's record of every step, (B, ...) each.
        upright: (T, B) whether the world has not fallen yet.
    """

    channels: Tensors
    target_rad: Tensor
    steps: tuple[VelocityStep, ...]
    upright: Tensor


class Resimulation:
    """Worlds under a stretch's commands.

    Args:
        env: the worlds; their task is changed.
        stretch: start and commands.
    """

    def __init__(self, env: Env[VelocityStep], stretch: Stretch) -> None:
        self._env = env
        self._commands = torch.from_numpy(stretch.channels["velocity_command"])
        self._command = self._commands[0]
        qpos, qvel = start_state(env.worlds.world_model(0), stretch)
        env.task = dataclasses.replace(
            env.task,
            episode_s=ENDLESS_S,
            command_every_s=(0.0, 0.0),  # asked for at every step
            sample_command=lambda count, _: self._command.expand(count, 3),
            initial_memory=lambda count, _: initial_memory(env.task.policy, count),
            reset=lambda count, _: (qpos.expand(count, -1), qvel.expand(count, -1)),
        )
        env.restart(spread_ages=False)

    def run(self, driver: Driver) -> Rollout:
        """Follow all commands, or until every world has fallen."""
        env, upright = self._env, torch.ones(self._env.num, dtype=torch.bool)
        channels, targets, steps, standing = [], [], [], []
        for following in [*self._commands[1:], self._commands[-1]]:
            channels.append({name: values.clone() for name, values in env.channels.items()})
            target, memory = driver.step(channels[-1])
            self._command = following
            transition = env.follow(target, memory)
            upright = upright & ~transition.terminated
            targets.append(target)
            steps.append(transition.step)
            standing.append(upright)
            if not upright.any():
                break
        stacked = {name: torch.stack([row[name] for row in channels]) for name in channels[0]}
        return Rollout(stacked, torch.stack(targets), tuple(steps), torch.stack(standing))


def start_state(model: mujoco.MjModel, stretch: Stretch) -> tuple[Tensor, Tensor]:
    """Return qpos (nq,), qvel (nv,) of the robot as it was measured at first, its lowest foot on the ground.

    Its own velocity is not measured and taken for zero: a policy starts from standing.
    """
    first = {name: values[0].astype(np.float64) for name, values in stretch.channels.items()}
    quat = first["imu_quat"] / np.linalg.norm(first["imu_quat"])
    data = mujoco.MjData(model)
    data.qpos[:] = np.concatenate(([0.0, 0.0, DROP_M], quat, first["joint_pos"]))
    data.qvel[:] = np.concatenate((np.zeros(3), first["imu_gyro"], first["joint_vel"]))
    mujoco.mj_kinematics(model, data)
    feet = [model.geom(f"{leg}_foot").id for leg in LEGS]
    data.qpos[2] -= min(data.geom_xpos[foot, 2] - model.geom_size[foot, 0] for foot in feet)
    return torch.from_numpy(data.qpos.copy()).float(), torch.from_numpy(data.qvel.copy()).float()
