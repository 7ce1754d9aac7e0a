"""Joins a task and a backend: sensing, latency, randomisation, auto-reset, time-outs, statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from robotrl.sim.curriculum import Curriculum
from robotrl.sim.latency import ActionLatency, ObservationLatency
from robotrl.sim.quarantine import Quarantine
from robotrl.sim.randomize import Randomizer
from robotrl.sim.saving import State, Stateful, joined, part_of, put_back
from robotrl.sim.sensing import Sensing
from robotrl.sim.statistics import Statistics
from robotrl.sim.worlds import Worlds
from robotrl.tasks.rewards import Rewards
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
    """(B,) bool: the task failed, or the simulation did; no bootstrap."""
    truncated: Tensor
    """(B,) bool: time-out; bootstrap from the terminal observation."""
    final_ids: Tensor
    """(k,) worlds that were reset in this step."""
    final_observation: Tensor
    """(k, obs) their last observation before the reset."""
    final_privileged: Tensor
    """(k, p) their last critic observation before the reset."""


class _Rows:
    """Some rows of a batch of worlds, as a `WorldView`."""

    def __init__(self, worlds: Worlds, ids: Tensor) -> None:
        self.qpos, self.qvel = worlds.qpos[ids], worlds.qvel[ids]
        self.actuator_force = worlds.actuator_force[ids]
        self.sensor = lambda *names: worlds.sensor(*names)[ids]
        self.data = lambda name: worlds.data(name)[ids]


class Env(Generic[S]):
    """B worlds that always run: a world whose episode ends starts the next one in the same step.

    `observation` (B, obs) and `privileged` (B, p) are what the next action is computed from. All
    tensors lie on the worlds' device; they are made in torch's inference mode, which saves a tenth of
    their cost: clone what autograd or an operation in place is to see.
    """

    def __init__(
        self,
        task: Task[S],
        worlds: Worlds,
        randomizer: Randomizer,
        sensing: Sensing,
        rate_hz: float,
        seed: int,
        curriculum: Curriculum | None = None,
        quarantine: Quarantine | None = None,
    ) -> None:
        self.task, self.num = task, worlds.num
        self.worlds, self._randomizer, self._sensing = worlds, randomizer, sensing
        self.curriculum, self._quarantine = curriculum, quarantine or Quarantine(None)
        self.period_s = 1.0 / rate_hz
        device, size = worlds.device, worlds.model.nu
        substeps = round(self.period_s / worlds.model.opt.timestep)
        longest_s = randomizer.params.action_delay_s[1], randomizer.params.observation_delay_s[1]
        self._goals = ActionLatency(self.num, size, self.period_s, substeps, longest_s[0], device)
        self._seen = ObservationLatency(self.num, self.period_s, longest_s[1], device)
        self._generator = torch.Generator(device=device).manual_seed(seed)
        self._rewards = Rewards(task.rewards, device)
        self.action_size = size
        self._command = torch.zeros((self.num, 3), device=device)
        self._command_age_s = torch.zeros(self.num, device=device)
        self._age_s = torch.zeros(self.num, device=device)
        self._action = torch.zeros((self.num, size), device=device)
        self.memory = {
            m.name: torch.tensor(m.initial, device=device).repeat(self.num, 1) for m in task.policy.memory
        }
        self.channels: dict[str, Tensor] = {}
        self._return = torch.zeros(self.num, device=device)
        self._broken = torch.zeros(0, dtype=torch.long, device=device)
        self.restart()

    @torch.inference_mode()
    def restart(self, spread_ages: bool = True) -> None:
        """Start every world anew, at random ages so that their time-outs do not fall together."""
        everything = torch.arange(self.num, device=self.worlds.device)
        self.channels = self._measured(everything, self.worlds.qpos, self.worlds.qvel)
        self.channels["velocity_command"] = self._command
        self._begin(everything)
        if spread_ages:
            self._age_s = self._uniform(self.num) * self.task.episode_s
        self.observation = self.task.policy.observe(self.channels, self.memory)
        self.privileged = self._privileged(everything)
        self._statistics = Statistics(self._rewards.weights, self._rewards.names)

    @torch.inference_mode()
    def step(self, action: Tensor) -> Transition[S]:
        """Apply actions (B, n) for one control period."""
        policy, action = self.task.policy, action.clone()  # the caller may write into its own
        target = policy.target(self.channels, action)
        return self._advance(target, action, policy.advance(self.channels, self.memory, action))

    @torch.inference_mode()
    def follow(self, target: Tensor, memory: Mapping[str, Tensor] | None = None) -> Transition[S]:
        """Apply joint targets (B, n) rad of a policy that keeps its own memory, for one control period.

        Args:
            target: what it asks for.
            memory: what it remembers afterwards (B, ...); without it, rewards for actions mean nothing.
        """
        if memory is None:
            return self._advance(target, self._action, self.memory)
        return self._advance(target, memory["last_action"], dict(memory))

    def _advance(self, target: Tensor, action: Tensor, next_memory: dict[str, Tensor]) -> Transition[S]:
        worlds, policy = self.worlds, self.task.policy
        self._simulate(target)
        record = self.task.measure(worlds, self._command, action, self._action, self.memory)
        if self.curriculum:
            self.curriculum.follow(worlds.qpos, self._command, self.period_s)
        self.memory, self._action = next_memory, action
        reward, failed = self._reward(record)
        self._age_s += self.period_s
        timed_out = self._timed_out() & ~failed
        self._resample_commands()
        self._sense()
        observation, privileged = policy.observe(self.channels, self.memory), self.task.privileged(record)
        ended = (failed | timed_out).nonzero()[:, 0]
        last = (observation[ended], privileged[ended]) if len(ended) else (observation[:0], privileged[:0])
        transition = Transition(record, reward, failed, timed_out, ended, *last)
        if len(ended):
            self._finish(ended, failed)
            self._begin(ended)
            observation = policy.observe(self.channels, self.memory)
            privileged[ended] = self._privileged(ended)
        self.observation, self.privileged = observation, privileged
        return transition

    @torch.inference_mode()
    def take_statistics(self) -> dict[str, float]:
        """Means since the last call: reward terms, episode length and return, failures; then forget."""
        figures = self._statistics.figures() | self.worlds.take_metrics()
        if self.curriculum:
            figures |= self.curriculum.metrics()
        self._statistics = Statistics(self._rewards.weights, self._rewards.names)
        return figures

    def state(self) -> State:
        """Everything that decides how the worlds go on (`robotrl.sim.saving`); empty if they cannot tell."""
        if not isinstance(self.worlds, Stateful):
            return {}
        parts = {name: part.state() for name, part in self._parts().items()}
        return joined(own=self._own(), memory=self.memory, channels=self.channels, **parts)

    @torch.inference_mode()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned; from an empty one the worlds start anew.

        Raises:
            CheckpointError: it is the state of another environment.
        """
        if not (tensors and isinstance(self.worlds, Stateful)):
            return
        for name, part in self._parts().items():
            part.load_state(part_of(tensors, name))
        for name in ("memory", "channels"):  # tensors of these tables may be the same, or somebody else's
            fresh = {key: value.clone() for key, value in getattr(self, name).items()}
            put_back(fresh, part_of(tensors, name))
            setattr(self, name, fresh)
        own = {name: value.clone() for name, value in self._own().items()}
        put_back(own, part_of(tensors, "own"))
        self._generator.set_state(own.pop("generator"))
        for name, value in own.items():
            setattr(self, name, value)

    def _parts(self) -> dict[str, Stateful]:
        """What keeps a state of its own."""
        assert isinstance(self.worlds, Stateful)
        parts: dict[str, Stateful] = {
            "worlds": self.worlds,
            "randomizer": self._randomizer,
            "sensing": self._sensing,
            "goals": self._goals,
            "seen": self._seen,
            "statistics": self._statistics,
        }
        return parts | ({"curriculum": self.curriculum} if self.curriculum else {})

    def _own(self) -> State:
        """This object's own tensors by their attributes, and its generator's state."""
        names = ("observation", "privileged", "_command", "_command_age_s", "_age_s", "_action", "_return")
        return {name: getattr(self, name) for name in names} | {"generator": self._generator.get_state()}

    def _simulate(self, target: Tensor) -> None:
        """Let the servos follow `target` (B, n) rad, late as they are, for one control period.

        A servo compares its own, wrongly zeroed reading with the goal, so the reading's error moves
        the goal by as much the other way.
        """
        worlds, randomizer = self.worlds, self._randomizer
        randomizer.push(self.period_s, self._generator)
        randomizer.before_step()
        goals = self._goals.goals(target - self._sensing.target_offset, randomizer.action_delay_s)
        before = worlds.qpos, worlds.qvel
        worlds.step(goals)
        self._broken = worlds.broken().nonzero()[:, 0]
        if len(self._broken):
            self._quarantine.keep(worlds, self._broken, *before, goals)
            self._statistics.add_broken(len(self._broken))

    def _reward(self, record: S) -> tuple[Tensor, Tensor]:
        """Rewards (B,), and which worlds have failed: by the task's rule or because they broke."""
        task = self.task
        values = self._rewards(record)
        failed = task.failed(record)
        if len(self._broken):
            values[:, self._broken] = 0.0
            failed[self._broken] = True
        reward = self._rewards.earned(values, failed, task, self.period_s)
        self._return += reward
        self._statistics.add_step(values, reward)
        return reward, failed

    def _timed_out(self) -> Tensor:
        """(B,) bool: the episode's time is up, or the robot has left the terrain."""
        late = self._age_s >= self.task.episode_s
        return late | self.curriculum.outside(self.worlds.qpos) if self.curriculum else late

    def _resample_commands(self) -> None:
        self._command_age_s -= self.period_s
        due = (self._command_age_s <= 0).nonzero()[:, 0]
        if len(due):
            self._draw_commands(due)

    def _draw_commands(self, ids: Tensor) -> None:
        low, high = self.task.command_every_s
        self._command = self._command.clone()  # step records keep the one they were made with
        self._command[ids] = self.task.sample_command(len(ids), self._generator)
        self._command_age_s[ids] = low + (high - low) * self._uniform(len(ids))

    def _sense(self) -> None:
        worlds = self.worlds
        qpos, qvel = worlds.qpos, worlds.qvel
        if self._seen.ticks:
            state = torch.cat((qpos, qvel), dim=-1)
            state = self._seen.delayed(state, self._randomizer.observation_delay_s)
            qpos, qvel = state[:, : qpos.shape[1]], state[:, qpos.shape[1] :]
        self.channels = self._measured(slice(None), qpos, qvel)
        self.channels["velocity_command"] = self._command

    def _measured(self, ids: Tensor | slice, qpos: Tensor, qvel: Tensor) -> dict[str, Tensor]:
        """What the sensors of the worlds `ids` make of the state (k, nq), (k, nv)."""
        return self._sensing.measure(ids, qpos, qvel, self.worlds.actuator_force[ids], self._generator)

    def _finish(self, ids: Tensor, failed: Tensor) -> None:
        """Count the episodes of the worlds `ids` that end here."""
        self._statistics.add_episodes(self._age_s[ids], self._return[ids], failed[ids])
        if self.curriculum:
            self.curriculum.finish(ids, self.worlds.qpos[ids], failed[ids], self._generator)

    def _begin(self, ids: Tensor) -> None:
        """Start a new episode in the worlds `ids`, with a new robot, command and pose."""
        self._randomizer.redraw(ids, self._generator)
        self._sensing.redraw(ids, self._generator)
        self._draw_commands(ids)
        qpos, qvel = self.task.reset(len(ids), self._generator)
        if self.curriculum:
            qpos = self.curriculum.place(ids, qpos, self._generator)
        self.worlds.reset(ids, qpos, qvel)
        self._age_s[ids] = 0.0
        self._return[ids] = 0.0
        self._action = self._action.index_fill(0, ids, 0.0)  # not in place: step records hold the last one
        self._goals.reset(ids, qpos[:, 7:] - self._sensing.target_offset[ids])
        self._seen.reset(ids, torch.cat((qpos, qvel), dim=-1))
        fresh = self._measured(ids, self.worlds.qpos[ids], self.worlds.qvel[ids])
        fresh["velocity_command"] = self._command[ids]
        # Not in place: step records hold the last command.
        self.channels |= {name: self.channels[name].index_copy(0, ids, row) for name, row in fresh.items()}
        initial = self.task.initial_memory(len(ids), self._generator)
        self.memory |= {name: self.memory[name].index_copy(0, ids, value) for name, value in initial.items()}

    def _privileged(self, ids: Tensor) -> Tensor:
        """What the critic sees of worlds that have just begun."""
        memory = {name: value[ids] for name, value in self.memory.items()}
        action = self._action[ids]
        record = self.task.measure(_Rows(self.worlds, ids), self._command[ids], action, action, memory)
        return self.task.privileged(record)

    def _uniform(self, count: int) -> Tensor:
        """Numbers (count,) between 0 and 1."""
        return torch.rand(count, generator=self._generator, device=self._generator.device)
