"""The Fetch tasks of Gymnasium-Robotics (v4), written in batched torch from the originals' definitions.

A seven-joint arm's gripper hangs on a mocap body that an action displaces by up to 5 cm per axis. The
fourth number of an action opens and closes the gripper where it is not blocked.

Source: `gymnasium_robotics.envs.fetch` 1.4.2; its model files are used where it is installed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from robotrl.spec.commands import GRIPPER_AXES
from robotrl.spec.fetch import (
    DOWNWARD,
    FINGERS,
    GRIP,
    GRIPPER_BODY,
    REACH_BASE_M,
    REACH_HEIGHT_M,
    REACH_M,
    SUBSTEPS,
    base_qpos,
    settling,
)
from robotrl.tasks.assets import robotics_asset
from robotrl.tasks.goal import (
    Command,
    Deployment,
    GoalFacts,
    GoalRules,
    GoalTask,
    Judge,
    Near,
    euler_angles,
    goal_row,
    uniform,
    velocity_of,
)
from robotrl.tasks.task import PolicyInterface, WorldView

NEAR = Near(0.05)
"""A goal that is closer counts as achieved."""
CLEARANCE_M = 0.1
"""Objects start further from the gripper than this, seen from above."""
CANDIDATES = 128
"""Draws of the object's place, of which the first valid one counts; at least 21 % are valid."""
LIFTED_SHARE = 0.5
"""Of the goals, where they may lie in the air."""
LIFT_M = 0.45
"""Highest of these above the table."""
OBJECT = "object0"


@dataclass(frozen=True)
class _Variant:
    """What tells one Fetch task from another.

    Attributes:
        model_file: below the assets of Gymnasium-Robotics.
        initial_qpos: joints of the robot's base, and the object's pose.
        height_m: added to where the gripper starts.
        blocked: whether the gripper stays shut.
        object_range_m: half side of the square in which objects start; None: there is no object.
        goal_range_m: half side of the cube in which goals are drawn.
        goal_shift_m: of that cube along x.
        lifted: whether some goals lie above the table.
    """

    model_file: str
    initial_qpos: Mapping[str, tuple[float, ...]]
    height_m: float
    blocked: bool
    object_range_m: float | None
    goal_range_m: float
    goal_shift_m: float = 0.0
    lifted: bool = False


_CUBE = {"object0:joint": (1.25, 0.53, 0.4, 1.0, 0.0, 0.0, 0.0)}
_PUCK = {"object0:joint": (1.7, 1.1, 0.41, 1.0, 0.0, 0.0, 0.0)}

_VARIANTS = {
    "Reach": _Variant("reach.xml", base_qpos(REACH_BASE_M), REACH_HEIGHT_M, True, None, 0.15),
    "Push": _Variant("push.xml", base_qpos(0.405) | _CUBE, 0.0, True, 0.15, 0.15),
    "Slide": _Variant("slide.xml", base_qpos(0.05) | _PUCK, -0.02, True, 0.1, 0.3, goal_shift_m=0.4),
    "PickAndPlace": _Variant(
        "pick_and_place.xml", base_qpos(0.405) | _CUBE, 0.2, False, 0.15, 0.15, lifted=True
    ),
}


def _fetch(kind: str, reward: Judge, suffix: str, *, max_episode_steps: int = 50) -> GoalTask:
    variant = _VARIANTS[kind]
    return GoalTask(
        name=f"Fetch{kind}{suffix}-v4",
        model_file=robotics_asset("fetch", variant.model_file),
        substeps=SUBSTEPS,
        episode_steps=max_episode_steps,
        action_size=4,
        goal_size=3,
        initial_qpos=variant.initial_qpos,
        settling=settling(variant.height_m),
        pinned=FINGERS if variant.blocked else (),
        reward=reward,
        success=NEAR.reached,
        rules=functools.partial(_rules, variant),
        # What the others observe beside the gripper, no controller of an arm measures.
        deployment=Deployment("fetch_sim", reach_channels, reach_policy) if kind == "Reach" else None,
        axes=GRIPPER_AXES,
    )


FETCH: Mapping[str, Callable[..., GoalTask]] = {
    f"Fetch{kind}{suffix}-v4": functools.partial(_fetch, kind, reward, suffix)
    for suffix, reward in NEAR.judges
    for kind in _VARIANTS
}
"""Every Fetch task by Gymnasium's name; the keyword argument is `gymnasium.make`'s."""


def _rules(variant: _Variant, model: GoalFacts) -> GoalRules:
    return GoalRules(
        observe=_observer(model, has_object=variant.object_range_m is not None),
        command=_commander(model),
        start=_starter(model, variant.object_range_m),
        draw_goal=_goal_drawer(model, variant),
    )


def _observer(model: GoalFacts, *, has_object: bool) -> Callable[[WorldView], tuple[Tensor, Tensor]]:
    """Observation and achieved goal; velocities are displacements per control step."""
    if not has_object:
        channels, observation = reach_channels(model), _reach_observation(model)
        return lambda view: observation(channels(view))
    dt, sites = model.period_s, (model.site[GRIP], model.site[OBJECT])
    velocity = velocity_of(sites, model)
    finger_qpos = torch.tensor([model.joint_qpos[name] for name in FINGERS])
    finger_dofs = torch.tensor([model.joint_dof[name] for name in FINGERS])

    def observe(view: WorldView) -> tuple[Tensor, Tensor]:
        position, place = (view.data("site_xpos")[:, site.index] for site in sites)
        linear, angular = (velocities * dt for velocities in velocity(view))
        parts = (
            position,
            place,
            place - position,
            view.qpos[:, finger_qpos],
            euler_angles(view.data("site_xmat")[:, sites[-1].index]),
            linear[:, 1] - linear[:, 0],
            angular[:, 1],
            linear[:, 0],
            view.qvel[:, finger_dofs] * dt,
        )
        return torch.cat(parts, dim=-1), place

    return observe


def reach_channels(model: GoalFacts) -> Callable[[WorldView], dict[str, Tensor]]:
    """View -> what the arm's controller measures."""
    grip = model.site[GRIP]
    velocity = velocity_of((grip,), model)
    qpos, dofs = (torch.tensor([of[name] for name in FINGERS]) for of in (model.joint_qpos, model.joint_dof))
    return lambda view: {
        "gripper_pos": view.data("site_xpos")[:, grip.index],
        "gripper_vel": velocity(view)[0][:, 0],
        "finger_pos": view.qpos[:, qpos],
        "finger_vel": view.qvel[:, dofs],
    }


def _reach_observation(model: GoalFacts) -> Callable[[Mapping[str, Tensor]], tuple[Tensor, Tensor]]:
    """Channels -> observation (B, 10) and where the gripper is (B, 3)."""
    dt = model.period_s

    def observe(channels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        position, opening = channels["gripper_pos"], channels["finger_pos"]
        moved = channels["gripper_vel"] * dt, channels["finger_vel"] * dt
        return torch.cat((position, opening, *moved), dim=-1), position

    return observe


def reach_policy(model: GoalFacts) -> PolicyInterface:
    """What a policy of FetchReach reads and moves on the arm, in single precision; the fingers stay shut."""
    observation = _reach_observation(model)

    def observe(channels: Mapping[str, Tensor], _: Mapping[str, Tensor]) -> Tensor:
        return goal_row(*observation(channels), channels["goal"])

    def command(_: Mapping[str, Tensor], action: Tensor) -> Tensor:
        return torch.cat((action[:, :3].clamp(-1.0, 1.0) * REACH_M, torch.zeros_like(action[:, 3:])), dim=-1)

    return PolicyInterface(
        channels=("gripper_pos", "gripper_vel", "finger_pos", "finger_vel", "goal"),
        memory=(),
        observe=observe,
        advance=lambda *_: {},
        target=command,
        action_scale_rad=0.0,
        goal_size=3,
        command="gripper",
        gripper_scale_m=(REACH_M, REACH_M, REACH_M, 0.0),
    )


def _commander(model: GoalFacts) -> Callable[[WorldView, Tensor], Command]:
    """Displace the gripper from where it is seen, and the fingers from where they are.

    The originals scale actions in float32, and *add* the downward orientation to the gripper's own.
    """
    body = model.body[GRIPPER_BODY]
    downward = torch.tensor(DOWNWARD, dtype=model.dtype)
    # The actuators of `pick_and_place.xml` drive the left finger first.
    driven = FINGERS[::-1] if model.control_low else ()
    fingers = torch.tensor([model.joint_qpos[name] for name in driven], dtype=torch.int64)

    def command(view: WorldView, action: Tensor) -> Command:
        position = view.data("xpos")[:, body] + action[:, :3] * REACH_M
        quat = view.data("xquat")[:, body] + downward
        return Command(view.qpos[:, fingers] + action[:, 3:], (position[:, None], quat[:, None]))

    return command


def _starter(
    model: GoalFacts, object_range_m: float | None
) -> Callable[[int, torch.Generator], tuple[Tensor, Tensor]]:
    qpos0, qvel0 = torch.tensor(model.qpos, dtype=model.dtype), torch.tensor(model.qvel, dtype=model.dtype)
    grip_xy = torch.tensor(model.site[GRIP].start_m[:2], dtype=model.dtype)

    def start(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        qpos, qvel = qpos0.repeat(count, 1), qvel0.repeat(count, 1)
        if object_range_m is not None:
            first = model.joint_qpos["object0:joint"]
            qpos[:, first : first + 2] = grip_xy + _beside_gripper(
                count, object_range_m, generator, model.dtype
            )
        return qpos, qvel

    return start


def _beside_gripper(count: int, half_side_m: float, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Offsets (count, 2) uniform over a square around the gripper, less the clearance.

    All candidates are drawn at once: redrawing until every world is served would need to ask the
    device. None of them is valid at most once in 10^13 times; then the first counts.
    """
    drawn = uniform((count, CANDIDATES, 2), -half_side_m, half_side_m, generator, dtype)
    valid = torch.linalg.vector_norm(drawn, dim=-1) >= CLEARANCE_M
    first = valid.to(torch.uint8).argmax(dim=-1)
    return drawn[torch.arange(count, device=drawn.device), first]


def _goal_drawer(
    model: GoalFacts, variant: _Variant
) -> Callable[[WorldView, Tensor, torch.Generator], Tensor]:
    grip = torch.tensor(model.site[GRIP].start_m, dtype=model.dtype)
    grip[0] += variant.goal_shift_m
    height_m = model.site[OBJECT].start_m[2] if variant.object_range_m is not None else None

    def draw_goal(_: WorldView, worlds: Tensor, generator: torch.Generator) -> Tensor:
        count, half = len(worlds), variant.goal_range_m
        goal = grip + uniform((count, 3), -half, half, generator, model.dtype)
        if height_m is not None:
            goal[:, 2] = height_m
        if variant.lifted:
            chance, height = torch.rand(
                (2, count), generator=generator, device=generator.device, dtype=model.dtype
            )
            goal[:, 2] += torch.where(chance < LIFTED_SHARE, LIFT_M * height, 0.0)
        return goal

    return draw_goal
