"""The Shadow Hand as a robot, its task in one world, and a random policy for it."""

from __future__ import annotations

import functools

import numpy as np
import torch

from robotrl.cli.deployed import channels_of_world
from robotrl.export.onnx import Recording
from robotrl.export.verify import TRACE_TICKS
from robotrl.learn.networks import Actor, plain_mlp
from robotrl.learn.normalize import RunningNorm
from robotrl.sim.goal import GoalEnv, native_goal_worlds
from robotrl.spec.contract import Provenance
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.goal import Deployment
from robotrl.tasks.robotics import goal_task

NAME = "HandReach-v3"
CONFIG = """env = "robotrl/HandReach-v3"
algorithm = "td3"
seed = 0
steps = 400

[sim]
worlds = 4
processes = 1

[td3]
steps = 50
start = 200
updates_per_step = 0.1
replay = 1000
batch = 32
gamma = 0.98
tau = 0.02
lr = 1e-3
critic_lr = 1e-3
hidden = [16, 16]

[td3.hindsight]
strategy = "future"
k = 4
"""
"""A run of a few seconds."""
PROVENANCE = Provenance(CONFIG, 0, "", 400, {}, {"success_last": 0.25, "return_mean": -50.0})


@functools.cache
def shadow_hand() -> RobotSpec:
    """The shipped robot."""
    return load_robot(find_shipped("hardware", "shadow_hand_sim"))


def reach_env(worlds: int, seed: int) -> GoalEnv:
    """Worlds of HandReach as learners see them."""
    task = goal_task(NAME)
    return GoalEnv(task, native_goal_worlds(task, worlds, threads=1), seed)


def deployment() -> Deployment:
    """How its policies drive the robot."""
    found = goal_task(NAME).deployment
    assert found is not None
    return found


def random_actor(env: GoalEnv, gain: float = 0.5) -> Actor:
    """A network of random weights, as TD3 builds it, behind a normaliser that has seen something."""
    torch.manual_seed(3)
    width = env.observation.shape[1]
    norm = RunningNorm(width)
    norm.mean.copy_(env.observation.mean(0))
    norm.var.fill_(0.25)
    norm.count.fill_(1000)
    return Actor(
        norm, torch.nn.Sequential(plain_mlp(width, (32, 32), env.action_size, gain), torch.nn.Tanh())
    )


def recorded(env: GoalEnv) -> Recording:
    """Channels of a world that random actions move, one action for each episode."""
    channels = channels_of_world(deployment(), env)
    generator = torch.Generator().manual_seed(1)
    rows = []
    for tick in range(TRACE_TICKS):
        if tick % 50 == 0:
            action = 2 * torch.rand((env.num, env.action_size), generator=generator) - 1
        rows.append({n: v[0].float().numpy() for n, v in channels(env.worlds, env.goal).items()})
        env.step(action)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
