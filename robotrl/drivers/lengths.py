"""Which lengths of answers are free: as packets bear no number, a late one is told by its length."""

from __future__ import annotations

LENGTHS = 6
"""The wanted bytes, or up to five more of each servo: an answer would have to come six unfinished reads late
to pass for a new one, 30 ms on a bus of 200 reads a second."""
_REMEMBERED_READS = 32
"""Of any length, after which an answer that has not come counts as lost."""


class Lengths:
    """Chooses how many bytes a read asks of each servo, as neither protocol numbers its packets.

    After a read that left an answer out, or asked twice, something of its length may still arrive. So later
    reads of whatever registers are of other lengths, as few bytes longer as possible, until it is certainly
    lost. Where all lengths are taken, as on a bus with a servo that never answers, it is the one whose read
    is longest ago.
    """

    def __init__(self) -> None:
        self._reads = 0
        self._free_from: dict[int, int] = {}
        """Length -> the read from which on it is free."""

    def pick(self, size: int, longest: int) -> int:
        """Return the length of the next read.

        Args:
            size: bytes that are wanted of each servo.
            longest: bytes that there are.
        """
        self._reads += 1
        lengths = range(size, max(size, min(size + LENGTHS - 1, longest)) + 1)
        return min(lengths, key=lambda length: max(self._reads, self._free_from.get(length, 0)))

    def leave(self, length: int) -> None:
        """Note that answers of the present read, which was of this length, may still be on their way."""
        self._free_from[length] = self._reads + _REMEMBERED_READS
