"""The dead man's switch: an operator who has commanded and is gone is an emergency stop."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable

from robotrl.runtime.modes import Event

RESTING_EVENTS = frozenset({Event.LIMP, Event.ESTOP})
"""After one of these nobody needs to watch the robot; one that is lowering itself is not dropped."""


class Link:
    """Whether the operator is still there who has commanded last; others do not hold the switch for them.

    Args:
        timeout_s: silence for longer than this is a loss; infinite where a loss shows in another way.
    """

    def __init__(self, timeout_s: float = math.inf) -> None:
        self._timeout_s = timeout_s
        self._heard_s = -math.inf
        self._commander: Hashable = None
        self._commands = self._over = False

    def heard(self, elapsed_s: float, sender: Hashable = None) -> None:
        """Note a sign of life; of another than who commanded last it is none."""
        if sender == self._commander:
            self._heard_s = elapsed_s

    def commanded(self, events: Iterable[Event] = (), sender: Hashable = None) -> None:
        """Note that somebody commands: events, or without any a command of the policy."""
        self._commander = sender
        self._commands = not (self._over or RESTING_EVENTS & set(events))

    def end(self) -> None:
        """Note that the run is over: from now on nobody is missed, whatever they command."""
        self._commands, self._over = False, True

    def is_silent(self, elapsed_s: float) -> bool:
        """Return whether the last sign of life is longer ago than the time-out."""
        return elapsed_s - self._heard_s > self._timeout_s

    def silent(self, elapsed_s: float) -> list[Event]:
        """Return the emergency stop that a silence beyond the time-out is."""
        return self.lost() if self.is_silent(elapsed_s) else []

    def lost(self) -> list[Event]:
        """Return the emergency stop that the loss of one who has commanded is; once."""
        events = [Event.ESTOP] * self._commands
        self._commands = False
        return events
