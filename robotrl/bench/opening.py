"""Turns what a user names (a run, policy, configuration or dump) into a playback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robotrl.bench.controls import ControlDriver
from robotrl.bench.episodes import trained_actor, trained_job
from robotrl.bench.evaluate import PolicyDriver
from robotrl.bench.playback import (
    Advance,
    DirectPlayer,
    GoalPlayer,
    Player,
    Steppable,
    VelocityPlayer,
    random_actions,
    trained_actions,
    zero_actions,
)
from robotrl.bench.postmortem import DumpPlayer
from robotrl.cli.algorithms import MAX_SEED
from robotrl.cli.gymfile import THEIRS, GymJob, read_training
from robotrl.cli.runfile import CONFIG, load_actor
from robotrl.cli.simulated import simulated_name
from robotrl.errors import BadInputError
from robotrl.sim.quarantine import load_dump
from robotrl.spec.shipped import find_shipped, shipped_names

if TYPE_CHECKING:
    from robotrl.bench.steering import Steering
    from robotrl.cli.actions import Actions
    from robotrl.sim.boxed import UnitActions
    from robotrl.sim.env import Env
    from robotrl.tasks.velocity import VelocityStep

KINDS = "a run's folder, a policy (.onnx), a run's file (.toml), a dump (.npz)"


def open_player(what: str, actions: Actions | None, seed: int, steering: Steering) -> Player:
    """Find out what is named, and build its playback.

    Args:
        what: a run's folder, a policy file or its folder, a run's TOML, a quarantine dump, or the name of
            a shipped policy or configuration.
        actions: None is trained where there is a policy, otherwise zero.
        seed: of the world's randomisation and of random actions.
        steering: velocity commands, for tasks that take them.

    Raises:
        BadInputError: nothing of this kind, or it has no such actions, or the seed is out of range.
    """
    if not 0 <= seed <= MAX_SEED:
        raise BadInputError("is no seed", key="--seed", value=seed, allowed=f"0 to {MAX_SEED}")
    path = Path(what)
    if path.suffix == ".npz":
        if actions:
            raise _refused(what, actions, ["none of them, since a dump plays its own"])
        return DumpPlayer(load_dump(path))
    if (path / CONFIG).is_file():
        return _of_run(path, actions, seed, steering)
    if path.suffix == ".onnx" or (path / "policy.onnx").is_file() or what in shipped_names("policies"):
        return _of_policy(find_shipped("policies", what), actions, seed, steering)
    if path.suffix == ".toml" or what in shipped_names("configs"):
        return _of_config(find_shipped("configs", what), actions, seed, steering)
    known = [*shipped_names("policies"), *shipped_names("configs")]
    raise BadInputError("is nothing that can be shown", value=what, allowed=[KINDS, *known])


def _of_run(folder: Path, actions: Actions | None, seed: int, steering: Steering) -> Player:
    job = read_training(folder / CONFIG)
    actor = load_actor(job.learner(), job.owner, folder)[0]
    drive = _chosen(actions, seed) or trained_actions(actor)
    return (
        _gym_player(job, drive, seed)
        if isinstance(job, GymJob)
        else VelocityPlayer(job, drive, seed, steering)
    )


def _of_policy(file: Path, actions: Actions | None, seed: int, steering: Steering) -> Player:
    def as_on_the_robot(env: Env[VelocityStep]) -> Advance:
        return PolicyDriver(env, file).tick

    job, chosen = trained_job(file), _chosen(actions, seed)
    if isinstance(job, GymJob) and simulated_name(job):
        return _gym_player(job, chosen or (lambda env: ControlDriver(job, env, file).tick), seed)
    if isinstance(job, GymJob):
        return _gym_player(job, chosen or trained_actions(trained_actor(job, file)), seed)
    return VelocityPlayer(job, chosen or as_on_the_robot, seed, steering)


def _of_config(file: Path, actions: Actions | None, seed: int, steering: Steering) -> Player:
    if actions == "trained":
        raise _refused(
            file, actions, ["zero", "random", "and for trained ones name a run's folder or a policy"]
        )
    job, drive = read_training(file), _chosen(actions, seed) or zero_actions
    return (
        _gym_player(job, drive, seed)
        if isinstance(job, GymJob)
        else VelocityPlayer(job, drive, seed, steering)
    )


def _gym_player(job: GymJob, drive: Callable[[UnitActions], Advance], seed: int) -> Player:
    if job.config.env.startswith(THEIRS):
        raise BadInputError(
            "other people's environments draw themselves",
            key="env",
            value=job.config.env,
            allowed="robotrl/TASK",
        )
    player = DirectPlayer if job.goals is None else GoalPlayer
    return player(job.evaluation_env(1, seed, threads=1), drive)


def _chosen(actions: Actions | None, seed: int) -> Callable[[Steppable], Advance] | None:
    """Zero or random actions where they were asked for."""
    if actions == "zero":
        return zero_actions
    return random_actions(seed) if actions == "random" else None


def _refused(what: object, wanted: str, allowed: Sequence[str]) -> BadInputError:
    return BadInputError("it has no such actions", file=what, key="--actions", value=wanted, allowed=allowed)
