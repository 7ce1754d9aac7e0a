"""The memory table of Feetech STS servos with a magnetic encoder, as typed records.

Source: Feetech, "STS3215 memory table V3.6" and "Magnetic Encoder STS Servo - Memory Table"; where
they differ (Goal Velocity's range, Lock's initial value) the latter. Two bytes are low byte first;
negative values are a sign bit and a magnitude. EEPROM keeps what is written only while Lock (55) is 0.
"""

from __future__ import annotations

import math

from robotrl.drivers.registers import (
    CELSIUS,
    PERCENT,
    PERMILLE,
    TEN_MILLISECONDS,
    TENTH_VOLT,
    TWO_MICROSECONDS,
    Access,
    Area,
    ControlTable,
    Register,
    Unit,
)

STEP = Unit("rad", 2 * math.pi / 4096)
STEP_RATE = Unit("rad/s", 2 * math.pi / 4096)
"""With `FINE_VELOCITY` set, as ex works; without it, one count is 50 times as much."""
ACCELERATION = Unit("rad/s^2", 100 * 2 * math.pi / 4096)
CURRENT = Unit("A", 0.0065)

_E, _M = Area.EEPROM, Area.RAM
_R, _RW = Access.R, Access.RW

FIRMWARE_MAJOR_VERSION = Register("Firmware Major Version", 0, 1, _E, _R, 3, 0, 255)
FIRMWARE_MINOR_VERSION = Register("Firmware Minor Version", 1, 1, _E, _R, 6, 0, 255)
MODEL_NUMBER = Register("Model Number", 3, 2, _E, _R, 777, 0, 65535)
ID = Register("ID", 5, 1, _E, _RW, 1, 0, 253)
BAUD_RATE = Register("Baud Rate", 6, 1, _E, _RW, 0, 0, 7)
RETURN_DELAY = Register("Return Delay", 7, 1, _E, _RW, 0, 0, 254, TWO_MICROSECONDS)
RESPONSE_LEVEL = Register("Response Status Level", 8, 1, _E, _RW, 1, 0, 1)
MIN_POSITION_LIMIT = Register("Min Position Limit", 9, 2, _E, _RW, 0, 0, 4094, STEP)
MAX_POSITION_LIMIT = Register("Max Position Limit", 11, 2, _E, _RW, 4095, 0, 4095, STEP)
MAX_TEMPERATURE = Register("Max Temperature Limit", 13, 1, _E, _RW, 70, 0, 100, CELSIUS)
MAX_VOLTAGE = Register("Max Input Voltage", 14, 1, _E, _RW, 80, 0, 254, TENTH_VOLT)
MIN_VOLTAGE = Register("Min Input Voltage", 15, 1, _E, _RW, 40, 0, 254, TENTH_VOLT)
MAX_TORQUE = Register("Max Torque", 16, 2, _E, _RW, 1000, 0, 1000, PERMILLE)
PHASE = Register("Phase", 18, 1, _E, _RW, 12, 0, 254)
UNLOADING_CONDITION = Register("Unloading Condition", 19, 1, _E, _RW, 44, 0, 254)
LED_ALARM_CONDITION = Register("LED Alarm Condition", 20, 1, _E, _RW, 47, 0, 254)
P_GAIN = Register("P Coefficient", 21, 1, _E, _RW, 32, 0, 254)
D_GAIN = Register("D Coefficient", 22, 1, _E, _RW, 32, 0, 254)
I_GAIN = Register("I Coefficient", 23, 1, _E, _RW, 0, 0, 254)
MIN_STARTUP_FORCE = Register("Min Startup Force", 24, 2, _E, _RW, 16, 0, 1000, PERMILLE)
CW_DEAD_ZONE = Register("CW Dead Zone", 26, 1, _E, _RW, 1, 0, 32, STEP)
CCW_DEAD_ZONE = Register("CCW Dead Zone", 27, 1, _E, _RW, 1, 0, 32, STEP)
PROTECTION_CURRENT = Register("Protection Current", 28, 2, _E, _RW, 500, 0, 511, CURRENT)
ANGULAR_RESOLUTION = Register("Angular Resolution", 30, 1, _E, _RW, 1, 1, 100)
HOMING_OFFSET = Register("Position Correction", 31, 2, _E, _RW, 0, -2047, 2047, STEP, True, 11)
OPERATING_MODE = Register("Operating Mode", 33, 1, _E, _RW, 0, 0, 3)
PROTECTIVE_TORQUE = Register("Protective Torque", 34, 1, _E, _RW, 20, 0, 254, PERCENT)
PROTECTION_TIME = Register("Protection Time", 35, 1, _E, _RW, 200, 0, 254, TEN_MILLISECONDS)
OVERLOAD_TORQUE = Register("Overload Torque", 36, 1, _E, _RW, 80, 0, 254, PERCENT)
VELOCITY_P_GAIN = Register("Velocity P Coefficient", 37, 1, _E, _RW, 10, 0, 254)
OVERCURRENT_TIME = Register("Overcurrent Time", 38, 1, _E, _RW, 200, 0, 254, TEN_MILLISECONDS)
VELOCITY_I_GAIN = Register("Velocity I Coefficient", 39, 1, _E, _RW, 10, 0, 254)
TORQUE_ENABLE = Register("Torque Enable", 40, 1, _M, _RW, 0, 0, 128)
ACCELERATION_LIMIT = Register("Acceleration", 41, 1, _M, _RW, 0, 0, 254, ACCELERATION)
GOAL_POSITION = Register("Goal Position", 42, 2, _M, _RW, 0, -32766, 32766, STEP, True, 15)
GOAL_TIME = Register("Goal Time", 44, 2, _M, _RW, 0, 0, 1000, PERMILLE)
GOAL_VELOCITY = Register("Goal Velocity", 46, 2, _M, _RW, 0, -32767, 32767, STEP_RATE, True, 15)
TORQUE_LIMIT = Register("Torque Limit", 48, 2, _M, _RW, 1000, 0, 1000, PERMILLE)
LOCK = Register("Lock", 55, 1, _M, _RW, 1, 0, 1)
PRESENT_POSITION = Register("Present Position", 56, 2, _M, _R, 0, -32767, 32767, STEP, True, 15)
PRESENT_VELOCITY = Register("Present Velocity", 58, 2, _M, _R, 0, -32767, 32767, STEP_RATE, True, 15)
PRESENT_LOAD = Register("Present Load", 60, 2, _M, _R, 0, -1000, 1000, PERMILLE, True, 10)
PRESENT_VOLTAGE = Register("Present Voltage", 62, 1, _M, _R, 0, 0, 255, TENTH_VOLT)
PRESENT_TEMPERATURE = Register("Present Temperature", 63, 1, _M, _R, 0, 0, 255, CELSIUS)
REGISTERED_INSTRUCTION = Register("Asynchronous Write Flag", 64, 1, _M, _R, 0, 0, 1)
STATUS = Register("Status", 65, 1, _M, _R, 0, 0, 255)
MOVING = Register("Moving", 66, 1, _M, _R, 0, 0, 1)
PRESENT_CURRENT = Register("Present Current", 69, 2, _M, _R, 0, -32767, 32767, CURRENT, True, 15)

STS3215 = ControlTable.of("STS3215", 777, [r for r in globals().values() if isinstance(r, Register)])
"""The 7.4 V version with firmware 3.6."""

POSITION_CONTROL = 0
"""Operating Mode (33)."""

FINE_VELOCITY = 4
"""Bit of Phase (18), whose other bits are about the motor's wiring."""

SET_MIDPOINT = 128
"""Torque Enable (40): the present position becomes 2048 through Position Correction (31)."""
