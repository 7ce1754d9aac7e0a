"""Named ranges -> per-world model fields, re-drawn at reset from the nominal model, never compounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import mujoco
import torch
from torch import Tensor

from robotrl.errors import ConfigError
from robotrl.sim.worlds import Worlds
from robotrl.spec.records import Between

Range = tuple[float, float]


@dataclass(frozen=True)
class RandomizeParams:
    """The `[randomize]` table of a run: every pair is [low, high] of a uniform draw per episode."""

    friction: Range
    """Sliding friction of everything that touches the floor."""
    trunk_mass_scale: Range
    """Factor on the root body's mass and inertia."""
    trunk_com_m: Range
    """Shift of the root body's centre of mass along each axis."""
    stiffness_scale: Range
    """Factor on servo stiffness."""
    damping_scale: Range
    """Factor on back-EMF damping."""
    joint_friction_nm: Range
    torque_scale: Range
    """Factor on the drive limit: battery voltage and motor strength."""
    action_delay_s: Range
    """From measurement to the servo's new goal."""
    push_every_s: Annotated[float, Between(0.0)]
    """Mean time between pushes; 0 is never."""
    push_m_s: float
    """Pushes change each horizontal velocity by up to this."""
    push_rad_s: float
    """Pushes change each angular velocity by up to this."""


class Randomizer:
    """Owns the per-world model fields of one batch of worlds."""

    def __init__(self, worlds: Worlds, params: RandomizeParams) -> None:
        for name, value in vars(params).items():
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ConfigError(
                    "low end is above the high end",
                    key=f"randomize.{name}",
                    value=value,
                    allowed="[low, high]",
                )
        self.params, self._worlds = params, worlds
        model = worlds.model
        self._root = int(model.jnt_bodyid[0])
        self._geoms = torch.tensor([g for g in range(model.ngeom) if model.geom_conaffinity[g]])
        self._joint_dofs = torch.tensor([int(model.jnt_dofadr[j]) for j in range(1, model.njnt)])
        self._nominal = {
            name: torch.tensor(getattr(model, name).copy())
            for name in (
                "geom_friction", "body_mass", "body_inertia", "body_ipos", "actuator_gainprm",
                "actuator_biasprm", "actuator_forcerange", "dof_damping", "dof_frictionloss",
            )
        }  # fmt: skip
        self.delay_s = torch.zeros(worlds.num)
        """Present action delay of each world (B,)."""

    def redraw(self, ids: Tensor, generator: torch.Generator) -> None:
        """Draw every quantity of the worlds `ids` (k,) anew."""
        p, count, nominal = self.params, len(ids), self._nominal

        def draw(span: Range, *shape: int) -> Tensor:
            low, high = span
            return low + (high - low) * torch.rand((count, *shape), generator=generator, dtype=torch.float64)

        field, joints = self._worlds.field, self._joint_dofs
        field("geom_friction")[ids[:, None], self._geoms, 0] = draw(p.friction, 1).expand(
            -1, len(self._geoms)
        )
        mass = draw(p.trunk_mass_scale, 1)
        field("body_mass")[ids, self._root] = nominal["body_mass"][self._root] * mass[:, 0]
        field("body_inertia")[ids, self._root] = nominal["body_inertia"][self._root] * mass
        field("body_ipos")[ids, self._root] = nominal["body_ipos"][self._root] + draw(p.trunk_com_m, 3)
        stiffness = draw(p.stiffness_scale, 1)
        field("actuator_gainprm")[ids, :, 0] = nominal["actuator_gainprm"][:, 0] * stiffness
        field("actuator_biasprm")[ids, :, 1] = nominal["actuator_biasprm"][:, 1] * stiffness
        field("actuator_forcerange")[ids] = nominal["actuator_forcerange"] * draw(p.torque_scale, 1, 1)
        damping = nominal["dof_damping"][joints] * draw(p.damping_scale, 1)
        field("dof_damping")[ids[:, None], joints] = damping
        field("dof_frictionloss")[ids[:, None], joints] = draw(p.joint_friction_nm, 1).expand(-1, len(joints))
        self.delay_s[ids] = draw(p.action_delay_s).float()
        self._worlds.update_constants(ids)

    def push(self, period_s: float, generator: torch.Generator) -> None:
        """Change the root velocity of a few worlds, so that each is pushed every `push_every_s`."""
        p = self.params
        if p.push_every_s == 0:
            return
        chosen = torch.rand(self._worlds.num, generator=generator) < period_s / p.push_every_s
        ids = chosen.nonzero()[:, 0]
        if not len(ids):
            return
        qvel = self._worlds.qvel[ids]
        span = torch.tensor((p.push_m_s, p.push_m_s, 0.0, p.push_rad_s, p.push_rad_s, p.push_rad_s))
        qvel[:, :6] += (2 * torch.rand((len(ids), 6), generator=generator) - 1) * span
        self._worlds.set_velocity(ids, qvel)


def nominal_params(model: mujoco.MjModel) -> RandomizeParams:
    """Ranges that leave the model as it is: no randomisation, no delay, no pushes."""
    friction = float(max(model.geom_friction[g, 0] for g in range(model.ngeom) if model.geom_conaffinity[g]))
    joint_friction = float(model.dof_frictionloss[-1])
    one, zero = (1.0, 1.0), (0.0, 0.0)
    return RandomizeParams(
        (friction, friction), one, zero, one, one, (joint_friction, joint_friction), one, zero, 0.0, 0.0, 0.0
    )
