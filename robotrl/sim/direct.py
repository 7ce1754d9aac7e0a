"""Joins a direct task and a backend: auto-reset, time-outs, statistics."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import mujoco
import torch
from torch import Tensor

from robotrl.errors import SimulationError
from robotrl.sim.episodic import EpisodicEnv
from robotrl.sim.exact import add_contact_forces, has_contact_forces
from robotrl.sim.native import NativeWorlds
from robotrl.sim.quarantine import Quarantine
from robotrl.sim.worlds import Worlds
from robotrl.tasks.direct import DirectTask, ModelFacts


@dataclass(frozen=True)
class DirectTransition:
    """What one action of B worlds gave, in the worlds' dtype."""

    terms: Tensor
    """(terms, B) the reward's parts, in the order of `DirectEnv.terms`."""
    reward: Tensor
    """(B,)"""
    terminated: Tensor
    """(B,) bool: the episode ended by itself, or the simulation failed; no bootstrap."""
    truncated: Tensor
    """(B,) bool: time-out of an episode that did not end by itself; bootstrap from the last observation."""
    final_ids: Tensor
    """(k,) worlds that were reset in this step."""
    final_observation: Tensor
    """(k, obs) their last observation before the reset; of a failed simulation, the last one known."""
    final_privileged: Tensor
    """(k, 0)"""
    final_return: Tensor
    """(k,) sum of the rewards of the episode that ended."""
    final_length: Tensor
    """(k,) its number of actions."""


def direct_model(task: DirectTask) -> mujoco.MjModel:
    """Compile a task's model for the warp backend, which lacks the PGS solver of the humanoids."""
    model = _compiled(_spec(task))
    if model.opt.solver == mujoco.mjtSolver.mjSOL_PGS:
        model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    return model


def native_worlds(
    task: DirectTask, num: int, threads: int, dtype: torch.dtype = torch.float32
) -> NativeWorlds:
    """Build CPU worlds of a task, exact also where contact forces are observed (`robotrl.sim.exact`)."""
    spec = _spec(task)
    if task.contact_forces:
        add_contact_forces(spec)
    return NativeWorlds(_compiled(spec), num, threads, dtype)


class DirectEnv(EpisodicEnv):
    """B worlds of a direct task; everything has the worlds' dtype and device.

    Actions beyond the box (`action_low`, `action_high`) act like its ends, but cost as they are.
    """

    def __init__(
        self, task: DirectTask, worlds: Worlds, seed: int, quarantine: Quarantine | None = None
    ) -> None:
        """Start B episodes.

        Args:
            task: what is wanted.
            worlds: of the task's model.
            seed: of every start state.
            quarantine: keeps worlds whose simulation failed; None: they are only counted.

        Raises:
            SimulationError: the task reads contact forces, which these worlds would not have.
        """
        _check_contact_forces(task, worlds)
        super().__init__(worlds, worlds.dtype, seed, task.frame_skip, task.episode_steps, quarantine)
        self.task = task
        with torch.device(worlds.device):
            self._rules = task.rules(_facts(worlds))
            limits = torch.tensor(worlds.model.actuator_ctrlrange, dtype=worlds.dtype)
        self.action_low, self.action_high = limits.unbind(-1)
        self.action_size = len(limits)
        self.terms = self._rules.terms
        # Backends keep a derived field up to date from its first reading on, so all are read now.
        self._rules.score(worlds, self._rules.mark(worlds), worlds.qpos.new_zeros((self.num, len(limits))))
        self.observation = self._rules.observe(worlds)
        self._nothing_ended = self._final(self._everything[:0])
        self.restart()

    def place(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Start new episodes of the worlds `ids` (k,) in given states (k, nq) and (k, nv)."""
        self.worlds.reset(ids, qpos, qvel)
        self._forget(ids)
        observation = self.observation.clone()  # the caller may still hold the last one
        observation[ids] = self._rules.first(self.worlds)[ids]
        self.observation = observation

    def step(self, action: Tensor) -> DirectTransition:
        """Apply actions (B, nu), the actuators' controls, for one control period."""
        worlds, rules = self.worlds, self._rules
        qpos, qvel, mark = worlds.qpos, worlds.qvel, rules.mark(worlds)
        control = action.to(worlds.qpos)
        targets = control.expand(self.task.frame_skip, -1, -1)
        worlds.step(targets)
        parts, terminated = rules.score(worlds, mark, control)
        broken = worlds.broken()
        terms = torch.stack(parts).masked_fill(broken, 0.0)
        reward, terminated = terms.sum(0), terminated | broken
        self._add_step(terms, reward)
        truncated = self._timed_out() & ~terminated
        last, self.observation = self.observation, rules.observe(worlds)
        ended = (terminated | truncated).nonzero()[:, 0]
        if not len(ended):
            return DirectTransition(terms, reward, terminated, truncated, *self._nothing_ended)
        if (failed := broken.nonzero()[:, 0]).numel():
            self.observation[failed] = last[failed]
            self._set_aside(failed, qpos, qvel, targets)
        final = self._final(ended)
        self._end(ended, terminated[ended])
        self._begin(ended)
        return DirectTransition(terms, reward, terminated, truncated, *final)

    def _begin(self, ids: Tensor) -> None:
        self.place(ids, *self._rules.start(len(ids), self._generator))


def _spec(task: DirectTask) -> mujoco.MjSpec:
    return mujoco.MjSpec.from_file(str(task.model_file))


def _compiled(spec: mujoco.MjSpec) -> mujoco.MjModel:
    with warnings.catch_warnings():
        # Gymnasium's half_cheetah.xml sets its total mass in a way that MuJoCo will drop one day.
        warnings.filterwarnings("ignore", "compiler attribute 'settotalmass'")
        return spec.compile()


def _facts(worlds: Worlds) -> ModelFacts:
    model = worlds.model
    return ModelFacts(
        nv=model.nv,
        timestep_s=model.opt.timestep,
        qpos0=tuple(model.qpos0.tolist()),
        body_mass=tuple(model.body_mass.tolist()),
        body_id={model.body(i).name: i for i in range(model.nbody)},
        dtype=worlds.dtype,
    )


def _check_contact_forces(task: DirectTask, worlds: Worlds) -> None:
    """Refuse native worlds of a model whose steps leave no contact forces: they would read as zero."""
    if task.contact_forces and isinstance(worlds, NativeWorlds) and not has_contact_forces(worlds.model):
        raise SimulationError(f"{task.name} observes contact forces: build its worlds with native_worlds")
