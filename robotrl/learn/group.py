"""Data-parallel training: processes that each step their own worlds and average their gradients."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed

PATIENCE = timedelta(hours=1)
"""How long a process waits for the others, which may be evaluating or writing a checkpoint."""


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
    ) -> None:
        """Join the group.

        Args:
            rank: this process, from 0.
            size: number of processes.
            rendezvous: a file that all ranks can reach and that does not exist yet; None: the
                environment says where to meet, as `torchrun` sets it up.
            device: where tensors to be averaged lie; NCCL carries those of a GPU, gloo the others.
        """
        self.rank, self.size, self._device = rank, size, torch.device(device)
        if size > 1:
            where = "env://" if rendezvous is None else f"file://{rendezvous}"
            if rendezvous is not None:
                os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            backend = "nccl" if self._device.type == "cuda" else "gloo"
            distributed.init_process_group(
                backend, init_method=where, rank=rank, world_size=size, timeout=PATIENCE
            )

    def mean_(self, values: Tensor) -> Tensor:
        """Replace a tensor by its mean over all ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
            values /= self.size
        return values

    def agree(self, flag: bool) -> bool:
        """Return rank 0's flag on every rank."""
        return bool(self.tell(float(flag))[0])

    def tell(self, *values: float) -> list[float]:
        """Return rank 0's numbers on every rank."""
        if self.size == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self._device)
        distributed.broadcast(shared, src=0)
        told: list[float] = shared.tolist()
        return told

    def wait(self) -> None:
        """Return when every rank has come this far."""
        self.mean_(torch.zeros((), device=self._device))

    def leave(self) -> None:
        """Close the connections once no rank needs them any more.

        Whoever closes first must not do so while another is still receiving, and the last one to
        leave removes the rendezvous file; so all come this far before anyone goes.
        """
        if self.size > 1:
            self.wait()
            distributed.destroy_process_group()

    def abandon(self) -> None:
        """Close the connections without the others, which are gone or must be taken to be."""
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()


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
