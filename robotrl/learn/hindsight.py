"""Hindsight replay: steps are also learned from as if a goal that was reached later had been wanted.

Source: Andrychowicz et al. 2017, "Hindsight Experience Replay" (arXiv 1707.01495), section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import Tensor

from robotrl.learn.episodes import Episodes
from robotrl.learn.replay import Batch, Replay
from robotrl.spec.records import Between, Within

if TYPE_CHECKING:
    from robotrl.learn.loop import Stepped

Strategy = Literal["future", "final", "episode"]
"""Which achieved goals a step can get: from itself on, the episode's last one, or any of the episode."""


@dataclass(frozen=True, kw_only=True)
class Hindsight:
    """The `hindsight` table of an off-policy algorithm."""

    strategy: Strategy = "future"
    k: Annotated[float, Between(0)] = 4.0
    """Steps with an achieved goal for each with its own: the share k / (k + 1) is relabelled."""
    clip_targets: bool = False
    """To [-1 / (1 - gamma), 0], where returns lie if rewards are -1 or 0."""
    moved: Annotated[tuple[float, float], Within(0, 1e12)] = (0.0, 1e12)
    """How far an episode's last achieved goal lies from its first one, if the episode is instructive; for
    goals that are positions, in m."""
    moved_share: Annotated[float, Between(0, 1)] = 0.0
    """Of the samples are drawn from instructive episodes alone, the others from all."""


@dataclass(frozen=True)
class Goals:
    """What hindsight needs to know of a task with goals.

    Attributes:
        achieved: columns of the achieved goal in an observation.
        desired: columns of the desired goal.
        reward: (achieved (N, g) after a step, desired (N, g)) -> (N,).
        episode_steps: the most that an episode has.
    """

    achieved: slice
    desired: slice
    reward: Callable[[Tensor, Tensor], Tensor]
    episode_steps: int


class HindsightReplay(Replay):
    """A memory that relabels what it samples; what it stores is what happened.

    Steps can be drawn once their episode is over. Neither success nor a time-out is an end of the
    task: whatever ended an episode, its last step is bootstrapped from its own last observation.
    """

    def __init__(
        self,
        capacity: int,
        worlds: int,
        observation: int,
        action: int,
        generator: torch.Generator,
        params: Hindsight,
        goals: Goals,
    ) -> None:
        """Allocate; see `Replay`."""
        super().__init__(capacity, worlds, observation, action, generator)
        self._params, self._goals = params, goals
        self._episodes = Episodes(worlds, generator.device)

    def ready(self, n_step: int) -> bool:
        """Whether an episode is over."""
        return super().ready(n_step) and len(self._episodes) > 0

    def add(self, observed: Tensor, action: Tensor, stepped: Stepped, following: Tensor) -> None:
        """Store one step of every world; see `Replay.add`."""
        now = self._added
        super().add(observed, action, _cut(stepped), following)
        if len(stepped.final_ids):
            self._finish(now, stepped)
        self._episodes.forget(self._added - self._filled)

    def begin_anew(self) -> None:
        """Forget the episodes that are not over; see `Replay.begin_anew`."""
        super().begin_anew()
        self._episodes.begun = torch.full_like(self._episodes.begun, self._added)

    def sample(self, count: int, n_step: int, gamma: float) -> Batch:
        """Draw steps of finished episodes, relabel a share of them and judge those anew."""
        episode, row = self._draw(count)
        batch = self.read(row, n_step, gamma)
        goal, relabelled = self._choose(episode, row, batch.observation[:, self._goals.desired])
        batch.observation[:, self._goals.desired] = goal
        batch.following[:, self._goals.desired] = goal
        reward = self._goals.reward(batch.following[:, self._goals.achieved], goal)
        lowest = torch.full_like(reward, -1 / (1 - gamma)) if self._params.clip_targets else None
        return replace(batch, reward=torch.where(relabelled, reward, batch.reward), lowest=lowest)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that defines it."""
        return super().state() | self._episodes.state()

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` of a memory of the same sizes returned."""
        super().load_state(tensors)
        self._episodes.load_state(tensors)

    def _finish(self, now: int, stepped: Stepped) -> None:
        """Note the episodes whose last step was step `now`."""
        worlds, achieved = stepped.final_ids, self._goals.achieved
        begun = self._episodes.begun[worlds]
        # A first step that is overwritten already leaves the episode to be forgotten at once.
        first = self._rows[(begun * self._worlds + worlds) % len(self._rows), achieved]
        distance = torch.linalg.vector_norm(stepped.final_observation[:, achieved] - first, dim=-1)
        low, high = self._params.moved
        self._episodes.finish(worlds, now, (distance > low) & (distance <= high))

    def _draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw episodes (N, 3), a share of them among the instructive ones, and rows of them (N,)."""
        share, chance = self._uniform(count)
        episode, step = self._episodes.find(share, chance < self._params.moved_share)
        return episode, step * self._worlds + episode[:, 0]

    def _choose(self, episode: Tensor, row: Tensor, desired: Tensor) -> tuple[Tensor, Tensor]:
        """Goals (N, g) to judge the steps at rows (N,) by, and which of these are achieved ones (N,) bool."""
        world, first, last = episode.unbind(-1)
        chance, at = self._uniform(len(row))
        begin = {"future": row // self._worlds, "final": last, "episode": first}[self._params.strategy]
        step = begin + (at * (last + 1 - begin)).long()
        relabelled = chance < self._params.k / (self._params.k + 1)
        reached = self._achieved(step * self._worlds + world, step == last)
        return torch.where(relabelled[:, None], reached, desired), relabelled

    def _achieved(self, row: Tensor, ended: Tensor) -> Tensor:
        """Goals (N, g) that the steps at rows (N,), of which some ended (N,) bool, have led to."""
        achieved = self._goals.achieved
        place = torch.searchsorted(self._late_at, row).clamp_max(len(self._late) - 1)
        then = self._rows[:, achieved][(row + self._worlds) % len(self._rows)]
        return torch.where(ended[:, None], self._late[:, achieved][place], then)

    def _uniform(self, count: int) -> Tensor:
        """Draw two rows (2, count) from [0, 1)."""
        device = self._rows.device
        return torch.rand((2, count), generator=self._generator, dtype=torch.float64, device=device)


@dataclass(frozen=True)
class _Cut:
    """A step whose episode, if it ended, was cut."""

    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_ids: Tensor
    final_observation: Tensor
    final_privileged: Tensor


def _cut(stepped: Stepped) -> _Cut:
    ended = stepped.terminated | stepped.truncated
    final = stepped.final_ids, stepped.final_observation, stepped.final_privileged
    return _Cut(stepped.reward, torch.zeros_like(ended), ended, *final)
