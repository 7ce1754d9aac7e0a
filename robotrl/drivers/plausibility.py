"""Answers that no servo can have given, where the checksum cannot tell.

Feetech's is the sum of the bytes: it is blind to bytes that have changed places, and one of 256 broken
packets has the right one by chance. What is left to judge by is what the motor can do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robotrl.spec.servos import ServoType
from robotrl.spec.state import Floats

_FASTEST = 2.0
"""In no-load speeds at nominal voltage: faster is no motor, not even driven by its load."""
_SLACK_RAD = 0.05
"""What a position may differ beyond that: ticks are not read at quite regular times."""


class Plausibility:
    """Judges the answers of n servos by their last ones; a jump is believed when it is seen twice.

    Args:
        servos: their types.
    """

    def __init__(self, servos: Sequence[ServoType]) -> None:
        self._fastest_rad_s = _FASTEST * np.array([servo.no_load_speed_rad_s for servo in servos])
        self._believed_rad = np.full(len(servos), np.nan)
        self._believed_s = np.full(len(servos), -np.inf)
        self._doubted_rad = np.full(len(servos), np.nan)

    def judge(
        self, now_s: float, position_rad: Floats, velocity_rad_s: Floats, fresh: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return which of the fresh answers are believed, (n,).

        Args:
            now_s: time of this tick.
            position_rad: (n,) what they say; any value where not fresh.
            velocity_rad_s: (n,) likewise.
            fresh: (n,) who has answered.
        """
        known = np.isfinite(self._believed_s)
        since_s = np.where(known, now_s - np.where(known, self._believed_s, 0.0), np.inf)
        reach_rad = _SLACK_RAD + self._fastest_rad_s * since_s
        jumps = np.abs(position_rad - self._believed_rad) > reach_rad
        again = np.abs(position_rad - self._doubted_rad) <= reach_rad
        slow = np.abs(velocity_rad_s) <= self._fastest_rad_s
        believed: NDArray[np.bool_] = fresh & slow & (~jumps | again)
        self._doubted_rad = np.where(fresh & ~believed, position_rad, np.nan)
        self._believed_rad[believed] = position_rad[believed]
        self._believed_s[believed] = now_s
        return believed
