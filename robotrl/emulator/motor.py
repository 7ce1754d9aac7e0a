"""The servos' motors: torque from drive, current and heat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robotrl.spec.robot import JointSpec, RobotSpec

Floats = NDArray[np.float64]

AMBIENT_C = 25.0
THERMAL_RESISTANCE_K_W = 12.0
"""Winding to air. Assumption: 65 g of plastic and steel of 2 x 3 x 5 cm in still air."""
HEAT_CAPACITY_J_K = 40.0
"""Assumption: 65 g at 0.6 J/(g K); with the resistance a time constant of eight minutes."""


@dataclass(frozen=True)
class Motors:
    """Constants of the motors of n servos, as (n,) arrays."""

    stall_torque_nm: Floats
    nominal_v: Floats
    back_emf_nm_s_rad: Floats
    stall_current_a: Floats

    @classmethod
    def of(cls, robot: RobotSpec, joints: list[JointSpec]) -> Motors:
        """Collect the constants of the given joints' servos."""
        servos = [robot.servo_of(joint) for joint in joints]
        return cls(
            np.array([s.stall_torque_nm for s in servos]),
            np.array([s.nominal_voltage_v for s in servos]),
            np.array([s.back_emf_nm_s_rad for s in servos]),
            np.array([robot.supply.stall_current_a[joint.servo] for joint in joints]),
        )

    def torque_nm(self, drive: Floats, enabled: NDArray[np.bool_], supply_v: float, speed: Floats) -> Floats:
        """Return the motor torque by the law in `ServoType`'s docstring.

        Args:
            drive: (n,) share of the supply voltage, -1 to 1.
            enabled: (n,) torque enable; off opens the motor's circuit: no torque, no damping.
            supply_v: voltage at the servos.
            speed: (n,) rad/s.

        Returns:
            (n,) N m at the output shaft, before gear friction.
        """
        driven = self.stall_torque_nm * drive * supply_v / self.nominal_v
        return np.where(enabled, driven - self.back_emf_nm_s_rad * speed, 0.0)

    def current_a(self, torque_nm: Floats) -> Floats:
        """Return the winding current, (n,) A, that makes a torque."""
        return torque_nm / self.stall_torque_nm * self.stall_current_a

    def heat_w(self, current_a: Floats) -> Floats:
        """Return the winding's loss, (n,) W."""
        return current_a**2 * self.nominal_v / self.stall_current_a


def warmed_c(temperature_c: Floats, heat_w: Floats, duration_s: float) -> Floats:
    """Return the temperatures after `duration_s` of a first-order warming, (n,) degrees Celsius."""
    loss_w = (temperature_c - AMBIENT_C) / THERMAL_RESISTANCE_K_W
    return temperature_c + duration_s * (heat_w - loss_w) / HEAT_CAPACITY_J_K
