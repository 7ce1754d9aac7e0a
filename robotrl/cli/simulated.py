"""What an export needs of a run of a task that no robot does: its policies drive the simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from robotrl.cli.gymfile import OURS, AnyJob, GymJob
from robotrl.learn.networks import Actor
from robotrl.learn.playing import play
from robotrl.sim.boxed import UnitActions
from robotrl.sim.direct import DirectEnv
from robotrl.sim.goal import GoalEnv
from robotrl.spec.simulated import Control, SimulatedTask
from robotrl.tasks.task import PolicyInterface

OBSERVATION = "observation"
"""The channel that all these policies read; of a task with goals the row that `GOAL_PARTS` make."""


def simulated_name(job: AnyJob) -> str:
    """Return Gymnasium's name of the task that a job trains where no robot does it; else nothing."""
    if isinstance(job, GymJob) and job.config.env.startswith(OURS) and not job.robot:
        return job.config.env.removeprefix(OURS)
    return ""


def simulated_task(job: GymJob, env: UnitActions) -> SimulatedTask:
    """Describe a task that no robot does.

    Args:
        job: trains it.
        env: one or more of its worlds.
    """
    worlds = env.inner
    assert isinstance(worlds, DirectEnv | GoalEnv), "simulated_name comes first"
    low, high = worlds.action_low.tolist(), worlds.action_high.tolist()
    return SimulatedTask(
        name=simulated_name(job),
        options=job.config.options,
        rate_hz=1.0 / worlds.period_s,
        observation_size=job.observation_size,
        controls=tuple(map(Control, _names(worlds), low, high)),
    )


def control_interface(env: UnitActions) -> PolicyInterface:
    """Return how its policies act, by the very function that maps their actions in training."""
    return PolicyInterface(
        channels=(OBSERVATION,),
        memory=(),
        observe=lambda channels, _: channels[OBSERVATION],
        advance=lambda *_: {},
        target=lambda _, action: env.box(action),
        action_scale_rad=0.0,
        command="control",
    )


def record_observations(env: UnitActions, actor: Actor, ticks: int) -> Mapping[str, NDArray[np.float32]]:
    """Record what the first world of `env` shows over control steps of the actor's own: (T, obs)."""
    rows: list[Tensor] = []
    advance = play(env, actor)
    for _ in range(ticks):
        rows.append(env.observation[0])
        advance()
    return {OBSERVATION: np.stack([row.float().numpy() for row in rows])}


def _names(env: DirectEnv | GoalEnv) -> Sequence[str]:
    """Names of what an action moves: an actuator's, and of one without, that of the joint it drives."""
    if isinstance(env, GoalEnv) and env.task.axes:
        return env.task.axes
    model = env.worlds.model
    return [model.actuator(i).name or _driven(model, i) for i in range(model.nu)]


def _driven(model: mujoco.MjModel, actuator: int) -> str:
    by_joint = model.actuator_trntype[actuator] == mujoco.mjtTrn.mjTRN_JOINT
    return str(model.joint(model.actuator_trnid[actuator, 0]).name) if by_joint else str(actuator)
