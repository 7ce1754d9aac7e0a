"""Random ticks for a gate, in episodes, each tick judged by a witness of the gate's laws."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections import Counter

import numpy as np

from robotrl.errors import VerificationError

ODD = (math.nan, math.inf, -math.inf, 1e30, -1e30, 1e308, -1e308, 0.0, -0.0, 5e-324)

EPISODE_TICKS = 250
"""A body starts anew, with a fresh memory of the gate, after so many."""


def around(limit: float) -> tuple[float, ...]:
    """Values at a limit, next to it to the last bit, and further away."""
    near = (math.nextafter(limit, -math.inf), limit, math.nextafter(limit, math.inf))
    return (*near, limit - 1e-3, limit + 1e-3, 0.5 * limit, 2.0 * limit, -limit)


class Storm(ABC):
    """One body, its gate and the gate's witness in bad weather.

    Args:
        name: of the body.
        seed: of everything that is drawn.

    Attributes:
        seen: how often each level was the verdict, and each cause named.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.seen: Counter[str] = Counter()
        self._name, self._seed = name, seed
        self._random, self._noise = random.Random(seed), np.random.default_rng(seed)

    def run(self, ticks: int) -> None:
        """Let so many ticks pass.

        Raises:
            VerificationError: the gate has broken a law; names body, seed, tick and law.
        """
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            for tick in range(ticks):
                if tick % EPISODE_TICKS == EPISODE_TICKS - 1:
                    self._begin()
                try:
                    broken = self._tick()
                except FloatingPointError as error:
                    broken = [f"arithmetic fails: {error}"]
                if broken:
                    place = f"{self._name}, seed {self._seed}, tick {tick}"
                    raise VerificationError(f"the gate breaks a law: {place}: {'; '.join(broken)}")

    @abstractmethod
    def _begin(self) -> None:
        """Start anew."""

    @abstractmethod
    def _tick(self) -> list[str]:
        """Let one tick pass; return the laws that it breaks."""

    def _luck(self, share: float) -> bool:
        return self._random.random() < share
