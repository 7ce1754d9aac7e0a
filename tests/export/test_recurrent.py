"""A network with a memory as a policy file: one memory more, carried by the file as by torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robotrl.cli.runfile import Job, parse_job, record_channels
from robotrl.cli.runfile import TrainedRun as Run
from robotrl.export.graph import ACTOR_MEMORY, PolicyGraph, trace
from robotrl.export.onnx import export_policy
from robotrl.export.verify import TRACE_TICKS
from robotrl.learn.ppo import Ppo
from robotrl.runtime.policy import Policy
from robotrl.spec.shipped import find_shipped
from tests.export import sample

TICKS = 400
SIZES = {"gru": 16, "lstm": 32}
TOLERANCE = 1e-5


def velocity_run(kind: str) -> Run:
    """An untrained actor with a memory, of the shipped velocity task; its actions are not small."""
    text = find_shipped("configs", "quad12_walk_ppo").read_text(encoding="utf-8")
    text = f'{text}\n[ppo.memory]\nkind = "{kind}"\nwidth = 16\n'
    job = parse_job(text, Path("memory.toml"))
    assert isinstance(job, Job)
    torch.manual_seed(0)
    learner = job.learner()
    assert isinstance(learner, Ppo)
    with torch.no_grad():
        for parameter in learner.actor.parameters():
            parameter.mul_(1.5)
    learner.actor.norm.var.fill_(0.3)
    return Run(job, learner.actor, seed=0, steps=0, scores={})


@pytest.fixture(scope="module", params=["gru", "lstm"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[str, Run, Path]:
    run, file = velocity_run(request.param), tmp_path_factory.mktemp("memory") / "policy.onnx"
    recorded, command = record_channels(run, TRACE_TICKS), (run.task.command_low, run.task.command_high)
    export_policy(file, run.task.policy, run.actor, run.robot, recorded, sample.PROVENANCE, command)
    return request.param, run, file


def test_the_runtime_carries_the_memory_as_torch_does(exported: tuple[str, Run, Path]) -> None:
    kind, run, file = exported
    policy, recorded = Policy.load(file), record_channels(run, TICKS)
    wanted = trace(PolicyGraph(run.task.policy, run.actor, run.robot.sizes), recorded, TICKS).outputs
    rows = [{name: values[t] for name, values in recorded.items()} for t in range(TICKS)]
    got = np.stack([policy.step(row) for row in rows])
    assert np.abs(got - wanted["joint_target"]).max() < TOLERANCE
    assert len(policy.contract.memory[-1].initial) == SIZES[kind]
    assert policy.contract.memory[-1].name == ACTOR_MEMORY
    assert np.abs(wanted[f"next_{ACTOR_MEMORY}"][-1]).max() > 0.1, "something is remembered"
    forgetful = Policy.load(file)
    anew = []
    for row in rows:
        anew.append(forgetful.step(row))
        forgetful.reset()
    assert np.abs(np.stack(anew) - got).max() > 1e-3, "and it matters"
    policy.reset()
    assert np.array_equal(policy.step(rows[0]), got[0])
    assert policy.replay_golden() < TOLERANCE
