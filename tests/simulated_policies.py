"""Policies of simulated tasks that nobody had to train: plain, with goals, and one that remembers."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from robotrl.cli.gymfile import GymJob, parse_training
from robotrl.cli.simulated import control_interface, record_observations, simulated_task
from robotrl.export.onnx import export_policy
from robotrl.export.verify import TRACE_TICKS, ExportReport
from robotrl.learn.networks import Actor
from robotrl.sim.boxed import UnitActions
from robotrl.spec.contract_parts import Provenance
from robotrl.spec.simulated import SimulatedTask

PPO = """env = "robotrl/{task}"
algorithm = "ppo"
seed = 0
steps = 64

[sim]
worlds = 4
processes = 1

[ppo]
steps = 8
epochs = 1
minibatch = 16
gamma = 0.99
gae_lambda = 0.95
clip = 0.2
schedule = "linear"
lr = 3e-4
value_weight = 0.25
grad_norm = 0.5
init_std = 0.6
actor_gain = 1.0
hidden = [16, 16]
"""

OFF_POLICY = """env = "robotrl/{task}"
algorithm = "{algorithm}"
seed = 0
steps = 64

[sim]
worlds = 4
processes = 1

[{algorithm}]
steps = 8
start = 32
updates_per_step = 0.1
replay = 1000
batch = 16
gamma = 0.95
tau = 0.005
lr = 3e-4
critic_lr = 3e-4
hidden = [16, 16]
"""

TD3_WITH_GOALS = OFF_POLICY.format(task="FetchPushDense-v4", algorithm="td3")

CONFIGS = {
    "sac": OFF_POLICY.format(task="Hopper-v5", algorithm="sac"),
    "goals": TD3_WITH_GOALS,
    "gru": PPO.format(task="InvertedPendulum-v5") + '\n[ppo.memory]\nkind = "gru"\nwidth = 8\n',
}


@dataclass(frozen=True)
class Untrained:
    """A policy file and what it was made from."""

    file: Path
    report: ExportReport
    job: GymJob
    env: UnitActions
    task: SimulatedTask
    actor: Actor
    recorded: Mapping[str, NDArray[np.float32]]


@functools.cache
def untrained(kind: str) -> Untrained:
    """Export an untrained actor whose actions are not small, of `CONFIGS`; not to be changed."""
    folder = tempfile.TemporaryDirectory()
    _FOLDERS.append(folder)
    file = Path(folder.name) / "policy.onnx"
    job = parse_training(CONFIGS[kind], file)
    assert isinstance(job, GymJob)
    torch.manual_seed(0)
    actor = job.learner().actor
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.mul_(2.0)
    actor.norm.var.fill_(0.02)
    actor.norm.count.fill_(1000)
    env = job.evaluation_env(1, seed=1, threads=1)
    task, recorded = simulated_task(job, env), record_observations(env, actor, TRACE_TICKS)
    provenance = Provenance(CONFIGS[kind], 0, "", 0, {}, {})
    report = export_policy(file, control_interface(env), actor, task, recorded, provenance, ((), ()))
    return Untrained(file, report, job, env, task, actor, recorded)


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Kept until the process ends."""
