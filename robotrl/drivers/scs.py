"""The memory table of Feetech SCS servos with a potentiometer, as typed records.

Source: Feetech, "Potentiometer SCSCL Servo - Memory Table"; range of 300 degrees and highest voltage:
"SCS0009 Specifications" (A/0, 2020-11-23). Two bytes are high byte first; negative values are a sign bit
and a magnitude. EEPROM keeps what is written only while Lock (48) is 0. There is no current sensing,
and no sync read.
"""

from __future__ import annotations

import math

from robotrl.drivers.registers import (
    CELSIUS,
    COUNT,
    MILLISECOND,
    PERCENT,
    PERMILLE,
    TEN_MILLISECONDS,
    TENTH_VOLT,
    Access,
    Area,
    ControlTable,
    Register,
    Unit,
)

STEP = Unit("rad", math.radians(300) / 1024)
STEP_RATE = Unit("rad/s", math.radians(300) / 1024)

_E, _M = Area.EEPROM, Area.RAM
_R, _RW = Access.R, Access.RW
_BIG = True


def _word(
    name: str,
    address: int,
    area: Area,
    access: Access,
    initial: int,
    minimum: int,
    maximum: int,
    unit: Unit,
    sign_bit: int | None = None,
) -> Register:
    """Return a register of two bytes, high byte first."""
    signed = sign_bit is not None
    return Register(name, address, 2, area, access, initial, minimum, maximum, unit, signed, sign_bit, _BIG)


FIRMWARE_MAJOR_VERSION = Register("Firmware Major Version", 0, 1, _E, _R, 0, 0, 255)
FIRMWARE_MINOR_VERSION = Register("Firmware Minor Version", 1, 1, _E, _R, 0, 0, 255)
MODEL_NUMBER = _word("Model Number", 3, _E, _R, 1284, 0, 65535, COUNT)
ID = Register("ID", 5, 1, _E, _RW, 1, 0, 253)
BAUD_RATE = Register("Baud Rate", 6, 1, _E, _RW, 0, 0, 7)
RESPONSE_LEVEL = Register("Response Status Level", 8, 1, _E, _RW, 1, 0, 1)
MIN_POSITION_LIMIT = _word("Min Position Limit", 9, _E, _RW, 20, 0, 1023, STEP)
MAX_POSITION_LIMIT = _word("Max Position Limit", 11, _E, _RW, 1003, 0, 1023, STEP)
MAX_TEMPERATURE = Register("Max Temperature Limit", 13, 1, _E, _RW, 70, 0, 100, CELSIUS)
MAX_VOLTAGE = Register("Max Input Voltage", 14, 1, _E, _RW, 90, 0, 254, TENTH_VOLT)
MIN_VOLTAGE = Register("Min Input Voltage", 15, 1, _E, _RW, 40, 0, 254, TENTH_VOLT)
MAX_TORQUE = _word("Max Torque", 16, _E, _RW, 1000, 0, 1000, PERMILLE)
PHASE = Register("Phase", 18, 1, _E, _RW, 0, 0, 254)
UNLOADING_CONDITION = Register("Unloading Condition", 19, 1, _E, _RW, 0, 0, 254)
LED_ALARM_CONDITION = Register("LED Alarm Condition", 20, 1, _E, _RW, 0, 0, 254)
P_GAIN = Register("P Coefficient", 21, 1, _E, _RW, 0, 0, 254)
D_GAIN = Register("D Coefficient", 22, 1, _E, _RW, 0, 0, 254)
MIN_STARTUP_FORCE = _word("Min Startup Force", 24, _E, _RW, 0, 0, 1000, PERMILLE)
CW_DEAD_ZONE = Register("CW Dead Zone", 26, 1, _E, _RW, 1, 0, 16, STEP)
CCW_DEAD_ZONE = Register("CCW Dead Zone", 27, 1, _E, _RW, 1, 0, 16, STEP)
PROTECTIVE_TORQUE = Register("Protective Torque", 37, 1, _E, _RW, 20, 0, 254, PERCENT)
PROTECTION_TIME = Register("Protection Time", 38, 1, _E, _RW, 200, 0, 254, TEN_MILLISECONDS)
OVERLOAD_TORQUE = Register("Overload Torque", 39, 1, _E, _RW, 80, 0, 254, PERCENT)
TORQUE_ENABLE = Register("Torque Enable", 40, 1, _M, _RW, 0, 0, 2)
GOAL_POSITION = _word("Goal Position", 42, _M, _RW, 0, 0, 1023, STEP)
GOAL_TIME = _word("Goal Time", 44, _M, _RW, 0, 0, 9999, MILLISECOND)
GOAL_VELOCITY = _word("Goal Velocity", 46, _M, _RW, 0, 0, 1000, STEP_RATE)
LOCK = Register("Lock", 48, 1, _M, _RW, 1, 0, 1)
PRESENT_POSITION = _word("Present Position", 56, _M, _R, 0, 0, 1023, STEP)
PRESENT_VELOCITY = _word("Present Velocity", 58, _M, _R, 0, -32767, 32767, STEP_RATE, 15)
PRESENT_LOAD = _word("Present Load", 60, _M, _R, 0, -1000, 1000, PERMILLE, 10)
PRESENT_VOLTAGE = Register("Present Voltage", 62, 1, _M, _R, 0, 0, 255, TENTH_VOLT)
PRESENT_TEMPERATURE = Register("Present Temperature", 63, 1, _M, _R, 0, 0, 255, CELSIUS)
REGISTERED_INSTRUCTION = Register("Asynchronous Write Flag", 64, 1, _M, _R, 0, 0, 1)
STATUS = Register("Status", 65, 1, _M, _R, 0, 0, 255)
MOVING = Register("Moving", 66, 1, _M, _R, 0, 0, 1)

SCS0009 = ControlTable.of("SCS0009", 1284, [r for r in globals().values() if isinstance(r, Register)])

DAMPING = 2
"""Torque Enable (40): the motor is shorted and brakes."""
