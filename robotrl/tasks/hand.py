"""The Shadow Hand of Gymnasium-Robotics, and its task HandReach (v3), in batched torch.

Twenty actuators hold the hand's 24 joints at target angles. An action of +-1 is a target at an end of
the actuator's range; with relative control, half of the range away from where the joints are.

Source: `gymnasium_robotics.envs.shadow_dexterous_hand` 1.4.2; its model files are used where it is
installed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from robotrl.tasks.assets import robotics_asset
from robotrl.tasks.goal import Command, Deployment, GoalFacts, GoalRules, GoalTask, Judge, Near, goal_row
from robotrl.tasks.task import PolicyInterface, WorldView

ACTUATORS = 20
SUBSTEPS = 20
NEAR = Near(0.01)
"""Fingertips that are closer to their goals, all taken together, count as having reached them."""
MEETING_M = (0.0, -0.09, 0.05)
"""From the palm to where the thumb and a finger are to meet."""
SPREAD_M = 0.005
"""Standard deviation of that place."""
GAP_M = 0.005
"""How far short of it the fingertips' goals lie."""
HOME_SHARE = 0.1
"""Of the goals: all fingertips where they start."""
FINGERS = ("ff", "mf", "rf", "lf")
"""First, middle, ring and little finger."""
TIPS = tuple(f"robot0:S_{finger}tip" for finger in (*FINGERS, "th"))
THUMB = len(FINGERS)
START_RAD: Mapping[str, tuple[float, ...]] = {
    "WR": (-0.31973286565062153, -0.16514339750464327),
    "FF": (0.6705281001412586, 0.7126053607727917, 0.32028208333591573, 0.14340512546557435),
    "MF": (0.7323156897425923, 0.7659800313729842, 0.3152655251085491, 0.000246444303701037),
    "RF": (0.6699446327514138, 0.7119514095008576, 0.36743546201985233, 0.00038520700007378114),
    "LF": (
        0.704096378652974,
        0.7415570009679252,
        0.39872030433433003,
        -0.13615534724474673,
        0.0525442258033891,
    ),
    "TH": (
        -0.7894883021600622,
        -0.0015229223564485414,
        -0.014515151997119306,
        0.5506291436028695,
        0.003673823825070126,
    ),
}
"""Where HandReach starts: of the wrist and each finger joint 0, joint 1 and so on."""


def _reach(
    reward: Judge, suffix: str, *, max_episode_steps: int = 50, relative_control: bool = False
) -> GoalTask:
    return GoalTask(
        name=f"HandReach{suffix}-v3",
        model_file=robotics_asset("hand", "reach.xml"),
        substeps=SUBSTEPS,
        episode_steps=max_episode_steps,
        action_size=ACTUATORS,
        goal_size=3 * len(TIPS),
        initial_qpos={
            f"robot0:{finger}J{k}": (angle,)
            for finger, angles in START_RAD.items()
            for k, angle in enumerate(angles)
        },
        settling=None,
        pinned=(),
        reward=reward,
        success=NEAR.reached,
        rules=functools.partial(_rules, relative_control),
        # Relative targets start from the joints' true angles, also of those that no servo measures.
        deployment=None if relative_control else Deployment("shadow_hand_sim", reach_channels, reach_policy),
    )


HAND_REACH: Mapping[str, Callable[..., GoalTask]] = {
    f"HandReach{suffix}-v3": functools.partial(_reach, reward, suffix) for suffix, reward in NEAR.judges
}
"""HandReach by Gymnasium's names; the keyword arguments are `gymnasium.make`'s."""


def _joints(model: GoalFacts) -> tuple[list[str], list[str]]:
    """Names of the joints that have an actuator, in the actuators' order, and of the others."""
    driven = [name.replace(":A_", ":") for name in model.actuators]
    return driven, [name for name in model.joint_qpos if name not in driven]


def reach_channels(model: GoalFacts) -> Callable[[WorldView], dict[str, Tensor]]:
    """View -> what the hand's servos and its estimator measure."""
    rows = [
        (
            f"{kind}joint",
            torch.tensor([model.joint_qpos[name] for name in names]),
            torch.tensor([model.joint_dof[name] for name in names]),
        )
        for kind, names in zip(("", "passive_"), _joints(model), strict=True)
    ]
    tips = torch.tensor([model.site[name].index for name in TIPS])

    def channels(view: WorldView) -> dict[str, Tensor]:
        found = {"point_pos": view.data("site_xpos")[:, tips]}
        for name, qpos, dofs in rows:
            found[f"{name}_pos"], found[f"{name}_vel"] = view.qpos[:, qpos], view.qvel[:, dofs]
        return found

    return channels


def _observation(model: GoalFacts) -> Callable[[Mapping[str, Tensor]], tuple[Tensor, Tensor]]:
    """Channels -> angles and speeds (B, 24) in the model's order with places (B, 63), and places (B, 15)."""
    driven, passive = _joints(model)
    order = torch.tensor([(driven + passive).index(name) for name in model.joint_qpos])

    def observe(channels: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        places = channels["point_pos"].flatten(1)
        pos, vel = (
            torch.cat((channels[f"joint_{what}"], channels[f"passive_joint_{what}"]), dim=-1)[:, order]
            for what in ("pos", "vel")
        )
        return torch.cat((pos, vel, places), dim=-1), places

    return observe


def reach_policy(model: GoalFacts) -> PolicyInterface:
    """What a policy of HandReach reads and moves on the robot, in single precision."""
    observation = _observation(model)
    targets = _targets(model, torch.float32)
    narrowest = min(high - low for low, high in zip(model.control_low, model.control_high, strict=True))

    def observe(channels: Mapping[str, Tensor], _: Mapping[str, Tensor]) -> Tensor:
        return goal_row(*observation(channels), channels["goal"])

    return PolicyInterface(
        channels=("joint_pos", "joint_vel", "passive_joint_pos", "passive_joint_vel", "point_pos", "goal"),
        memory=(),
        observe=observe,
        advance=lambda *_: {},
        target=lambda _, action: targets(action),
        action_scale_rad=narrowest / 2,
        goal_size=3 * len(TIPS),
    )


def _targets(model: GoalFacts, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Actions (B, 20) -> target angles (B, 20) rad: +-1 is an end of the actuator's range."""
    low, high = (torch.tensor(ends, dtype=dtype) for ends in (model.control_low, model.control_high))
    middle, half = (high + low) / 2, (high - low) / 2
    return lambda action: (middle + action * half).clamp(low, high)


def hand_joints(model: GoalFacts) -> Callable[[WorldView], tuple[Tensor, Tensor]]:
    """View -> angles (B, 24) rad and velocities (B, 24) rad/s of the hand's joints in the model's order."""
    names = [name for name in model.joint_qpos if name.startswith("robot")]
    qpos = torch.tensor([model.joint_qpos[name] for name in names])
    dofs = torch.tensor([model.joint_dof[name] for name in names])
    return lambda view: (view.qpos[:, qpos], view.qvel[:, dofs])


def hand_command(model: GoalFacts, *, relative: bool) -> Callable[[WorldView, Tensor], Command]:
    """Target angles of actions, within the actuators' ranges.

    With relative control the originals take the present angles in float32; that of a finger's coupled
    outer two joints is their sum.
    """
    targets = _targets(model, model.dtype)
    low, high = (torch.tensor(ends, dtype=model.dtype) for ends in (model.control_low, model.control_high))
    half = (high - low) / 2
    joints, _ = _joints(model)
    driven = torch.tensor([model.joint_qpos[name] for name in joints])
    outer = [(k, f"{name[:-1]}0") for k, name in enumerate(joints) if name.endswith("FJ1")]
    coupled = torch.tensor([k for k, _ in outer])
    tips = torch.tensor([model.joint_qpos[name] for _, name in outer])

    def absolute(_: WorldView, action: Tensor) -> Command:
        return Command(targets(action))

    def displaced(view: WorldView, action: Tensor) -> Command:
        present = view.qpos[:, driven].float()
        present[:, coupled] = (present[:, coupled] + view.qpos[:, tips]).float()
        return Command((present + action * half).clamp(low, high))

    return displaced if relative else absolute


def resting(model: GoalFacts) -> tuple[Tensor, Tensor]:
    """State (1, nq), (1, nv) in which the model was prepared."""
    qpos, qvel = (torch.tensor([values], dtype=model.dtype) for values in (model.qpos, model.qvel))
    return qpos, qvel


def _rules(relative_control: bool, model: GoalFacts) -> GoalRules:
    channels, observation = reach_channels(model), _observation(model)
    qpos, qvel = resting(model)
    return GoalRules(
        observe=lambda view: observation(channels(view)),
        command=hand_command(model, relative=relative_control),
        start=lambda count, _: (qpos.repeat(count, 1), qvel.repeat(count, 1)),
        draw_goal=_goal_drawer(model),
    )


def _goal_drawer(model: GoalFacts) -> Callable[[WorldView, Tensor, torch.Generator], Tensor]:
    """A fingertip and the thumb meet over the palm, the others stay; or all stay."""
    home = torch.tensor([model.site[name].start_m for name in TIPS], dtype=model.dtype)
    over_palm = torch.tensor(model.body_start_m["robot0:palm"], dtype=model.dtype)
    over_palm += torch.tensor(MEETING_M, dtype=model.dtype)

    def draw_goal(_: WorldView, worlds: Tensor, generator: torch.Generator) -> Tensor:
        count, device = len(worlds), generator.device
        noise = torch.randn((count, 1, 3), generator=generator, device=device, dtype=model.dtype)
        place = over_palm + SPREAD_M * noise
        finger = torch.randint(len(FINGERS), (count, 1), generator=generator, device=device)
        pair = torch.cat((finger, torch.full_like(finger, THUMB)), dim=-1)
        goal = home.repeat(count, 1, 1)
        way = place - home[pair]
        rows = torch.arange(count, device=device)[:, None]
        goal[rows, pair] = place - GAP_M * way / torch.linalg.vector_norm(way, dim=-1, keepdim=True)
        stay = torch.rand((count, 1, 1), generator=generator, device=device) < HOME_SHARE
        return torch.where(stay, home, goal).flatten(1)

    return draw_goal
