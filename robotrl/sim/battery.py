"""Battery sag: the servos' drive follows a supply voltage that falls with the current they draw."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from robotrl.sim.model import Supply
from robotrl.sim.saving import State, put_back
from robotrl.sim.worlds import Worlds

_DRIVE = ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange")
"""What is proportional to the voltage: kp, kp and kd, force limit. Back-EMF is not."""


class Battery:
    """The supply of B worlds, by the law of `SupplySpec`: ``v = open_v - ohm * (standing + motors)``.

    A servo's firmware sets a share u of the voltage; its motor then gives
    ``torque = stall_torque * u * v / nominal_v - back_emf * speed`` and carries the winding current
    ``torque / stall_torque * stall_current``, of which the pulse-width bridge takes the share u from
    the battery. The voltage of a control step follows from forces and speeds at the end of the last
    one (the emulator does the same every millisecond); braking charges nothing, and the voltage does
    not fall below what the servos need to stay on.

    Args:
        worlds: the worlds; `before_step` owns their gains and force limits.
        supply: numbers of the servos.
    """

    def __init__(self, worlds: Worlds, supply: Supply) -> None:
        self._worlds, self._supply = worlds, supply
        model, num = worlds.model, worlds.num
        live = {name: worlds.field(name) for name in _DRIVE}
        self.nominal = {name: field.clone() for name, field in live.items()}
        """Gains and limits of each world at nominal voltage, as in the model; the caller sets them."""
        # Gain 0 is kp, biases 1 and 2 are -kp and -kd (MuJoCo, XML reference, actuator/position).
        parts = zip(_DRIVE, (slice(0, 1), slice(1, 3), slice(0, 2)), strict=True)
        self._drive = [(self.nominal[name][..., part], live[name][..., part]) for name, part in parts]
        gain = live[_DRIVE[0]]

        def constant(values: object) -> Tensor:
            return torch.as_tensor(values, dtype=gain.dtype, device=gain.device)

        dofs = model.jnt_dofadr[model.actuator_trnid[:, 0]]
        self._dofs = torch.as_tensor(dofs, device=gain.device).long()
        self._back_emf = constant(model.dof_damping[dofs])
        self._nominal_v = constant(supply.nominal_v)
        self._amperes = constant(supply.stall_current_a / supply.stall_torque_nm**2 * supply.nominal_v)
        self.open_v = constant(torch.full((num, 1), float(supply.nominal_v.max())))
        """(B, 1) of the packs without load; the caller sets it."""
        self.ohm = torch.zeros_like(self.open_v)
        """(B, 1) of the packs and their wiring; the caller sets it."""
        self.voltage_v = self.open_v.clone()
        """(B, 1) at the servos now."""
        self._awake = torch.zeros_like(self.open_v)

    def restart(self, ids: Tensor) -> None:
        """Forget the forces of the worlds `ids` (k,): right after a reset they are those of no goal."""
        self._awake[ids] = 0.0

    def before_step(self) -> None:
        """Set the voltage of the coming control step, and with it the servos' drive."""
        supply = self._supply
        drawn_a = supply.standing_a + self._motor_a().clamp_min(0.0) * self._awake
        self._awake.fill_(1.0)
        self.voltage_v = (self.open_v - self.ohm * drawn_a).clamp_min(supply.least_v)
        share = (self.voltage_v / self._nominal_v)[..., None]
        for nominal, live in self._drive:
            torch.mul(nominal, share, out=live)

    def state(self) -> State:
        """The supplies, see `robotrl.sim.saving`; the worlds save the drive themselves."""
        return {
            "open_v": self.open_v,
            "ohm": self.ohm,
            "voltage_v": self.voltage_v,
            "awake": self._awake,
            **self.nominal,
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        put_back(self.state(), tensors)

    def _motor_a(self) -> Tensor:
        """Current (B, 1) that the motors take from the battery: sum of u times winding current."""
        worlds = self._worlds
        force, speed = worlds.actuator_force, worlds.qvel[:, self._dofs]
        # u = force / stall_torque * nominal_v / v, winding current = torque / stall_torque * stall current
        watts = force * (force - self._back_emf * speed) * self._amperes
        return watts.sum(-1, keepdim=True) / self.voltage_v
