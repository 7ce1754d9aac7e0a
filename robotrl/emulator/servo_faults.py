"""The scripted faults of one bus's servos, put into their firmware when a window opens or closes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robotrl.emulator.faults import FaultScript, ServoFault, open_at
from robotrl.emulator.firmware import Firmware, Flags


class ServoFaults:
    """What the script does to the servos of one bus.

    Args:
        script: the faults; those of other lines are ignored.
        line: the bus.
        firmware: its servos, as assembled.
    """

    def __init__(self, script: FaultScript, line: str, firmware: Firmware) -> None:
        self._firmware = firmware
        self._row = {id_: row for row, id_ in enumerate(firmware.ids)}
        self._line, self._line_baud_bd = line, firmware.line_baud_bd
        self._set: dict[tuple[str, int], int] = {}
        """Ids and baud rates that are now in place of a servo's own, by kind and row."""
        self.follow(script)

    def follow(self, script: FaultScript) -> None:
        """Suffer the faults of this script at the next `apply`."""
        line = self._line
        self._silent = [f for f in script.servo_silence if f.line == line]
        self._stuck = [f for f in script.stuck_encoder if f.line == line]
        self._dark = [f for f in script.brown_out if f.line == line]
        self._hot = [f for f in script.overheat if f.line == line]
        self._duplicates = [f for f in script.duplicate_id if f.line == line]
        self._bauds = [f for f in script.wrong_baud if f.line == line]

    def apply(self, time_s: float) -> None:
        """Put the servos into the state of `time_s`."""
        firmware = self._firmware
        firmware.mute[:] = self._struck(self._silent, time_s)
        firmware.encoder_stuck[:] = self._struck(self._stuck, time_s)
        firmware.heat_c[:] = -np.inf
        for hot in open_at(self._hot, time_s):
            row = self._row[hot.id]
            firmware.heat_c[row] = max(firmware.heat_c[row], hot.temperature_c)
        self._apply_power(~self._struck(self._dark, time_s))
        self._apply_settings(time_s)

    def _struck(self, faults: Sequence[ServoFault], time_s: float) -> Flags:
        struck = np.zeros(len(self._row), np.bool_)
        struck[[self._row[fault.id] for fault in open_at(faults, time_s)]] = True
        return struck

    def _apply_power(self, powered: Flags) -> None:
        firmware = self._firmware
        for row in np.flatnonzero(powered != firmware.powered).tolist():
            firmware.power_cycle(row)
        firmware.powered[:] = powered

    def _apply_settings(self, time_s: float) -> None:
        """Give servos the id of another, or another baud rate, and their own back afterwards."""
        own = {("id", row): id_ for id_, row in self._row.items()}
        own |= {("baud", row): self._line_baud_bd for row in self._row.values()}
        wanted = {("id", self._row[f.id]): f.like for f in open_at(self._duplicates, time_s)}
        wanted |= {("baud", self._row[f.id]): f.baud_bd for f in open_at(self._bauds, time_s)}
        put = {"id": self._firmware.set_id, "baud": self._firmware.set_baud}
        for key in sorted(self._set.keys() | wanted.keys()):
            value = wanted.get(key, own[key])
            if self._set.get(key, own[key]) != value:
                put[key[0]](key[1], value)
        self._set = wanted
