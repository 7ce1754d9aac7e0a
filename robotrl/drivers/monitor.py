"""What the servos on one bus measure, in SI units, to be looked at; nothing is written."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robotrl.drivers.port import Port
from robotrl.drivers.registers import Block, Ints
from robotrl.drivers.scale import Scale, of_servos
from robotrl.drivers.servo import Line
from robotrl.errors import PortError
from robotrl.spec.state import Floats


@dataclass(frozen=True)
class Sample:
    """(n,) values, the newest of each servo; NaN before its first.

    Attributes:
        position_rad: of the servo's own scale, or the joint's angle where there are joints.
        velocity_rad_s: likewise.
        load: share of full drive, in the direction of the position.
        voltage_v: at the servo.
        temperature_c: of the servo.
        error: bits of its hardware errors.
        age_s: since the values came; infinite before.
    """

    position_rad: Floats
    velocity_rad_s: Floats
    load: Floats
    voltage_v: Floats
    temperature_c: Floats
    error: Ints
    age_s: Floats


class Monitor:
    """Reads servos again and again, none of which has to answer.

    Args:
        port: where the bytes go; it may go away and come back.
        line: the port's protocol and speed.
        ids: the servos.
        scale: of their joints (`robotrl.drivers.scale.of_joints`); without it that of the manual.
    """

    def __init__(self, port: Port, line: Line, ids: Sequence[int], scale: Scale | None = None) -> None:
        self.ids = tuple(ids)
        self._bus = line.bus(port, self.ids)
        self._series = line.series
        measured = line.series.measured
        wanted = (measured.position, measured.velocity, measured.load, measured.voltage, measured.temperature)
        by_place = sorted(wanted, key=lambda register: register.address)
        self._block = Block(by_place)
        self._columns = [by_place.index(register) for register in wanted]
        self._scale = scale or of_servos(line.series, len(ids))
        self._values = np.full((len(wanted), len(ids)), np.nan)
        self._error = np.zeros(len(ids), np.int64)
        self._stamp_s = np.full(len(ids), -np.inf)

    def sample(self, now_s: float) -> Sample:
        """Read every servo once; while the port has gone, values only age."""
        with contextlib.suppress(PortError):
            self._take(now_s)
        position, velocity, load, voltage, temperature = self._values.copy()
        age_s = now_s - self._stamp_s
        return Sample(position, velocity, load, voltage, temperature, self._error.copy(), age_s)

    def _take(self, now_s: float) -> None:
        replies = self._bus.sync_read(self._block.address, self._block.size)
        fresh = replies.fresh
        values = self._block.decode(replies.data).T[self._columns].astype(float)
        values[0] -= self._scale.zero
        values *= self._scale.unit
        self._values[:, fresh] = values[:, fresh]
        self._stamp_s[fresh] = now_s
        health = self._bus.read_register(self._series.health)
        self._error[health.fresh] = health.values(self._series.health)[health.fresh]

    def errors(self, bits: int) -> str:
        """Return the names of hardware errors."""
        named = [bit.name for bit in self._series.health_bits if bits & bit and bit.name]
        return ", ".join(name.lower().replace("_", " ") for name in named) or (str(bits) if bits else "")
