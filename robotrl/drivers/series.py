"""What the servos of each protocol call the things that a robot needs: one record of registers each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from functools import partial
from types import MappingProxyType

from robotrl.drivers import feetech, scs, sts
from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel_bus import DynamixelBus
from robotrl.drivers.feetech_bus import FeetechBus
from robotrl.drivers.port import Port
from robotrl.drivers.registers import Register
from robotrl.drivers.servo_bus import ServoBus
from robotrl.spec.buses import BAUD_RATES, BusSpec, ServoProtocol
from robotrl.spec.servos import ServoType

Setting = tuple[Register, int]
"""A register, and what it must hold."""


@dataclass(frozen=True)
class Measured:
    """The registers that are read each tick, in one block."""

    position: Register
    velocity: Register
    load: Register
    voltage: Register
    temperature: Register


@dataclass(frozen=True)
class Service:
    """What is needed to look after one servo on the bench.

    Attributes:
        id: the id register.
        baud_rate: the baud rate register.
        baud_codes: baud rate -> its value.
        factory_baud_bd: baud rate ex works.
        lock: 0 lets writes to EEPROM last, 1 does not; None where torque off is enough.
        firmware: the version's parts, most significant first.
        return_delay: the pause before an answer; None where there is none to be set.
        status_level: what is answered.
        answers_all: its value at which everything is.
    """

    id: Register
    baud_rate: Register
    baud_codes: Mapping[int, int]
    factory_baud_bd: int
    lock: Register | None
    firmware: tuple[Register, ...]
    return_delay: Register | None
    status_level: Register
    answers_all: int


@dataclass(frozen=True)
class Series:
    """The servos of one protocol.

    Attributes:
        bus: opens a bus of them behind a port.
        measured: what is read each tick.
        goal: the target position.
        torque: 0 turns the motor off, 1 on.
        stiffness: what makes the servo hold its goal.
        damped: value of `stiffness` without any: the motor brakes at most by its own back-EMF.
        stiff: value of `stiffness` for a servo type.
        min_position: lowest goal that the servo accepts.
        max_position: highest goal that it accepts.
        health: the register of hardware errors.
        health_bits: its bits.
        watchdog: turns by itself what the servo does when the host falls silent; None where it cannot.
        alert: bits of a status packet's error byte that announce `health`; 0 where they are `health`.
        weak_checksum: whether broken packets may pass for good ones; see `plausibility`.
        takeover: written before anything is read: a servo must answer, let go, and accept EEPROM writes.
        settings: what a servo of a type must hold before torque goes on.
        counting: those of `settings` that change what a count of position means.
        flags: bits that must be set, and that only a person may set.
        seal: written last.
        service: id, baud rate and the like.
    """

    bus: Callable[[Port, BusSpec, Sequence[int]], ServoBus]
    measured: Measured
    goal: Register
    torque: Register
    stiffness: Register
    damped: int
    stiff: Callable[[ServoType], int]
    min_position: Register
    max_position: Register
    health: Register
    health_bits: type[IntFlag]
    watchdog: Register | None
    alert: int
    weak_checksum: bool
    takeover: tuple[Setting, ...]
    settings: Callable[[ServoType], tuple[Setting, ...]]
    counting: tuple[Register, ...]
    flags: tuple[Setting, ...]
    seal: tuple[Setting, ...]
    service: Service


_DYNAMIXEL_SHUTDOWN = (
    x.HardwareError.OVERLOAD | x.HardwareError.ELECTRICAL_SHOCK | x.HardwareError.OVERHEATING
)
"""Factory value of Shutdown (63)."""

_DYNAMIXEL_RATES = (9600, 57600, 115200, 1000000, 2000000, 3000000, 4000000, 4500000)
"""In order of their code in Baud Rate (8)."""


def _dynamixel_settings(servo: ServoType) -> tuple[Setting, ...]:
    return (
        (x.RETURN_DELAY_TIME, 0),
        (x.DRIVE_MODE, 0),
        (x.OPERATING_MODE, x.POSITION_CONTROL),
        (x.HOMING_OFFSET, 0),
        (x.TEMPERATURE_LIMIT, servo.temperature_limit_c),
        (x.MAX_VOLTAGE_LIMIT, round(servo.voltage_max_v / x.VOLTAGE_UNIT_V)),
        (x.MIN_VOLTAGE_LIMIT, round(servo.voltage_min_v / x.VOLTAGE_UNIT_V)),
        (x.PWM_LIMIT, servo.pwm_limit),
        (x.STARTUP_CONFIGURATION, 0),
        (x.SHUTDOWN, int(_DYNAMIXEL_SHUTDOWN)),
        (x.POSITION_D_GAIN, 0),
        (x.POSITION_I_GAIN, 0),
        (x.POSITION_P_GAIN, servo.position_p_gain),
        (x.FEEDFORWARD_2ND_GAIN, 0),
        (x.FEEDFORWARD_1ST_GAIN, 0),
        (x.GOAL_PWM, servo.pwm_limit),
        (x.PROFILE_ACCELERATION, 0),
        (x.PROFILE_VELOCITY, 0),
    )


DYNAMIXEL = Series(
    bus=DynamixelBus,
    measured=Measured(
        x.PRESENT_POSITION,
        x.PRESENT_VELOCITY,
        x.PRESENT_LOAD,
        x.PRESENT_INPUT_VOLTAGE,
        x.PRESENT_TEMPERATURE,
    ),
    goal=x.GOAL_POSITION,
    torque=x.TORQUE_ENABLE,
    # No drive shorts the motor, whose back-EMF then brakes it.
    stiffness=x.POSITION_P_GAIN,
    damped=0,
    stiff=lambda servo: servo.position_p_gain,
    min_position=x.MIN_POSITION_LIMIT,
    max_position=x.MAX_POSITION_LIMIT,
    health=x.HARDWARE_ERROR_STATUS,
    health_bits=x.HardwareError,
    watchdog=x.BUS_WATCHDOG,
    alert=0x80,
    weak_checksum=False,
    takeover=((x.STATUS_RETURN_LEVEL, 2), (x.TORQUE_ENABLE, 0), (x.BUS_WATCHDOG, 0)),
    settings=_dynamixel_settings,
    counting=(x.DRIVE_MODE, x.OPERATING_MODE, x.HOMING_OFFSET),
    flags=(),
    seal=(),
    service=Service(
        id=x.ID,
        baud_rate=x.BAUD_RATE,
        baud_codes=MappingProxyType({baud_bd: code for code, baud_bd in enumerate(_DYNAMIXEL_RATES)}),
        factory_baud_bd=57600,
        lock=None,
        firmware=(x.FIRMWARE_VERSION,),
        return_delay=x.RETURN_DELAY_TIME,
        status_level=x.STATUS_RETURN_LEVEL,
        answers_all=2,
    ),
)

_FEETECH_UNLOAD_ON = (
    feetech.HardwareError.OVERLOAD | feetech.HardwareError.OVERCURRENT | feetech.HardwareError.OVERHEATING
)
"""Factory value of Unloading Condition (19) of STS servos."""


def _feetech_codes(protocol: ServoProtocol) -> Mapping[int, int]:
    return MappingProxyType({baud_bd: code for code, baud_bd in enumerate(BAUD_RATES[protocol])})


def _sts_settings(servo: ServoType) -> tuple[Setting, ...]:
    """Of an STS servo; dead zones and startup force are 0, so that it obeys the law in `ServoType`."""
    return (
        (sts.RETURN_DELAY, 0),
        (sts.OPERATING_MODE, sts.POSITION_CONTROL),
        (sts.ANGULAR_RESOLUTION, 1),
        (sts.HOMING_OFFSET, 0),
        (sts.MAX_TEMPERATURE, servo.temperature_limit_c),
        (sts.MAX_VOLTAGE, round(servo.voltage_max_v / sts.MAX_VOLTAGE.unit.scale)),
        (sts.MIN_VOLTAGE, round(servo.voltage_min_v / sts.MIN_VOLTAGE.unit.scale)),
        (sts.MAX_TORQUE, servo.pwm_limit),
        (sts.UNLOADING_CONDITION, int(_FEETECH_UNLOAD_ON)),
        (sts.D_GAIN, 0),
        (sts.I_GAIN, 0),
        (sts.P_GAIN, servo.position_p_gain),
        (sts.MIN_STARTUP_FORCE, 0),
        (sts.CW_DEAD_ZONE, 0),
        (sts.CCW_DEAD_ZONE, 0),
        (sts.ACCELERATION_LIMIT, 0),
        (sts.GOAL_TIME, 0),
        (sts.GOAL_VELOCITY, 0),
        (sts.TORQUE_LIMIT, servo.pwm_limit),
    )


STS = Series(
    bus=partial(FeetechBus, model_number=sts.MODEL_NUMBER, has_sync_read=True),
    measured=Measured(
        sts.PRESENT_POSITION,
        sts.PRESENT_VELOCITY,
        sts.PRESENT_LOAD,
        sts.PRESENT_VOLTAGE,
        sts.PRESENT_TEMPERATURE,
    ),
    goal=sts.GOAL_POSITION,
    torque=sts.TORQUE_ENABLE,
    # In RAM, unlike the gains: giving way does not wear the EEPROM. That no drive shorts the motor is an
    # assumption; at worst the joint is free.
    stiffness=sts.TORQUE_LIMIT,
    damped=0,
    stiff=lambda servo: servo.pwm_limit,
    min_position=sts.MIN_POSITION_LIMIT,
    max_position=sts.MAX_POSITION_LIMIT,
    health=sts.STATUS,
    health_bits=feetech.HardwareError,
    watchdog=None,
    alert=0,
    weak_checksum=True,
    takeover=((sts.RESPONSE_LEVEL, 1), (sts.TORQUE_ENABLE, 0), (sts.LOCK, 0)),
    settings=_sts_settings,
    counting=(sts.OPERATING_MODE, sts.ANGULAR_RESOLUTION, sts.HOMING_OFFSET),
    flags=((sts.PHASE, sts.FINE_VELOCITY),),
    seal=((sts.LOCK, 1),),
    service=Service(
        id=sts.ID,
        baud_rate=sts.BAUD_RATE,
        baud_codes=_feetech_codes("feetech_sts"),
        factory_baud_bd=1000000,
        lock=sts.LOCK,
        firmware=(sts.FIRMWARE_MAJOR_VERSION, sts.FIRMWARE_MINOR_VERSION),
        return_delay=sts.RETURN_DELAY,
        status_level=sts.RESPONSE_LEVEL,
        answers_all=1,
    ),
)


def _scs_settings(servo: ServoType) -> tuple[Setting, ...]:
    """Of an SCS servo, which has neither return delay nor an integral gain."""
    return (
        (scs.MAX_TEMPERATURE, servo.temperature_limit_c),
        (scs.MAX_VOLTAGE, round(servo.voltage_max_v / scs.MAX_VOLTAGE.unit.scale)),
        (scs.MIN_VOLTAGE, round(servo.voltage_min_v / scs.MIN_VOLTAGE.unit.scale)),
        (scs.MAX_TORQUE, servo.pwm_limit),
        (scs.UNLOADING_CONDITION, int(feetech.HardwareError.OVERLOAD | feetech.HardwareError.OVERHEATING)),
        (scs.D_GAIN, 0),
        (scs.P_GAIN, servo.position_p_gain),
        (scs.MIN_STARTUP_FORCE, 0),
        (scs.CW_DEAD_ZONE, 0),
        (scs.CCW_DEAD_ZONE, 0),
        (scs.GOAL_TIME, 0),
        (scs.GOAL_VELOCITY, 0),
    )


SCS = Series(
    bus=partial(FeetechBus, model_number=scs.MODEL_NUMBER, has_sync_read=False),
    measured=Measured(
        scs.PRESENT_POSITION,
        scs.PRESENT_VELOCITY,
        scs.PRESENT_LOAD,
        scs.PRESENT_VOLTAGE,
        scs.PRESENT_TEMPERATURE,
    ),
    goal=scs.GOAL_POSITION,
    torque=scs.TORQUE_ENABLE,
    stiffness=scs.TORQUE_ENABLE,
    damped=scs.DAMPING,
    stiff=lambda _: 1,
    min_position=scs.MIN_POSITION_LIMIT,
    max_position=scs.MAX_POSITION_LIMIT,
    health=scs.STATUS,
    health_bits=feetech.HardwareError,
    watchdog=None,
    alert=0,
    weak_checksum=True,
    takeover=((scs.RESPONSE_LEVEL, 1), (scs.TORQUE_ENABLE, 0), (scs.LOCK, 0)),
    settings=_scs_settings,
    counting=(),
    flags=(),
    seal=((scs.LOCK, 1),),
    service=Service(
        id=scs.ID,
        baud_rate=scs.BAUD_RATE,
        baud_codes=_feetech_codes("feetech_scs"),
        factory_baud_bd=1000000,
        lock=scs.LOCK,
        firmware=(scs.FIRMWARE_MAJOR_VERSION, scs.FIRMWARE_MINOR_VERSION),
        return_delay=None,
        status_level=scs.RESPONSE_LEVEL,
        answers_all=1,
    ),
)

SERIES: Mapping[ServoProtocol, Series] = MappingProxyType(
    {"dynamixel2": DYNAMIXEL, "feetech_sts": STS, "feetech_scs": SCS}
)
