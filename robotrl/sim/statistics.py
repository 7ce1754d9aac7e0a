"""Sums over steps and finished episodes, kept on the worlds' device until somebody asks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from robotrl.sim.saving import State, put_back


class Statistics:
    """Means of reward terms, episode lengths and returns since it was made."""

    def __init__(self, weights: Tensor, names: tuple[str, ...], outcomes: tuple[str, ...] = ()) -> None:
        self._weights, self._names, self._outcomes = weights, names, outcomes
        self._terms, self._reward = torch.zeros_like(weights), weights.new_zeros(())
        self._sums = weights.new_zeros(3 + len(outcomes))
        self._steps = self._episodes = self._broken = 0

    def add_step(self, values: Tensor, reward: Tensor) -> None:
        """Add one step of B worlds: each term's unweighted value (terms, B) and the reward (B,)."""
        self._terms += values.mean(1)
        self._reward += reward.mean()
        self._steps += 1

    def add_episodes(self, length_s: Tensor, returns: Tensor, failed: Tensor, *outcomes: Tensor) -> None:
        """Add finished episodes, each (k,), with the outcomes that were named."""
        figures = (length_s, returns, failed, *outcomes)
        self._sums += torch.stack([figure.to(returns.dtype) for figure in figures]).sum(1)
        self._episodes += len(length_s)

    def add_broken(self, count: int) -> None:
        """Count worlds whose simulation failed."""
        self._broken += count

    def state(self) -> State:
        """The sums, see `robotrl.sim.saving`."""
        counts = torch.tensor((self._steps, self._episodes, self._broken))
        return {"terms": self._terms, "reward": self._reward, "sums": self._sums, "counts": counts}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        live = self.state()
        put_back(live, tensors)
        self._steps, self._episodes, self._broken = live["counts"].tolist()

    def figures(self) -> dict[str, float]:
        """Means and counts; episodes are left out while none has finished."""
        steps, episodes = max(self._steps, 1), self._episodes
        terms = (self._weights * self._terms / steps).tolist()
        result = {f"reward/{name}": value for name, value in zip(self._names, terms, strict=True)}
        result["step_reward"] = float(self._reward) / steps
        result["broken_worlds"] = float(self._broken)
        if episodes:
            length_s, returns, failed, *outcomes = (self._sums / episodes).tolist()
            result["episodes"] = float(episodes)
            result["episode_length_s"] = length_s
            result["episode_return"] = returns
            result["failed_share"] = failed
            result |= dict(zip(self._outcomes, outcomes, strict=True))
        return result
