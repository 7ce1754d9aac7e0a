"""The Fetch arm as a robot, its task in one world, and a policy for it that nobody had to train."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import torch

from robotrl.cli.deployed import channels_of_world
from robotrl.export.onnx import Recording, export_policy
from robotrl.export.verify import TRACE_TICKS
from robotrl.learn.networks import Actor
from robotrl.learn.normalize import RunningNorm
from robotrl.sim.goal import GoalEnv, native_goal_worlds
from robotrl.spec.arm import ArmSpec
from robotrl.spec.contract import Provenance
from robotrl.spec.hardware import load_hardware
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.goal import Deployment
from robotrl.tasks.robotics import goal_task

NAME = "FetchReach-v4"
GAIN = 10.0
"""Action of a metre between gripper and goal."""
CONFIG = """env = "robotrl/FetchReach-v4"
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
gamma = 0.95
tau = 0.02
lr = 1e-3
critic_lr = 1e-3
hidden = [16, 16]

[td3.hindsight]
strategy = "future"
k = 4
"""
"""A run of a few seconds."""
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
    task = goal_task(NAME)
    return GoalEnv(task, native_goal_worlds(task, worlds, threads=1), seed)


def deployment() -> Deployment:
    """How its policies drive the arm."""
    found = goal_task(NAME).deployment
    assert found is not None
    return found


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
    """Channels of a world that random actions move, one action for each episode."""
    channels = channels_of_world(deployment(), env)
    generator = torch.Generator().manual_seed(1)
    rows = []
    for tick in range(TRACE_TICKS):
        if tick % 50 == 0:
            action = 2 * torch.rand((env.num, env.action_size), generator=generator) - 1
        rows.append({n: v[0].float().numpy().copy() for n, v in channels(env.worlds, env.goal).items()})
        env.step(action)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


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
