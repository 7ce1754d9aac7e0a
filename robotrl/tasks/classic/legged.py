"""Ant, Humanoid and HumanoidStandup: bodies in space, with contact forces (Gymnasium, v5 and Ant-v4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robotrl.errors import BadInputError
from robotrl.tasks.classic.shared import (
    Range,
    body_index,
    effort,
    inside,
    model_file,
    never,
    no_mark,
    normal,
    paid,
    start_near,
    uniform,
)
from robotrl.tasks.direct import DirectTask, ModelFacts, Rules
from robotrl.tasks.task import WorldView

INF = float("inf")
FREE_JOINT = 6
"""Degrees of freedom that no actuator of a humanoid acts on."""


def ant(
    *,
    xml_file: str = "ant.xml",
    frame_skip: int = 5,
    forward_reward_weight: float = 1.0,
    ctrl_cost_weight: float = 0.5,
    contact_cost_weight: float = 5e-4,
    healthy_reward: float = 1.0,
    main_body: int | str = 1,
    terminate_when_unhealthy: bool = True,
    healthy_z_range: Range = (0.2, 1.0),
    contact_force_range: Range = (-1.0, 1.0),
    reset_noise_scale: float = 0.1,
    exclude_current_positions_from_observation: bool = True,
    include_cfrc_ext_in_observation: bool = True,
    max_episode_steps: int = 1000,
) -> DirectTask:
    """Walk forward on four legs (v5): contact forces are observed and cost."""
    # The world's own row of forces is left out of the observation.
    observed_from = 1 if include_cfrc_ext_in_observation else None

    def rules(model: ModelFacts) -> Rules:
        return _ant(
            model,
            model.timestep_s * frame_skip,
            _main_body(model, main_body),
            forward_reward_weight,
            ctrl_cost_weight,
            _Healthy(healthy_reward, healthy_z_range, terminate_when_unhealthy, paid_at_the_end=False),
            _Contact(contact_cost_weight, contact_force_range, observed_from),
            2 * exclude_current_positions_from_observation,
            reset_noise_scale,
        )

    forces = include_cfrc_ext_in_observation or contact_cost_weight != 0
    return DirectTask("Ant-v5", model_file(xml_file), frame_skip, max_episode_steps, forces, rules)


def ant_v4(
    *,
    xml_file: str = "ant.xml",
    ctrl_cost_weight: float = 0.5,
    use_contact_forces: bool = False,
    contact_cost_weight: float = 5e-4,
    healthy_reward: float = 1.0,
    terminate_when_unhealthy: bool = True,
    healthy_z_range: Range = (0.2, 1.0),
    contact_force_range: Range = (-1.0, 1.0),
    reset_noise_scale: float = 0.1,
    exclude_current_positions_from_observation: bool = True,
    max_episode_steps: int = 1000,
) -> DirectTask:
    """Walk forward on four legs (v4): the 27 observed values of most published results."""
    frame_skip = 5

    def rules(model: ModelFacts) -> Rules:
        return _ant(
            model,
            model.timestep_s * frame_skip,
            body_index(model, "torso"),
            1.0,
            ctrl_cost_weight,
            _Healthy(healthy_reward, healthy_z_range, terminate_when_unhealthy, terminate_when_unhealthy),
            _Contact(contact_cost_weight, contact_force_range, 0) if use_contact_forces else _NO_CONTACT,
            2 * exclude_current_positions_from_observation,
            reset_noise_scale,
        )

    file = model_file(xml_file)
    return DirectTask("Ant-v4", file, frame_skip, max_episode_steps, use_contact_forces, rules)


@dataclass(frozen=True)
class _Healthy:
    reward: float
    z_range: Range
    terminate: bool
    paid_at_the_end: bool
    """Whether the step that ends the episode is paid too, as in v4."""


@dataclass(frozen=True)
class _Contact:
    cost_weight: float
    force_range: Range
    observed_from: int | None
    """The first body whose force is observed; None: no force is."""

    def forces(self, view: WorldView) -> Tensor:
        """Clipped forces on the bodies (B, nbody, 6)."""
        return view.data("cfrc_ext").clamp(*self.force_range)


_NO_CONTACT = _Contact(0.0, (-1.0, 1.0), None)


def _ant(
    model: ModelFacts,
    period_s: float,
    body: int,
    forward_weight: float,
    effort_weight: float,
    health: _Healthy,
    contact: _Contact,
    skipped: int,
    noise: float,
) -> Rules:
    first_body, lowest, highest = contact.observed_from, *health.z_range
    width = 0 if first_body is None else 6 * (len(model.body_mass) - first_body)
    names = ("forward", "healthy", "effort") + (("contact",) if contact.cost_weight else ())

    def mark(view: WorldView) -> Tensor:
        return view.data("xpos")[:, body, 0]

    def state(view: WorldView) -> tuple[Tensor, Tensor]:
        return view.qpos[:, skipped:], view.qvel

    def first(view: WorldView) -> Tensor:
        # Nothing touches before the first step: forces are only known after one.
        return torch.cat((*state(view), view.qvel.new_zeros((len(view.qvel), width))), dim=-1)

    def observe(view: WorldView) -> Tensor:
        if first_body is None:
            return torch.cat(state(view), dim=-1)
        return torch.cat((*state(view), contact.forces(view)[:, first_body:].flatten(1)), dim=-1)

    def score(view: WorldView, x_before: Tensor, action: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        # A state that is not finite ends the episode too, but that the worlds report themselves.
        height = view.qpos[:, 2]
        well = (height >= lowest) & (height <= highest)
        forward = (mark(view) - x_before) * (forward_weight / period_s)
        bonus = paid(well | health.paid_at_the_end, health.reward, forward)
        terms: tuple[Tensor, ...] = (forward, bonus, effort(action) * -effort_weight)
        if contact.cost_weight:
            terms += (effort(contact.forces(view).flatten(1)) * -contact.cost_weight,)
        return terms, ~well if health.terminate else never(view)

    return Rules(names, mark, observe, first, score, start_near(model, noise, normal))


def _main_body(model: ModelFacts, body: int | str) -> int:
    if isinstance(body, str):
        return body_index(model, body)
    if not 0 <= body < len(model.body_mass):
        raise BadInputError("the model has no such body", key="main_body", value=body, allowed=model.body_id)
    return body


def humanoid(
    *,
    xml_file: str = "humanoid.xml",
    frame_skip: int = 5,
    forward_reward_weight: float = 1.25,
    ctrl_cost_weight: float = 0.1,
    contact_cost_weight: float = 5e-7,
    contact_cost_range: Range = (-INF, 10.0),
    healthy_reward: float = 5.0,
    terminate_when_unhealthy: bool = True,
    healthy_z_range: Range = (1.0, 2.0),
    reset_noise_scale: float = 1e-2,
    exclude_current_positions_from_observation: bool = True,
    include_cinert_in_observation: bool = True,
    include_cvel_in_observation: bool = True,
    include_qfrc_actuator_in_observation: bool = True,
    include_cfrc_ext_in_observation: bool = True,
    max_episode_steps: int = 1000,
) -> DirectTask:
    """Walk forward on two legs in space without falling."""
    seen = _Seen(
        2 * exclude_current_positions_from_observation,
        include_cinert_in_observation,
        include_cvel_in_observation,
        include_qfrc_actuator_in_observation,
        include_cfrc_ext_in_observation,
    )
    impact = _Impact(contact_cost_weight, contact_cost_range)

    def rules(model: ModelFacts) -> Rules:
        mass = torch.tensor(model.body_mass, dtype=model.dtype)
        share, period_s = mass / mass.sum(), model.timestep_s * frame_skip

        def mark(view: WorldView) -> Tensor:
            return view.data("xipos")[:, :, 0] @ share

        def score(view: WorldView, x_before: Tensor, action: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            well = inside(view.qpos[:, 2], healthy_z_range)
            forward = (mark(view) - x_before) * (forward_reward_weight / period_s)
            terms = (
                forward,
                paid(well, healthy_reward, forward),
                effort(action) * -ctrl_cost_weight,
                -impact.cost(view),
            )
            return terms, ~well if terminate_when_unhealthy else never(view)

        start = start_near(model, reset_noise_scale, uniform)
        names = ("forward", "healthy", "effort", "contact")
        return Rules(names, mark, seen.observe, seen.first, score, start)

    forces = include_cfrc_ext_in_observation or contact_cost_weight != 0
    return DirectTask("Humanoid-v5", model_file(xml_file), frame_skip, max_episode_steps, forces, rules)


def humanoid_standup(
    *,
    xml_file: str = "humanoidstandup.xml",
    frame_skip: int = 5,
    uph_cost_weight: float = 1.0,
    ctrl_cost_weight: float = 0.1,
    impact_cost_weight: float = 5e-7,
    impact_cost_range: Range = (-INF, 10.0),
    reset_noise_scale: float = 1e-2,
    exclude_current_positions_from_observation: bool = True,
    include_cinert_in_observation: bool = True,
    include_cvel_in_observation: bool = True,
    include_qfrc_actuator_in_observation: bool = True,
    include_cfrc_ext_in_observation: bool = True,
    max_episode_steps: int = 1000,
) -> DirectTask:
    """Get up from lying on the ground.

    The original accepts `uph_cost_weight` and ignores it; so does this.
    """
    seen = _Seen(
        2 * exclude_current_positions_from_observation,
        include_cinert_in_observation,
        include_cvel_in_observation,
        include_qfrc_actuator_in_observation,
        include_cfrc_ext_in_observation,
    )
    impact = _Impact(impact_cost_weight, impact_cost_range)

    def rules(model: ModelFacts) -> Rules:
        def score(view: WorldView, _: Tensor, action: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            height = view.qpos[:, 2] / model.timestep_s  # sic: not the change of height
            alive = torch.ones_like(height)
            return (height, effort(action) * -ctrl_cost_weight, -impact.cost(view), alive), never(view)

        start = start_near(model, reset_noise_scale, uniform)
        names = ("height", "effort", "impact", "alive")
        return Rules(names, no_mark, seen.observe, seen.first, score, start)

    forces = include_cfrc_ext_in_observation or impact_cost_weight != 0
    name = "HumanoidStandup-v5"
    return DirectTask(name, model_file(xml_file), frame_skip, max_episode_steps, forces, rules)


@dataclass(frozen=True)
class _Impact:
    """What contact forces cost, clipped."""

    weight: float
    limits: Range

    def cost(self, view: WorldView) -> Tensor:
        """Cost (B,)."""
        if not self.weight:
            return torch.zeros_like(view.qpos[:, 0]).clamp(*self.limits)
        return (effort(view.data("cfrc_ext").flatten(1)) * self.weight).clamp(*self.limits)


@dataclass(frozen=True)
class _Seen:
    """What a humanoid observes besides joint positions and velocities; the world body is left out."""

    skipped: int
    cinert: bool
    cvel: bool
    qfrc_actuator: bool
    cfrc_ext: bool

    def observe(self, view: WorldView) -> Tensor:
        """Observation after a step."""
        forces = (view.data("cfrc_ext")[:, 1:].flatten(1),) if self.cfrc_ext else ()
        return torch.cat((*self._moving(view), *forces), dim=-1)

    def first(self, view: WorldView) -> Tensor:
        """Observation after a reset: forces are only known after a step."""
        width = view.data("cfrc_ext")[0, 1:].numel() if self.cfrc_ext else 0
        return torch.cat((*self._moving(view), view.qvel.new_zeros((len(view.qvel), width))), dim=-1)

    def _moving(self, view: WorldView) -> tuple[Tensor, ...]:
        parts: tuple[Tensor, ...] = (view.qpos[:, self.skipped :], view.qvel)
        if self.cinert:
            parts += (view.data("cinert")[:, 1:].flatten(1),)
        if self.cvel:
            parts += (view.data("cvel")[:, 1:].flatten(1),)
        if self.qfrc_actuator:
            parts += (view.data("qfrc_actuator")[:, FREE_JOINT:],)
        return parts
