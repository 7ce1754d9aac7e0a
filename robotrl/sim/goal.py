"""Joins a goal task and a backend: goals, auto-reset, time-outs, statistics."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import torch
from torch import Tensor

from robotrl.errors import BadInputError, SimulationError
from robotrl.sim.episodic import EpisodicEnv
from robotrl.sim.mocap import load_model, prepare
from robotrl.sim.native import NativeWorlds
from robotrl.sim.quarantine import Quarantine
from robotrl.sim.saving import State
from robotrl.sim.worlds import Worlds
from robotrl.tasks.goal import GoalFacts, GoalTask, Site, Trial, goal_row

GOAL_PARTS = ("observation", "achieved_goal", "desired_goal")
"""What a row of `GoalEnv.observation` is put together from, as Gymnasium's dictionaries call it."""
MOST_TRIALS = 1000
"""Start states that are drawn for a world, one after the other, before its task counts as unplayable."""


@dataclass(frozen=True)
class GoalLayout:
    """How wide the parts of a row of `GoalEnv.observation` are; `GOAL_PARTS` is their order.

    Attributes:
        observation: width of the first.
        goal: width of either goal.
    """

    observation: int
    goal: int

    @property
    def achieved(self) -> slice:
        """Columns of the achieved goal."""
        return slice(self.observation, self.observation + self.goal)

    @property
    def desired(self) -> slice:
        """Columns of the desired goal."""
        return slice(self.observation + self.goal, self.observation + 2 * self.goal)

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views (..., observation), (..., goal), (..., goal) of rows."""
        return rows[..., : self.observation], rows[..., self.achieved], rows[..., self.desired]


@dataclass(frozen=True)
class GoalTransition:
    """What one action of B worlds gave."""

    reward: Tensor
    """(B,)"""
    terminated: Tensor
    """(B,) bool: never."""
    truncated: Tensor
    """(B,) bool: time-out, or the simulation failed; bootstrap from the last observation."""
    final_ids: Tensor
    """(k,) worlds that were reset in this step."""
    final_observation: Tensor
    """(k, obs + 2 g) their last observation before the reset; of a failed simulation, the last one known."""
    final_privileged: Tensor
    """(k, 0)"""
    final_return: Tensor
    """(k,) sum of the rewards of the episode that ended."""
    final_length: Tensor
    """(k,) its number of actions."""
    final_reached: Tensor
    """(k,) bool: whether any of its steps was a success; `success[final_ids]` tells of its last one."""
    achieved: Tensor
    """(B, g) after the step, before any reset; of a failed simulation, the last one known."""
    success: Tensor
    """(B,) bool: whether it counts as the desired goal; never of a failed simulation."""
    failed: Tensor
    """(B,) bool: the simulation failed."""


def goal_model(task: GoalTask) -> mujoco.MjModel:
    """Compile a task's model, its welds as the original's constructor leaves them.

    Raises:
        BadInputError: MuJoCo cannot load it: a part that it includes or a mesh is missing, for one.
    """
    return load_model(task.model_file, task.settling)


def native_goal_worlds(task: GoalTask, num: int, threads: int) -> NativeWorlds:
    """Build CPU worlds of a task, in double precision as the original computes."""
    return NativeWorlds(goal_model(task), num, threads, torch.float64)


class GoalEnv(EpisodicEnv):
    """B worlds of a goal task; actions beyond +-1 act like it, and count in float32 as the originals' do.

    What the worlds simulate has their precision, what learners see has `dtype`; rewards are those of
    the goals that learners see.

    Attributes:
        task: what is wanted.
        facts: what its rules know of the model.
        layout: how `observation` (B, obs + 2 g) is put together.
    """

    outcomes = ("success_last", "success_any")

    def __init__(
        self,
        task: GoalTask,
        worlds: Worlds,
        seed: int,
        quarantine: Quarantine | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Start B episodes.

        Args:
            task: what is wanted.
            worlds: of the task's `goal_model`.
            seed: of every start state and goal.
            quarantine: keeps worlds whose simulation failed; None: they are only counted.
            dtype: of observations and rewards.

        Raises:
            SimulationError: no start state that was drawn passes its trial.
        """
        super().__init__(worlds, dtype, seed, task.substeps, task.episode_steps, quarantine)
        self.task, self.terms, self.action_size = task, (), task.action_size
        self.facts = facts = _facts(task, worlds, self.period_s)
        with torch.device(worlds.device):
            self._rules = task.rules(facts)
            self.action_high = torch.ones(task.action_size)
            pinned = [facts.joint_qpos[name] for name in task.pinned]
            self._pinned = torch.tensor(pinned, dtype=torch.int64)
        self.action_low = -self.action_high
        self._pinned_qpos = worlds.qpos.new_zeros((self.num, len(pinned)))
        self._goal = self._return.new_zeros((self.num, task.goal_size))
        self._reached = torch.zeros_like(self._everything, dtype=torch.bool)
        self._never = torch.zeros_like(self._reached)
        # Backends keep a derived field up to date from its first reading on, so all are read now.
        self._rules.command(worlds, self.action_low.expand(self.num, -1))
        if self._rules.trial is not None:
            self._rules.trial.passed(worlds)
        self.observation = self._observe()
        self.layout = GoalLayout(self.observation.shape[1] - 2 * task.goal_size, task.goal_size)
        self._nothing_ended = *self._final(self._everything[:0]), self._reached[:0]
        self.restart()

    @property
    def goal(self) -> Tensor:
        """Desired goals (B, g) of the episodes that run."""
        return self._goal.clone()

    def place(self, ids: Tensor, qpos: Tensor, qvel: Tensor, goal: Tensor) -> None:
        """Start new episodes of the worlds `ids` (k,) in given states (k, nq), (k, nv) with goals (k, g).

        Raises:
            BadInputError: the goals have the wrong shape.
        """
        wanted = (len(ids), self.task.goal_size)
        if goal.shape != wanted:
            raise BadInputError(
                f"are no goals of {self.task.name}", key="goal", value=tuple(goal.shape), allowed=str(wanted)
            )
        self.worlds.reset(ids, qpos, qvel)
        self._aim(ids, goal)

    def step(self, action: Tensor) -> GoalTransition:
        """Apply actions (B, n) for one control period."""
        worlds, task = self.worlds, self.task
        qpos, qvel = worlds.qpos, worlds.qvel
        command = self._rules.command(worlds, action.float().clamp(-1.0, 1.0))
        if command.mocap is not None:
            worlds.set_mocap(*command.mocap)
        targets = command.control.expand(task.substeps, -1, -1)
        worlds.step(targets)
        if task.pinned:
            worlds.set_positions(self._pinned, self._pinned_qpos)
        broken = worlds.broken()
        self.observation = torch.where(broken[:, None], self.observation, self._observe())
        achieved = self.observation[:, self.layout.achieved]
        reward = task.reward(achieved, self._goal)
        success = task.success(achieved, self._goal) & ~broken
        self._reached |= success
        self._add_step(reward.new_zeros((0, self.num)), reward)
        truncated = self._timed_out() | broken
        judged = achieved, success, broken
        ended = truncated.nonzero()[:, 0]
        if not len(ended):
            return GoalTransition(reward, self._never, truncated, *self._nothing_ended, *judged)
        if (failed := broken.nonzero()[:, 0]).numel():
            self._set_aside(failed, qpos, qvel, targets)
        final = *self._final(ended), self._reached[ended]
        self._end(ended, broken[ended], success[ended], self._reached[ended])
        self._begin(ended)
        return GoalTransition(reward, self._never, truncated, *final, *judged)

    def _begin(self, ids: Tensor) -> None:
        self._start(ids)
        self._aim(ids, self._rules.draw_goal(self.worlds, ids, self._generator))

    def _start(self, ids: Tensor) -> None:
        """Put the worlds `ids` (k,) into start states, drawing anew where one does not pass its trial."""
        worlds, trial = self.worlds, self._rules.trial
        for _ in range(MOST_TRIALS):
            worlds.reset(ids, *self._rules.start(len(ids), self._generator))
            if trial is None:
                return
            ids = ids[~self._tried(trial, ids)]
            if not len(ids):
                return
        raise SimulationError(f"no start state of {self.task.name} passes its trial; tried {MOST_TRIALS}")

    def _tried(self, trial: Trial, ids: Tensor) -> Tensor:
        """Let the worlds `ids` (k,) settle: which pass (k,)."""
        worlds, idle = self.worlds, self.action_high.new_zeros((self.num, self.action_size))
        for _ in range(trial.steps):
            control = self._rules.command(worlds, idle).control[ids]
            worlds.settle(ids, control.expand(self.task.substeps, -1, -1))
        return (trial.passed(worlds) & ~worlds.broken())[ids]

    def _aim(self, ids: Tensor, goal: Tensor) -> None:
        """Begin the episodes of the worlds `ids` (k,), which have been reset, with these goals (k, g)."""
        self._forget(ids)
        self._reached[ids] = False
        self._goal[ids] = goal.to(self._goal)
        observation = self.observation.clone()  # the caller may still hold the last one
        observation[ids] = self._observe()[ids]
        self.observation = observation

    def _observe(self) -> Tensor:
        observation, achieved = self._rules.observe(self.worlds)
        return goal_row(observation.to(self._goal), achieved.to(self._goal), self._goal)

    def _own_state(self) -> State:
        return super()._own_state() | {"goal": self._goal, "reached": self._reached}


def _facts(task: GoalTask, worlds: Worlds, period_s: float) -> GoalFacts:
    model = worlds.model
    data = prepare(model, task.initial_qpos, task.settling)
    joints = [model.joint(i) for i in range(model.njnt)]
    return GoalFacts(
        period_s=period_s,
        qpos=tuple(data.qpos.tolist()),
        qvel=tuple(data.qvel.tolist()),
        joint_qpos={joint.name: int(joint.qposadr[0]) for joint in joints},
        joint_dof={joint.name: int(joint.dofadr[0]) for joint in joints},
        body={model.body(i).name: i for i in range(model.nbody)},
        body_start_m={model.body(i).name: tuple(data.xpos[i].tolist()) for i in range(model.nbody)},
        site={model.site(i).name: _site(model, data, i) for i in range(model.nsite)},
        sensor={model.sensor(i).name: int(model.sensor_adr[i]) for i in range(model.nsensor)},
        actuators=tuple(model.actuator(i).name for i in range(model.nu)),
        control_low=tuple(model.actuator_ctrlrange[:, 0].tolist()),
        control_high=tuple(model.actuator_ctrlrange[:, 1].tolist()),
        dtype=worlds.dtype,
    )


def _site(model: mujoco.MjModel, data: mujoco.MjData, index: int) -> Site:
    body = model.site_bodyid[index]
    start_m = tuple(data.site_xpos[index].tolist())
    return Site(index, int(model.body_rootid[body]), _moving_dofs(model, body), start_m)


def _moving_dofs(model: mujoco.MjModel, body: int) -> tuple[int, ...]:
    """Degrees of freedom between a body and the world."""
    dofs: list[int] = []
    while body:
        first = int(model.body_dofadr[body])
        dofs.extend(range(first, first + int(model.body_dofnum[body])))
        body = int(model.body_parentid[body])
    return tuple(sorted(dofs))
