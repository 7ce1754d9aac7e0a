"""The Bus Watchdog of X-series servos: it counts the silence of the host while the torque is on.

Source: ROBOTIS e-Manual, "Bus Watchdog (98)". Time is always an argument.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from robotrl.drivers import xseries as x
from robotrl.emulator.dynamixel_registers import ControlTables

_ROUNDING_S = 1e-9


class BusWatchdogs:
    """Those of all servos on one bus.

    Args:
        tables: their registers.
    """

    def __init__(self, tables: ControlTables) -> None:
        self._tables = tables
        self._heard_s = np.zeros(len(tables.values[x.BUS_WATCHDOG.address]))
        """(n,) when each servo last understood an instruction."""
        self._deadline_s = math.inf
        """The earliest time at which silence trips a servo."""

    def heard(self, time_s: float, rows: Iterable[int]) -> None:
        """Note that these servos have understood an instruction; whomever it is for, it counts."""
        self._heard_s[list(rows)] = time_s

    def arm(self) -> None:
        """Look again at settings and torque, after anything that may have changed them."""
        watched = self._watched()
        deadlines_s = (self._heard_s + x.WATCHDOG_UNIT_S * self._tables.values[x.BUS_WATCHDOG.address])[
            watched
        ]
        self._deadline_s = float(deadlines_s.min()) if len(deadlines_s) else math.inf

    def due(self, time_s: float) -> bool:
        """Return whether one trips."""
        return time_s > self._deadline_s + _ROUNDING_S

    def trip(self, time_s: float) -> NDArray[np.bool_]:
        """Trip those for which the silence has lasted longer than their setting; return which, (n,)."""
        settings = self._tables.values[x.BUS_WATCHDOG.address]
        silent_s = time_s - self._heard_s
        tripped: NDArray[np.bool_] = self._watched() & (silent_s > x.WATCHDOG_UNIT_S * settings + _ROUNDING_S)
        settings[tripped] = x.WATCHDOG_TRIPPED
        self.arm()
        return tripped

    @property
    def tripped(self) -> NDArray[np.bool_]:
        """(n,) whether Bus Watchdog (98) reads -1."""
        tripped: NDArray[np.bool_] = self._tables.values[x.BUS_WATCHDOG.address] == x.WATCHDOG_TRIPPED
        return tripped

    def _watched(self) -> NDArray[np.bool_]:
        values = self._tables.values
        watched: NDArray[np.bool_] = (values[x.BUS_WATCHDOG.address] > 0) & (
            values[x.TORQUE_ENABLE.address] == 1
        )
        return watched
