"""Data-parallel training: processes that each step their own worlds and average their gradients."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, distributed


class Group:
    """The processes of one training run; a group of one does nothing.

    Small networks on a CPU gain nothing from threads inside an operation, but everything from a
    second process: each rank steps its worlds and differentiates its samples on one core.
    """

    def __init__(self, rank: int = 0, size: int = 1, rendezvous: Path | None = None) -> None:
        """Join the group.

        Args:
            rank: this process, from 0.
            size: number of processes.
            rendezvous: a file that all ranks can reach and that does not exist yet; needed from
                two processes on.
        """
        self.rank, self.size = rank, size
        if size > 1:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            distributed.init_process_group(
                "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size
            )

    def mean_(self, values: Tensor) -> Tensor:
        """Replace a tensor by its mean over all ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
            values /= self.size
        return values

    def agree(self, flag: bool) -> bool:
        """Return rank 0's flag on every rank."""
        if self.size > 1:
            shared = torch.tensor([float(flag)])
            distributed.broadcast(shared, src=0)
            return bool(shared.item())
        return flag

    def leave(self) -> None:
        """Close the connections."""
        if self.size > 1:
            distributed.destroy_process_group()
