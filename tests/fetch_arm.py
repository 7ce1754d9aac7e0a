"""The Fetch arm as a robot, its task in one world, and a policy for it that nobody had to train."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import torch

from robotrl.export.onnx import Recording, export_policy
from robotrl.learn.networks import Actor
from robotrl.learn.normalize import RunningNorm
from robotrl.sim.goal import GoalEnv
from robotrl.spec.arm import ArmSpec
from robotrl.spec.contract_parts import Provenance
from robotrl.spec.hardware import load_hardware
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.goal import Deployment
from tests import goal_robots
from tests.goal_robots import deployment_of, env_of, run_config

NAME = "FetchReach-v4"
GAIN = 10.0
"""Action of a metre between gripper and goal."""
CONFIG = run_config(NAME, gamma=0.95)
PROVENANCE = Provenance(CONFIG, 0, "", 400, {}, {"success_last": 1.0})
GOAL_RANGE = ((1.1, 0.5, 0.3), (1.6, 1.0, 0.8))


@functools.cache
def fetch_arm() -> ArmSpec:
    """The shipped arm."""
    arm = load_hardware(find_shipped("hardware", "fetch_sim"))
    assert isinstance(arm, ArmSpec)
    return arm


def reach_env(worlds: int, seed: int) -> GoalEnv:
    """Worlds of FetchReach as learners see them."""
    return env_of(NAME, worlds, seed)


def deployment() -> Deployment:
    """How its policies drive the arm."""
    return deployment_of(NAME)


def straight_actor() -> Actor:
    """Sends the gripper straight to the goal: observed are 10 numbers, the achieved and the desired goal."""
    layer = torch.nn.Linear(16, 4)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        for axis in range(3):
            layer.weight[axis, 10 + axis], layer.weight[axis, 13 + axis] = -GAIN, GAIN
    norm = RunningNorm(16)
    norm.count.fill_(1000)
    return Actor(norm, torch.nn.Sequential(layer, torch.nn.Tanh()))


def recorded(env: GoalEnv) -> Recording:
    """Channels of a world that random actions move."""
    return goal_robots.recorded(NAME, env)


@functools.cache
def exported() -> Path:
    """The straight policy as a policy file, not to be changed."""
    folder = tempfile.TemporaryDirectory()
    _FOLDERS.append(folder)
    file = Path(folder.name) / "policy.onnx"
    env = reach_env(1, seed=1)
    interface = deployment().policy(env.facts)
    export_policy(file, interface, straight_actor(), fetch_arm(), recorded(env), PROVENANCE, GOAL_RANGE)
    return file


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Kept until the process ends."""
