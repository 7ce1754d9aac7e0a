"""The Shadow Hand's in-hand manipulation tasks of Gymnasium-Robotics (v1), in batched torch.

The hand turns a block, an egg or a pen, which was dropped into it, to a goal pose: position (m) and
quaternion (wxyz). Ninety-two touch sensors may be part of what is observed.

Source: `gymnasium_robotics.envs.shadow_dexterous_hand.manipulate` 1.4.2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from robotrl.tasks.assets import robotics_asset
from robotrl.tasks.goal import GoalFacts, GoalRules, GoalTask, Judge, Trial, uniform
from robotrl.tasks.hand import ACTUATORS, SUBSTEPS, hand_command, hand_joints, resting
from robotrl.tasks.rotations import (
    angle_between,
    euler_of_quat,
    normalised,
    parallel_quats,
    product,
    quat_about,
    quat_of_euler,
)
from robotrl.tasks.task import WorldView

ACHIEVED_RAD = 0.1
"""A goal orientation that is closer counts as achieved."""
DISTANCE_WEIGHT = 10.0
"""Of metres against radians in the dense reward."""
SPREAD_M = 0.005
"""Standard deviation of where objects are dropped."""
GOAL_RANGE_M = ((-0.04, 0.04), (-0.06, 0.02), (0.0, 0.06))
"""Of goal positions about where the object came to rest."""
SETTLING_STEPS = 10
PALM_M = 0.04
"""An object that comes to rest no higher has fallen off the palm."""
OBJECT, CENTRE = "object:joint", "object:center"

Turns = Callable[[int, torch.Generator, torch.dtype], Tensor]
"""(count, generator, dtype) -> random rotations (count, 4)."""
Touch = Callable[[Tensor], Tensor]
"""Readings of the touch sensors (B, 92) -> what is observed of them."""


@dataclass(frozen=True)
class _Thing:
    """What is turned.

    Attributes:
        name: of its model file.
        turned: whether it starts in a random orientation.
        yaw_counts: whether the third Euler angle of a goal does.
        achieved_m: a goal position that is closer counts as achieved.
    """

    name: str
    turned: bool
    yaw_counts: bool
    achieved_m: float


@dataclass(frozen=True)
class _Kind:
    """What tells one family of manipulation tasks from another.

    Attributes:
        thing: what is turned.
        turns: goal orientations, and the random part of start orientations.
        placed: whether the goal position counts.
    """

    thing: _Thing
    turns: Turns
    placed: bool


def _about_z(count: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    angle = uniform((count,), -math.pi, math.pi, generator, dtype)
    return quat_about(torch.tensor((0.0, 0.0, 1.0), dtype=dtype, device=angle.device).expand(count, 3), angle)


def _parallel(count: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    about_z = _about_z(count, generator, dtype)
    upright = parallel_quats().to(about_z)
    drawn = torch.randint(len(upright), (count,), generator=generator, device=generator.device)
    return product(about_z, upright[drawn])


def _about_any(count: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Uniform angles about axes through a uniform point of a cube: not uniform orientations."""
    angle = uniform((count,), -math.pi, math.pi, generator, dtype)
    return quat_about(uniform((count, 3), -1.0, 1.0, generator, dtype), angle)


_BLOCK = _Thing("block", turned=True, yaw_counts=True, achieved_m=0.01)
_EGG = _Thing("egg", turned=True, yaw_counts=True, achieved_m=0.01)
_PEN = _Thing("pen", turned=False, yaw_counts=False, achieved_m=0.05)

_KINDS = {
    "BlockRotateZ": _Kind(_BLOCK, _about_z, placed=False),
    "BlockRotateParallel": _Kind(_BLOCK, _parallel, placed=False),
    "BlockRotateXYZ": _Kind(_BLOCK, _about_any, placed=False),
    "Block": _Kind(_BLOCK, _about_any, placed=True),
    "EggRotate": _Kind(_EGG, _about_any, placed=False),
    "Egg": _Kind(_EGG, _about_any, placed=True),
    "PenRotate": _Kind(_PEN, _about_any, placed=False),
    "Pen": _Kind(_PEN, _about_any, placed=True),
}

_TOUCH: Mapping[str, Touch | None] = {
    "": None,
    "_BooleanTouchSensors": lambda readings: (readings > 0.0).to(readings),
    "_ContinuousTouchSensors": lambda readings: readings,
}


def _manipulate(
    name: str,
    kind: _Kind,
    touch: Touch | None,
    dense: bool,
    *,
    max_episode_steps: int = 100,
    relative_control: bool = False,
) -> GoalTask:
    sensors = "" if touch is None else "_touch_sensors"
    success = functools.partial(_achieved, kind)
    reward: Judge = functools.partial(_dense, kind) if dense else functools.partial(_sparse, kind)
    return GoalTask(
        name=name,
        model_file=robotics_asset("hand", f"manipulate_{kind.thing.name}{sensors}.xml"),
        substeps=SUBSTEPS,
        episode_steps=max_episode_steps,
        action_size=ACTUATORS,
        goal_size=7,
        initial_qpos={},
        settling=None,
        pinned=(),
        reward=reward,
        success=success,
        rules=functools.partial(_rules, kind, touch, relative_control),
    )


def _tasks() -> dict[str, Callable[..., GoalTask]]:
    tasks: dict[str, Callable[..., GoalTask]] = {}
    for dense, suffix in ((False, ""), (True, "Dense")):
        for key, kind in _KINDS.items():
            for sensors, touch in _TOUCH.items():
                # Gymnasium has two names for the full tasks without touch sensors.
                full = [f"{key}Full"] if kind.placed and touch is None else []
                for known in (key, *full):
                    name = f"HandManipulate{known}{sensors}{suffix}-v1"
                    tasks[name] = functools.partial(_manipulate, name, kind, touch, dense)
    return tasks


def _gaps(kind: _Kind, achieved: Tensor, desired: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (...) m, where positions count, and angle (...) rad between goals.

    Where the third Euler angle does not count, it is taken over from the desired goal, for each goal by
    itself. (The originals do so for a single goal; of a batch they overwrite the third goal.)
    """
    distance = torch.linalg.vector_norm(achieved[..., :3] - desired[..., :3], dim=-1)
    quat, wanted = achieved[..., 3:], desired[..., 3:]
    if not kind.thing.yaw_counts:
        euler = torch.cat((euler_of_quat(quat)[..., :2], euler_of_quat(wanted)[..., 2:]), dim=-1)
        quat = quat_of_euler(euler)
    return distance if kind.placed else torch.zeros_like(distance), angle_between(quat, wanted)


def _achieved(kind: _Kind, achieved: Tensor, desired: Tensor) -> Tensor:
    distance, angle = _gaps(kind, achieved, desired)
    return (distance < kind.thing.achieved_m) & (angle < ACHIEVED_RAD)


def _sparse(kind: _Kind, achieved: Tensor, desired: Tensor) -> Tensor:
    return _achieved(kind, achieved, desired).to(achieved) - 1.0


def _dense(kind: _Kind, achieved: Tensor, desired: Tensor) -> Tensor:
    distance, angle = _gaps(kind, achieved, desired)
    return -(DISTANCE_WEIGHT * distance + angle)


MANIPULATE: Mapping[str, Callable[..., GoalTask]] = _tasks()
"""Every manipulation task by Gymnasium's name; the keyword arguments are `gymnasium.make`'s."""


def _rules(kind: _Kind, touch: Touch | None, relative_control: bool, model: GoalFacts) -> GoalRules:
    return GoalRules(
        observe=_observer(model, touch),
        command=hand_command(model, relative=relative_control),
        start=_starter(model, kind),
        draw_goal=_goal_drawer(model, kind),
        trial=Trial(SETTLING_STEPS, _on_palm(model)),
    )


def _on_palm(model: GoalFacts) -> Callable[[WorldView], Tensor]:
    centre = model.site[CENTRE].index
    return lambda view: view.data("site_xpos")[:, centre, 2] > PALM_M


def _observer(model: GoalFacts, touch: Touch | None) -> Callable[[WorldView], tuple[Tensor, Tensor]]:
    joints, pose, motion = hand_joints(model), _pose(model), _motion(model)
    sensors = torch.tensor([at for name, at in model.sensor.items() if "robot0:TS_" in name])

    def observe(view: WorldView) -> tuple[Tensor, Tensor]:
        achieved = view.qpos[:, pose]
        parts = [*joints(view), view.qvel[:, motion], achieved]
        if touch is not None:
            parts.append(touch(view.data("sensordata")[:, sensors]))
        return torch.cat(parts, dim=-1), achieved

    return observe


def _pose(model: GoalFacts) -> slice:
    return slice(model.joint_qpos[OBJECT], model.joint_qpos[OBJECT] + 7)


def _motion(model: GoalFacts) -> slice:
    return slice(model.joint_dof[OBJECT], model.joint_dof[OBJECT] + 6)


def _starter(model: GoalFacts, kind: _Kind) -> Callable[[int, torch.Generator], tuple[Tensor, Tensor]]:
    """The hand open, the object above it."""
    qpos0, qvel0 = resting(model)
    pose = _pose(model)

    def start(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        qpos, qvel = qpos0.repeat(count, 1), qvel0.repeat(count, 1)
        place, quat = qpos[:, pose][:, :3], qpos[:, pose][:, 3:]
        if kind.thing.turned:
            quat = product(quat, kind.turns(count, generator, model.dtype))
        noise = torch.randn((count, 3), generator=generator, device=generator.device, dtype=model.dtype)
        qpos[:, pose] = torch.cat((place + SPREAD_M * noise, normalised(quat)), dim=-1)
        return qpos, qvel

    return start


def _goal_drawer(model: GoalFacts, kind: _Kind) -> Callable[[WorldView, Tensor, torch.Generator], Tensor]:
    pose = _pose(model)
    low, high = torch.tensor(GOAL_RANGE_M, dtype=model.dtype).T

    def draw_goal(view: WorldView, worlds: Tensor, generator: torch.Generator) -> Tensor:
        place = view.qpos[worlds, pose][:, :3]
        if kind.placed:
            share = uniform((len(worlds), 3), 0.0, 1.0, generator, model.dtype)
            place = place + low + (high - low) * share
        quat = normalised(kind.turns(len(worlds), generator, model.dtype))
        return torch.cat((place, quat), dim=-1)

    return draw_goal
