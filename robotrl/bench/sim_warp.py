"""Speed on MuJoCo Warp: whole environment steps against `mujoco_warp.step` under a captured graph."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Literal

import mujoco
import mujoco_warp
import torch
import warp

from robotrl.bench.sim import GOAL_TASKS, TIMESTEP_S, Asked, Start, measure_speed
from robotrl.sim.build import SimParams, build_scene, read_scene
from robotrl.sim.goal import GoalEnv, goal_model
from robotrl.sim.warp import WarpWorlds
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.robotics import goal_task

WORLDS = (1024, 4096, 8192, 16384, 32768)


def bench_warp(
    device: Literal["cpu", "cuda"], worlds: tuple[int, ...], report: Callable[[str], None]
) -> dict[str, list[dict[str, Any]]]:
    """Measure quad12 with all of the walking run's randomisation, and tasks with goals, at several counts.

    Args:
        device: "cuda", or "cpu" to try it without a GPU.
        worlds: counts to measure.
        report: told what is being measured.

    Returns:
        `warp`: records of `robotrl.bench.sim.Speed`.
    """
    file = find_shipped("configs", "quad12_walk_ppo")
    params = read_scene(file).params
    speeds = []
    for count in worlds:
        report(f"quad12 on {device}, {count} worlds")
        sim = SimParams(worlds=count, processes=1, backend="warp", device=device, timestep_s=TIMESTEP_S)
        env = build_scene(dataclasses.replace(params, sim=sim), file).env(count, seed=0, threads=1)
        raw = RawWarp(env.worlds.model, count, device)
        speeds.append(dataclasses.asdict(measure_speed("quad12", env, raw, threads=1)))
    for name in GOAL_TASKS:
        task = goal_task(name)
        for count in worlds:
            report(f"{name} on {device}, {count} worlds")
            goal_env = GoalEnv(task, WarpWorlds(goal_model(task), count, device), seed=0)
            raw = RawWarp(goal_env.worlds.model, count, device)
            speed = measure_speed(name, goal_env, raw, 1, task.episode_steps)
            speeds.append(dataclasses.asdict(speed))
    return {"warp": speeds}


class RawWarp:
    """`mujoco_warp.step` alone: all substeps of a control period are one graph."""

    def __init__(self, model: mujoco.MjModel, worlds: int, device: str) -> None:
        self._worlds = WarpWorlds(model, worlds, device)
        self._model, self._data = self._worlds.raw
        self._control = warp.to_torch(self._data.ctrl)
        self._graph: warp.Graph | None = None

    def turn(self, start: Start, asked: list[Asked]) -> float:
        """See `robotrl.bench.sim.Raw`."""
        everything = torch.arange(len(start.qpos), device=self._worlds.device)
        self._worlds.reset(everything, start.qpos, start.qvel)
        if self._graph is None:
            self._graph = self._captured(len(asked[0].targets))
        self._synchronize()
        started = time.perf_counter()
        for tick in asked:
            if tick.mocap is not None:
                self._worlds.set_mocap(*tick.mocap)
            self._control.copy_(tick.targets[-1])
            warp.capture_launch(self._graph, stream=self._stream())
        self._synchronize()
        return time.perf_counter() - started

    def _captured(self, substeps: int) -> warp.Graph:
        with warp.ScopedDevice(self._data.ctrl.device):
            mujoco_warp.step(self._model, self._data)  # compiles what is not yet compiled
            with warp.ScopedCapture() as capture:
                for _ in range(substeps):
                    mujoco_warp.step(self._model, self._data)
        return capture.graph

    def _stream(self) -> warp.Stream | None:
        if self._worlds.device.type == "cpu":
            return None
        return warp.stream_from_torch(torch.cuda.current_stream(self._worlds.device))

    def _synchronize(self) -> None:
        if self._worlds.device.type == "cuda":
            torch.cuda.synchronize()
