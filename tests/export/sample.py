"""A small policy for quad12 with every kind of memory, exported once per test session."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robotrl.export.graph import PolicyGraph, Trace, trace
from robotrl.export.onnx import export_policy
from robotrl.export.verify import TRACE_TICKS, ExportReport
from robotrl.learn.networks import Actor, mirror_mlp
from robotrl.learn.normalize import RunningNorm
from robotrl.spec.channels import JOINTS
from robotrl.spec.contract import PolicyContract, read_policy_file
from robotrl.spec.contract_parts import Provenance
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.task import MemorySpec, PolicyInterface

CHANNELS = ("joint_pos", "joint_vel", "imu_quat", "imu_gyro", "velocity_command")
OBSERVATION = 48
SIZES = {JOINTS: 12}
PROVENANCE = Provenance(
    config='[task]\nname = "velocity"\n',
    seed=7,
    git_commit="0123abc",
    steps=1_000_000,
    versions={"torch": "2.13.0", "mujoco": "3.17.0"},
    scores={"error_vx_m_s": 0.1 + 0.2, "survival": 1.0},
)
COMMAND_RANGE = ((-0.4, -0.2, -1.0), (0.4, 0.2, 1.0))


@functools.cache
def quad12() -> RobotSpec:
    """The shipped robot."""
    return load_robot(find_shipped("hardware", "quad12"))


def interface() -> PolicyInterface:
    """Every channel, last action and clock in; targets about the default posture out."""
    default = torch.tensor(quad12().default_rad, dtype=torch.float32)
    low = torch.tensor(quad12().position_min_rad, dtype=torch.float32)
    high = torch.tensor(quad12().position_max_rad, dtype=torch.float32)

    def observe(channels: Mapping[str, Tensor], memory: Mapping[str, Tensor]) -> Tensor:
        angle = 2 * torch.pi * memory["clock"]
        parts = [channels[name] for name in CHANNELS]
        return torch.cat((*parts, memory["last_action"], torch.sin(angle), torch.cos(angle)), dim=-1)

    def advance(
        channels: Mapping[str, Tensor], memory: Mapping[str, Tensor], action: Tensor
    ) -> dict[str, Tensor]:
        moving = (channels["velocity_command"].norm(dim=-1, keepdim=True) > 0.05).float()
        return {"last_action": action, "clock": torch.remainder(memory["clock"] + 0.03 * moving, 1.0)}

    def target(channels: Mapping[str, Tensor], action: Tensor) -> Tensor:
        near = channels["joint_pos"] + (default + 0.3 * action - channels["joint_pos"]).clamp(-0.5, 0.5)
        return torch.minimum(torch.maximum(near, low), high)

    memory = (MemorySpec("last_action", (0.0,) * 12), MemorySpec("clock", (0.25,)))
    return PolicyInterface(CHANNELS, memory, observe, advance, target, 0.3)


def actor(seed: int = 0) -> Actor:
    """A mirror-equivariant network behind a used normaliser, with actions of the size of trained ones."""
    torch.manual_seed(seed)
    norm = RunningNorm(OBSERVATION)
    norm.mean.copy_(torch.linspace(-1.0, 1.0, OBSERVATION))
    norm.var.copy_(torch.linspace(0.01, 9.0, OBSERVATION))
    norm.count.fill_(4096)
    seen = (range(OBSERVATION)[::-1], [1.0] * OBSERVATION)
    return Actor(norm, mirror_mlp(seen, (64, 64), (range(12)[::-1], [-1.0] * 12), 0.5))


@functools.cache
def recorded() -> Mapping[str, NDArray[np.float32]]:
    """Smooth motion about the default posture, with commands that change and are sometimes zero."""
    rng = np.random.default_rng(3)
    t = np.arange(TRACE_TICKS)[:, None] / 50.0
    sway = np.sin(t * rng.uniform(2, 12, 12) + rng.uniform(0, 6, 12))
    tilt = 0.1 * np.sin(t * rng.uniform(1, 3, 3))
    quat = np.concatenate((np.ones_like(t), tilt), axis=1)
    command = np.repeat(rng.uniform(*COMMAND_RANGE, (TRACE_TICKS // 100, 3)), 100, axis=0)
    command[300:500] = 0.0
    channels = {
        "joint_pos": quad12().default_rad + 0.2 * sway,
        "joint_vel": np.cos(t * 7.0) * sway,
        "imu_quat": quat / np.linalg.norm(quat, axis=1, keepdims=True),
        "imu_gyro": rng.normal(0, 0.3, (TRACE_TICKS, 3)),
        "velocity_command": command,
    }
    return {name: values.astype(np.float32) for name, values in channels.items()}


@functools.cache
def exported() -> tuple[Path, ExportReport]:
    """The sample as a policy file (not to be changed), and what verification measured."""
    folder = tempfile.TemporaryDirectory()
    _FOLDERS.append(folder)
    file = Path(folder.name) / "policy.onnx"
    return file, export(file)


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Kept until the process ends."""


def export(file: Path, robot: RobotSpec | None = None) -> ExportReport:
    """Export the sample to a file of the test's own."""
    return export_policy(file, interface(), actor(), robot or quad12(), recorded(), PROVENANCE, COMMAND_RANGE)


@functools.cache
def graph() -> PolicyGraph:
    """The sample in torch."""
    return PolicyGraph(interface(), actor(), SIZES)


@functools.cache
def run() -> Trace:
    """The sample in torch along its recording."""
    return trace(graph(), recorded(), TRACE_TICKS)


def contract() -> PolicyContract:
    """The sample's contract."""
    return read_policy_file(exported()[0])[1]
