"""Play between the servos' shafts, where their encoders sit, and the links: `[servo] backlash_rad`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robotrl.emulator.plant import STEP_S
from robotrl.spec.servos import ServoType

Floats = NDArray[np.float64]


class Backlash:
    """The play of n servos; it begins in the middle. Arrays are (n,) in the servos' directions.

    The model is that of training (`robotrl.sim.sensing`), resolved in time: the shaft leads the link by a
    `lead_rad` within half the play, and moves in it while the motor's torque exceeds the servo's friction.
    It is then loaded by nothing but its back-EMF, which so sets its speed, and the link feels no more than
    the friction; at a flank it feels all. A load hangs on the flank that carries it, a turning load loses
    the play, and below the friction the shaft stays with the link. The inertia of the rotor is left out, and
    no blow ends the crossing.

    Args:
        servos: the servos' types.
    """

    def __init__(self, servos: Sequence[ServoType]) -> None:
        self._half_rad = np.array([servo.backlash_rad / 2 for servo in servos])
        self._friction_nm = np.array([servo.friction_nm for servo in servos])
        self._back_emf_nm_s_rad = np.array([servo.back_emf_nm_s_rad for servo in servos])
        self._plays = bool(self._half_rad.any())
        self.lead_rad: Floats = np.zeros(len(servos))
        """(n,) angle of the shaft less that of the link."""

    def cross(self, torque_nm: Floats) -> Floats:
        """Let the shafts move for one step.

        Args:
            torque_nm: (n,) of the motors, were their shafts as fast as the links.

        Returns:
            (n,) N m that they have at the speed of their shafts, and the links feel.
        """
        if not self._plays:
            return torque_nm
        before_rad = self.lead_rad
        held_nm = np.clip(torque_nm, -self._friction_nm, self._friction_nm)
        step_rad = (torque_nm - held_nm) / self._back_emf_nm_s_rad * STEP_S
        self.lead_rad = np.clip(before_rad + step_rad, -self._half_rad, self._half_rad)
        felt: Floats = torque_nm - self._back_emf_nm_s_rad * (self.lead_rad - before_rad) / STEP_S
        return felt
