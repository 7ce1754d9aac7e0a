"""A training run of a Gymnasium task or environment, named by `env` in its TOML instead of a robot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from robotrl.cli.algorithms import LearnParams, Spaces, build_learner
from robotrl.cli.runfile import Job, parse_job
from robotrl.errors import ConfigError
from robotrl.learn.checkpoint import Owner
from robotrl.learn.group import Group
from robotrl.learn.hindsight import Goals
from robotrl.learn.loop import Learner
from robotrl.learn.networks import Unmirrored
from robotrl.sim.boxed import BoxEnv, UnitActions
from robotrl.sim.build import Backend, WorldsParams, build_worlds
from robotrl.sim.direct import DirectEnv, direct_model, native_worlds
from robotrl.sim.goal import GoalEnv, goal_model, native_goal_worlds
from robotrl.sim.quarantine import Quarantine
from robotrl.spec.records import parse_toml, read_record, read_text
from robotrl.tasks.classic import CLASSIC
from robotrl.tasks.direct import DirectTask
from robotrl.tasks.goal import GoalTask
from robotrl.tasks.options import build_task
from robotrl.tasks.robotics import ROBOTICS

OURS, THEIRS = "robotrl/", "gym:"
"""Prefixes of `env`: a classic or goal task simulated in batch, and whatever `gymnasium.make` takes."""

Build = Callable[[WorldsParams, int, int, int, Quarantine | None], BoxEnv]
"""Backend, number of worlds, seed, threads and quarantine make an environment."""


@dataclass(frozen=True, kw_only=True)
class GymConfig(LearnParams):
    """One training run of an environment, as its TOML says it."""

    env: str
    """`robotrl/TASK` or `gym:NAME`."""
    sim: WorldsParams
    options: dict[str, object] = field(default_factory=dict)
    """Of a `robotrl/TASK`: the keyword arguments that `gymnasium.make` takes for it."""


@dataclass(frozen=True)
class _Named:
    """What `env` names: how to build it, and its task if that has goals."""

    build: Build
    goal_task: GoalTask | None = None


@dataclass(frozen=True)
class GymJob:
    """A configuration with the environment that it names."""

    config_text: str
    """The TOML as written."""
    config: GymConfig
    observation_size: int
    action_size: int
    goals: Goals | None
    """Of a task that has some."""
    robot: str
    """Of `hardware`, that does the task; empty where none does."""
    _build: Build

    @property
    def owner(self) -> Owner:
        """What its checkpoints belong to, besides the size of its networks."""
        return {"env": self.config.env, "algorithm": self.config.algorithm}

    def env(self, worlds: int, seed: int, threads: int, quarantine: Quarantine | None = None) -> UnitActions:
        """Build training worlds; theirs take neither threads nor quarantine."""
        return UnitActions(self._build(self.config.sim, worlds, seed, threads, quarantine))

    def evaluation_env(
        self, worlds: int, seed: int, threads: int, backend: Backend = "native"
    ) -> UnitActions:
        """Build worlds on the CPU, where a policy is evaluated whatever it was trained on."""
        on_cpu = WorldsParams(worlds=worlds, processes=1, backend=backend)
        return UnitActions(self._build(on_cpu, worlds, seed, threads, None))

    def learner(self, group: Group | None = None, device: str = "cpu") -> Learner:
        """Build an untrained learner of unit actions; on which device, see `Job.learner`."""
        observation, action = Unmirrored(self.observation_size), Unmirrored(self.action_size)
        ends = -torch.ones(self.action_size), torch.ones(self.action_size)
        spaces = Spaces(observation, Unmirrored(0), action, *ends, self.goals)
        return build_learner(self.config, spaces, group, device)


AnyJob = Job | GymJob
"""A training run of either kind."""


def read_training(file: Path) -> AnyJob:
    """Read a run's TOML, of a robot or of an environment.

    Raises:
        BadInputError: as `robotrl.cli.runfile.read_job` and `read_gym_job`.
    """
    return parse_training(read_text(file), file)


def parse_training(text: str, file: Path) -> AnyJob:
    """Build what a run's TOML names; `file` is where the text came from.

    Raises:
        BadInputError: as `read_training`.
    """
    table = parse_toml(text, file)
    return _gym_job(text, table, file) if "env" in table else parse_job(text, file)


def read_gym_job(file: Path) -> GymJob:
    """Read the TOML of an environment's run.

    Raises:
        ConfigError: anything unknown, missing, ill-typed, out of range or impossible.
    """
    text = read_text(file)
    return _gym_job(text, parse_toml(text, file), file)


def _gym_job(text: str, table: dict[str, Any], file: Path) -> GymJob:
    config = read_record(GymConfig, table, file=file)
    named = _named(config, file)
    task = named.goal_task
    steps, sparse = (task.episode_steps, task.sparse) if task else (0, True)
    config.check(config.sim.worlds, config.sim.processes, file, steps, sparse)
    config.sim.check(file)
    if config.sim.device != "cpu" and getattr(config.algorithm_params, "bfloat16", False):
        key = f"{config.algorithm}.bfloat16"
        raise ConfigError("is for updates on a CPU", file=file, key=key, value=True, allowed="false")
    probe = named.build(WorldsParams(worlds=1, processes=1), 1, 0, 1, None)
    goals = _goals(probe) if isinstance(probe, GoalEnv) else None
    robot = task.deployment.robot if task and task.deployment else ""
    return GymJob(text, config, probe.observation.shape[1], len(probe.action_low), goals, robot, named.build)


def _goals(env: GoalEnv) -> Goals:
    task, layout = env.task, env.layout
    return Goals(layout.achieved, layout.desired, task.compute_reward, task.episode_steps)


def _named(config: GymConfig, file: Path) -> _Named:
    name, options = config.env, (config.options, file, "options")
    if name.startswith(THEIRS):
        _refuse_options(config, file)
        return _Named(_theirs(name.removeprefix(THEIRS), config.sim, file))
    task = name.removeprefix(OURS)
    if name.startswith(OURS) and task in CLASSIC:
        return _Named(_classic(build_task(CLASSIC, task, *options)))
    if name.startswith(OURS) and task in ROBOTICS:
        wanted = build_task(ROBOTICS, task, *options)
        return _Named(_with_goals(wanted), wanted)
    known = (f"{OURS}{task}" for task in (*CLASSIC, *ROBOTICS))
    allowed = [f"{THEIRS}NAME", *known]
    raise ConfigError("there is no such environment", file=file, key="env", value=name, allowed=allowed)


def _refuse_options(config: GymConfig, file: Path) -> None:
    if config.options:
        raise ConfigError(
            "are for tasks of robotrl's own", file=file, key="options", value=config.options, allowed="none"
        )


def _classic(task: DirectTask) -> Build:
    def build(
        sim: WorldsParams, worlds: int, seed: int, threads: int, quarantine: Quarantine | None
    ) -> DirectEnv:
        if sim.backend == "native":
            return DirectEnv(task, native_worlds(task, worlds, threads), seed, quarantine)
        simulated = build_worlds(direct_model(task), worlds, threads, sim)
        return DirectEnv(task, simulated, seed, quarantine)

    return build


def _with_goals(task: GoalTask) -> Build:
    def build(
        sim: WorldsParams, worlds: int, seed: int, threads: int, quarantine: Quarantine | None
    ) -> GoalEnv:
        if sim.backend == "native":
            return GoalEnv(task, native_goal_worlds(task, worlds, threads), seed, quarantine)
        simulated = build_worlds(goal_model(task), worlds, threads, sim)
        return GoalEnv(task, simulated, seed, quarantine)

    return build


def _theirs(name: str, sim: WorldsParams, file: Path) -> Build:
    from robotrl.sim.gym import GymEnv, check_trainable

    if sim.backend != "native":
        raise ConfigError(
            "other people's environments simulate on their own",
            file=file,
            key="sim.backend",
            value=sim.backend,
            allowed="native",
        )
    if sim.threads > 1:
        raise ConfigError(
            "other people's environments have no threads",
            file=file,
            key="sim.threads",
            value=sim.threads,
            allowed="1",
        )
    check_trainable(name, file)
    return lambda _sim, worlds, seed, _threads, _quarantine: GymEnv(name, worlds, seed)
