"""What an export needs of a run of a classic task, whose policies drive its simulation and no robot."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from robotrl.cli.gymfile import OURS, AnyJob, GymJob
from robotrl.learn.networks import Actor
from robotrl.learn.playing import play
from robotrl.sim.boxed import UnitActions
from robotrl.sim.direct import DirectEnv
from robotrl.spec.simulated import Control, SimulatedTask
from robotrl.tasks.classic import CLASSIC
from robotrl.tasks.task import PolicyInterface

OBSERVATION = "observation"
"""The channel that all these policies read."""


def classic_name(job: AnyJob) -> str:
    """Return Gymnasium's name of the classic task that a job trains; nothing where it is another one."""
    name = job.config.env.removeprefix(OURS) if isinstance(job, GymJob) else ""
    return name if name in CLASSIC else ""


def simulated_task(job: GymJob, env: UnitActions) -> SimulatedTask:
    """Describe a classic task.

    Args:
        job: trains it.
        env: one or more of its worlds.
    """
    worlds = env.inner
    assert isinstance(worlds, DirectEnv), "classic_name comes first"
    model, low, high = worlds.worlds.model, worlds.action_low.tolist(), worlds.action_high.tolist()
    return SimulatedTask(
        name=classic_name(job),
        options=job.config.options,
        rate_hz=1.0 / (model.opt.timestep * worlds.task.frame_skip),
        observation_size=job.observation_size,
        controls=tuple(map(Control, _names(model), low, high)),
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


def _names(model: mujoco.MjModel) -> list[str]:
    """Names of the actuators; of one without, that of the joint it drives."""
    return [model.actuator(i).name or _driven(model, i) for i in range(model.nu)]


def _driven(model: mujoco.MjModel, actuator: int) -> str:
    by_joint = model.actuator_trntype[actuator] == mujoco.mjtTrn.mjTRN_JOINT
    return str(model.joint(model.actuator_trnid[actuator, 0]).name) if by_joint else str(actuator)
