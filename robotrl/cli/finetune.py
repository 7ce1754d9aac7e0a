"""Fine-tuning: a run starts from what another one has learned, with parts held or slowed down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from robotrl.cli.algorithms import Init
from robotrl.cli.runfile import check_tensors, config_of
from robotrl.errors import ConfigError
from robotrl.learn.checkpoint import newest_checkpoint
from robotrl.learn.collect import OnPolicy
from robotrl.learn.flat import Adam
from robotrl.learn.loop import Learner
from robotrl.learn.off_policy import OffPolicy

REMEMBERED = 100_000
"""Observations that statistics taken over count for at most where some components are new to them."""


@runtime_checkable
class Tunable(Protocol):
    """A learner all of whose parameters are moved by Adam."""

    def optimizers(self) -> Mapping[str, Adam]:
        """Every optimiser, by name."""


def take_over(learner: Learner, run: Path) -> str:
    """Start from the newest checkpoint of another run: its actor, critic and statistics.

    Optimiser, learning rate, replay and generators start anew, and so does what has another shape
    here: a critic that sees more, for one.

    Returns:
        A sentence that says what was taken over and what was not.

    Raises:
        CheckpointError: there is no such run, or its actor is of another task or network.
    """
    config_of(run)
    checkpoint, live = newest_checkpoint(run), _tensors(_modules(learner))
    check_tensors(learner.actor.state_dict(), checkpoint.tensors(0, "actor"), checkpoint.folder, "actor")
    saved, fresh = checkpoint.tensors(0, "learner"), []
    for name, value in live.items():
        if name in saved and saved[name].shape == value.shape:
            value.copy_(saved[name])
        else:
            fresh.append(name)
            _take_over_statistics(name, live, saved)
    taken = f"{len(live) - len(fresh)} tensors from {checkpoint.folder}"
    return f"{taken}; of another shape, so they start anew: {', '.join(fresh)}" if fresh else taken


def hold(learner: Learner, init: Init, file: Path) -> None:
    """Freeze parts of a learner, or give them learning rates of their own.

    Raises:
        ConfigError: it has no such part, or moves it in another way than by Adam.
    """
    factors = {**(init.lr_scale or {}), **dict.fromkeys(init.freeze, 0.0)}
    if not factors:
        return
    if not isinstance(learner, Tunable):
        raise ConfigError("moves all parts alike", file=file, key="init", allowed="ppo, sac, td3 or ddpg")
    names = {
        parameter: name
        for prefix, module in _modules(learner).items()
        for name, parameter in ((prefix + name, p) for name, p in module.named_parameters())
    }
    for part in factors:
        if not any(_within(name, part) for name in names.values()):
            allowed = sorted({name.partition(".")[0] for name in names.values()})
            raise ConfigError("is no part of the learner", file=file, key="init", value=part, allowed=allowed)

    def factor(parameter: nn.Parameter) -> float:
        fitting = [part for part in factors if _within(names.get(parameter, ""), part)]
        return factors[max(fitting, key=len)] if fitting else 1.0

    for optimizer in learner.optimizers().values():
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
