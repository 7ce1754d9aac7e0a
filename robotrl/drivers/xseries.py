"""The control table of DYNAMIXEL X-series servos without current control (XC430, XL430), as typed records.

Source: ROBOTIS e-Manual, XC430-W240-T, "Control Table of EEPROM Area" and "... of RAM Area". Values
are little-endian; negative ones are two's complement. EEPROM is writable only while torque is off.
Other models of the series are in `models`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntFlag
from types import MappingProxyType

from robotrl.drivers.registers import (
    CELSIUS,
    MILLISECOND,
    PERMILLE,
    TENTH_VOLT,
    TWO_MICROSECONDS,
    Access,
    Area,
    Register,
    Unit,
)

PULSE = Unit("rad", 2 * math.pi / 4096)
VELOCITY = Unit("rad/s", 0.229 * 2 * math.pi / 60)
ACCELERATION = Unit("rad/s^2", 214.577 * 2 * math.pi / 60**2)
PWM = Unit("1", 1 / 885)
"""Share of the supply voltage: 0.113 % in the manual, 885 counts are all of it."""
_WATCHDOG = Unit("s", 0.02)

_E, _M = Area.EEPROM, Area.RAM
_R, _RW = Access.R, Access.RW

MODEL_NUMBER = Register("Model Number", 0, 2, _E, _R, 1080, 0, 65535)
MODEL_INFORMATION = Register("Model Information", 2, 4, _E, _R, 0, 0, 2**32 - 1)
FIRMWARE_VERSION = Register("Firmware Version", 6, 1, _E, _R, 45, 0, 255)
ID = Register("ID", 7, 1, _E, _RW, 1, 0, 252)
BAUD_RATE = Register("Baud Rate", 8, 1, _E, _RW, 1, 0, 7)
RETURN_DELAY_TIME = Register("Return Delay Time", 9, 1, _E, _RW, 250, 0, 254, TWO_MICROSECONDS)
DRIVE_MODE = Register("Drive Mode", 10, 1, _E, _RW, 0, 0, 13)
OPERATING_MODE = Register("Operating Mode", 11, 1, _E, _RW, 3, 0, 16)
SECONDARY_ID = Register("Secondary(Shadow) ID", 12, 1, _E, _RW, 255, 0, 255)
PROTOCOL_TYPE = Register("Protocol Type", 13, 1, _E, _RW, 2, 1, 2)
HOMING_OFFSET = Register("Homing Offset", 20, 4, _E, _RW, 0, -1044479, 1044479, PULSE, True)
MOVING_THRESHOLD = Register("Moving Threshold", 24, 4, _E, _RW, 10, 0, 1023, VELOCITY)
TEMPERATURE_LIMIT = Register("Temperature Limit", 31, 1, _E, _RW, 80, 0, 100, CELSIUS)
MAX_VOLTAGE_LIMIT = Register("Max Voltage Limit", 32, 2, _E, _RW, 160, 60, 160, TENTH_VOLT)
MIN_VOLTAGE_LIMIT = Register("Min Voltage Limit", 34, 2, _E, _RW, 60, 60, 160, TENTH_VOLT)
PWM_LIMIT = Register("PWM Limit", 36, 2, _E, _RW, 885, 0, 885, PWM)
VELOCITY_LIMIT = Register("Velocity Limit", 44, 4, _E, _RW, 306, 0, 1023, VELOCITY)
MAX_POSITION_LIMIT = Register("Max Position Limit", 48, 4, _E, _RW, 4095, 0, 4095, PULSE)
MIN_POSITION_LIMIT = Register("Min Position Limit", 52, 4, _E, _RW, 0, 0, 4095, PULSE)
STARTUP_CONFIGURATION = Register("Startup Configuration", 60, 1, _E, _RW, 0, 0, 3)
SHUTDOWN = Register("Shutdown", 63, 1, _E, _RW, 52, 0, 255)
TORQUE_ENABLE = Register("Torque Enable", 64, 1, _M, _RW, 0, 0, 1)
LED = Register("LED", 65, 1, _M, _RW, 0, 0, 1)
STATUS_RETURN_LEVEL = Register("Status Return Level", 68, 1, _M, _RW, 2, 0, 2)
REGISTERED_INSTRUCTION = Register("Registered Instruction", 69, 1, _M, _R, 0, 0, 1)
HARDWARE_ERROR_STATUS = Register("Hardware Error Status", 70, 1, _M, _R, 0, 0, 255)
VELOCITY_I_GAIN = Register("Velocity I Gain", 76, 2, _M, _RW, 1920, 0, 16383)
VELOCITY_P_GAIN = Register("Velocity P Gain", 78, 2, _M, _RW, 100, 0, 16383)
POSITION_D_GAIN = Register("Position D Gain", 80, 2, _M, _RW, 0, 0, 16383)
POSITION_I_GAIN = Register("Position I Gain", 82, 2, _M, _RW, 0, 0, 16383)
POSITION_P_GAIN = Register("Position P Gain", 84, 2, _M, _RW, 700, 0, 16383)
FEEDFORWARD_2ND_GAIN = Register("Feedforward 2nd Gain", 88, 2, _M, _RW, 0, 0, 16383)
FEEDFORWARD_1ST_GAIN = Register("Feedforward 1st Gain", 90, 2, _M, _RW, 0, 0, 16383)
BUS_WATCHDOG = Register("Bus Watchdog", 98, 1, _M, _RW, 0, 0, 127, _WATCHDOG, True)
GOAL_PWM = Register("Goal PWM", 100, 2, _M, _RW, 885, -885, 885, PWM, True)
GOAL_VELOCITY = Register("Goal Velocity", 104, 4, _M, _RW, 0, -1023, 1023, VELOCITY, True)
PROFILE_ACCELERATION = Register("Profile Acceleration", 108, 4, _M, _RW, 0, 0, 32767, ACCELERATION)
PROFILE_VELOCITY = Register("Profile Velocity", 112, 4, _M, _RW, 0, 0, 32767, VELOCITY)
GOAL_POSITION = Register("Goal Position", 116, 4, _M, _RW, 0, 0, 4095, PULSE, True)
REALTIME_TICK = Register("Realtime Tick", 120, 2, _M, _R, 0, 0, 32767, MILLISECOND)
MOVING = Register("Moving", 122, 1, _M, _R, 0, 0, 1)
MOVING_STATUS = Register("Moving Status", 123, 1, _M, _R, 0, 0, 255)
PRESENT_PWM = Register("Present PWM", 124, 2, _M, _R, 0, -885, 885, PWM, True)
PRESENT_LOAD = Register("Present Load", 126, 2, _M, _R, 0, -1000, 1000, PERMILLE, True)
PRESENT_VELOCITY = Register("Present Velocity", 128, 4, _M, _R, 0, -(2**31), 2**31 - 1, VELOCITY, True)
PRESENT_POSITION = Register("Present Position", 132, 4, _M, _R, 0, -(2**31), 2**31 - 1, PULSE, True)
VELOCITY_TRAJECTORY = Register("Velocity Trajectory", 136, 4, _M, _R, 0, -(2**31), 2**31 - 1, VELOCITY, True)
POSITION_TRAJECTORY = Register("Position Trajectory", 140, 4, _M, _R, 0, -(2**31), 2**31 - 1, PULSE, True)
PRESENT_INPUT_VOLTAGE = Register("Present Input Voltage", 144, 2, _M, _R, 120, 0, 65535, TENTH_VOLT)
PRESENT_TEMPERATURE = Register("Present Temperature", 146, 1, _M, _R, 25, 0, 255, CELSIUS)
BACKUP_READY = Register("Backup Ready", 147, 1, _M, _R, 0, 0, 1)

REGISTERS: Mapping[int, Register] = MappingProxyType(
    {
        r.address: r
        for r in sorted((v for v in globals().values() if isinstance(v, Register)), key=lambda r: r.address)
    }
)
"""Address -> register, in order of address; addresses between registers are reserved and read 0."""

POSITION_CONTROL = 3
"""Operating Mode (11): position control within one turn."""

WATCHDOG_UNIT_S = BUS_WATCHDOG.unit.scale
"""Bus Watchdog (98): seconds per count."""

WATCHDOG_TRIPPED = -1
"""Bus Watchdog (98) after a trip: goals are read-only until 0 is written."""

LOAD_UNIT = PRESENT_LOAD.unit.scale
"""Present Load (126): share of full drive per count."""

VOLTAGE_UNIT_V = PRESENT_INPUT_VOLTAGE.unit.scale
"""Present Input Voltage (144) and the voltage limits: volts per count."""


class HardwareError(IntFlag):
    """Bits of Hardware Error Status (70) and Shutdown (63)."""

    INPUT_VOLTAGE = 0x01
    OVERHEATING = 0x04
    ENCODER = 0x08
    ELECTRICAL_SHOCK = 0x10
    OVERLOAD = 0x20
