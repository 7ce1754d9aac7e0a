"""The Shadow Hand as a robot, its task in one world, and a random policy for it."""

from __future__ import annotations

import functools

import torch

from robotrl.export.onnx import Recording
from robotrl.learn.networks import Actor, plain_mlp
from robotrl.learn.normalize import RunningNorm
from robotrl.sim.goal import GoalEnv
from robotrl.spec.contract_parts import Provenance
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.goal import Deployment
from tests import goal_robots
from tests.goal_robots import deployment_of, env_of, run_config

NAME = "HandReach-v3"
CONFIG = run_config(NAME, gamma=0.98)
PROVENANCE = Provenance(CONFIG, 0, "", 400, {}, {"success_last": 0.25, "return_mean": -50.0})


@functools.cache
def shadow_hand() -> RobotSpec:
    """The shipped robot."""
    return load_robot(find_shipped("hardware", "shadow_hand_sim"))


def reach_env(worlds: int, seed: int) -> GoalEnv:
    """Worlds of HandReach as learners see them."""
    return env_of(NAME, worlds, seed)


def deployment() -> Deployment:
    """How its policies drive the robot."""
    return deployment_of(NAME)


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
    """Channels of a world that random actions move."""
    return goal_robots.recorded(NAME, env)
