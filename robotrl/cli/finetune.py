"""Fine-tuning: a run starts from what another one has learned, with parts held or slowed down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from robotrl.cli.algorithms import Init
from robotrl.cli.gymfile import OURS, THEIRS, AnyJob
from robotrl.cli.runfile import CONFIG, Job, check_tensors
from robotrl.errors import BadInputError, ConfigError, PolicyError
from robotrl.export.graph import PolicyGraph, evaluate
from robotrl.export.verify import GOLDEN_TOLERANCE
from robotrl.export.weights import read_actor
from robotrl.learn.checkpoint import Owner, newest_checkpoint
from robotrl.learn.collect import OnPolicy
from robotrl.learn.ddpg import Ddpg
from robotrl.learn.flat import Adam
from robotrl.learn.loop import Learner
from robotrl.learn.off_policy import OffPolicy
from robotrl.learn.playing import on_cpu
from robotrl.learn.td3 import Td3
from robotrl.spec.contract import PolicyContract, read_policy_file
from robotrl.spec.records import parse_toml
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped, shipped_names
from robotrl.tasks.task import PolicyInterface

REMEMBERED = 100_000
"""Observations that statistics taken over count for at most where some components are new to them."""


@runtime_checkable
class Tunable(Protocol):
    """A learner all of whose parameters are moved by Adam."""

    def optimizers(self) -> Mapping[str, Adam]:
        """Every optimiser, by name."""


def check_start(job: AnyJob, file: Path) -> None:
    """Refuse an `[init]` table that cannot be followed, before anything is written.

    Args:
        job: the run.
        file: where its TOML stands, for the error.

    Raises:
        BadInputError: as `hold` and `take_over`.
    """
    if job.config.init:
        learner = job.learner()
        hold(learner, job.config.init, file)
        take_over(learner, job.config.init, job)


def take_over(learner: Learner, init: Init, job: AnyJob) -> str:
    """Start from what another run has learned, or from an exported policy.

    Returns:
        A sentence that says what was taken over and what was not.

    Raises:
        BadInputError: there is no such run or policy, or it is of another robot, task or network.
    """
    start = _starting_point(init.run)
    return _from_policy(learner, start, job) if start.is_file() else _from_run(learner, start, job)


def _starting_point(name: str) -> Path:
    """The folder of a run, or a policy file given by its path, folder or shipped name."""
    if (Path(name) / CONFIG).is_file():
        return Path(name)
    try:
        return find_shipped("policies", name)
    except BadInputError as error:
        raise BadInputError(
            "is neither the folder of a run nor a policy",
            key="init.run",
            value=name,
            allowed=[f"a folder with {CONFIG}", "a policy file", *shipped_names("policies")],
        ) from error


def _from_run(learner: Learner, run: Path, job: AnyJob) -> str:
    """Take over the newest checkpoint of a run: its actor, critic and statistics.

    Optimiser, learning rate, replay and generators start anew, and so does what has another shape
    here: a critic that sees more, for one. A critic's values are of scaled rewards, so their scale goes
    with all of it or not at all.
    """
    checkpoint, live = newest_checkpoint(run), _tensors(_modules(learner))
    _check_subject(_subject(checkpoint.owner), job, checkpoint.folder)
    check_tensors(learner.actor.state_dict(), checkpoint.tensors(0, "actor"), checkpoint.folder, "actor")
    saved, fresh = checkpoint.tensors(0, "learner"), []
    for name, value in live.items():
        if name in saved and saved[name].shape == value.shape:
            value.copy_(saved[name])
        else:
            fresh.append(name)
            _take_over_statistics(name, live, saved)
    if not any(name.startswith("critic") for name in fresh):
        assert isinstance(learner, OnPolicy | OffPolicy), "there is no third kind"
        for name, value in learner.scales().items():
            value.copy_(saved.get(name, value))
    taken = f"{len(live) - len(fresh)} tensors from {checkpoint.folder}"
    return f"{taken}; of another shape, so they start anew: {', '.join(fresh)}" if fresh else taken


def _from_policy(learner: Learner, file: Path, job: AnyJob) -> str:
    """Take over an exported actor and its statistics; critic and exploration are in no policy file."""
    data, contract, _ = read_policy_file(file)
    trained = parse_toml(contract.provenance.config, file)
    _check_subject({"robot": contract.robot, "task": str(trained.get("task"))}, job, file)
    assert isinstance(job, Job), "no other run has a robot"
    _check_interface(contract, job.task.policy, file)
    live = learner.actor.state_dict()
    for name, value in read_actor(learner.actor, data, contract.normaliser_count, file).items():
        live[name].copy_(value)
    if isinstance(learner, OnPolicy):
        learner.model.critic_norm.start_from(learner.actor.norm, REMEMBERED)
    if isinstance(learner, OffPolicy):
        learner.norm.start_from(learner.actor.norm, REMEMBERED)
    if isinstance(learner, Ddpg | Td3):
        learner.policy.target.load_state_dict(learner.policy.net.state_dict())
    _check_golden(contract, PolicyGraph(job.task.policy, on_cpu(learner.actor), job.robot.sizes), file)
    return f"the actor and its statistics in {file}; the critic is new"


def _subject(owner: Owner) -> dict[str, str]:
    """What a checkpoint's learner was trained for."""
    if "env" in owner:
        return {"env": str(owner["env"]).removeprefix(OURS).removeprefix(THEIRS)}
    robot = load_robot(find_shipped("hardware", str(owner["robot"])))
    return {"robot": robot.name, "task": str(owner["task"])}


def _check_subject(trained: Mapping[str, str], job: AnyJob, file: Path) -> None:
    """Refuse what was trained for another robot, task or environment."""
    for key, here in _subject(job.owner).items():
        if (there := trained.get(key, "none")) != here:
            raise BadInputError(
                "is another one than this run's", file=file, key=key, value=there, allowed=repr(here)
            )


def _check_interface(contract: PolicyContract, here: PolicyInterface, file: Path) -> None:
    """Refuse other inputs, other memory, and other actions."""
    pairs: dict[str, tuple[object, object]] = {
        "channels": (tuple(channel.name for channel in contract.channels), here.channels),
        "memory": (
            {memory.name: len(memory.initial) for memory in contract.memory},
            {memory.name: len(memory.initial) for memory in here.memory},
        ),
        "action_scale_rad": (contract.action_scale_rad, here.action_scale_rad),
    }
    for key, (there, wanted) in pairs.items():
        if there != wanted:
            raise PolicyError(
                "is another one than this run's",
                file=file,
                key=f"contract.{key}",
                value=there,
                allowed=repr(wanted),
            )


def _check_golden(contract: PolicyContract, graph: PolicyGraph, file: Path) -> None:
    """Refuse an actor that answers the policy's recorded ticks in another way here than the file did."""
    ticks = [{**tick.channels, **tick.memory} for tick in contract.golden]
    inputs = {
        name: np.array([tick[name] for tick in ticks], np.float32).reshape(len(ticks), *shape)
        for name, shape in graph.input_shapes.items()
    }
    wanted = np.array([tick.joint_target for tick in contract.golden], np.float32)
    apart = float(np.abs(evaluate(graph, inputs)["joint_target"] - wanted).max())
    if apart > GOLDEN_TOLERANCE:
        raise PolicyError(
            "gives other joint targets here than where it was trained",
            file=file,
            key="contract.golden",
            value=f"{apart:.2g} rad apart",
            allowed="a run with the policy's own observation, activation and joint limits",
        )


def hold(learner: Learner, init: Init, file: Path) -> None:
    """Freeze parts of a learner, or give them learning rates of their own.

    Raises:
        ConfigError: it has no such part, or moves it in another way than by Adam.
    """
    factors = {**(init.lr_scale or {}), **dict.fromkeys(init.freeze, 0.0)}
    if not factors:
        return
    if not isinstance(learner, Tunable):
        raise ConfigError(
            "moves all parts alike", file=file, key="init", allowed="ppo, vpg, sac, td3 or ddpg"
        )
    optimizers = learner.optimizers().values()
    moved = {parameter for optimizer in optimizers for parameter in optimizer.flat.parameters}
    names = {
        parameter: prefix + name
        for prefix, module in _modules(learner).items()
        for name, parameter in module.named_parameters()
        if parameter in moved
    }
    for part in factors:
        if not any(_within(name, part) for name in names.values()):
            allowed = sorted({name.partition(".")[0] for name in names.values()})
            raise ConfigError(
                "is no part that the learner moves", file=file, key="init", value=part, allowed=allowed
            )
    if twice := set(init.freeze).intersection(init.lr_scale or {}):
        raise ConfigError(
            "is frozen and has a learning rate",
            file=file,
            key="init",
            value=min(twice),
            allowed="one of both",
        )

    def factor(parameter: nn.Parameter) -> float:
        fitting = [part for part in factors if _within(names.get(parameter, ""), part)]
        return factors[max(fitting, key=len)] if fitting else 1.0

    for optimizer in optimizers:
        optimizer.scale_rates(factor)


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _modules(learner: Learner) -> dict[str, nn.Module]:
    """Everything with weights or statistics, by the prefix that its tensors have in a checkpoint."""
    if isinstance(learner, OnPolicy):
        return {"": learner.model}
    assert isinstance(learner, OffPolicy), "there is no third kind"
    return {f"{name}.": module for name, module in learner.parts().items()}


def _tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Live weights and statistics."""
    return {
        prefix + name: value
        for prefix, module in modules.items()
        for name, value in module.state_dict().items()
    }


def _take_over_statistics(name: str, live: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Take over a normaliser's leading components, which are the actor's, where the others are new.

    New components would hardly move any more against the count of a whole run, so it is cut.
    """
    norm, _, kind = name.rpartition(".")
    if kind in {"mean", "var"} and f"{norm}.count" in live and name in saved:
        shared = min(len(live[name]), len(saved[name]))
        live[name][:shared].copy_(saved[name][:shared])
        saved[f"{norm}.count"].clamp_(max=REMEMBERED)  # which is taken over after its moments
