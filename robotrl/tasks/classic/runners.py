"""HalfCheetah, Hopper, Walker2d and Swimmer: planar bodies that are to move forward (Gymnasium, v5)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robotrl.tasks.classic.shared import (
    Range,
    Start,
    effort,
    inside,
    model_file,
    never,
    normal,
    paid,
    start_near,
    uniform,
)
from robotrl.tasks.direct import DirectTask, ModelFacts, Rules
from robotrl.tasks.task import WorldView

INF = float("inf")


def half_cheetah(
    *,
    xml_file: str = "half_cheetah.xml",
    frame_skip: int = 5,
    forward_reward_weight: float = 1.0,
    ctrl_cost_weight: float = 0.1,
    reset_noise_scale: float = 0.1,
    exclude_current_positions_from_observation: bool = True,
    max_episode_steps: int = 1000,
) -> DirectTask:
    """Run forward; no posture ends an episode."""

    def rules(model: ModelFacts) -> Rules:
        return _free(
            model.timestep_s * frame_skip,
            forward_reward_weight,
            ctrl_cost_weight,
            int(exclude_current_positions_from_observation),
            start_near(model, reset_noise_scale, normal),
        )

    return DirectTask(
        "HalfCheetah-v5",
        model_file(xml_file),
        frame_skip,
        max_episode_steps,
        contact_forces=False,
        rules=rules,
    )


def swimmer(
    *,
    xml_file: str = "swimmer.xml",
    frame_skip: int = 4,
    forward_reward_weight: float = 1.0,
    ctrl_cost_weight: float = 1e-4,
    reset_noise_scale: float = 0.1,
    exclude_current_positions_from_observation: bool = True,
    max_episode_steps: int = 1000,
) -> DirectTask:
    """Swim along x in a viscous fluid."""

    def rules(model: ModelFacts) -> Rules:
        return _free(
            model.timestep_s * frame_skip,
            forward_reward_weight,
            ctrl_cost_weight,
            2 * exclude_current_positions_from_observation,
            start_near(model, reset_noise_scale, uniform),
        )

    return DirectTask(
        "Swimmer-v5", model_file(xml_file), frame_skip, max_episode_steps, contact_forces=False, rules=rules
    )


def hopper(
    *,
    xml_file: str = "hopper.xml",
    frame_skip: int = 4,
    forward_reward_weight: float = 1.0,
    ctrl_cost_weight: float = 1e-3,
    healthy_reward: float = 1.0,
    terminate_when_unhealthy: bool = True,
    healthy_state_range: Range = (-100.0, 100.0),
    healthy_z_range: Range = (0.7, INF),
    healthy_angle_range: Range = (-0.2, 0.2),
    reset_noise_scale: float = 5e-3,
    exclude_current_positions_from_observation: bool = True,
    max_episode_steps: int = 1000,
) -> DirectTask:
    """Hop forward without falling."""

    def healthy(view: WorldView) -> Tensor:
        state = torch.cat((view.qpos[:, 2:], view.qvel), dim=-1)
        calm = inside(state, healthy_state_range).all(-1)
        return calm & _upright(view.qpos, healthy_z_range, healthy_angle_range)

    def rules(model: ModelFacts) -> Rules:
        return _balanced(
            model.timestep_s * frame_skip,
            forward_reward_weight,
            ctrl_cost_weight,
            healthy_reward,
            terminate_when_unhealthy,
            int(exclude_current_positions_from_observation),
            healthy,
            start_near(model, reset_noise_scale, uniform),
        )

    return DirectTask(
        "Hopper-v5", model_file(xml_file), frame_skip, max_episode_steps, contact_forces=False, rules=rules
    )


def walker2d(
    *,
    xml_file: str = "walker2d_v5.xml",
    frame_skip: int = 4,
    forward_reward_weight: float = 1.0,
    ctrl_cost_weight: float = 1e-3,
    healthy_reward: float = 1.0,
    terminate_when_unhealthy: bool = True,
    healthy_z_range: Range = (0.8, 2.0),
    healthy_angle_range: Range = (-1.0, 1.0),
    reset_noise_scale: float = 5e-3,
    exclude_current_positions_from_observation: bool = True,
    max_episode_steps: int = 1000,
) -> DirectTask:
    """Walk forward on two legs in the plane without falling."""

    def healthy(view: WorldView) -> Tensor:
        return _upright(view.qpos, healthy_z_range, healthy_angle_range)

    def rules(model: ModelFacts) -> Rules:
        return _balanced(
            model.timestep_s * frame_skip,
            forward_reward_weight,
            ctrl_cost_weight,
            healthy_reward,
            terminate_when_unhealthy,
            int(exclude_current_positions_from_observation),
            healthy,
            start_near(model, reset_noise_scale, uniform),
        )

    return DirectTask(
        "Walker2d-v5", model_file(xml_file), frame_skip, max_episode_steps, contact_forces=False, rules=rules
    )


def _upright(qpos: Tensor, z_range: Range, angle_range: Range) -> Tensor:
    return inside(qpos[:, 1], z_range) & inside(qpos[:, 2], angle_range)


def _x_position(view: WorldView) -> Tensor:
    return view.qpos[:, 0]


def _free(period_s: float, forward_weight: float, effort_weight: float, skipped: int, start: Start) -> Rules:
    """Forward speed less effort, whatever the posture; the first `skipped` positions are not observed."""

    def observe(view: WorldView) -> Tensor:
        return torch.cat((view.qpos[:, skipped:], view.qvel), dim=-1)

    def score(view: WorldView, x_before: Tensor, action: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        forward = (view.qpos[:, 0] - x_before) * (forward_weight / period_s)
        return (forward, effort(action) * -effort_weight), never(view)

    return Rules(("forward", "effort"), _x_position, observe, observe, score, start)


def _balanced(
    period_s: float,
    forward_weight: float,
    effort_weight: float,
    healthy_reward: float,
    terminate: bool,
    skipped: int,
    healthy: Callable[[WorldView], Tensor],
    start: Start,
) -> Rules:
    """Forward speed and a reward while healthy, less effort; velocities are observed clipped to 10."""

    def observe(view: WorldView) -> Tensor:
        return torch.cat((view.qpos[:, skipped:], view.qvel.clamp(-10, 10)), dim=-1)

    def score(view: WorldView, x_before: Tensor, action: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        forward = (view.qpos[:, 0] - x_before) * (forward_weight / period_s)
        well = healthy(view)
        terms = (forward, paid(well, healthy_reward, forward), effort(action) * -effort_weight)
        return terms, ~well if terminate else never(view)

    return Rules(("forward", "healthy", "effort"), _x_position, observe, observe, score, start)
