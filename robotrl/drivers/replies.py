"""What a read of many servos brought, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robotrl.drivers.registers import Block, Bytes2D, Ints, Register


@dataclass(frozen=True, slots=True)
class Replies:
    """What a sync read brought, in the order of the ids asked.

    Attributes:
        data: (n, size) bytes, perhaps a view that cannot be written; rows not `fresh` hold zeros.
        error: (n,) error byte of each status.
        fresh: (n,) whether the servo answered.
    """

    data: Bytes2D
    error: NDArray[np.uint8]
    fresh: NDArray[np.bool_]

    @classmethod
    def none_of(cls, count: int, size: int) -> Replies:
        """Return the replies of servos that have not answered yet."""
        return cls(np.zeros((count, size), np.uint8), np.zeros(count, np.uint8), np.zeros(count, np.bool_))

    def values(self, register: Register) -> Ints:
        """Return (n,) values of a read of exactly this register."""
        return Block((register,)).decode(self.data)[:, 0]

    def put(self, row: int, error: int, data: bytes) -> None:
        """Note one servo's answer."""
        self.data[row] = np.frombuffer(data, np.uint8)
        self.error[row] = error
        self.fresh[row] = True
