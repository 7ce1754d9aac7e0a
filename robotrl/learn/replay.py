"""Replay memory on the training device: every step once, raw, with n-step returns computed when sampled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robotrl.errors import CheckpointError

if TYPE_CHECKING:
    from robotrl.learn.loop import Stepped

GOES_ON, TERMINATED, TRUNCATED = 0.0, 1.0, 2.0
"""What a row's last column says about its step."""

NEVER = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Batch:
    """N transitions of n steps each, observations raw; see `Replay.sample`."""

    observation: Tensor
    """(N, obs + p) the actor's part first."""
    action: Tensor
    """(N, n)"""
    reward: Tensor
    """(N,) discounted sum of the rewards until the n-th step or the episode's end."""
    discount: Tensor
    """(N,) factor of the value of `following`: 0 where the episode terminated."""
    following: Tensor
    """(N, obs + p) what was observed after the last of these steps, before any reset."""
    row: Tensor | None = None
    """(N,) where in the memory they start, if they were drawn by priority."""
    weight: Tensor | None = None
    """(N,) importance of each in the critics' loss; all the same if there is none."""
    lowest: Tensor | None = None
    """(N,) smallest return that there can be, where the largest is 0; if there is none, any can be."""

    def parts(self, count: int) -> Iterator[Batch]:
        """Cut into equal batches, in order."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        cut = {name: value.chunk(count) for name, value in given.items() if value is not None}
        return (Batch(**{name: pieces[i] for name, pieces in cut.items()}) for i in range(count))


class Replay:
    """The last steps of B worlds that reset themselves, uniformly sampled.

    One row a step: observation, privileged observation, action, reward, and how the step ended.
    What is observed next is the same world's next row, so it is not stored again. Only after a
    time-out is it missing there, since the next row belongs to the next episode: those last
    observations are kept apart, in the order of their steps. (After a termination nobody asks.)
    """

    def __init__(
        self,
        capacity: int,
        worlds: int,
        observation: int,
        action: int,
        generator: torch.Generator,
    ) -> None:
        """Allocate.

        Args:
            capacity: steps of all worlds together, rounded up to whole steps of every world.
            worlds: number B of worlds.
            observation: width of what the critic sees, obs + p.
            action: width n.
            generator: what samples are drawn with; its device is the memory's.
        """
        self._worlds, self._generator = worlds, generator
        self._widths = [observation, action, 1, 1]
        # One slot more than steps: the newest holds only the observation that the next step starts from.
        self._slots = -(-capacity // worlds) + 1
        device = generator.device
        self._rows = torch.zeros((self._slots * worlds, sum(self._widths)), device=device)
        self._added = 0
        self._late = torch.zeros((worlds, observation), device=device)
        self._late_at = torch.full((worlds,), NEVER, device=device)
        self._late_count = 0

    def __len__(self) -> int:
        """Steps of all worlds that are stored."""
        return self._filled * self._worlds

    def ready(self, n_step: int) -> bool:
        """Whether there is anything to sample."""
        return self._filled >= n_step

    @property
    def rows(self) -> int:
        """Places for a step, those of all worlds together; step t of world w is at (t B + w) modulo this."""
        return len(self._rows)

    @property
    def added(self) -> int:
        """Steps of every world that were ever stored."""
        return self._added

    @property
    def nbytes(self) -> int:
        """Memory that it occupies."""
        return sum(x.numel() * x.element_size() for x in (self._rows, self._late, self._late_at))

    def add(self, observed: Tensor, action: Tensor, stepped: Stepped, following: Tensor) -> None:
        """Store one step of every world.

        Args:
            observed: (B, obs + p) what the actions were computed from.
            action: (B, n)
            stepped: what the step gave.
            following: (B, obs + p) what the next actions are computed from, after any reset.
        """
        end = torch.where(stepped.terminated, TERMINATED, TRUNCATED * stepped.truncated)
        now, then = self._slot(self._added), self._slot(self._added + 1)
        now.copy_(torch.cat((observed, action, stepped.reward[:, None], end[:, None]), dim=-1))
        then[:, : self._widths[0]] = following
        if len(stepped.final_ids):
            self._keep_last(stepped)
        self._added += 1

    def begin_anew(self) -> None:
        """Cut the episodes that every world was in: its next step is not of the same one."""
        if self._added:
            last, then = self._slot(self._added - 1), self._slot(self._added)
            cut = (last[:, -1] == GOES_ON).nonzero()[:, 0]
            self._append_late(self._added - 1, cut, then[cut, : self._widths[0]])
            last[cut, -1] = TRUNCATED
            order = self._late_at.argsort()  # others may have timed out in the same step
            self._late, self._late_at = self._late[order], self._late_at[order]

    def sample(self, count: int, n_step: int, gamma: float) -> Batch:
        """Draw transitions with replacement, each as likely, of those whose n-th step is stored."""
        oldest = (self._added - self._filled) * self._worlds
        starts = (self._filled - n_step + 1) * self._worlds
        first = torch.randint(starts, (count,), generator=self._generator, device=self._rows.device)
        return self.read(first + oldest, n_step, gamma)

    def read(self, row: Tensor, n_step: int, gamma: float) -> Batch:
        """Transitions of n stored steps that start at rows (N,).

        Returns of n steps stop at an episode's end; a time-out is bootstrapped from its own last
        observation, a termination not at all (Sutton & Barto 2018, section 7.1; Pardo et al. 2018,
        "Time Limits in Reinforcement Learning", eq. 6).
        """
        device, worlds = self._rows.device, self._worlds
        count, oldest = len(row), (self._added - self._filled) * worlds
        first = oldest + (row - oldest) % len(self._rows)
        ahead = torch.arange(0, (n_step + 1) * worlds, worlds, device=device)
        wanted = (first[:, None] + ahead) % len(self._rows)
        # Twice as quick as indexing with two dimensions.
        window = self._rows.index_select(0, wanted.flatten()).view(*wanted.shape, -1)
        observation, action, reward, end = torch.split(window, self._widths, dim=-1)
        reward, end = reward[:, :n_step, 0], end[:, :n_step, 0]
        alive = (end == GOES_ON).float().cumprod(1)
        reached = torch.cat((torch.ones_like(alive[:, :1]), alive[:, :-1]), dim=1)
        last, rows = reached.sum(1).long() - 1, torch.arange(count, device=device)
        powers = gamma ** torch.arange(n_step + 1, device=device)
        earned, last_end = (reached * powers[:-1] * reward).sum(1), end[rows, last]
        discount = powers[last + 1] * (last_end != TERMINATED)
        following = observation[:, 1] if n_step == 1 else observation[rows, last + 1]
        if self._late_count:  # which few steps need
            cut = (last_end == TRUNCATED).nonzero()[:, 0]
            place = torch.searchsorted(self._late_at, (first + last * worlds)[cut])
            following[cut] = self._late[place.clamp_max(len(self._late) - 1)]
        return Batch(observation[:, 0], action[:, 0], earned, discount, following)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that defines it; its generator belongs to who gave it."""
        used = min((self._added + 1) * self._worlds, len(self._rows))
        return {
            "rows": self._rows[:used],
            "late": self._late[: self._late_count],
            "late_at": self._late_at[: self._late_count],
            "added": torch.tensor([self._added, self._worlds]),
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` of a memory of the same sizes returned; one that was not full may get larger.

        Raises:
            CheckpointError: its steps would lie elsewhere here.
        """
        self._check_size(len(tensors["rows"]) // self._worlds, int(tensors["added"][0]))
        self._rows[: len(tensors["rows"])] = tensors["rows"].to(self._rows.device)
        self._added = int(tensors["added"][0])
        self._late_count = len(tensors["late"])
        self._resize_late(max(self._worlds, self._late_count))
        self._late[: self._late_count] = tensors["late"].to(self._rows.device)
        self._late_at[: self._late_count] = tensors["late_at"].to(self._rows.device)

    def _check_size(self, saved: int, added: int) -> None:
        """Refuse another number of slots than was `saved` of a full memory, and too few for any."""
        full = added + 1 > saved
        if saved > self._slots or (full and saved < self._slots):
            raise CheckpointError(
                "has another size than the memory that was saved",
                key="replay",
                value=(self._slots - 1) * self._worlds,
                allowed=f"{(saved - 1) * self._worlds}{'' if full else ' or more'} steps of each process",
            )

    @property
    def _filled(self) -> int:
        return min(self._added, self._slots - 1)

    def _slot(self, step: int) -> Tensor:
        begin = step % self._slots * self._worlds
        return self._rows[begin : begin + self._worlds]

    def _keep_last(self, stepped: Stepped) -> None:
        """Append the last observations of episodes that timed out; world ids ascend, so places do."""
        cut = (stepped.truncated & ~stepped.terminated)[stepped.final_ids]
        last = torch.cat((stepped.final_observation, stepped.final_privileged), dim=-1)[cut]
        self._append_late(self._added, stepped.final_ids[cut], last)

    def _append_late(self, step: int, worlds: Tensor, last: Tensor) -> None:
        """Append what worlds (k,) last observed (k, obs + p), after step `step`."""
        if self._late_count + len(last) > len(self._late):
            self._forget_or_grow(len(last))
        new = slice(self._late_count, self._late_count + len(last))
        self._late[new] = last
        self._late_at[new] = step * self._worlds + worlds
        self._late_count += len(last)

    def _forget_or_grow(self, needed: int) -> None:
        """Drop last observations whose steps were overwritten; grow while more than half is in use."""
        oldest = (self._added + 1 - min(self._added + 1, self._slots - 1)) * self._worlds
        kept = slice(int(torch.searchsorted(self._late_at, oldest)), self._late_count)
        late, late_at = self._late[kept].clone(), self._late_at[kept].clone()
        self._late_count = len(late)
        size = len(self._late)
        self._resize_late(max(size, (self._late_count + needed) * 3 // 2))
        self._late[: len(late)], self._late_at[: len(late)] = late, late_at

    def _resize_late(self, size: int) -> None:
        self._late = self._late.new_zeros((size, self._late.shape[1]))
        self._late_at = self._late_at.new_full((size,), NEVER)
