"""The measured tick of bus traffic does the work that it is timed for."""

from __future__ import annotations

import pytest

from robotrl.bench.bus import SERVOS, codec_medians_us, ticks
from robotrl.drivers import sts
from robotrl.drivers import xseries as x
from robotrl.drivers.registers import Register

X_BLOCK = (
    x.PRESENT_LOAD,
    x.PRESENT_VELOCITY,
    x.PRESENT_POSITION,
    x.PRESENT_INPUT_VOLTAGE,
    x.PRESENT_TEMPERATURE,
)
STS_BLOCK = (
    sts.PRESENT_POSITION,
    sts.PRESENT_VELOCITY,
    sts.PRESENT_LOAD,
    sts.PRESENT_VOLTAGE,
    sts.PRESENT_TEMPERATURE,
    sts.STATUS,
    sts.PRESENT_CURRENT,
)


@pytest.mark.parametrize(
    ("kind", "registers"), [("dynamixel_fast", X_BLOCK), ("dynamixel", X_BLOCK), ("sts", STS_BLOCK)]
)
def test_a_tick_decodes_every_register_of_every_servo(kind: str, registers: tuple[Register, ...]) -> None:
    decoded = ticks()[kind]()
    first = registers[0].address
    size = registers[-1].end - first
    for servo in range(len(SERVOS)):
        data = bytes(byte % 256 % 253 for byte in range(servo * size, (servo + 1) * size))
        alone = [r.decode(data[r.address - first : r.end - first]) * r.unit.scale for r in registers]
        assert decoded[servo].tolist() == pytest.approx(alone)


def test_each_kind_of_bus_is_timed() -> None:
    medians = codec_medians_us(rounds=3)
    assert set(medians) == set(ticks())
    assert all(figure > 0 for figure in medians.values())
