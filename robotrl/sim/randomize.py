"""Named ranges -> per-world model fields, re-drawn at reset from the nominal model, never compounding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import mujoco
import torch
from torch import Tensor

from robotrl.errors import ConfigError
from robotrl.sim.battery import Battery
from robotrl.sim.model import Supply, read_supply
from robotrl.sim.saving import State, joined, part_of, put_back
from robotrl.sim.worlds import Worlds
from robotrl.spec.records import Between, Within, check_bounds

Range = tuple[float, float]
Scale = Annotated[Range, Within(0.01, 100.0)]
Gain = Annotated[Range, Within(0.0, 100.0)]
Shift = Annotated[Range, Within(-1.0, 1.0)]
Delay = Annotated[Range, Within(0.0, 0.5)]

_ONE, _ZERO = (1.0, 1.0), (0.0, 0.0)


@dataclass(frozen=True)
class RandomizeParams:
    """The `[randomize]` table of a run: every pair is [low, high] of a uniform draw per episode.

    A range that only holds the nominal value draws nothing, writes nothing and costs nothing.
    """

    friction: Annotated[Range, Within(mujoco.mjMINMU, 10.0)]
    """Sliding friction of everything that touches the floor."""
    trunk_mass_scale: Scale
    """Factor on the root body's mass and inertia."""
    trunk_com_m: Shift
    """Shift of the root body's centre of mass along each axis."""
    stiffness_scale: Gain
    """Factor on servo stiffness: the actuators' kp."""
    damping_scale: Gain
    """Factor on back-EMF damping: the joints' damping."""
    joint_friction_nm: Gain
    torque_scale: Scale
    """Factor on the drive limit: battery voltage and motor strength."""
    action_delay_s: Delay
    """From measurement to the servo's new goal."""
    push_every_s: Annotated[float, Between(0.0)]
    """Mean time between pushes; 0 is never."""
    push_m_s: Annotated[float, Between(0.0)]
    """Pushes change each horizontal velocity by up to this."""
    push_rad_s: Annotated[float, Between(0.0)]
    """Pushes change each angular velocity by up to this."""
    limb_mass_scale: Scale = _ONE
    """Factor on mass and inertia of every other body, each its own."""
    limb_com_m: Shift = _ZERO
    """Shift of every other body's centre of mass along each of its axes, each its own."""
    armature_scale: Scale = _ONE
    """Factor on the rotors' inertia."""
    servo_damping_nm_s_rad: Gain = _ZERO
    """Added to the actuators' kd: a D gain inside the servo's drive limit."""
    gravity_tilt_rad: Annotated[Range, Within(-0.5, 0.5)] = _ZERO
    """Turn of gravity about each horizontal axis: a floor that slopes. The IMU notices."""
    battery_v: Annotated[Range, Within(0.0, 100.0)] = _ZERO
    """Open voltage of the battery; 0 is a supply that holds the servos' nominal voltage."""
    battery_ohm: Annotated[Range, Within(0.0, 0.5)] = _ZERO
    """Resistance of battery and wiring: how far the voltage sags under load."""
    observation_delay_s: Delay = _ZERO
    """From the state to its measurement, beyond what `action_delay_s` holds."""


def check_battery(params: RandomizeParams, supply: Supply | None, file: Path | None = None) -> Supply | None:
    """Return the servos' supply where its voltage is drawn; None where it is always the nominal one.

    Args:
        params: the ranges.
        supply: of the model; None if it has none.
        file: where the ranges stand, for the error.

    Raises:
        ConfigError: the model has no supply, or the servos would not work with such a battery.
    """
    if params.battery_v == _ZERO == params.battery_ohm:
        return None
    if supply is None:
        raise ConfigError(
            "the model's actuators have no supply",
            file=file,
            key="randomize.battery_v",
            value=params.battery_v,
            allowed="[0, 0]",
        )
    if not supply.least_v <= params.battery_v[0] <= params.battery_v[1] <= supply.most_v:
        raise ConfigError(
            "is no voltage for the servos",
            file=file,
            key="randomize.battery_v",
            value=params.battery_v,
            allowed=f"{Within(supply.least_v, supply.most_v)}, or [0, 0] with battery_ohm [0, 0]",
        )
    return supply


@dataclass(frozen=True)
class _Quantity:
    """What is drawn: `width` uniform numbers of each world, and what is done with them."""

    span: Range
    width: int
    write: Callable[[Tensor, Tensor], None]
    """(ids (k, 1), values (k, width)) -> nothing; puts them where they belong."""


class Randomizer:
    """Owns the per-world model fields of one batch of worlds.

    Only fields of quantities whose range is not neutral become per-world; `bytes_per_world` says
    what they take: for quad12 4.1 kB with the eight ranges of quad12_walk_ppo and 6.4 kB with every
    range in use, on the native backend (float64; half as much on the other). What the backend
    derives from masses, once they differ, is its own: about 1.6 kB more on native.

    Args:
        worlds: the worlds; their model's first joint is the root's free joint.
        params: the ranges.

    Raises:
        ConfigError: a range that is out of order or outside what is possible, or that needs numbers
            which the model lacks.
    """

    def __init__(self, worlds: Worlds, params: RandomizeParams) -> None:
        check_bounds(params, "randomize")
        self.params, self._worlds = params, worlds
        device = worlds.device
        self._fields: dict[str, Tensor] = {}
        self.action_delay_s = torch.zeros(worlds.num, device=device)
        """Present delay of each world's goals (B,)."""
        self.observation_delay_s = torch.zeros(worlds.num, device=device)
        """Present delay of each world's measurements (B,)."""
        self.vertical: Tensor | None = None
        """(B, 4) w x y z rotation world <- level, whose z axis points against gravity; None: never tilted."""
        self._battery = self._make_battery()
        self._quantities = [*self._servos_and_trunk(), *self._limbs_and_rotors(), *self._tilt()]
        if self._battery:
            self._quantities += [
                *_into(self._battery.open_v[:, 0], params.battery_v),
                *_into(self._battery.ohm[:, 0], params.battery_ohm),
            ]
        self._quantities += _into(self.observation_delay_s, params.observation_delay_s)
        self._width = sum(q.width for q in self._quantities)
        self._moves_inertia = not _INERTIA.isdisjoint(self._fields)
        push = (params.push_m_s, params.push_m_s, 0.0, *3 * (params.push_rad_s,))
        self._push = torch.tensor(push, device=device, dtype=worlds.dtype)

    def redraw(self, ids: Tensor, generator: torch.Generator) -> None:
        """Draw every quantity of the worlds `ids` (k,) anew, from the nominal model."""
        if not self._quantities:
            return
        count, device, rows = len(ids), generator.device, ids[:, None]
        unit = torch.rand(self._width * count, generator=generator, dtype=torch.float64, device=device)
        parts = torch.split(unit, [q.width * count for q in self._quantities])
        for quantity, part in zip(self._quantities, parts, strict=True):
            low, high = quantity.span
            quantity.write(rows, low + (high - low) * part.view(count, quantity.width))
        if self._battery:
            self._battery.restart(ids)
        if self._moves_inertia:
            self._worlds.update_constants(ids)

    def push(self, period_s: float, generator: torch.Generator) -> None:
        """Change the root velocity of a few worlds, so that each is pushed every `push_every_s`."""
        every_s = self.params.push_every_s
        if every_s == 0:
            return
        worlds, device = self._worlds, generator.device
        chosen = torch.rand(worlds.num, generator=generator, device=device) < period_s / every_s
        ids = chosen.nonzero()[:, 0]
        if not len(ids):
            return
        qvel = worlds.qvel[ids]
        qvel[:, :6] += (2 * torch.rand((len(ids), 6), generator=generator, device=device) - 1) * self._push
        worlds.set_velocity(ids, qvel)

    def before_step(self) -> None:
        """Let the servos' drive follow the battery's voltage; nothing where that is fixed."""
        if self._battery:
            self._battery.before_step()

    @property
    def supply_v(self) -> Tensor | None:
        """(B, 1) present voltage at the servos; None where it is always the nominal one."""
        return self._battery.voltage_v if self._battery else None

    def state(self) -> State:
        """What was drawn, see `robotrl.sim.saving`; the worlds save their model fields themselves."""
        return self._own_state() | (joined(battery=self._battery.state()) if self._battery else {})

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        battery = part_of(tensors, "battery")
        put_back(self._own_state(), {k: v for k, v in tensors.items() if not k.startswith("battery.")})
        if self._battery:
            self._battery.load_state(battery)

    def _own_state(self) -> State:
        vertical = {} if self.vertical is None else {"vertical": self.vertical}
        delays = {"action_delay_s": self.action_delay_s, "observation_delay_s": self.observation_delay_s}
        return delays | vertical

    def bytes_per_world(self) -> int:
        """Memory of one world's own model fields, without what the backend derives from them."""
        own = [*self._fields.values()]
        if self._battery:
            own += 2 * [*self._battery.nominal.values()]  # at nominal voltage, and at the present one
        return sum(field[0].numel() * field.element_size() for field in own)

    # What is drawn, in this order: a seed keeps its meaning when a quantity is added at the end. ----

    def _servos_and_trunk(self) -> list[_Quantity]:
        p, model = self.params, self._worlds.model
        touching = [3 * g for g in range(model.ngeom) if model.geom_conaffinity[g]]
        trunk, joints = [int(model.jnt_bodyid[0])], self._joint_dofs()
        gain, bias = model.actuator_gainprm.shape[1], model.actuator_biasprm.shape[1]
        kp = {
            "actuator_gainprm": [gain * a for a in range(model.nu)],
            "actuator_biasprm": [bias * a + 1 for a in range(model.nu)],
        }
        return [
            *self._value(p.friction, "geom_friction", touching),
            *self._factor(p.trunk_mass_scale, 1, {"body_mass": trunk, "body_inertia": _axes(trunk)}),
            *self._offset(p.trunk_com_m, 3, "body_ipos", _axes(trunk)),
            *self._factor(p.stiffness_scale, 1, kp),
            *self._factor(p.torque_scale, 1, {"actuator_forcerange": range(2 * model.nu)}),
            *self._factor(p.damping_scale, 1, {"dof_damping": joints}),
            *self._value(p.joint_friction_nm, "dof_frictionloss", joints),
            *_into(self.action_delay_s, p.action_delay_s),
        ]

    def _limbs_and_rotors(self) -> list[_Quantity]:
        p, model = self.params, self._worlds.model
        root = int(model.jnt_bodyid[0])
        limbs = [
            b for b in range(model.nbody) if model.body_rootid[b] == root != b and model.body_mass[b] > 0
        ]
        bias = model.actuator_biasprm.shape[1]
        kd = [bias * a + 2 for a in range(model.nu)]
        return [
            *self._factor(p.limb_mass_scale, len(limbs), {"body_mass": limbs, "body_inertia": _axes(limbs)}),
            *self._offset(p.limb_com_m, 3 * len(limbs), "body_ipos", _axes(limbs)),
            *self._factor(p.armature_scale, 1, {"dof_armature": self._joint_dofs()}),
            *self._offset(p.servo_damping_nm_s_rad, 1, "actuator_biasprm", kd, sign=-1.0),
        ]

    def _joint_dofs(self) -> list[int]:
        model = self._worlds.model
        return [int(model.jnt_dofadr[j]) for j in range(1, model.njnt)]

    def _tilt(self) -> list[_Quantity]:
        """Rotate gravity by a vector in the horizontal plane."""
        if self.params.gravity_tilt_rad == _ZERO:
            return []
        worlds, gravity = self._worlds, self._field("opt.gravity")
        nominal = torch.as_tensor(worlds.model.opt.gravity.copy(), device=worlds.device)
        vertical = self.vertical = torch.zeros((worlds.num, 4), device=worlds.device)
        vertical[:, 0] = 1.0

        def write(ids: Tensor, tilt: Tensor) -> None:
            axis = torch.nn.functional.pad(tilt, (0, 1))
            angle = torch.linalg.vector_norm(axis, dim=1, keepdim=True)
            sine = axis * torch.sinc(angle / torch.pi)  # axis times sine of the angle, without dividing by 0
            turned = torch.cos(angle) * nominal + torch.linalg.cross(sine, nominal.expand_as(sine))
            gravity[ids[:, 0]] = turned.to(gravity.dtype)
            half = 0.5 * axis * torch.sinc(angle / (2 * torch.pi))
            vertical[ids[:, 0]] = torch.cat((torch.cos(angle / 2), half), dim=1).to(vertical.dtype)

        return [_Quantity(self.params.gravity_tilt_rad, 2, write)]

    def _make_battery(self) -> Battery | None:
        supply = check_battery(self.params, read_supply(self._worlds.model))
        return Battery(self._worlds, supply) if supply else None

    # How it is written -----------------------------------------------------------------------------

    def _field(self, name: str) -> Tensor:
        """Where a world's values of a model field are written: the battery scales some of them."""
        if self._battery and name in self._battery.nominal:
            return self._battery.nominal[name]
        field = self._fields[name] = self._worlds.field(name)
        return field

    def _value(self, span: Range, name: str, columns: list[int]) -> list[_Quantity]:
        """Draw the value itself; neutral where it can only be what every column holds already."""
        nominal = getattr(self._worlds.model, name).reshape(-1)[columns]
        if span[0] == span[1] and (nominal == span[0]).all():
            return []
        return [_Quantity(span, 1, self._writer(name, columns, lambda _, v: v.expand(-1, len(columns))))]

    def _factor(self, span: Range, width: int, targets: Mapping[str, Iterable[int]]) -> list[_Quantity]:
        """Draw factors on nominal values; a factor is shared by neighbouring columns if there are more."""
        if span == _ONE:
            return []
        writers = [self._writer(name, [*c], lambda nominal, v: nominal * v) for name, c in targets.items()]

        def write(ids: Tensor, values: Tensor) -> None:
            for writer in writers:
                writer(ids, values)

        return [_Quantity(span, width, write)]

    def _offset(
        self, span: Range, width: int, name: str, columns: list[int], sign: float = 1.0
    ) -> list[_Quantity]:
        """Draw what is added to nominal values."""
        if span == _ZERO:
            return []
        return [_Quantity(span, width, self._writer(name, columns, lambda nominal, v: nominal + sign * v))]

    def _writer(
        self, name: str, columns: list[int], combine: Callable[[Tensor, Tensor], Tensor]
    ) -> Callable[[Tensor, Tensor], None]:
        """Write `combine(nominal, drawn)` into columns of a field whose values of a world lie in a row."""
        field = self._field(name)
        rows = field.view(self._worlds.num, -1)
        values_1d = getattr(self._worlds.model, name).reshape(-1)[columns]
        nominal = torch.as_tensor(values_1d, dtype=torch.float64, device=field.device)
        at = torch.tensor(columns, device=field.device)

        def write(ids: Tensor, values: Tensor) -> None:
            if 1 < values.shape[1] < len(columns):
                values = values.repeat_interleave(len(columns) // values.shape[1], dim=1)
            rows[ids, at] = combine(nominal, values).to(rows.dtype)

        return write


_INERTIA = {"body_mass", "body_inertia", "body_ipos", "dof_armature"}
"""Fields from which the model derives others. (Gravity is an option that nothing is derived from.)"""


def _axes(bodies: list[int]) -> list[int]:
    """Columns of a (bodies, 3) field."""
    return [3 * b + axis for b in bodies for axis in range(3)]


def _into(store: Tensor, span: Range) -> list[_Quantity]:
    """Draw one number of each world into a (B,) tensor."""
    if span == _ZERO:
        return []

    def write(ids: Tensor, values: Tensor) -> None:
        store[ids] = values.to(store.dtype)

    return [_Quantity(span, 1, write)]


def nominal_params(model: mujoco.MjModel) -> RandomizeParams:
    """Ranges that leave the model as it is: no randomisation, no delay, no pushes."""
    friction = float(max(model.geom_friction[g, 0] for g in range(model.ngeom) if model.geom_conaffinity[g]))
    joint_friction = float(model.dof_frictionloss[-1])
    return RandomizeParams(
        friction=(friction, friction),
        trunk_mass_scale=_ONE,
        trunk_com_m=_ZERO,
        stiffness_scale=_ONE,
        damping_scale=_ONE,
        joint_friction_nm=(joint_friction, joint_friction),
        torque_scale=_ONE,
        action_delay_s=_ZERO,
        push_every_s=0.0,
        push_m_s=0.0,
        push_rad_s=0.0,
    )
