"""Every shipped robot's gate in millions of random ticks, and what a call of it costs."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import get_context

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robotrl.bench.gate_storm import JointStorm, calm, of_size, tripped
from robotrl.bench.gripper_storm import GripperStorm
from robotrl.safety import guard
from robotrl.spec.arm import ArmSpec
from robotrl.spec.gate import GateLimits, GateMemory, Level, Request
from robotrl.spec.hardware import Hardware, load_hardware
from robotrl.spec.robot import RobotSpec
from robotrl.spec.shipped import find_shipped, shipped_names
from robotrl.spec.state import CommandKind

TICKS = 10_000_000
SEED = 1

SMALL, LARGE = 12, 30
"""Joints of the two robots whose gates' cost is compared."""

_CHUNK_TICKS = 10_000
_COST_TICKS = 4000


@dataclass(frozen=True)
class Chunk:
    """Some ticks of one robot, drawn from a seed of their own: who runs them does not matter."""

    name: str
    seed: int
    ticks: int


def every_robot() -> dict[str, Hardware]:
    """Return what is shipped in hardware, by name."""
    return {name: load_hardware(find_shipped("hardware", name)) for name in shipped_names("hardware")}


def bench_gate(ticks: int, seed: int, jobs: int) -> dict[str, object]:
    """Send random ticks through the gates of all shipped robots in turn, then time the gate.

    Args:
        ticks: how many in all.
        seed: of the first ten thousand ticks; the k-th are drawn from ``seed + k`` alone.
        jobs: processes.

    Returns:
        Ticks, violations (none), ticks a second, median cost in microseconds of CPU time for 12 and for 30
        joints, their ratio, and a record per robot: how many ticks were limited and stopped, how many causes.

    Raises:
        VerificationError: a gate has broken a law; names robot, seed, tick and law.
    """
    names = [*every_robot()]
    chunks = [
        Chunk(names[k % len(names)], seed + k, min(_CHUNK_TICKS, ticks - start))
        for k, start in enumerate(range(0, ticks, _CHUNK_TICKS))
    ]
    started = time.perf_counter()
    seen = {name: Counter[str]() for name in names}
    for chunk, counted in zip(chunks, _told(_run_all(chunks, jobs), ticks, chunks), strict=True):
        seen[chunk.name] += counted
    rate = ticks / (time.perf_counter() - started)
    return {
        "ticks": ticks,
        "violations": 0,
        "ticks_per_s": rate,
        **cost_us(_COST_TICKS),
        "robots": _records(seen),
    }


def run_chunk(chunk: Chunk) -> Counter[str]:
    """Run some ticks; return how often each level and cause was seen.

    Raises:
        VerificationError: the gate has broken a law.
    """
    robot = load_hardware(find_shipped("hardware", chunk.name))
    storm = GripperStorm(robot, chunk.seed) if isinstance(robot, ArmSpec) else JointStorm(robot, chunk.seed)
    storm.run(chunk.ticks)
    return storm.seen


def _run_all(chunks: Sequence[Chunk], jobs: int) -> Iterator[Counter[str]]:
    if jobs == 1:
        yield from map(run_chunk, chunks)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(run_chunk, chunks)


def _told(counted: Iterable[Counter[str]], ticks: int, chunks: Sequence[Chunk]) -> Iterator[Counter[str]]:
    """Pass on, with a bar on the error output."""
    rate = TextColumn("ticks, {task.fields[rate]} a second")
    columns = (BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=ticks, rate="0")
        for chunk, seen in zip(chunks, counted, strict=True):
            speed = bar.tasks[0].speed or 0.0
            bar.update(task, advance=chunk.ticks, rate=f"{speed:,.0f}")
            yield seen


def _records(seen: dict[str, Counter[str]]) -> list[dict[str, object]]:
    return [
        {
            "robot": name,
            "ticks": sum(counted[level.name] for level in Level),
            "passed": counted["NONE"],
            "limited": counted["LIMITING"],
            "stopped": tripped(counted),
            "causes": len(counted.keys() - {level.name for level in Level}),
        }
        for name, counted in seen.items()
    ]


def cost_us(ticks: int) -> dict[str, float]:
    """Time a walking robot's gate, one tick of the small robot and one of the large in turn.

    Args:
        ticks: of each.

    Returns:
        Median CPU time of a call for each, us, and their ratio.
    """
    quad12 = next(robot for robot in every_robot().values() if isinstance(robot, RobotSpec) and robot.imu)
    walks = [walking(of_size(quad12, joints)) for joints in (SMALL, LARGE)]
    for walk in walks:
        [*islice(walk, ticks // 10)]
    spent_us = np.array([[next(walk) for walk in walks] for _ in range(ticks)])
    small, large = (statistics.median(column) for column in spent_us.T.tolist())
    return {f"guard_us_{SMALL}": small, f"guard_us_{LARGE}": large, "guard_ratio": large / small}


def walking(robot: RobotSpec) -> Iterator[float]:
    """Track targets near the default posture for ever; give the CPU time of each call, us."""
    limits, memory, noise = GateLimits.of(robot), GateMemory.fresh(len(robot.joint)), np.random.default_rng(0)
    now_s = 0.0
    while True:
        now_s += limits.period_s
        wander = noise.uniform(-0.02, 0.02, (2, len(robot.joint)))
        state = replace(calm(robot, now_s), joint_pos_rad=robot.default_rad + wander[0])
        request = Request(CommandKind.TRACK, robot.default_rad + wander[1], "policy")
        began_ns = time.thread_time_ns()
        _, memory, _ = guard(limits, memory, state, request, now_s)
        yield (time.thread_time_ns() - began_ns) / 1e3
