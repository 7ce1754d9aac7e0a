"""Exploration of off-policy learners: noise that is held, and worlds that explore differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from robotrl.spec.records import Between, Within


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """The `exploration` table: what is a pair rises evenly from the first exploring world to the last."""

    greedy_share: Annotated[float, Between(0, 1)] = 0.25
    """Of the worlds explore not at all."""
    noise: Annotated[tuple[float, float], Within(0, 1e6)] = (0.25, 1.0)
    """Factors on the noise that all worlds would have."""
    random_share: Annotated[tuple[float, float], Within(0, 1)] = (0.06, 0.54)
    """Of the steps have uniformly random actions."""
    random_steps: Annotated[int, Between(1)] = 9
    """Such an action is held for 1 to this many steps, each as likely."""


class Spread:
    """Gives each world its own amount of noise and of random actions."""

    def __init__(self, params: Exploration, generator: torch.Generator) -> None:
        self._params, self._generator = params, generator
        self._left = torch.zeros(0, dtype=torch.long, device=generator.device)
        self._held = torch.zeros((0, 0), device=generator.device)

    def scaled(self, noise: Tensor) -> Tensor:
        """Noise (B, n), each world's its own amount."""
        return noise * self._over_worlds(self._params.noise, len(noise))[:, None]

    def replaced(self, action: Tensor) -> Tensor:
        """Actions (B, n) in [-1, 1], of which some are replaced by random ones."""
        if not len(self._left):
            self._left, self._held = self._left.new_zeros(len(action)), torch.zeros_like(action)
        longest, worlds, device = self._params.random_steps, len(action), action.device
        fresh = 2 * torch.rand(action.shape, generator=self._generator, device=device) - 1
        chance = torch.rand(worlds, generator=self._generator, device=device)
        lengths = torch.randint(1, longest + 1, (worlds,), generator=self._generator, device=device)
        begins = (self._left == 0) & (chance < self._beginning(worlds))
        self._held = torch.where(begins[:, None], fresh, self._held)
        self._left = torch.where(begins, lengths, self._left)
        replaced = torch.where((self._left > 0)[:, None], self._held, action)
        self._left = (self._left - 1).clamp_min(0)
        return replaced

    def state(self) -> dict[str, Tensor]:
        """What each world holds, and for how long still."""
        return {"left": self._left, "held": self._held}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        device = self._generator.device
        self._left, self._held = tensors["left"].to(device), tensors["held"].to(device)

    def _beginning(self, worlds: int) -> Tensor:
        """How likely each world (B,) starts to hold a random action when it holds none.

        Of the mean length l of holding and the share f of random steps: p l / (p l + 1 - p) = f.
        """
        share, mean = (
            self._over_worlds(self._params.random_share, worlds),
            (1 + self._params.random_steps) / 2,
        )
        return share / (mean * (1 - share) + share)

    def _over_worlds(self, ends: tuple[float, float], worlds: int) -> Tensor:
        """Spread a pair over the worlds (B,), the first of which do not explore: 0."""
        values = torch.zeros(worlds, device=self._generator.device)
        greedy = round(worlds * self._params.greedy_share)
        values[greedy:] = torch.linspace(*ends, worlds - greedy, device=values.device)
        return values


class HeldNoise:
    """Normal noise that each world holds for k draws, P(k) like 1 / k^2 up to `longest`.

    Source: FlashSAC, 2026 (arXiv 2604.04539), section on noise repetition.
    """

    def __init__(self, longest: int, generator: torch.Generator) -> None:
        self._generator = generator
        self._weights = 1.0 / torch.arange(1, longest + 1, device=generator.device).square()
        self._left = torch.zeros(0, dtype=torch.long, device=generator.device)
        self._held = torch.zeros((0, 0), device=generator.device)

    def draw(self, worlds: int, size: int) -> Tensor:
        """Noise (B, n) of the next action."""
        device = self._generator.device
        fresh = torch.randn((worlds, size), generator=self._generator, device=device)
        if len(self._weights) == 1:
            return fresh
        if not len(self._left):
            self._left, self._held = self._left.new_zeros(worlds), fresh
        lengths = torch.multinomial(self._weights, worlds, replacement=True, generator=self._generator) + 1
        over = self._left == 0
        self._held = torch.where(over[:, None], fresh, self._held)
        self._left = torch.where(over, lengths, self._left) - 1
        return self._held

    def state(self) -> dict[str, Tensor]:
        """What each world holds, and for how long still."""
        return {"left": self._left, "held": self._held}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        device = self._generator.device
        self._left, self._held = tensors["left"].to(device), tensors["held"].to(device)
