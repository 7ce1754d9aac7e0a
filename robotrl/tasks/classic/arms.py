"""Reacher and Pusher: arms that are to bring something to a goal (Gymnasium, v5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robotrl.tasks.classic.shared import body_index, effort, model_file, never, no_mark, uniform
from robotrl.tasks.direct import DirectTask, ModelFacts, Rules
from robotrl.tasks.task import WorldView

REACH_M = 0.2
"""Reacher: goals lie in a disc of this radius."""
CLEARANCE_M = 0.17
"""Pusher: the object starts further from the goal than this."""
CANDIDATES = 32
"""Pusher: draws of the object's place, of which the first valid one counts; 62 % are valid."""


def reacher(
    *,
    xml_file: str = "reacher.xml",
    frame_skip: int = 2,
    reward_dist_weight: float = 1.0,
    reward_control_weight: float = 1.0,
    max_episode_steps: int = 50,
) -> DirectTask:
    """Bring a two-joint arm's fingertip to a goal in the plane."""

    def rules(model: ModelFacts) -> Rules:
        fingertip, target = body_index(model, "fingertip"), body_index(model, "target")
        qpos0 = torch.tensor(model.qpos0, dtype=model.dtype)

        def gap(view: WorldView) -> Tensor:
            xpos = view.data("xpos")
            return xpos[:, fingertip] - xpos[:, target]

        def observe(view: WorldView) -> Tensor:
            angle = view.qpos[:, :2]
            parts = (torch.cos(angle), torch.sin(angle), view.qpos[:, 2:], view.qvel[:, :2], gap(view)[:, :2])
            return torch.cat(parts, dim=-1)

        def score(view: WorldView, _: Tensor, action: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            distance = torch.linalg.vector_norm(gap(view), dim=-1)
            terms = (distance * -reward_dist_weight, effort(action) * -reward_control_weight)
            return terms, never(view)

        def start(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            qpos = qpos0 + uniform((count, len(qpos0)), 0.1, generator, model.dtype)
            qpos[:, -2:] = _in_disc(count, generator, model.dtype)
            qvel = uniform((count, model.nv), 5e-3, generator, model.dtype)
            qvel[:, -2:] = 0.0
            return qpos, qvel

        return Rules(("distance", "effort"), no_mark, observe, observe, score, start)

    return DirectTask(
        "Reacher-v5", model_file(xml_file), frame_skip, max_episode_steps, contact_forces=False, rules=rules
    )


def pusher(
    *,
    xml_file: str = "pusher_v5.xml",
    frame_skip: int = 5,
    reward_near_weight: float = 0.5,
    reward_dist_weight: float = 1.0,
    reward_control_weight: float = 0.1,
    max_episode_steps: int = 100,
) -> DirectTask:
    """Push a cylinder to a goal with a seven-joint arm."""

    def rules(model: ModelFacts) -> Rules:
        tip, thing, goal = (body_index(model, name) for name in ("tips_arm", "object", "goal"))
        qpos0 = torch.tensor(model.qpos0, dtype=model.dtype)

        def observe(view: WorldView) -> Tensor:
            xpos = view.data("xpos")
            parts = (view.qpos[:, :7], view.qvel[:, :7], xpos[:, tip], xpos[:, thing], xpos[:, goal])
            return torch.cat(parts, dim=-1)

        def score(view: WorldView, _: Tensor, action: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            xpos = view.data("xpos")
            near = torch.linalg.vector_norm(xpos[:, thing] - xpos[:, tip], dim=-1)
            distance = torch.linalg.vector_norm(xpos[:, thing] - xpos[:, goal], dim=-1)
            terms = (
                distance * -reward_dist_weight,
                effort(action) * -reward_control_weight,
                near * -reward_near_weight,
            )
            return terms, never(view)

        def start(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            qpos = qpos0.repeat(count, 1)
            qpos[:, -4:-2] = _beside_goal(count, generator, model.dtype)
            qpos[:, -2:] = 0.0
            qvel = uniform((count, model.nv), 5e-3, generator, model.dtype)
            qvel[:, -4:] = 0.0
            return qpos, qvel

        return Rules(("distance", "effort", "near"), no_mark, observe, observe, score, start)

    return DirectTask(
        "Pusher-v5", model_file(xml_file), frame_skip, max_episode_steps, contact_forces=False, rules=rules
    )


def _in_disc(count: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Points (count, 2) uniform over the reach, which the original draws by rejection."""
    radius, turn = torch.rand((2, count), generator=generator, device=generator.device, dtype=dtype)
    radius, angle = REACH_M * radius.sqrt(), 2 * math.pi * turn
    return torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)


def _beside_goal(count: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Points (count, 2) uniform over a rectangle beside the goal, less the clearance around it.

    All candidates are drawn at once: redrawing until every world is served would need to ask the
    device. None of them is valid once in 10^13 times; then the first counts.
    """
    shape = (2, count, CANDIDATES)
    x, y = torch.rand(shape, generator=generator, device=generator.device, dtype=dtype)
    x, y = 0.3 * x - 0.3, 0.4 * y - 0.2
    valid = torch.hypot(x, y) > CLEARANCE_M
    first = valid.to(torch.uint8).argmax(dim=-1, keepdim=True)
    return torch.cat((x.gather(1, first), y.gather(1, first)), dim=-1)
