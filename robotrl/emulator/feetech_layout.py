"""Where the registers that the emulated Feetech firmware acts on are, in each of the two series."""

from __future__ import annotations

from dataclasses import dataclass

from robotrl.drivers import scs, sts
from robotrl.drivers.registers import Register


@dataclass(frozen=True)
class FeetechLayout:
    """One series; a register that it lacks is None. Names are those of `sts` and `scs`."""

    id: Register
    baud_rate: Register
    response_level: Register
    min_position: Register
    max_position: Register
    max_temperature: Register
    max_voltage: Register
    min_voltage: Register
    max_torque: Register
    unloading_condition: Register
    p_gain: Register
    min_startup_force: Register
    cw_dead_zone: Register
    ccw_dead_zone: Register
    protective_torque: Register
    protection_time: Register
    overload_torque: Register
    torque_enable: Register
    goal_position: Register
    lock: Register
    present_position: Register
    present_velocity: Register
    present_load: Register
    present_voltage: Register
    present_temperature: Register
    registered_instruction: Register
    status: Register
    moving: Register
    return_delay: Register | None
    homing_offset: Register | None
    torque_limit: Register | None
    present_current: Register | None
    steps: int
    """Of the encoder: positions are 0 to one less."""
    wraps: bool
    """A magnetic encoder turns on and on; a potentiometer ends."""


STS = FeetechLayout(
    sts.ID,
    sts.BAUD_RATE,
    sts.RESPONSE_LEVEL,
    sts.MIN_POSITION_LIMIT,
    sts.MAX_POSITION_LIMIT,
    sts.MAX_TEMPERATURE,
    sts.MAX_VOLTAGE,
    sts.MIN_VOLTAGE,
    sts.MAX_TORQUE,
    sts.UNLOADING_CONDITION,
    sts.P_GAIN,
    sts.MIN_STARTUP_FORCE,
    sts.CW_DEAD_ZONE,
    sts.CCW_DEAD_ZONE,
    sts.PROTECTIVE_TORQUE,
    sts.PROTECTION_TIME,
    sts.OVERLOAD_TORQUE,
    sts.TORQUE_ENABLE,
    sts.GOAL_POSITION,
    sts.LOCK,
    sts.PRESENT_POSITION,
    sts.PRESENT_VELOCITY,
    sts.PRESENT_LOAD,
    sts.PRESENT_VOLTAGE,
    sts.PRESENT_TEMPERATURE,
    sts.REGISTERED_INSTRUCTION,
    sts.STATUS,
    sts.MOVING,
    return_delay=sts.RETURN_DELAY,
    homing_offset=sts.HOMING_OFFSET,
    torque_limit=sts.TORQUE_LIMIT,
    present_current=sts.PRESENT_CURRENT,
    steps=4096,
    wraps=True,
)

SCS = FeetechLayout(
    scs.ID,
    scs.BAUD_RATE,
    scs.RESPONSE_LEVEL,
    scs.MIN_POSITION_LIMIT,
    scs.MAX_POSITION_LIMIT,
    scs.MAX_TEMPERATURE,
    scs.MAX_VOLTAGE,
    scs.MIN_VOLTAGE,
    scs.MAX_TORQUE,
    scs.UNLOADING_CONDITION,
    scs.P_GAIN,
    scs.MIN_STARTUP_FORCE,
    scs.CW_DEAD_ZONE,
    scs.CCW_DEAD_ZONE,
    scs.PROTECTIVE_TORQUE,
    scs.PROTECTION_TIME,
    scs.OVERLOAD_TORQUE,
    scs.TORQUE_ENABLE,
    scs.GOAL_POSITION,
    scs.LOCK,
    scs.PRESENT_POSITION,
    scs.PRESENT_VELOCITY,
    scs.PRESENT_LOAD,
    scs.PRESENT_VOLTAGE,
    scs.PRESENT_TEMPERATURE,
    scs.REGISTERED_INSTRUCTION,
    scs.STATUS,
    scs.MOVING,
    return_delay=None,
    homing_offset=None,
    torque_limit=None,
    present_current=None,
    steps=1024,
    wraps=False,
)
