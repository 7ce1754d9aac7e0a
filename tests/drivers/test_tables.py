"""Register tables of all models, and blocks of registers: laws that every entry obeys."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from robotrl.drivers import scs, sts
from robotrl.drivers import xseries as x
from robotrl.drivers.models import MODELS, XL330_M288, XM430_PRESENT_CURRENT, XM430_W350
from robotrl.drivers.registers import Access, Area, Block, ControlTable, Register
from robotrl.errors import ProtocolError

TABLES = list(MODELS.values())
REGISTERS = sorted(
    {r for table in TABLES for r in table.registers.values()}, key=lambda r: (r.address, r.name)
)


def named(table: ControlTable) -> str:
    return table.model


@pytest.mark.parametrize("table", TABLES, ids=named)
def test_a_table_is_sorted_without_overlap_and_knows_its_number(table: ControlTable) -> None:
    registers = list(table.registers.values())
    assert list(table.registers) == [r.address for r in registers]
    assert all(a.end <= b.address for a, b in pairwise(registers))
    (number,) = [r for r in registers if r.name == "Model Number"]
    assert number.initial == table.model_number
    assert MODELS[table.model_number] is table


@pytest.mark.parametrize("table", TABLES, ids=named)
def test_eeprom_comes_before_torque_enable(table: ControlTable) -> None:
    (torque,) = [r for r in table.registers.values() if r.name == "Torque Enable"]
    for register in table.registers.values():
        assert (register.area is Area.RAM) == (register.address >= torque.address)


@pytest.mark.parametrize("table", TABLES, ids=named)
def test_what_a_servo_measures_cannot_be_written(table: ControlTable) -> None:
    for register in table.registers.values():
        if register.name.startswith("Present") or register.name in ("Moving", "Status"):
            assert register.access is Access.R


@pytest.mark.parametrize("register", REGISTERS, ids=lambda r: f"{r.name} {r.address}")
def test_limits_fit_the_bytes_and_every_value_survives_them(register: Register) -> None:
    assert register.lowest <= register.minimum <= register.initial <= register.maximum <= register.highest
    rng = np.random.default_rng(register.address)
    ends = [register.lowest, register.minimum, register.initial, register.maximum, register.highest]
    values = np.concatenate([ends, rng.integers(register.lowest, register.highest, 50, endpoint=True)])
    block = Block((register,))
    encoded = block.encode(values[:, np.newaxis])
    assert (block.decode(encoded)[:, 0] == values).all()
    for value, row in zip(values.tolist(), encoded, strict=True):
        assert register.encode(value) == row.tobytes()
        assert register.decode(row.tobytes()) == value


@pytest.mark.parametrize("register", REGISTERS, ids=lambda r: f"{r.name} {r.address}")
def test_a_value_beyond_the_bytes_is_refused(register: Register) -> None:
    for value in (register.lowest - 1, register.highest + 1):
        with pytest.raises(OverflowError):
            register.encode(value)
        with pytest.raises(ProtocolError, match="cannot hold"):
            Block((register,)).encode(np.array([[value]]))


@pytest.mark.parametrize("register", REGISTERS, ids=lambda r: f"{r.name} {r.address}")
def test_si_values_survive_to_half_a_count(register: Register) -> None:
    assert register.unit.scale > 0
    rng = np.random.default_rng(register.address)
    si = rng.uniform(register.minimum, register.maximum, 100) * register.unit.scale
    counts = np.rint(si / register.unit.scale).astype(np.int64)
    back = Block((register,)).decode(Block((register,)).encode(counts[:, np.newaxis]))[:, 0]
    tolerance = register.unit.scale * (0.5 + 1e-6)
    np.testing.assert_allclose(back * register.unit.scale, si, atol=tolerance, rtol=0)


def test_sign_and_magnitude_as_in_the_manual() -> None:
    assert sts.PRESENT_VELOCITY.decode(b"\x0a\x80") == -10
    assert sts.PRESENT_LOAD.decode(b"\x05\x04") == -5
    assert sts.HOMING_OFFSET.encode(-2047) == b"\xff\x0f"
    assert sts.GOAL_POSITION.encode(2048) == b"\x00\x08"
    assert scs.GOAL_POSITION.encode(0x0102) == b"\x01\x02"
    assert scs.PRESENT_LOAD.decode(b"\x04\x05") == -5
    assert scs.PRESENT_VELOCITY.decode(b"\x80\x0a") == -10
    assert sts.PRESENT_VELOCITY.decode(b"\x00\x80") == 0  # minus zero


def test_si_units_of_well_known_values() -> None:
    assert 2048 * x.PRESENT_POSITION.unit.scale == pytest.approx(np.pi)
    assert 100 * x.PRESENT_VELOCITY.unit.scale == pytest.approx(22.9 * 2 * np.pi / 60)
    assert 1193 * XM430_PRESENT_CURRENT.unit.scale == pytest.approx(3.21, abs=0.005)
    assert 3400 * sts.PRESENT_VELOCITY.unit.scale == pytest.approx(50 * 2 * np.pi / 60, rel=0.01)
    assert 500 * sts.PRESENT_CURRENT.unit.scale == pytest.approx(3.25)
    assert 1024 * scs.PRESENT_POSITION.unit.scale == pytest.approx(np.deg2rad(300))
    assert 120 * x.PRESENT_INPUT_VOLTAGE.unit.scale == pytest.approx(12.0)


def test_models_differ_where_their_manuals_do() -> None:
    assert XL330_M288[x.MAX_VOLTAGE_LIMIT].maximum == 70
    assert XL330_M288[x.SHUTDOWN].initial == 53
    assert x.PRESENT_LOAD not in XL330_M288
    assert XM430_PRESENT_CURRENT in XM430_W350
    with pytest.raises(ProtocolError, match="XM430-W350 has no register Present Load"):
        XM430_W350[x.PRESENT_LOAD]


# Blocks -------------------------------------------------------------------------------------

BLOCKS = [
    (x.PRESENT_LOAD, x.PRESENT_VELOCITY, x.PRESENT_POSITION, x.PRESENT_INPUT_VOLTAGE, x.PRESENT_TEMPERATURE),
    (sts.PRESENT_POSITION, sts.PRESENT_VELOCITY, sts.PRESENT_LOAD, sts.PRESENT_VOLTAGE, sts.PRESENT_CURRENT),
    (scs.PRESENT_POSITION, scs.PRESENT_VELOCITY, scs.PRESENT_LOAD, scs.PRESENT_VOLTAGE, scs.MOVING),
]


@pytest.mark.parametrize("registers", BLOCKS, ids=("x", "sts", "scs"))
def test_a_block_decodes_each_servo_and_register_as_it_would_alone(registers: tuple[Register, ...]) -> None:
    block = Block(registers)
    data = np.random.default_rng(0).integers(0, 256, (12, block.size), np.uint8)
    values = block.decode(data)
    for row, servo in enumerate(data):
        for k, register in enumerate(registers):
            at = register.address - block.address
            assert values[row, k] == register.decode(servo[at : at + register.size].tobytes())


@pytest.mark.parametrize(
    "registers",
    [
        (x.GOAL_PWM, dataclasses.replace(XL330_M288.registers[102]), x.GOAL_VELOCITY),
        (sts.ACCELERATION_LIMIT, sts.GOAL_POSITION, sts.GOAL_TIME, sts.GOAL_VELOCITY),
        (scs.GOAL_POSITION, scs.GOAL_TIME, scs.GOAL_VELOCITY),
    ],
    ids=("x", "sts", "scs"),
)
def test_a_written_block_is_its_registers_side_by_side(registers: tuple[Register, ...]) -> None:
    rng = np.random.default_rng(1)
    values = np.array([[rng.integers(r.minimum, r.maximum) for r in registers] for _ in range(12)])
    encoded = Block(registers).encode(values)
    for row, servo in zip(values.tolist(), encoded, strict=True):
        sides = [r.encode(value) for r, value in zip(registers, row, strict=True)]
        assert servo.tobytes() == b"".join(sides)


def test_a_block_with_reserved_bytes_is_not_written() -> None:
    with pytest.raises(ProtocolError, match="gaps"):
        Block((sts.GOAL_VELOCITY, sts.LOCK)).encode(np.zeros((1, 2), np.int64))
