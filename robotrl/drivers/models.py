"""The control tables of the servo models that are supported, one each, for driver and emulator alike.

Source: ROBOTIS e-Manual, the "Control Table" of each model; Feetech's tables are in `sts` and `scs`.
The X series shares places and meanings with `xseries` (XC430-W240); here is what differs. Indirect
addresses and data are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from robotrl.drivers import xseries as x
from robotrl.drivers.registers import MILLIAMPERE, Access, Area, ControlTable, Register, Unit
from robotrl.drivers.scs import SCS0009
from robotrl.drivers.sts import STS3215

XM_CURRENT = Unit("A", 2.69e-3)

_E, _M = Area.EEPROM, Area.RAM
_R, _RW = Access.R, Access.RW


def _current_control(limit: int, unit: Unit) -> list[Register]:
    """Return the registers of models that measure and control current; 126 is load in the others."""
    return [
        Register("Current Limit", 38, 2, _E, _RW, limit, 0, limit, unit),
        Register("Goal Current", 102, 2, _M, _RW, 0, -limit, limit, unit, True),
        Register("Present Current", 126, 2, _M, _R, 0, -(2**15), 2**15 - 1, unit, True),
    ]


XM430_CURRENT_LIMIT, XM430_GOAL_CURRENT, XM430_PRESENT_CURRENT = _current_control(1193, XM_CURRENT)
XL330_CURRENT_LIMIT, XL330_GOAL_CURRENT, XL330_PRESENT_CURRENT = _current_control(1750, MILLIAMPERE)
XC330_CURRENT_LIMIT, XC330_GOAL_CURRENT, XC330_PRESENT_CURRENT = _current_control(910, MILLIAMPERE)


def _pwm_slope(initial: int, mv_per_ms: float) -> Register:
    return Register("PWM Slope", 62, 1, _E, _RW, initial, 1, 255, Unit("V/s", mv_per_ms))


XC430_W240 = ControlTable.of("XC430-W240-T", 1080, x.REGISTERS.values())
XC430_W150 = XC430_W240.variant(
    "XC430-W150-T",
    1070,
    initial={
        x.MODEL_NUMBER: 1070,
        x.MOVING_THRESHOLD: 20,
        x.VELOCITY_LIMIT: 460,
        x.POSITION_P_GAIN: 460,
    },
)
XL430_W250 = XC430_W240.variant(
    "XL430-W250-T",
    1060,
    initial={
        x.MODEL_NUMBER: 1060,
        x.TEMPERATURE_LIMIT: 72,
        x.MAX_VOLTAGE_LIMIT: 140,
        x.VELOCITY_LIMIT: 265,
        x.VELOCITY_I_GAIN: 1000,
        x.POSITION_D_GAIN: 4000,
        x.POSITION_P_GAIN: 640,
    },
    bounds={x.MAX_VOLTAGE_LIMIT: (60, 140), x.MIN_VOLTAGE_LIMIT: (60, 140)},
)
XM430_W350 = XC430_W240.variant(
    "XM430-W350",
    1020,
    initial={
        x.MODEL_NUMBER: 1020,
        x.MIN_VOLTAGE_LIMIT: 95,
        x.VELOCITY_LIMIT: 200,
        x.POSITION_P_GAIN: 800,
    },
    bounds={x.MAX_VOLTAGE_LIMIT: (95, 160), x.MIN_VOLTAGE_LIMIT: (95, 160)},
    instead=(XM430_CURRENT_LIMIT, XM430_GOAL_CURRENT, XM430_PRESENT_CURRENT),
)

_SMALL_BOUNDS = {
    x.BAUD_RATE: (0, 6),
    x.PROTOCOL_TYPE: (2, 22),
    x.VELOCITY_LIMIT: (0, 2047),
    x.GOAL_VELOCITY: (-2047, 2047),
}
"""Common to XL330 and XC330."""

XL330_M288 = XC430_W240.variant(
    "XL330-M288-T",
    1200,
    initial={
        x.MODEL_NUMBER: 1200,
        x.TEMPERATURE_LIMIT: 70,
        x.MAX_VOLTAGE_LIMIT: 70,
        x.MIN_VOLTAGE_LIMIT: 35,
        x.VELOCITY_LIMIT: 445,
        x.SHUTDOWN: 53,
        x.VELOCITY_I_GAIN: 1600,
        x.VELOCITY_P_GAIN: 180,
        x.POSITION_P_GAIN: 400,
        x.PRESENT_INPUT_VOLTAGE: 50,
    },
    bounds=_SMALL_BOUNDS | {x.MAX_VOLTAGE_LIMIT: (31, 70), x.MIN_VOLTAGE_LIMIT: (31, 70)},
    instead=(XL330_CURRENT_LIMIT, XL330_GOAL_CURRENT, XL330_PRESENT_CURRENT, _pwm_slope(140, 1.977)),
)
XL330_M077 = XL330_M288.variant(
    "XL330-M077-T",
    1190,
    initial={
        x.MODEL_NUMBER: 1190,
        x.VELOCITY_LIMIT: 1620,
        x.VELOCITY_I_GAIN: 400,
        x.VELOCITY_P_GAIN: 40,
        x.POSITION_I_GAIN: 400,
    },
)
XC330_T288 = XC430_W240.variant(
    "XC330-T288-T",
    1220,
    initial={
        x.MODEL_NUMBER: 1220,
        x.TEMPERATURE_LIMIT: 70,
        x.MAX_VOLTAGE_LIMIT: 140,
        x.MIN_VOLTAGE_LIMIT: 55,
        x.VELOCITY_LIMIT: 320,
        x.VELOCITY_I_GAIN: 1200,
        x.VELOCITY_P_GAIN: 40,
        x.POSITION_P_GAIN: 900,
    },
    bounds=_SMALL_BOUNDS | {x.MAX_VOLTAGE_LIMIT: (55, 140), x.MIN_VOLTAGE_LIMIT: (55, 140)},
    instead=(XC330_CURRENT_LIMIT, XC330_GOAL_CURRENT, XC330_PRESENT_CURRENT, _pwm_slope(255, 3.955)),
)
XC330_T181 = XC330_T288.variant("XC330-T181-T", 1210, initial={x.MODEL_NUMBER: 1210, x.VELOCITY_LIMIT: 510})

MODELS: Mapping[int, ControlTable] = MappingProxyType(
    {
        table.model_number: table
        for table in (
            XL330_M077,
            XL330_M288,
            XC330_T181,
            XC330_T288,
            XL430_W250,
            XC430_W150,
            XC430_W240,
            XM430_W350,
            STS3215,
            SCS0009,
        )
    }
)
"""Model number -> control table."""
