"""InvertedPendulum and InvertedDoublePendulum: poles on a cart that are to stay up (Gymnasium, v5)."""

from __future__ import annotations

import torch
from torch import Tensor

from robotrl.tasks.classic.shared import model_file, no_mark, normal, paid, start_near, uniform
from robotrl.tasks.direct import DirectTask, ModelFacts, Rules
from robotrl.tasks.task import WorldView

FALLEN_RAD = 0.2
"""Angle of the single pole at which an episode ends."""
LOW_M = 1.0
"""Height of the double pole's tip at which an episode ends."""


def inverted_pendulum(
    *,
    xml_file: str = "inverted_pendulum.xml",
    frame_skip: int = 2,
    reset_noise_scale: float = 0.01,
    max_episode_steps: int = 1000,
) -> DirectTask:
    """Keep a pole upright: 1 for every step that it is."""

    def observe(view: WorldView) -> Tensor:
        return torch.cat((view.qpos, view.qvel), dim=-1)

    def score(view: WorldView, _: Tensor, __: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        fallen = view.qpos[:, 1].abs() > FALLEN_RAD
        return (paid(~fallen, 1.0, view.qpos),), fallen

    def rules(model: ModelFacts) -> Rules:
        start = start_near(model, reset_noise_scale, uniform)
        return Rules(("survive",), no_mark, observe, observe, score, start)

    return DirectTask(
        "InvertedPendulum-v5",
        model_file(xml_file),
        frame_skip,
        max_episode_steps,
        contact_forces=False,
        rules=rules,
    )


def inverted_double_pendulum(
    *,
    xml_file: str = "inverted_double_pendulum.xml",
    frame_skip: int = 5,
    healthy_reward: float = 10.0,
    reset_noise_scale: float = 0.1,
    max_episode_steps: int = 1000,
) -> DirectTask:
    """Keep two linked poles upright, near the middle and calm."""

    def observe(view: WorldView) -> Tensor:
        angle = view.qpos[:, 1:]
        on_cart = view.data("qfrc_constraint")[:, :1].clamp(-10, 10)
        parts = (view.qpos[:, :1], torch.sin(angle), torch.cos(angle), view.qvel.clamp(-10, 10), on_cart)
        return torch.cat(parts, dim=-1)

    def score(view: WorldView, _: Tensor, __: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        tip = view.data("site_xpos")[:, 0]
        fallen = tip[:, 2] <= LOW_M
        distance = -0.01 * tip[:, 0].square() - (tip[:, 2] - 2).square()
        velocity = -1e-3 * view.qvel[:, 1].square() - 5e-3 * view.qvel[:, 2].square()
        return (paid(~fallen, healthy_reward, distance), distance, velocity), fallen

    def rules(model: ModelFacts) -> Rules:
        start = start_near(model, reset_noise_scale, normal)
        return Rules(("survive", "distance", "velocity"), no_mark, observe, observe, score, start)

    return DirectTask(
        "InvertedDoublePendulum-v5",
        model_file(xml_file),
        frame_skip,
        max_episode_steps,
        contact_forces=False,
        rules=rules,
    )
