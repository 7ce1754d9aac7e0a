"""A training run: its TOML, what is built from it, and the folder that it leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from robotrl.errors import CheckpointError
from robotrl.learn.checkpoint import load_checkpoint
from robotrl.learn.group import Group
from robotrl.learn.networks import Actor
from robotrl.learn.ppo import Ppo, PpoParams
from robotrl.sim.env import Env
from robotrl.sim.model import position_model
from robotrl.sim.native import NativeWorlds
from robotrl.sim.randomize import RandomizeParams, Randomizer, nominal_params
from robotrl.sim.sensing import EXACT, Sensing, SensingParams
from robotrl.spec.records import Between, parse_toml, read_record, read_text
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.task import Task
from robotrl.tasks.velocity import VelocityParams, VelocityStep, velocity_task

CONFIG, CHECKPOINT, SCORES = "config.toml", "checkpoint.safetensors", "scores.json"
"""Files in a run's folder."""


@dataclass(frozen=True)
class SimParams:
    """The `[sim]` table of a run."""

    worlds: Annotated[int, Between(1)]
    """Over all processes together."""
    timestep_s: Annotated[float, Between(1e-4, 0.05)]
    processes: Annotated[int, Between(1, 256)]
    """Each steps its share of the worlds on one thread and averages gradients with the others."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run, as its TOML says it."""

    robot: str
    task: Literal["velocity"]
    algorithm: Literal["ppo"]
    seed: int
    seconds: Annotated[float, Between(0.1)]
    """Wall clock to train for."""
    sim: SimParams
    velocity: VelocityParams
    sensing: SensingParams
    randomize: RandomizeParams
    ppo: PpoParams


@dataclass(frozen=True)
class Job:
    """A configuration with everything that it names."""

    config_text: str
    """The TOML as written."""
    config: TrainConfig
    robot: RobotSpec
    task: Task[VelocityStep]

    def env(self, worlds: int, seed: int, threads: int) -> Env[VelocityStep]:
        """Build randomised training worlds."""
        simulated = NativeWorlds(position_model(self.robot, self.config.sim.timestep_s), worlds, threads)
        return self._join(simulated, self.config.randomize, self.config.sensing, seed)

    def evaluation_env(
        self, worlds: int, seed: int, threads: int, timestep_s: float, randomized: bool
    ) -> Env[VelocityStep]:
        """Build worlds with the full physics, of randomised or of nominal robots with exact sensors."""
        simulated = NativeWorlds(position_model(self.robot, timestep_s), worlds, threads)
        if randomized:
            return self._join(simulated, self.config.randomize, self.config.sensing, seed)
        return self._join(simulated, nominal_params(simulated.model), EXACT, seed)

    def ppo(self, group: Group | None = None) -> Ppo:
        """Build an untrained learner."""
        symmetry = self.task.symmetry
        return Ppo(self.config.ppo, symmetry.observation, symmetry.privileged, symmetry.action, group)

    def _join(
        self, worlds: NativeWorlds, ranges: RandomizeParams, sensing: SensingParams, seed: int
    ) -> Env[VelocityStep]:
        return Env(
            self.task,
            worlds,
            Randomizer(worlds, ranges),
            Sensing(self.robot, sensing, worlds.num),
            self.robot.control.rate_hz,
            seed,
        )


@dataclass(frozen=True)
class TrainedRun:
    """What a run's folder holds."""

    job: Job
    actor: Actor
    seed: int
    steps: int
    scores: dict[str, float]

    @property
    def robot(self) -> RobotSpec:
        """The robot it was trained for."""
        return self.job.robot

    @property
    def task(self) -> Task[VelocityStep]:
        """The task it was trained on."""
        return self.job.task

    @property
    def config_text(self) -> str:
        """The run's TOML."""
        return self.job.config_text


def read_job(file: Path) -> Job:
    """Read a run's TOML and the robot that it names.

    Raises:
        ConfigError: anything unknown, missing, ill-typed, out of range or impossible.
        BadInputError: no such robot.
    """
    return parse_job(read_text(file), file)


def parse_job(text: str, file: Path) -> Job:
    """Build what a run's TOML names; `file` is where the text came from.

    Raises:
        ConfigError: as `read_job`.
    """
    config = read_record(TrainConfig, parse_toml(text, file), file=file)
    robot = load_robot(find_shipped("hardware", config.robot))
    model = position_model(robot, config.sim.timestep_s)
    foot_radius_m = float(model.geom("FL_foot").size[0])
    return Job(text, config, robot, velocity_task(robot, config.velocity, foot_radius_m))


def load_run(folder: Path) -> TrainedRun:
    """Load the newest state of a run.

    Raises:
        CheckpointError: the folder holds no run, or a damaged one.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            "is not the folder of a training run", file=folder, allowed=f"a folder with {CONFIG}"
        )
    job = read_job(folder / CONFIG)
    tensors, progress = load_checkpoint(folder / CHECKPOINT)
    ppo = job.ppo()
    ppo.load_state(tensors)
    return TrainedRun(job, ppo.actor, job.config.seed, progress.steps, _scores(folder / SCORES))


def _scores(file: Path) -> dict[str, float]:
    """Scores of a finished run; none while it is not finished."""
    if not file.is_file():
        return {}
    try:
        return {name: float(value) for name, value in json.loads(file.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"holds no scores ({error})", file=file) from error


def record_channels(run: TrainedRun, ticks: int) -> dict[str, NDArray[np.float32]]:
    """Record one randomised robot's channels over `ticks` control periods of its own policy: (T, ...)."""
    env = run.job.evaluation_env(1, seed=1, threads=1, timestep_s=0.005, randomized=True)
    rows: list[dict[str, NDArray[np.float32]]] = []
    for _ in range(ticks):
        rows.append({name: env.channels[name][0].numpy().copy() for name in run.task.policy.channels})
        with torch.no_grad():
            env.step(run.actor(env.observation))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
