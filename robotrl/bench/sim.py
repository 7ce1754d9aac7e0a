"""Simulation speed: whole environment steps against raw physics stepping, and against Gymnasium's.

An environment runs a while from its present states and its goals are kept; then the raw backend
runs the same models from the same states with the same goals, substeps and threads. Both alternate
in short turns, so that a noisy machine disturbs both alike; a ratio is the median over the turns.

Worlds of a task with goals all end their episodes at once. Against raw physics their turns lie within
an episode; against the originals they are whole episodes, resets included.
"""

from __future__ import annotations

import functools
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
from gymnasium.vector import AsyncVectorEnv, VectorEnv
from torch import Tensor

from robotrl.bench.originals import make_original
from robotrl.cli.runfile import read_job
from robotrl.sim.direct import DirectEnv, native_worlds
from robotrl.sim.goal import GoalEnv, native_goal_worlds
from robotrl.sim.native import NativeWorlds, held
from robotrl.sim.saving import part_of
from robotrl.sim.worlds import Worlds
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.classic import classic_task
from robotrl.tasks.robotics import goal_task

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
GOAL_TASKS, GOAL_WORLDS = ("FetchPickAndPlace-v4", "HandManipulateBlock-v1"), (64, 256)
"""Of the tasks with goals, and of the originals in processes."""


class Stepped(Protocol):
    """What is measured: an environment of robotrl's own."""

    worlds: Any
    num: int
    action_size: int

    def step(self, action: Tensor) -> object:
        """Apply actions (B, n)."""

    def restart(self) -> None:
        """Start every world anew."""


@dataclass(frozen=True)
class Asked:
    """What one control step asked of the physics."""

    targets: Tensor
    """(substeps, B, nu)"""
    mocap: tuple[Tensor, Tensor] | None
    """Places and orientations of the bodies that are moved from outside, where there are any."""


@dataclass(frozen=True)
class Start:
    """Where a turn starts."""

    qpos: Tensor
    qvel: Tensor
    fields: dict[str, np.ndarray]
    """Model fields that differ between worlds (B, ...)."""


class Raw(Protocol):
    """A backend without environment."""

    def turn(self, start: Start, asked: list[Asked]) -> float:
        """Do from a state what each control step asked for; seconds."""


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
    """Measure environments at several world counts, and some against Gymnasium's own.

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
    for name in GOAL_TASKS:
        for worlds in GOAL_WORLDS:
            report(f"{name}, {worlds} worlds")
            goal_env = with_goals(name, worlds, threads)
            raw = RawNative(goal_env.worlds.model, worlds, threads)
            steps = goal_env.task.episode_steps
            speeds.append(asdict(measure_speed(name, goal_env, raw, threads, steps)))
    for name in (*AGAINST_GYMNASIUM, *GOAL_TASKS):
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


def with_goals(name: str, worlds: int, threads: int) -> GoalEnv:
    """Build a task of Gymnasium-Robotics in batch."""
    task = goal_task(name)
    return GoalEnv(task, native_goal_worlds(task, worlds, threads), seed=0)


def measure_speed(name: str, env: Stepped, raw: Raw, threads: int, episode_steps: int = 0) -> Speed:
    """Measure one environment against raw physics.

    Args:
        name: of the model.
        env: the environment.
        raw: a backend with the environment's model.
        threads: that both use.
        episode_steps: of an environment whose worlds all end their episodes at once; 0 is of any other.
    """
    device, most = env.worlds.device, min(MOST_STEPS, episode_steps - 1) if episode_steps else MOST_STEPS
    actions = ACTION_STD * torch.randn((most, env.num, env.action_size), device=device)
    turn_s, asked = _environment_turn(env, actions)  # warm-up
    steps = max(FEWEST_STEPS, min(most, math.ceil(TURN_S * most / turn_s)))
    raw.turn(_start(env.worlds), asked[:2])
    raw_s, env_s = [], []
    for _ in range(TURNS):
        if episode_steps:
            env.restart()
        start = _start(env.worlds)
        turn_s, asked = _environment_turn(env, actions[:steps])
        env_s.append(turn_s / steps)
        raw_s.append(raw.turn(start, asked) / steps)
    ratios = [bare / whole for bare, whole in zip(raw_s, env_s, strict=True)]
    return Speed(
        model=name,
        device=str(device),
        worlds=env.num,
        threads=threads,
        substeps=len(asked[0].targets),
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


def _environment_turn(env: Stepped, actions: Tensor) -> tuple[float, list[Asked]]:
    """Step with each row of `actions`; the seconds it took, and what reached the physics."""
    on_gpu = env.worlds.device.type == "cuda"
    with _recorded(env.worlds) as asked:
        if on_gpu:  # what was asked for before is not this turn's
            torch.cuda.synchronize()
        started = time.perf_counter()
        for action in actions:
            env.step(action)
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - started, asked


@contextmanager
def _recorded(worlds: Worlds) -> Iterator[list[Asked]]:
    """Keep what `worlds.step` and `worlds.set_mocap` are given."""
    asked: list[Asked] = []
    mocap: list[tuple[Tensor, Tensor]] = []
    step, set_mocap = worlds.step, worlds.set_mocap

    def moving(pos: Tensor, quat: Tensor) -> None:
        mocap[:] = [(pos, quat)]
        set_mocap(pos, quat)

    def stepping(targets: Tensor) -> None:
        asked.append(Asked(targets, mocap[0] if mocap else None))
        step(targets)

    with mock.patch.multiple(worlds, step=stepping, set_mocap=moving):
        yield asked


class RawNative:
    """`Batch.step` alone: the same model in each world, and one call for substeps with the same goals."""

    def __init__(self, model: mujoco.MjModel, worlds: int, threads: int) -> None:
        self._batch = mujoco.batch.Batch(model, nsim=worlds, nthread=threads)
        moved = ("mocap_pos", "mocap_quat") if model.nmocap else ()
        self._mocap = [self._batch.bind(name) for name in moved]

    def turn(self, start: Start, asked: list[Asked]) -> float:
        """See `Raw`."""
        batch = self._batch
        for name, values in start.fields.items():
            batch.expand(name)[:] = values
        batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE)
        batch.bind("qpos")[:], batch.bind("qvel")[:] = start.qpos.numpy(), start.qvel.numpy()
        batch.forward()
        control = batch.bind("ctrl")
        calls = [
            ([part.numpy() for part in tick.mocap or ()], [(row.numpy(), n) for row, n in held(tick.targets)])
            for tick in asked
        ]
        started = time.perf_counter()
        for places, rows in calls:
            for moved, place in zip(self._mocap, places, strict=True):
                moved[:] = place
            for row, count in rows:
                control[:] = row
                batch.step(nstep=count)
        return time.perf_counter() - started


def against_gymnasium(name: str, threads: int) -> Comparison:
    """Measure a task in batch against the original in processes."""
    env, episode_steps = _ours(name, threads)
    actions = ACTION_STD * torch.randn((MOST_STEPS, env.num, env.action_size))
    theirs = _theirs(name)
    theirs.reset(seed=0)
    try:
        env.step(actions[0])
        env.restart()
        pairs = [(_our_rate(env, actions, episode_steps), _their_rate(theirs)) for _ in range(TURNS)]
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


def _ours(name: str, threads: int) -> tuple[Stepped, int]:
    """Build a task in batch; and of how many steps its turns are made of whole multiples."""
    if name not in GOAL_TASKS:
        return classic(name, GYMNASIUM_WORLDS, threads), 1
    env = with_goals(name, min(GOAL_WORLDS), threads)
    return env, env.task.episode_steps


def _theirs(name: str) -> VectorEnv[Any, Any, Any]:
    if name not in GOAL_TASKS:
        return gymnasium.make_vec(name, num_envs=GYMNASIUM_PROCESSES, vectorization_mode="async")
    return AsyncVectorEnv([functools.partial(make_original, name)] * GYMNASIUM_PROCESSES)


def _our_rate(env: Stepped, actions: Tensor, multiple: int) -> float:
    """Environment steps per second over one turn of a multiple of so many steps."""
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < TURN_S or steps % multiple:
        env.step(actions[steps % len(actions)])
        steps += 1
    return steps * env.num / (time.perf_counter() - started)


def _their_rate(env: VectorEnv[Any, Any, Any]) -> float:
    """Environment steps per second over one turn, with actions as large as ours."""
    actions = [ACTION_STD * env.action_space.sample() for _ in range(MOST_STEPS)]
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < TURN_S:
        env.step(actions[steps // env.num_envs % len(actions)])
        steps += env.num_envs
    return steps / (time.perf_counter() - started)
