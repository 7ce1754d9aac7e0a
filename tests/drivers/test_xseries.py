"""The register table: laws that every entry obeys."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from robotrl.drivers import xseries as x
from robotrl.drivers.registers import Access, Area, Register

REGISTERS = list(x.REGISTERS.values())


def test_registers_do_not_overlap_and_are_sorted() -> None:
    assert all(a.end <= b.address for a, b in pairwise(REGISTERS))


@pytest.mark.parametrize("register", REGISTERS, ids=lambda r: r.name)
def test_limits_fit_the_size_and_survive_encoding(register: Register) -> None:
    assert register.minimum <= register.initial <= register.maximum
    for value in (register.minimum, register.initial, register.maximum):
        assert register.decode(register.encode(value)) == value
        assert np.array([value]).astype(register.dtype).tobytes() == register.encode(value)


def test_the_areas_are_split_at_torque_enable() -> None:
    for register in REGISTERS:
        assert (register.area is Area.RAM) == (register.address >= x.TORQUE_ENABLE.address)


def test_what_the_servo_measures_cannot_be_written() -> None:
    for register in REGISTERS:
        if register.name.startswith("Present") or register is x.HARDWARE_ERROR_STATUS:
            assert register.access is Access.R


def test_a_tripped_watchdog_reads_as_the_manual_says() -> None:
    assert x.BUS_WATCHDOG.decode(b"\xff") == x.WATCHDOG_TRIPPED
    assert x.BUS_WATCHDOG.minimum > x.WATCHDOG_TRIPPED
