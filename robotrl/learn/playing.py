"""An actor in worlds that reset themselves: what it remembers ends with the episode."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from robotrl.learn.networks import Actor


class Resets(Protocol):
    """What is read of one step of an environment."""

    @property
    def final_ids(self) -> Tensor:
        """(k,) worlds that were reset in this step."""


S = TypeVar("S", bound=Resets)
"""The environment's own record of one step."""
S_co = TypeVar("S_co", bound=Resets, covariant=True)


class Steppable(Protocol[S_co]):
    """What playing needs of an environment."""

    num: int

    @property
    def observation(self) -> Tensor:
        """What the next action is computed from (B, obs)."""

    def step(self, action: Tensor) -> S_co:
        """Apply actions (B, n)."""


class Playing:
    """An actor with what it remembers of each world.

    Attributes:
        memory: (B, m) before the next step.
    """

    def __init__(self, actor: Actor, memory: Tensor) -> None:
        self._actor, self.memory = actor, memory

    @torch.no_grad()
    def __call__(self, observation: Tensor) -> Tensor:
        """Mean actions (B, n) for observations (B, obs), which are remembered."""
        action, self.memory = self._actor.step(observation, self.memory)
        return action

    def forget(self, worlds: Tensor) -> None:
        """Begin anew in worlds (k,)."""
        if len(worlds):
            self.memory = self.memory.index_fill(0, worlds, 0.0)


def on_cpu(actor: Actor) -> Actor:
    """Return an actor for worlds on the CPU: a copy of one that lives elsewhere, which stays where it is."""
    if next(actor.parameters()).device.type == "cpu":
        return actor
    return copy.deepcopy(actor).to("cpu")


def play(env: Steppable[S], actor: Actor) -> Callable[[], S]:
    """Return what moves every world on by one step with the actor's mean actions."""
    playing = Playing(actor, env.observation.new_zeros(env.num, actor.memory_size))

    def advance() -> S:
        stepped = env.step(playing(env.observation))
        playing.forget(stepped.final_ids)
        return stepped

    return advance
