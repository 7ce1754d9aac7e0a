"""Simulation speed: whole environment steps against raw physics stepping, and against Gymnasium's.

An environment runs a while from its present states and its goals are kept; then the raw backend
runs the same models from the same states with the same goals, substeps and threads. Both alternate
in short turns, so that a noisy machine disturbs both alike; a ratio is the median over the turns.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol
from unittest import mock

import gymnasium
import mujoco
import mujoco.batch
import numpy as np
import torch
from torch import Tensor

from robotrl.cli.runfile import read_job
from robotrl.sim.direct import DirectEnv, native_worlds
from robotrl.sim.native import NativeWorlds, held
from robotrl.sim.saving import part_of
from robotrl.sim.worlds import Worlds
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.classic import classic_task

TURNS, TURN_S = 9, 1.0
FEWEST_STEPS, MOST_STEPS = 10, 50
"""Control steps of one turn; raw physics has no resets, so a turn must not last until robots lie about."""
TIMESTEP_S = 0.005
"""Physics step of quad12: four substeps per control period."""
ACTION_STD = 0.3
WORLDS = (64, 256, 1024, 4096)
ANTS = ("Ant-v4", "Ant-v5")
"""Ant-v5 observes contact forces: they cost its environment physics time, raw stepping none."""
AGAINST_GYMNASIUM = ("HalfCheetah-v5", "Ant-v5")
GYMNASIUM_WORLDS = 256
GYMNASIUM_PROCESSES = 2


class Stepped(Protocol):
    """What is measured: an environment of robotrl's own."""

    worlds: Any
    num: int
    action_size: int

    def step(self, action: Tensor) -> object:
        """Apply actions (B, n)."""


@dataclass(frozen=True)
class Start:
    """Where a turn starts."""

    qpos: Tensor
    qvel: Tensor
    fields: dict[str, np.ndarray]
    """Model fields that differ between worlds (B, ...)."""


class Raw(Protocol):
    """A backend without environment."""

    def turn(self, start: Start, goals: list[Tensor]) -> float:
        """Step from a state with each of `goals` (substeps, B, nu); seconds."""


@dataclass(frozen=True)
class Speed:
    """One environment at one world count."""

    model: str
    device: str
    worlds: int
    threads: int
    substeps: int
    raw_steps_per_s: float
    env_steps_per_s: float
    ratio: float
    ratio_lowest: float
    ratio_highest: float
    bytes_per_world: float


@dataclass(frozen=True)
class Comparison:
    """Environment steps per second of robotrl and of Gymnasium on the same machine in the same run."""

    model: str
    worlds: int
    threads: int
    env_steps_per_s: float
    gymnasium_steps_per_s: float
    ratio: float
    ratio_lowest: float
    ratio_highest: float


def bench_native(threads: int, report: Callable[[str], None]) -> dict[str, list[dict[str, Any]]]:
    """Measure quad12 and Ant at several world counts, and HalfCheetah and Ant against Gymnasium.

    Args:
        threads: physics threads.
        report: told what is being measured.

    Returns:
        `native`: records of `Speed`; `gymnasium`: records of `Comparison`.
    """
    torch.set_num_threads(1)
    speeds, comparisons = [], []
    for name in ("quad12", *ANTS):
        for worlds in WORLDS:
            report(f"{name}, {worlds} worlds")
            env = quad12(worlds, threads) if name == "quad12" else classic(name, worlds, threads)
            raw = RawNative(env.worlds.model, worlds, threads)
            speeds.append(asdict(measure_speed(name, env, raw, threads)))
    for name in AGAINST_GYMNASIUM:
        report(f"{name} against Gymnasium")
        comparisons.append(asdict(against_gymnasium(name, threads)))
    return {"native": speeds, "gymnasium": comparisons}


def quad12(worlds: int, threads: int) -> Stepped:
    """Build randomised robots with all of the walking run's sensing and latency."""
    job = read_job(find_shipped("configs", "quad12_walk_ppo"))
    return job.evaluation_env(worlds, 0, threads, TIMESTEP_S, randomized=True)


def classic(name: str, worlds: int, threads: int) -> Stepped:
    """Build a Gymnasium task in batch."""
    task = classic_task(name)
    return DirectEnv(task, native_worlds(task, worlds, threads), seed=0)


def measure_speed(name: str, env: Stepped, raw: Raw, threads: int) -> Speed:
    """Measure one environment against raw physics."""
    device = env.worlds.device
    actions = ACTION_STD * torch.randn((MOST_STEPS, env.num, env.action_size), device=device)
    turn_s, goals = _environment_turn(env, actions)  # warm-up
    steps = max(FEWEST_STEPS, min(MOST_STEPS, math.ceil(TURN_S * MOST_STEPS / turn_s)))
    raw.turn(_start(env.worlds), goals[:2])
    raw_s, env_s = [], []
    for _ in range(TURNS):
        start = _start(env.worlds)
        turn_s, goals = _environment_turn(env, actions[:steps])
        env_s.append(turn_s / steps)
        raw_s.append(raw.turn(start, goals) / steps)
    ratios = [bare / whole for bare, whole in zip(raw_s, env_s, strict=True)]
    return Speed(
        model=name,
        device=str(device),
        worlds=env.num,
        threads=threads,
        substeps=len(goals[0]),
        raw_steps_per_s=env.num / statistics.median(raw_s),
        env_steps_per_s=env.num / statistics.median(env_s),
        ratio=statistics.median(ratios),
        ratio_lowest=min(ratios),
        ratio_highest=max(ratios),
        bytes_per_world=env.worlds.bytes_per_world(),
    )


def _start(worlds: Worlds) -> Start:
    """Copy the present state, and what native worlds have of their own; Warp's cost nothing in speed."""
    fields = part_of(worlds.state(), "field") if isinstance(worlds, NativeWorlds) else {}
    return Start(worlds.qpos, worlds.qvel, {name: values.numpy().copy() for name, values in fields.items()})


def _environment_turn(env: Stepped, actions: Tensor) -> tuple[float, list[Tensor]]:
    """Step with each row of `actions`; the seconds it took, and the goals that reached the physics."""
    with _recorded(env.worlds) as goals:
        started = time.perf_counter()
        for action in actions:
            env.step(action)
        if env.worlds.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started, goals


@contextmanager
def _recorded(worlds: Worlds) -> Iterator[list[Tensor]]:
    """Keep what `worlds.step` is given."""
    goals: list[Tensor] = []
    step = worlds.step

    def recording(targets: Tensor) -> None:
        goals.append(targets)
        step(targets)

    with mock.patch.object(worlds, "step", recording):
        yield goals


class RawNative:
    """`Batch.step` alone: the same model in each world, and one call for substeps with the same goals."""

    def __init__(self, model: mujoco.MjModel, worlds: int, threads: int) -> None:
        self._batch = mujoco.batch.Batch(model, nsim=worlds, nthread=threads)

    def turn(self, start: Start, goals: list[Tensor]) -> float:
        """See `Raw`."""
        batch = self._batch
        for name, values in start.fields.items():
            batch.expand(name)[:] = values
        batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE)
        batch.bind("qpos")[:], batch.bind("qvel")[:] = start.qpos.numpy(), start.qvel.numpy()
        batch.forward()
        control = batch.bind("ctrl")
        calls = [[(row.numpy(), count) for row, count in held(goal)] for goal in goals]
        started = time.perf_counter()
        for tick in calls:
            for row, count in tick:
                control[:] = row
                batch.step(nstep=count)
        return time.perf_counter() - started


def against_gymnasium(name: str, threads: int) -> Comparison:
    """Measure a task in batch against Gymnasium's own in processes."""
    env = classic(name, GYMNASIUM_WORLDS, threads)
    actions = ACTION_STD * torch.randn((MOST_STEPS, env.num, env.action_size))
    theirs = gymnasium.make_vec(name, num_envs=GYMNASIUM_PROCESSES, vectorization_mode="async")
    theirs.reset(seed=0)
    try:
        env.step(actions[0])
        pairs = [(_our_rate(env, actions), _their_rate(theirs)) for _ in range(TURNS)]
    finally:
        theirs.close()
    ratios = [ours / other for ours, other in pairs]
    return Comparison(
        model=name,
        worlds=env.num,
        threads=threads,
        env_steps_per_s=statistics.median(ours for ours, _ in pairs),
        gymnasium_steps_per_s=statistics.median(other for _, other in pairs),
        ratio=statistics.median(ratios),
        ratio_lowest=min(ratios),
        ratio_highest=max(ratios),
    )


def _our_rate(env: Stepped, actions: Tensor) -> float:
    """Environment steps per second over one turn."""
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < TURN_S:
        env.step(actions[steps // env.num % len(actions)])
        steps += env.num
    return steps / (time.perf_counter() - started)


def _their_rate(env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> float:
    """Environment steps per second over one turn, with actions as large as ours."""
    actions = [ACTION_STD * env.action_space.sample() for _ in range(MOST_STEPS)]
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < TURN_S:
        env.step(actions[steps // env.num_envs % len(actions)])
        steps += env.num_envs
    return steps / (time.perf_counter() - started)
