"""When the faults of a script begin and end, told as events."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from robotrl.emulator.faults import FaultScript, Spell

_ROUNDING_S = 1e-9
_CABLE = ("unplug", "plug")
"""A scripted cut is told like the command that does the same."""


@dataclass(frozen=True)
class Event:
    """Something worth telling: what, when, and to which servo (-1: none)."""

    name: str
    time_s: float
    servo_id: int = -1


@dataclass(frozen=True)
class _Told:
    """A window of the script, and how its beginning and its end are called."""

    spell: Spell
    begins: str
    ends: str
    servo_id: int


class Timeline:
    """Tells of each window of a script once when it opens and once when it is over.

    Args:
        script: the faults; a push is an event of the machine's.
    """

    def __init__(self, script: FaultScript) -> None:
        self._told = _told(script)
        self._open = [False] * len(self._told)
        moments = {edge for told in self._told for edge in (told.spell.from_s, told.spell.until_s)}
        self._edges = deque(sorted(moments))

    def turn(self, time_s: float) -> list[Event]:
        """Return what has begun or ended since the last call; what ends comes first."""
        if not self._edges or self._edges[0] > time_s + _ROUNDING_S:
            return []
        while self._edges and self._edges[0] <= time_s + _ROUNDING_S:
            self._edges.popleft()
        now_s = time_s + _ROUNDING_S
        events: tuple[list[Event], list[Event]] = ([], [])
        for i, told in enumerate(self._told):
            is_open = told.spell.from_s <= now_s < told.spell.until_s
            if is_open != self._open[i]:
                self._open[i] = is_open
                name = told.begins if is_open else told.ends
                events[is_open].append(Event(name, time_s, told.servo_id))
        return [*events[False], *events[True]]


def _told(script: FaultScript) -> list[_Told]:
    told = []
    for key, on_line in script.on_lines.items():
        begins, ends = _CABLE if key == "cut" else (key, f"{key} over")
        told += [_Told(fault, f"{begins} {fault.line}", f"{ends} {fault.line}", -1) for fault in on_line]
    for key, on_servo in script.on_servos.items():
        told += [
            _Told(fault, f"{key} {fault.line}", f"{key} over {fault.line}", fault.id) for fault in on_servo
        ]
    for key, on_imu in script.on_imu.items():
        told += [_Told(window, key, f"{key} over", -1) for window in on_imu]
    return told
