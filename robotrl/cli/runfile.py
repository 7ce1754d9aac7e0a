"""A training run of a robot: its TOML, what is built from it, and the folder that it leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robotrl.cli.algorithms import LearnParams, Spaces, build_learner
from robotrl.errors import CheckpointError, ConfigError
from robotrl.learn.actor_critic import OnPolicyParams
from robotrl.learn.checkpoint import Owner, Progress, newest_checkpoint
from robotrl.learn.group import Group
from robotrl.learn.loop import Learner
from robotrl.learn.networks import Actor
from robotrl.learn.playing import play
from robotrl.sim.build import Scene, SceneParams, build_scene
from robotrl.sim.env import Env
from robotrl.sim.quarantine import Quarantine
from robotrl.spec.records import parse_toml, read_record, read_text
from robotrl.spec.robot import RobotSpec
from robotrl.tasks.task import Task
from robotrl.tasks.velocity import VelocityStep

CONFIG, SCORES = "config.toml", "scores.json"
"""Files in a run's folder."""
BROKEN = "broken"
"""Folder in a run's folder for the states of worlds whose simulation failed."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(SceneParams, LearnParams):
    """One training run of a robot, as its TOML says it."""


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
    def owner(self) -> Owner:
        """What its checkpoints belong to, besides the size of its networks."""
        return {"robot": self.config.robot, "task": self.config.task, "algorithm": self.config.algorithm}

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

    def learner(self, group: Group | None = None, device: str = "cpu") -> Learner:
        """Build an untrained learner: on the CPU unless it is to train elsewhere, to load a network into."""
        symmetry = self.task.symmetry
        spaces = Spaces(symmetry.observation, symmetry.privileged, symmetry.action, *self._action_ends())
        return build_learner(self.config, spaces, group, device)

    def _action_ends(self) -> tuple[Tensor, Tensor]:
        """The actions (n,) that reach the joints' limits."""
        robot, scale = self.robot, self.task.policy.action_scale_rad
        default = torch.tensor(robot.default_rad)
        low, high = torch.tensor(robot.position_min_rad), torch.tensor(robot.position_max_rad)
        return (low - default) / scale, (high - default) / scale


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
    config.check(config.sim.worlds, config.sim.processes, file)
    if isinstance(params := config.algorithm_params, OnPolicyParams):
        params.check_even(file)  # every task of a robot has a reflection
    return Job(text, config, build_scene(config, file))


def load_run(folder: Path) -> TrainedRun:
    """Load the newest state of a run.

    Raises:
        CheckpointError: the folder holds no run, or a damaged one.
    """
    job = read_job(config_of(folder))
    actor, progress = load_actor(job.learner(), job.owner, folder)
    return TrainedRun(job, actor, job.config.seed, progress.steps, read_scores(folder / SCORES))


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


def load_actor(learner: Learner, owner: Owner, folder: Path) -> tuple[Actor, Progress]:
    """Put the newest network of a run into the actor of its untrained learner, and take that out.

    Args:
        learner: untrained.
        owner: what the checkpoint must belong to.
        folder: of the run.

    Raises:
        CheckpointError: there is none, or one of another task or network.
    """
    checkpoint = newest_checkpoint(folder)
    checkpoint.check(owner)
    tensors, actor = checkpoint.tensors(0, "actor"), learner.actor
    check_tensors(actor.state_dict(), tensors, checkpoint.folder, "actor")
    actor.load_state_dict(tensors)
    return actor, checkpoint.progress


def check_tensors(live: Mapping[str, Tensor], saved: Mapping[str, Tensor], folder: Path, part: str) -> None:
    """Refuse the tensors of another network.

    Args:
        live: the network's, by name.
        saved: those of a checkpoint.
        folder: of the checkpoint, for the error.
        part: of the checkpoint, for the error.

    Raises:
        CheckpointError: a name that only one of both has, or another shape.
    """
    for name in [*live, *saved]:
        shapes = [list(tensors[name].shape) if name in tensors else None for tensors in (saved, live)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                "is the checkpoint of another network",
                file=folder,
                key=f"{part}.{name}",
                value=shapes[0] or "none",
                allowed=str(shapes[1] or "none"),
            )


def read_scores(file: Path) -> dict[str, float]:
    """Read the scores of a finished run; none while it is not finished.

    Raises:
        CheckpointError: the file holds something else.
    """
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
    advance = play(env, run.actor)
    for _ in range(ticks):
        rows.append({name: env.channels[name][0].numpy().copy() for name in run.task.policy.channels})
        advance()
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
