"""Which finished episodes a replay memory still holds whole, and draws from their steps."""

from __future__ import annotations

import torch
from torch import Tensor

from robotrl.learn.replay import NEVER


class Episodes:
    """Finished episodes of B worlds, by the numbers of their steps, which all worlds share.

    Attributes:
        begun: (B,) first step of the episode that each world is in.
    """

    def __init__(self, worlds: int, device: torch.device) -> None:
        self.begun = torch.zeros(worlds, dtype=torch.long, device=device)
        self._table = torch.zeros((0, 3), dtype=torch.long, device=device)
        self._chosen = torch.zeros(0, dtype=torch.bool, device=device)
        self._oldest = NEVER
        self._count()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._table)

    def finish(self, worlds: Tensor, last: int, chosen: Tensor) -> None:
        """Let the episodes of the worlds (k,) end with step `last`; some are among the chosen (k,) bool."""
        first = self.begun[worlds]
        new = torch.stack((worlds, first, torch.full_like(first, last)), dim=-1)
        self._table, self._chosen = torch.cat((self._table, new)), torch.cat((self._chosen, chosen))
        self.begun = self.begun.index_fill(0, worlds, last + 1)
        self._oldest = min(self._oldest, int(first.min()))
        self._count()

    def forget(self, oldest: int) -> None:
        """Drop episodes that began before step `oldest`."""
        if oldest <= self._oldest:
            return
        kept = self._table[:, 1] >= oldest
        self._table, self._chosen = self._table[kept], self._chosen[kept]
        self._see_oldest()
        self._count()

    def find(self, share: Tensor, of_chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Find the steps on which shares (N,) in [0, 1) of all steps fall.

        Args:
            share: in float64.
            of_chosen: (N,) bool: of the steps of chosen episodes alone, if there are any.

        Returns:
            World, first and last step (N, 3) of the episodes, and the steps (N,).
        """
        at = (share * self._ends[:, -1:]).long()
        place = torch.searchsorted(self._ends, at, right=True)
        place, left = (torch.where(of_chosen, x[1], x[0]) for x in (place, self._ends.gather(1, place) - at))
        episode = self._table[place]
        return episode, episode[:, 2] + 1 - left

    def state(self) -> dict[str, Tensor]:
        """Every tensor that defines it."""
        return {"episodes": self._table, "chosen": self._chosen, "begun": self.begun}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        device = self.begun.device
        self.begun, self._table = tensors["begun"].to(device), tensors["episodes"].to(device)
        self._chosen = tensors["chosen"].to(device)
        self._see_oldest()
        self._count()

    def _see_oldest(self) -> None:
        """Find the first step of all, a number on the host, so that asking for it does not wait for a GPU."""
        self._oldest = int(self._table[:, 1].min()) if len(self._table) else NEVER

    def _count(self) -> None:
        """Count steps up to each episode: of all episodes, and of the chosen ones if there are any."""
        length = self._table[:, 2] + 1 - self._table[:, 1]
        every, chosen = length.cumsum(0), (length * self._chosen).cumsum(0)
        self._ends = torch.stack((every, torch.where(chosen[-1:] > 0, chosen, every)))
