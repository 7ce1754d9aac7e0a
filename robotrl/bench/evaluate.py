"""How well a policy walks: deterministic, on the full physics, transients and new commands included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from robotrl.learn.networks import Actor
from robotrl.learn.playing import on_cpu, play
from robotrl.tasks.velocity import LEGS, VelocityStep

if TYPE_CHECKING:
    from rich.table import Table

    from robotrl.cli.runfile import Job
    from robotrl.sim.curriculum import Curriculum
    from robotrl.sim.env import Env, Transition

    Tick = Callable[[], Transition[VelocityStep]]
    """Advances every world by one control period."""

TIMESTEP_S = 0.005
"""Physics step of evaluation, finer than in training."""
WORLDS, EPISODE_S, SEED = 128, 20.0, 5
SHORTEST_SWING_S = 0.08
"""A foot that is off the ground for less has only bounced."""
SURVIVED_ON = "survived_on/"
"""Prefix of the shares of worlds without a fall on one kind or level of a terrain."""

MEANING = {
    "error_vx_m_s": "forward velocity, mean absolute error",
    "error_vy_m_s": "sideways velocity, mean absolute error",
    "error_wz_rad_s": "turn rate, mean absolute error",
    "survived_share": "episodes without a fall",
    "knee_torque_rms_nm": "knee torque, rms",
    "swing_height_m": "peak foot height, median swing",
    "tilt_rad": "trunk tilt, mean",
    "knee_contact_share": "steps with a knee on the ground",
    "trunk_contact_share": "steps with the trunk on the ground",
}


def evaluate_run(folder: Path, threads: int = 2) -> dict[str, float]:
    """Score a run's newest network on randomised robots and on the nominal one.

    Returns:
        The figures of `MEANING`, on a terrain those of `survival_by_tile` too, and all of them on the
        nominal robot prefixed by `nominal_`.
    """
    from robotrl.cli.runfile import load_run

    run = load_run(folder)
    return _both(run.job, lambda env: play(env, run.actor), threads)


def score_randomized(job: Job, actor: Actor, threads: int) -> dict[str, float]:
    """Score a network on randomised robots; as `evaluate_run`, without the nominal robot."""
    env = job.evaluation_env(WORLDS, SEED, threads, TIMESTEP_S, randomized=True)
    env.restart(spread_ages=False)
    return evaluate(env, play(env, on_cpu(actor)))


def evaluate_policy(file: Path, threads: int = 2) -> dict[str, float]:
    """Score an exported policy through onnxruntime, in the environment that its contract records.

    Returns:
        As `evaluate_run`.
    """
    from robotrl.cli.runfile import parse_job
    from robotrl.runtime.policy import Policy

    job = parse_job(Policy.load(file).contract.provenance.config, file)
    return _both(job, lambda env: PolicyDriver(env, file).tick, threads)


def _both(job: Job, driver: Callable[[Env[VelocityStep]], Tick], threads: int) -> dict[str, float]:
    scores: dict[str, float] = {}
    for prefix, randomized in (("", True), ("nominal_", False)):
        env = job.evaluation_env(WORLDS, SEED, threads, TIMESTEP_S, randomized)
        env.restart(spread_ages=False)
        scores |= {prefix + name: value for name, value in evaluate(env, driver(env)).items()}
    return scores


class PolicyDriver:
    """Drives every world with a policy file of its own, as the robot would: named channels to targets."""

    def __init__(self, env: Env[VelocityStep], file: Path) -> None:
        from robotrl.runtime.policy import Policy

        self._env = env
        self._policies = [Policy.load(file) for _ in range(env.num)]

    def tick(self) -> Transition[VelocityStep]:
        """Advance every world by one control period."""
        channels = {name: value.numpy() for name, value in self._env.channels.items()}
        targets = [
            policy.step({name: value[i] for name, value in channels.items()})
            for i, policy in enumerate(self._policies)
        ]
        transition = self._env.follow(torch.from_numpy(np.stack(targets)).float())
        for i in transition.final_ids.tolist():
            self._policies[i].reset()
        return transition


@torch.no_grad()
def evaluate(env: Env[VelocityStep], tick: Tick) -> dict[str, float]:
    """Run freshly started worlds for one episode and average over worlds and steps.

    The first episode of each world decides whether it survived; a world that fell goes on with
    a new one, and its steps count as well.
    """
    ticks = round(EPISODE_S / env.period_s) - 1  # the last tick would time out and reset every world
    totals: dict[str, float] = {}
    alive = torch.ones(env.num, dtype=torch.bool)
    swings = SwingPeaks(env.num, env.period_s)
    for _ in range(ticks):
        transition = tick()
        alive &= ~transition.terminated
        swings.add(transition.step)
        for name, value in env.task.metrics(transition.step).items():
            totals[name] = totals.get(name, 0.0) + float(value.mean()) / ticks
    scores = {
        "error_vx_m_s": totals["error_vx_m_s"],
        "error_vy_m_s": totals["error_vy_m_s"],
        "error_wz_rad_s": totals["error_wz_rad_s"],
        "survived_share": float(alive.float().mean()),
        "knee_torque_rms_nm": totals["knee_torque_sq_nm2"] ** 0.5,
        "swing_height_m": swings.median_m(),
        "tilt_rad": totals["tilt_rad"],
        "knee_contact_share": totals["knee_contact"],
        "trunk_contact_share": totals["trunk_contact"],
    }
    return scores | (survival_by_tile(env.curriculum, alive) if env.curriculum else {})


def survival_by_tile(curriculum: Curriculum, alive: Tensor) -> dict[str, float]:
    """Share of `alive` (B,) worlds on each kind of tile and on each level, under `SURVIVED_ON`."""
    terrain = curriculum.terrain.params
    groups: dict[str, Tensor] = {kind: curriculum.kind == k for k, kind in enumerate(terrain.kinds)}
    groups |= {f"level {level}": curriculum.level == level for level in range(terrain.levels)}
    return {
        SURVIVED_ON + name: float(alive[worlds].float().mean())
        for name, worlds in groups.items()
        if worlds.any()
    }


class SwingPeaks:
    """Peak height of every foot between lift-off and touch-down, while the command asks to move."""

    def __init__(self, worlds: int, period_s: float) -> None:
        self._shortest = round(SHORTEST_SWING_S / period_s)
        self._peak_m = torch.zeros((worlds, len(LEGS)))
        self._ticks_up = torch.zeros((worlds, len(LEGS)))
        self._peaks: list[Tensor] = []

    def add(self, step: VelocityStep) -> None:
        """Take in one control step."""
        contact = step.foot_contact > 0
        landed = contact & (self._ticks_up >= self._shortest) & (step.moving[:, None] > 0)
        self._peaks.append(self._peak_m[landed])
        self._peak_m = torch.where(contact, 0.0, torch.maximum(self._peak_m, step.foot_height))
        self._ticks_up = torch.where(contact, 0.0, self._ticks_up + 1)

    def median_m(self) -> float:
        """Median over all swings; 0 if no foot was ever lifted."""
        peaks = torch.cat(self._peaks)
        return float(peaks.median()) if len(peaks) else 0.0


def score_table(scores: dict[str, float], title: str) -> Table:
    """Lay scores out for a terminal."""
    from rich.table import Table

    table = Table("figure", "randomised", "nominal", title=title, title_justify="left")
    for name, meaning in MEANING.items():
        table.add_row(meaning, f"{scores[name]:.4f}", f"{scores['nominal_' + name]:.4f}")
    for name in (name for name in scores if name.startswith(SURVIVED_ON)):
        meaning = f"episodes without a fall, {name.removeprefix(SURVIVED_ON)}"
        table.add_row(meaning, f"{scores[name]:.4f}", f"{scores['nominal_' + name]:.4f}")
    return table
