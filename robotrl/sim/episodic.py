"""What environments of tasks whose worlds always run have in common: episodes, statistics, resume."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from robotrl.sim.quarantine import Quarantine
from robotrl.sim.saving import State, Stateful, joined, part_of, put_back
from robotrl.sim.statistics import Statistics
from robotrl.sim.worlds import Worlds


class EpisodicEnv(ABC):
    """B worlds that always run: a world whose episode ends starts the next one in the same step.

    A seed fixes all randomness.

    Attributes:
        num: worlds.
        worlds: the simulation.
        period_s: one control step.
        observation: (B, obs), what the next action is computed from.
        privileged: (B, 0), there is nothing that only the critic sees.
        terms: names of the reward's terms.
        action_size: numbers of an action.
        action_low: (n,) smallest action.
        action_high: (n,) largest action.
    """

    action_size: int
    action_low: Tensor
    action_high: Tensor
    observation: Tensor
    terms: tuple[str, ...]
    outcomes: tuple[str, ...] = ()
    """Figures of an episode, besides length, return and failure, that statistics are kept of."""

    def __init__(
        self,
        worlds: Worlds,
        dtype: torch.dtype,
        seed: int,
        substeps: int,
        episode_steps: int,
        quarantine: Quarantine | None,
    ) -> None:
        """Prepare the record of B episodes; `restart` then starts them.

        Args:
            worlds: the simulation.
            dtype: of rewards and observations.
            seed: of everything that is drawn.
            substeps: physics steps per action.
            episode_steps: actions until the time-out.
            quarantine: keeps worlds whose simulation failed; None: they are only counted.
        """
        self.worlds, self.num = worlds, worlds.num
        self.period_s = substeps * worlds.model.opt.timestep
        self._episode_steps = episode_steps
        self._quarantine = quarantine or Quarantine(None)
        self._generator = torch.Generator(worlds.device).manual_seed(seed)
        self._everything = torch.arange(self.num, device=worlds.device)
        self._steps = self._everything.new_zeros(self.num, dtype=torch.int32)
        self._return = worlds.qpos.new_zeros(self.num, dtype=dtype)
        self.privileged = self._return.new_zeros((self.num, 0))

    def restart(self) -> None:
        """Start every world anew and forget the statistics."""
        self._statistics = self._no_statistics()
        self._begin(self._everything)

    def take_statistics(self) -> dict[str, float]:
        """Means since the last call: reward terms, episode length and return, failures; then forget."""
        figures = self._statistics.figures()
        self._statistics = self._no_statistics()
        return figures

    def state(self) -> State:
        """Everything that decides how the worlds go on (`robotrl.sim.saving`); empty if they cannot tell."""
        if not isinstance(self.worlds, Stateful):
            return {}
        own = {"generator": self._generator.get_state()} | self._own_state()
        return joined(own=own, worlds=self.worlds.state(), statistics=self._statistics.state())

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned; from an empty one the worlds start anew.

        Raises:
            CheckpointError: it is the state of another environment.
        """
        if tensors and isinstance(self.worlds, Stateful):
            self.worlds.load_state(part_of(tensors, "worlds"))
            self._statistics.load_state(part_of(tensors, "statistics"))
            self.observation = self.observation.clone()  # the caller may still hold the last one
            own = part_of(self.state(), "own")
            put_back(own, part_of(tensors, "own"))
            self._generator.set_state(own["generator"])

    @abstractmethod
    def _begin(self, ids: Tensor) -> None:
        """Start new episodes of the worlds `ids` (k,)."""

    def _own_state(self) -> State:
        """What the environment itself remembers."""
        return {"steps": self._steps, "return": self._return, "observation": self.observation}

    def _forget(self, ids: Tensor) -> None:
        """Let the episodes of the worlds `ids` (k,) begin."""
        self._steps[ids] = 0
        self._return[ids] = 0.0

    def _add_step(self, terms: Tensor, reward: Tensor) -> None:
        """Count one step: the reward's terms (terms, B) and the reward (B,)."""
        self._steps += 1
        self._return += reward
        self._statistics.add_step(terms, reward)

    def _timed_out(self) -> Tensor:
        """(B,) bool: episodes that have had all their steps."""
        return self._steps >= self._episode_steps

    def _end(self, ids: Tensor, failed: Tensor, *outcomes: Tensor) -> None:
        """Count the episodes of the worlds `ids` (k,), their failures (k,) and outcomes, each (k,)."""
        self._statistics.add_episodes(self._steps[ids] * self.period_s, self._return[ids], failed, *outcomes)

    def _set_aside(self, ids: Tensor, qpos: Tensor, qvel: Tensor, targets: Tensor) -> None:
        """Keep the worlds `ids` (k,), which a step from (B, nq), (B, nv) with these targets broke."""
        self._quarantine.keep(self.worlds, ids, qpos, qvel, targets)
        self._statistics.add_broken(len(ids))

    def _final(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What a transition tells of worlds whose episodes end: its last five values."""
        return ids, self.observation[ids], self.privileged[ids], self._return[ids], self._steps[ids]

    def _no_statistics(self) -> Statistics:
        return Statistics(self._return.new_ones(len(self.terms)), self.terms, self.outcomes)
