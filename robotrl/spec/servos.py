"""Servo models and what feeds them: register scales, limits written into servos, motor physics, supply."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from robotrl.spec.buses import Refuse, ServoProtocol, check_gains
from robotrl.spec.limits import Positive, SafetyLimits
from robotrl.spec.records import Between


@dataclass(frozen=True)
class ServoType:
    """A servo model: register scales, the limits written into it, and its motor's physics.

    The firmware's position controller drives the motor with
    ``u = clip(P / p_gain_divisor * error_counts, +-pwm_limit) / pwm_full`` (share of supply
    voltage); a brushed motor at share u of `voltage` gives
    ``torque = stall_torque * (u * voltage / nominal_voltage) - back_emf * speed`` less friction:
    the straight torque-speed line from the stall torque to the no-load speed, both of which scale
    with the present voltage. On Feetech servos the PWM registers are Max Torque (16), 1000 counts full drive.
    I and D gains are written as 0: the e-Manual gives K_D = D / 16, but
    neither the sampling time nor the filter of its difference, so a D gain could not be the same
    number of N m s/rad in training and on the robot; the damping by the motor's own back-EMF is, as
    it follows from the data sheet.
    """

    protocol: ServoProtocol
    model_number: Annotated[int, Between(1, 65535)]
    counts_per_rev: Annotated[int, Between(256, 65536)]
    velocity_unit_rad_s: Positive
    """Speed of one count of the velocity register."""
    pwm_full: Annotated[int, Between(1, 32767)]
    """PWM register value for full supply voltage."""
    pwm_limit: Annotated[int, Between(1, 32767)]
    """PWM Limit (36) written into the servo: bounds its drive and so its torque."""
    position_p_gain: Annotated[int, Between(1, 16383)]
    p_gain_divisor: Positive
    stall_torque_nm: Positive
    """At `nominal_voltage_v` and full drive."""
    no_load_speed_rad_s: Positive
    nominal_voltage_v: Positive
    armature_kg_m2: Positive
    """Rotor inertia seen at the output shaft."""
    friction_nm: Annotated[float, Between(0.0)]
    temperature_limit_c: Annotated[int, Between(0, 100)]
    voltage_min_v: Positive
    voltage_max_v: Positive
    backlash_rad: Annotated[float, Between(0.0, 0.5)] = 0.0
    """Play between servo and link (horn, screws, linkage) from flank to flank; the encoder is the servo's.
    The emulator has it; a run trains for it by its `[sensing] backlash_rad`."""

    @property
    def counts_per_rad(self) -> float:
        """Encoder counts per radian at the output shaft."""
        return self.counts_per_rev / (2 * math.pi)

    @property
    def stiffness_nm_rad(self) -> float:
        """Torque per radian of position error at nominal voltage, below saturation."""
        pwm_per_rad = self.position_p_gain / self.p_gain_divisor * self.counts_per_rad
        return self.stall_torque_nm * pwm_per_rad / self.pwm_full

    @property
    def torque_limit_nm(self) -> float:
        """Stall torque that is left under the PWM limit, at nominal voltage."""
        return self.stall_torque_nm * self.pwm_limit / self.pwm_full

    @property
    def back_emf_nm_s_rad(self) -> float:
        """Damping by the motor's own back-EMF: stall torque over no-load speed."""
        return self.stall_torque_nm / self.no_load_speed_rad_s


def written(fields: Iterable[tuple[str, object]]) -> dict[str, object]:
    """Turn a record into a table, for `dataclasses.asdict`; a backlash of 0 is left out.

    Servos without it are so told by the same bytes as before there was that key.
    """
    return {name: value for name, value in fields if (name, value) != ("backlash_rad", 0.0)}


@dataclass(frozen=True)
class SupplySpec:
    """The battery that feeds the servos, and what draws from it."""

    open_v: Positive
    """Voltage without load."""
    ohm: Annotated[float, Between(0.0)]
    """Resistance of pack, switch and wiring together."""
    standing_a: Annotated[float, Between(0.0)]
    """Current of everything but the motors: computer, the servos' own electronics."""
    stall_current_a: dict[str, Positive]
    """Motor current of each servo model at its stall torque."""

    def voltage_v(self, motor_a: float) -> float:
        """Return the voltage at the servos while the motors draw a current; braking charges nothing."""
        return self.open_v - self.ohm * (self.standing_a + max(0.0, motor_a))


def check_servos(servos: Mapping[str, ServoType], limits: SafetyLimits, refuse: Refuse) -> None:
    """Refuse servo models that cannot be, and limits beyond them."""
    for name, servo in servos.items():
        check_gains(name, servo.protocol, servo.position_p_gain, servo.pwm_full, refuse)
        if servo.pwm_limit > servo.pwm_full:
            refuse(
                f"servo.{name}.pwm_limit", "is above full drive", servo.pwm_limit, f"1 to {servo.pwm_full}"
            )
        if not servo.voltage_min_v < servo.voltage_max_v:
            refuse(
                f"servo.{name}.voltage_min_v",
                "is not below voltage_max_v",
                servo.voltage_min_v,
                f"below {servo.voltage_max_v}",
            )
        if limits.temperature_c > servo.temperature_limit_c:
            refuse(
                "limits.temperature_c",
                f"is above the shutdown temperature of servo {name}",
                limits.temperature_c,
                f"up to {servo.temperature_limit_c}",
            )
        if limits.torque_nm > servo.stall_torque_nm:
            refuse(
                "limits.torque_nm",
                f"is above the stall torque of servo {name}",
                limits.torque_nm,
                f"up to {servo.stall_torque_nm}",
            )


def check_supply(supply: SupplySpec, servos: Mapping[str, ServoType], refuse: Refuse) -> None:
    """Refuse a supply that does not go with the servos."""
    for name, current_a in supply.stall_current_a.items():
        if name not in servos:
            refuse(f"supply.stall_current_a.{name}", "names no [servo]", current_a, sorted(servos))
    for name, servo in servos.items():
        if name not in supply.stall_current_a:
            refuse(f"supply.stall_current_a.{name}", "is missing", None, "a finite number in 1e-09 or more")
        low, high = servo.voltage_min_v, servo.voltage_max_v
        if not low <= supply.open_v <= high:
            refuse("supply.open_v", f"is no voltage for servo {name}", supply.open_v, f"{low} to {high}")
