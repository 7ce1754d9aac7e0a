"""A training run of a robot: its TOML, what is built from it, and the folder that it leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from robotrl.errors import CheckpointError, ConfigError
from robotrl.learn.checkpoint import Progress, load_checkpoint
from robotrl.learn.group import Group
from robotrl.learn.networks import Actor
from robotrl.learn.ppo import Ppo, PpoParams
from robotrl.sim.build import Scene, SceneParams, build_scene
from robotrl.sim.env import Env
from robotrl.sim.quarantine import Quarantine
from robotrl.spec.records import Between, parse_toml, read_record, read_text
from robotrl.spec.robot import RobotSpec
from robotrl.tasks.task import Task
from robotrl.tasks.velocity import VelocityStep

CONFIG, CHECKPOINT, SCORES = "config.toml", "checkpoint.safetensors", "scores.json"
"""Files in a run's folder."""
BROKEN = "broken"
"""Folder in a run's folder for the states of worlds whose simulation failed."""


@dataclass(frozen=True)
class Budget:
    """How long to train; of both, exactly one is not zero."""

    seconds: float
    """Wall clock."""
    steps: int
    """Environment steps."""

    def share(self, progress: Progress) -> float:
        """How much of it is used up; 1 or more is all."""
        return progress.seconds / self.seconds if self.seconds else progress.steps / self.steps


@dataclass(frozen=True, kw_only=True)
class TrainConfig(SceneParams):
    """One training run of a robot, as its TOML says it."""

    algorithm: Literal["ppo"]
    seed: int
    seconds: Annotated[float, Between(0.1)]
    """Wall clock to train for."""
    ppo: PpoParams


@dataclass(frozen=True)
class Job:
    """A configuration with everything that it names."""

    config_text: str
    """The TOML as written."""
    config: TrainConfig
    scene: Scene

    @property
    def robot(self) -> RobotSpec:
        """The robot to train for."""
        return self.scene.robot

    @property
    def task(self) -> Task[VelocityStep]:
        """The task to train on."""
        return self.scene.task

    @property
    def budget(self) -> Budget:
        """How long to train."""
        return Budget(self.config.seconds, 0)

    def env(
        self, worlds: int, seed: int, threads: int, quarantine: Quarantine | None = None
    ) -> Env[VelocityStep]:
        """Build randomised training worlds."""
        return self.scene.env(worlds, seed, threads, quarantine)

    def evaluation_env(
        self, worlds: int, seed: int, threads: int, timestep_s: float, randomized: bool
    ) -> Env[VelocityStep]:
        """Build worlds with the full physics, of randomised or of nominal robots with exact sensors."""
        return self.scene.evaluation_env(worlds, seed, threads, timestep_s, randomized)

    def ppo(self, group: Group | None = None) -> Ppo:
        """Build an untrained learner."""
        symmetry = self.task.symmetry
        return Ppo(self.config.ppo, symmetry.observation, symmetry.privileged, symmetry.action, group)


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
        ConfigError: anything unknown, missing, ill-typed, out of range or impossible, or a run
            without a robot.
        BadInputError: no such robot.
    """
    return parse_job(read_text(file), file)


def parse_job(text: str, file: Path) -> Job:
    """Build what a run's TOML names; `file` is where the text came from.

    Raises:
        ConfigError: as `read_job`.
    """
    table = parse_toml(text, file)
    if "env" in table:
        raise ConfigError(
            "trains a Gymnasium environment, so there is no robot",
            file=file,
            key="env",
            value=table["env"],
            allowed="a run of a robot",
        )
    config = read_record(TrainConfig, table, file=file)
    return Job(text, config, build_scene(config, file))


def load_run(folder: Path) -> TrainedRun:
    """Load the newest state of a run.

    Raises:
        CheckpointError: the folder holds no run, or a damaged one.
    """
    job = read_job(config_of(folder))
    ppo, progress = load_learner(job.ppo(), folder)
    return TrainedRun(job, ppo.actor, job.config.seed, progress.steps, _scores(folder / SCORES))


def config_of(folder: Path) -> Path:
    """Return the TOML in a run's folder.

    Raises:
        CheckpointError: the folder holds no run.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            "is not the folder of a training run", file=folder, allowed=f"a folder with {CONFIG}"
        )
    return folder / CONFIG


def load_learner(ppo: Ppo, folder: Path) -> tuple[Ppo, Progress]:
    """Put the newest state of a run into its untrained learner.

    Raises:
        CheckpointError: there is none, or a damaged one.
    """
    tensors, progress = load_checkpoint(folder / CHECKPOINT)
    ppo.load_state(tensors)
    return ppo, progress


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
