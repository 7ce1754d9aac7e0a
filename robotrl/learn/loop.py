"""The training loop as a generator: one iteration per yield; whoever consumes it logs and saves."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from robotrl.errors import DivergedError
from robotrl.learn.group import Group
from robotrl.learn.networks import Actor

WATCHED = 64
"""Last steps of which a run that diverges can tell."""


class Stepped(Protocol):
    """What one environment step returns to the learner."""

    @property
    def reward(self) -> Tensor:
        """Reward (B,)."""

    @property
    def terminated(self) -> Tensor:
        """(B,) bool."""

    @property
    def truncated(self) -> Tensor:
        """(B,) bool."""

    @property
    def final_ids(self) -> Tensor:
        """(k,) worlds that were reset in this step."""

    @property
    def final_observation(self) -> Tensor:
        """(k, obs) before the reset."""

    @property
    def final_privileged(self) -> Tensor:
        """(k, p) before the reset."""


class VectorEnv(Protocol):
    """What a learner needs of B worlds that reset themselves; no tensor of theirs changes later."""

    num: int

    @property
    def observation(self) -> Tensor:
        """What the next action is computed from (B, obs)."""

    @property
    def privileged(self) -> Tensor:
        """What only the critic sees besides (B, p)."""

    def step(self, action: Tensor) -> Stepped:
        """Apply actions (B, n)."""

    def take_statistics(self) -> dict[str, float]:
        """Means since the last call."""


class Learner(Protocol):
    """An algorithm with everything that it learns."""

    group: Group

    @property
    def actor(self) -> Actor:
        """Observation (B, obs) -> deterministic action (B, n), the normaliser included."""

    def iterate(self, env: VectorEnv) -> tuple[int, dict[str, float]]:
        """Collect and update once; returns this process's environment steps and figures."""

    def state(self) -> dict[str, Tensor]:
        """Everything that defines the learner: weights, moments, statistics, replay, own generators."""

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""

    def begin_anew(self) -> None:
        """Forget what worlds were in the midst of: those that could not be restored begin new episodes."""


@runtime_checkable
class Annealed(Protocol):
    """A learner with something that follows the budget."""

    def anneal(self, share: float) -> None:
        """Take note of the share of the budget that is used up, 0 to 1."""


@dataclass(frozen=True)
class Iteration:
    """What one iteration did."""

    index: int
    steps: int
    """Environment steps since the run began."""
    seconds: float
    """Wall clock of this iteration."""
    figures: dict[str, float]


class _Watched:
    """Passes an environment on and remembers the last steps, without copying anything."""

    def __init__(self, env: VectorEnv) -> None:
        self._env, self.num = env, env.num
        self._last: deque[dict[str, Tensor]] = deque(maxlen=WATCHED)

    @property
    def observation(self) -> Tensor:
        return self._env.observation

    @property
    def privileged(self) -> Tensor:
        return self._env.privileged

    def step(self, action: Tensor) -> Stepped:
        seen = {"observation": self._env.observation, "action": action}
        stepped = self._env.step(action)
        self._last.append(seen | {"reward": stepped.reward})
        return stepped

    def take_statistics(self) -> dict[str, float]:
        return self._env.take_statistics()

    def table(self) -> dict[str, dict[str, float]]:
        """Of each remembered quantity: smallest, mean and largest finite value, share that is not finite."""
        return {
            name: _spread(torch.stack([step[name] for step in self._last]))
            for name in (self._last[0] if self._last else ())
        }


def train(env: VectorEnv, learner: Learner, first: int, steps_done: int) -> Iterator[Iteration]:
    """Iterate for ever.

    Args:
        env: this process's worlds.
        learner: the learner.
        first: index of the first iteration (above 0 after a resume).
        steps_done: environment steps before it.

    Raises:
        DivergedError: a figure or a parameter of the actor is not finite any more.
    """
    index, watched = first, _Watched(env)
    while True:
        started = time.perf_counter()
        own_steps, figures = learner.iterate(watched)
        seconds = time.perf_counter() - started
        steps = own_steps * learner.group.size
        steps_done += steps
        figures |= env.take_statistics()
        figures["steps_per_s"] = steps / seconds
        _require_finite(index, figures, learner.actor, watched)
        yield Iteration(index, steps_done, seconds, figures)
        index += 1


def _require_finite(index: int, figures: dict[str, float], actor: Actor, watched: _Watched) -> None:
    bad = [name for name, value in figures.items() if not math.isfinite(value)]
    # One sum per tensor says whether it holds anything that is not finite: NaN and infinity survive it.
    sums = torch.stack([p.detach().double().sum() for p in actor.parameters()])
    if not bad and math.isfinite(float(sums.sum())):
        return
    names = [name for name, p in actor.named_parameters() if not bool(p.isfinite().all())]
    what = ", ".join([*bad, *(f"actor.{name}" for name in names)])
    table = {name: {"value": value} for name, value in figures.items()} | watched.table()
    raise DivergedError(f"iteration {index} diverged: {what} not finite", table)


def _spread(values: Tensor) -> dict[str, float]:
    finite = values[values.isfinite()].double()
    bad = 1 - finite.numel() / max(values.numel(), 1)
    if not finite.numel():
        return {"not_finite": bad}
    return {
        "min": float(finite.min()),
        "mean": float(finite.mean()),
        "max": float(finite.max()),
        "not_finite": bad,
    }
