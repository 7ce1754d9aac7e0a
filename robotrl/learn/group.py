"""Data-parallel training: processes that each step their own worlds and average their gradients."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous as meeting

from robotrl.errors import GroupError

MEETING_S = 300.0
"""How long a process waits for the others to start."""

PATIENCE = timedelta(hours=1)
"""How long a process waits for the others, which may be evaluating or writing a checkpoint."""

LOOK_S = 0.02
"""How often a process that waits for the others asks whether one has ended."""


class Group:
    """The processes of one training run; a group of one does nothing.

    Small networks on a CPU gain nothing from threads inside an operation, but everything from a
    second process: each rank steps its worlds and differentiates its samples on one core. On GPUs
    each rank has its own.
    """

    def __init__(
        self,
        rank: int = 0,
        size: int = 1,
        rendezvous: Path | None = None,
        device: torch.device | str = "cpu",
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        """Join the group.

        Args:
            rank: this process, from 0.
            size: number of processes.
            rendezvous: a file that all ranks can reach and that does not exist yet; None: the
                environment says where to meet, as `torchrun` sets it up.
            device: where tensors to be averaged lie; NCCL carries those of a GPU, gloo the others.
            ended: tells whether another process is known to have ended, so that it will not come.

        Raises:
            GroupError: not all others have come within `MEETING_S` seconds, or one has ended.
        """
        self.rank, self.size, self._device = rank, size, torch.device(device)
        if size > 1:
            where = "env://" if rendezvous is None else f"file://{rendezvous}"
            if rendezvous is not None:
                os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            backend = "nccl" if self._device.type == "cuda" else "gloo"
            try:
                wait = timedelta(seconds=MEETING_S)
                self._store, *_ = next(meeting(where, rank=rank, world_size=size, timeout=wait))
                self._meet(ended)
                distributed.init_process_group(
                    backend, store=self._store, rank=rank, world_size=size, timeout=PATIENCE
                )
            except RuntimeError as error:  # torch's own
                raise self._lost(error) from error

    def mean_(self, values: Tensor) -> Tensor:
        """Replace a tensor by its mean over all ranks, in place.

        Raises:
            GroupError: another process has ended.
        """
        if self.size > 1:
            self._reduce(values, distributed.ReduceOp.SUM)
            values /= self.size
        return values

    def max_(self, values: Tensor) -> Tensor:
        """Replace a tensor by the largest of each value over all ranks, in place.

        Raises:
            GroupError: another process has ended.
        """
        if self.size > 1:
            self._reduce(values, distributed.ReduceOp.MAX)
        return values

    def agree(self, flag: bool) -> bool:
        """Return rank 0's flag on every rank."""
        return bool(self.tell(float(flag))[0])

    def tell(self, *values: float) -> list[float]:
        """Return rank 0's numbers on every rank.

        Raises:
            GroupError: another process has ended.
        """
        if self.size == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self._device)
        try:
            distributed.broadcast(shared, src=0)
        except RuntimeError as error:  # torch's own
            raise self._lost(error) from error
        told: list[float] = shared.tolist()
        return told

    def wait(self) -> None:
        """Return when every rank has come this far."""
        self.mean_(torch.zeros((), device=self._device))

    def leave(self) -> None:
        """Close the connections once no rank needs them any more.

        A mean is there on one rank while another still receives its own, so all say that they are
        back from the last one before anyone closes; and rank 0, which may host the place where they
        say so, closes when the others no longer ask.
        """
        if self.size > 1:
            self.wait()
            try:
                self._say("back")
                self._store.wait(self._all("back"), PATIENCE)
                self._say("gone")
                if self.rank == 0:
                    self._store.wait(self._all("gone"), PATIENCE)
            except RuntimeError as error:  # torch's own
                raise self._lost(error) from error
            distributed.destroy_process_group()

    def abandon(self) -> None:
        """Close the connections without the others, which are gone or must be taken to be."""
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()

    def _reduce(self, values: Tensor, how: distributed.ReduceOp.RedOpType) -> None:
        try:
            distributed.all_reduce(values, how)
        except RuntimeError as error:  # torch's own
            raise self._lost(error) from error

    def _say(self, what: str) -> None:
        self._store.set(f"{what}.{self.rank}", "")

    def _all(self, what: str) -> list[str]:
        return [f"{what}.{rank}" for rank in range(self.size)]

    def _meet(self, ended: Callable[[], bool]) -> None:
        """Return when all processes have started."""
        self._say("here")
        until = time.monotonic() + MEETING_S
        while not self._store.check(self._all("here")):
            if ended():
                raise GroupError("another process of this run ended while it started")
            if time.monotonic() > until:
                problem = f"not all {self.size} processes of this run have started within"
                raise GroupError(f"{problem} {MEETING_S:g} s")
            time.sleep(LOOK_S)

    def _lost(self, error: RuntimeError) -> GroupError:
        reason = str(error).partition("\n")[0]
        return GroupError(f"rank {self.rank} lost another process of this run ({reason})")


@dataclass(frozen=True)
class Place:
    """Which process of a training run this is."""

    rank: int
    size: int
    """Number of processes, on all machines together."""
    local_rank: int
    """Of those on this machine."""


def launched() -> Place | None:
    """What `torchrun` says about this process; None where it did not start it."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(name in os.environ for name in (*names, "MASTER_ADDR", "MASTER_PORT")):
        return None
    return Place(*(int(os.environ[name]) for name in names))
