"""Joins a task and a backend: sensing, action delay, randomisation, auto-reset, time-outs, statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from robotrl.sim.randomize import Randomizer
from robotrl.sim.sensing import Sensing
from robotrl.sim.worlds import Worlds
from robotrl.tasks.task import Task

S = TypeVar("S")


@dataclass(frozen=True)
class Transition(Generic[S]):
    """What one control step of B worlds gave."""

    step: S
    """The task's own record, before any reset."""
    reward: Tensor
    """(B,)"""
    terminated: Tensor
    """(B,) bool: the task failed; no bootstrap."""
    truncated: Tensor
    """(B,) bool: time-out; bootstrap from the terminal observation."""
    final_ids: Tensor
    """(k,) worlds that were reset in this step."""
    final_observation: Tensor
    """(k, obs) their last observation before the reset."""
    final_privileged: Tensor
    """(k, p) their last critic observation before the reset."""


class _Statistics:
    """Sums over steps and finished episodes."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._terms, self._reward, self._steps = torch.zeros(len(names)), torch.zeros(()), 0
        self._length_s, self._return, self._failed, self._episodes = 0.0, 0.0, 0.0, 0

    def add_step(self, terms: Tensor, reward: Tensor) -> None:
        """Add one step's means over the worlds: of each weighted term (terms,) and of the reward."""
        self._terms += terms
        self._reward += reward
        self._steps += 1

    def add_episodes(self, length_s: Tensor, returns: Tensor, failed: Tensor) -> None:
        """Add finished episodes, each (k,)."""
        self._length_s += float(length_s.sum())
        self._return += float(returns.sum())
        self._failed += float(failed.sum())
        self._episodes += len(length_s)

    def figures(self) -> dict[str, float]:
        """Means; episodes are left out while none has finished."""
        steps, episodes = max(self._steps, 1), self._episodes
        result = {f"reward/{n}": float(v) / steps for n, v in zip(self._names, self._terms, strict=True)}
        result["step_reward"] = float(self._reward) / steps
        if episodes:
            result["episode_length_s"] = self._length_s / episodes
            result["episode_return"] = self._return / episodes
            result["failed_share"] = self._failed / episodes
        return result


class _Rows:
    """Some rows of a batch of worlds, as a `WorldView`."""

    def __init__(self, worlds: Worlds, ids: Tensor) -> None:
        self.qpos, self.qvel = worlds.qpos[ids], worlds.qvel[ids]
        self.actuator_force = worlds.actuator_force[ids]
        self.sensor = lambda *names: worlds.sensor(*names)[ids]


class Env(Generic[S]):
    """B worlds that always run: a world whose episode ends starts the next one in the same step.

    `observation` (B, obs) and `privileged` (B, p) are what the next action is computed from.
    """

    def __init__(
        self,
        task: Task[S],
        worlds: Worlds,
        randomizer: Randomizer,
        sensing: Sensing,
        rate_hz: float,
        seed: int,
    ) -> None:
        self.task, self.num = task, worlds.num
        self.worlds, self._randomizer, self._sensing = worlds, randomizer, sensing
        self.period_s = 1.0 / rate_hz
        self._substeps = round(self.period_s / worlds.model.opt.timestep)
        self._generator = torch.Generator().manual_seed(seed)
        self._weights = torch.tensor([term.weight for term in task.rewards.values()])
        self.action_size = worlds.model.nu
        self._command = torch.zeros((self.num, 3))
        self._command_age_s = torch.zeros(self.num)
        self._age_s = torch.zeros(self.num)
        self._action = torch.zeros((self.num, self.action_size))
        self._target = torch.zeros((self.num, self.action_size))
        self.memory = {m.name: torch.tensor(m.initial).repeat(self.num, 1) for m in task.policy.memory}
        self.channels: dict[str, Tensor] = {}
        self._return = torch.zeros(self.num)
        self.restart()

    def restart(self, spread_ages: bool = True) -> None:
        """Start every world anew, at random ages so that their time-outs do not fall together."""
        everything = torch.arange(self.num)
        self.channels = self._sensing.measure(everything, self.worlds.qpos, self.worlds.qvel, self._generator)
        self.channels["velocity_command"] = self._command
        self._begin(everything)
        if spread_ages:
            self._age_s = torch.rand(self.num, generator=self._generator) * self.task.episode_s
        self.observation = self.task.policy.observe(self.channels, self.memory)
        self.privileged = self._privileged(everything)
        self._statistics = _Statistics(tuple(self.task.rewards))

    def step(self, action: Tensor) -> Transition[S]:
        """Apply actions (B, n) for one control period."""
        policy = self.task.policy
        target = policy.target(self.channels, action)
        memory = policy.advance(self.channels, self.memory, action)
        # Clones: a reset writes into these, and the caller keeps its action.
        return self._advance(target, action.clone(), {k: v.clone() for k, v in memory.items()})

    def follow(self, target: Tensor) -> Transition[S]:
        """Apply joint targets (B, n) rad of a policy that keeps its own memory, for one control period."""
        return self._advance(target, self._action, self.memory)

    def _advance(self, target: Tensor, action: Tensor, next_memory: dict[str, Tensor]) -> Transition[S]:
        self._randomizer.push(self.period_s, self._generator)
        self.worlds.step(self._delayed(target))
        record = self.task.measure(self.worlds, self._command, action, self._action, self.memory)
        self.memory, self._action, self._target = next_memory, action, target
        reward, failed = self._reward(record)
        self._age_s += self.period_s
        timed_out = (self._age_s >= self.task.episode_s) & ~failed
        self._resample_commands()
        self._sense()
        observation = self.task.policy.observe(self.channels, self.memory)
        privileged = self.task.privileged(record)
        ended = (failed | timed_out).nonzero()[:, 0]
        transition = Transition(
            record, reward, failed, timed_out, ended, observation[ended], privileged[ended]
        )
        if len(ended):
            self._statistics.add_episodes(self._age_s[ended], self._return[ended], failed[ended])
            self._begin(ended)
            observation = self.task.policy.observe(self.channels, self.memory)
            privileged[ended] = self._privileged(ended)
        self.observation, self.privileged = observation, privileged
        return transition

    def take_statistics(self) -> dict[str, float]:
        """Means since the last call: reward terms, episode length and return, failures; then forget."""
        figures = self._statistics.figures()
        self._statistics = _Statistics(tuple(self.task.rewards))
        return figures

    def _delayed(self, target: Tensor) -> Tensor:
        """Goals of each substep (substeps, B, n): the previous ones until the delay has passed.

        The servo compares its own, wrongly zeroed reading with the goal, so the zero error moves
        the goal by as much the other way.
        """
        timestep_s = self.period_s / self._substeps
        delay = torch.round(self._randomizer.delay_s / timestep_s)[:, None]
        zero = self._sensing.joint_zero
        new, old = target - zero, self._target - zero
        return torch.stack([torch.where(k < delay, old, new) for k in range(self._substeps)])

    def _reward(self, record: S) -> tuple[Tensor, Tensor]:
        task = self.task
        values = torch.stack([term.value(record) for term in task.rewards.values()])
        raw = (self._weights @ values).clamp_min(task.reward_floor) * self.period_s
        failed = task.failed(record) | ~torch.isfinite(raw)
        reward = torch.where(failed, task.failure_reward, raw)
        self._return += reward
        self._statistics.add_step((values * self._weights[:, None]).mean(1), reward.mean())
        return reward, failed

    def _resample_commands(self) -> None:
        self._command_age_s -= self.period_s
        due = (self._command_age_s <= 0).nonzero()[:, 0]
        if len(due):
            self._draw_commands(due)

    def _draw_commands(self, ids: Tensor) -> None:
        low, high = self.task.command_every_s
        self._command = self._command.clone()  # step records keep the one they were made with
        self._command[ids] = self.task.sample_command(len(ids), self._generator)
        self._command_age_s[ids] = low + (high - low) * torch.rand(len(ids), generator=self._generator)

    def _sense(self) -> None:
        self.channels = self._sensing.measure(
            slice(None), self.worlds.qpos, self.worlds.qvel, self._generator
        )
        self.channels["velocity_command"] = self._command.clone()

    def _begin(self, ids: Tensor) -> None:
        """Start a new episode in the worlds `ids`, with a new robot, command and pose."""
        self._randomizer.redraw(ids, self._generator)
        self._sensing.redraw(ids, self._generator)
        self._draw_commands(ids)
        qpos, qvel = self.task.reset(len(ids), self._generator)
        self.worlds.reset(ids, qpos, qvel)
        self._age_s[ids] = 0.0
        self._return[ids] = 0.0
        self._action[ids] = 0.0
        self._target[ids] = qpos[:, 7:]
        fresh = self._sensing.measure(ids, self.worlds.qpos[ids], self.worlds.qvel[ids], self._generator)
        fresh["velocity_command"] = self._command[ids]
        for name, value in fresh.items():
            self.channels[name][ids] = value
        for name, value in self.task.initial_memory(len(ids), self._generator).items():
            self.memory[name][ids] = value

    def _privileged(self, ids: Tensor) -> Tensor:
        """What the critic sees of worlds that have just begun."""
        memory = {name: value[ids] for name, value in self.memory.items()}
        action = self._action[ids]
        record = self.task.measure(_Rows(self.worlds, ids), self._command[ids], action, action, memory)
        return self.task.privileged(record)
