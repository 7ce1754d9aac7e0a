"""Where the velocity commands of a playback come from: a tour, a script, or the arrow keys.

A steering answers ``(elapsed_s, low, high) -> (3,)`` forward m/s, left m/s, yaw rate rad/s, where low and
high (3,) are the ends of the range that the task trains on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from robotrl.runtime.operator import Step
from robotrl.spec.state import Floats

Steering = Callable[[float, Floats, Floats], Floats]

TOUR = (
    (0.0, (0.0, 0.0, 0.0)),
    (0.5, (0.75, 0.0, 0.0)),
    (4.0, (0.0, 0.75, 0.0)),
    (7.0, (0.0, 0.0, 0.8)),
    (10.0, (0.75, 0.0, 0.5)),
    (13.0, (0.0, 0.0, 0.0)),
)
"""From this time on, these shares of the range: stand, forward, sideways, turn, a curve, stop."""
TOUR_S = 14.5

KEY_SHARE = 0.25
"""One press of a key changes its component by this share of the range."""
KEYS = {265: (0, 1), 264: (0, -1), 263: (2, 1), 262: (2, -1), 44: (1, 1), 46: (1, -1)}
"""GLFW key (up, down, left, right, comma, full stop) -> component of the command and direction."""
STOP_KEY = 257
"""GLFW's enter."""
KEYS_HELP = "up and down: speed; left and right: turn; comma and full stop: sideways; enter: stand"


def tour(elapsed_s: float, low: Floats, high: Floats) -> Floats:
    """Show every direction once, as `TOUR` says."""
    shares = next(share for at_s, share in reversed(TOUR) if at_s <= elapsed_s)
    return _of_range(shares, low, high)


def scripted(steps: Sequence[Step]) -> Steering:
    """Follow the velocities of a script of `robotrl run`, clipped to the range; its modes are ignored."""

    def command(elapsed_s: float, low: Floats, high: Floats) -> Floats:
        done = [step.velocity for step in steps if step.velocity and step.at_s <= elapsed_s]
        return np.clip(done[-1] if done else np.zeros(3), low, high)

    return command


class KeySteering:
    """A velocity command that key presses move; zero at first."""

    def __init__(self) -> None:
        self._shares = [0.0, 0.0, 0.0]

    def press(self, key: int) -> None:
        """Take one key press, by its GLFW code; other keys do nothing."""
        if key == STOP_KEY:
            self._shares = [0.0, 0.0, 0.0]
        elif key in KEYS:
            component, direction = KEYS[key]
            wanted = self._shares[component] + direction * KEY_SHARE
            self._shares[component] = min(max(wanted, -1.0), 1.0)

    def __call__(self, elapsed_s: float, low: Floats, high: Floats) -> Floats:
        """Return the present command."""
        return _of_range(self._shares, low, high)


def _of_range(shares: Sequence[float], low: Floats, high: Floats) -> Floats:
    """Shares in [-1, 1] of the way from zero to either end."""
    share = np.asarray(shares)
    return np.where(share < 0, -share * low, share * high)
