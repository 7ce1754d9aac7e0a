"""What the tests of every robot with a goal task share: a short run, worlds, recorded channels."""

from __future__ import annotations

import numpy as np
import torch

from robotrl.cli.deployed import channels_of_world
from robotrl.export.onnx import Recording
from robotrl.export.verify import TRACE_TICKS
from robotrl.sim.goal import GoalEnv, native_goal_worlds
from robotrl.tasks.goal import Deployment
from robotrl.tasks.robotics import goal_task


def run_config(name: str, gamma: float) -> str:
    """The TOML of a run of a few seconds."""
    return f"""env = "robotrl/{name}"
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
gamma = {gamma}
tau = 0.02
lr = 1e-3
critic_lr = 1e-3
hidden = [16, 16]

[td3.hindsight]
strategy = "future"
k = 4
"""


def env_of(name: str, worlds: int, seed: int) -> GoalEnv:
    """Worlds of a task as learners see them."""
    task = goal_task(name)
    return GoalEnv(task, native_goal_worlds(task, worlds, threads=1), seed)


def deployment_of(name: str) -> Deployment:
    """How a task's policies drive the robot."""
    found = goal_task(name).deployment
    assert found is not None
    return found


def recorded(name: str, env: GoalEnv) -> Recording:
    """Channels of a world that random actions move, one action for each episode."""
    channels = channels_of_world(deployment_of(name), env)
    generator = torch.Generator().manual_seed(1)
    rows = []
    for tick in range(TRACE_TICKS):
        if tick % 50 == 0:
            action = 2 * torch.rand((env.num, env.action_size), generator=generator) - 1
        rows.append({n: v[0].float().numpy().copy() for n, v in channels(env.worlds, env.goal).items()})
        env.step(action)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
