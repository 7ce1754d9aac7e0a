"""Episodes of a goal task that are run outside of training: how they begin, and which end in success."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from robotrl.runtime.modes import Event, Mode
from robotrl.runtime.operator import GOAL
from robotrl.runtime.policy import Policy
from robotrl.sim.goal import GoalEnv
from robotrl.spec.gate import Level, Verdict
from robotrl.spec.state import Floats


@dataclass(frozen=True)
class Starts:
    """How N episodes begin."""

    qpos: Floats
    """(N, nq)"""
    qvel: Floats
    """(N, nv)"""
    goal: Floats
    """(N, g)"""

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.goal)


def first_starts(envs: Sequence[GoalEnv], episodes: int) -> Starts:
    """How the episodes begin that have just begun in the worlds of `envs`, one after the other."""

    def rows(part: Callable[[GoalEnv], Tensor]) -> Floats:
        found: Floats = torch.cat([part(env) for env in envs])[:episodes].double().numpy()
        return found

    return Starts(rows(lambda e: e.worlds.qpos), rows(lambda e: e.worlds.qvel), rows(lambda e: e.goal))


def succeeds(env: GoalEnv, qpos: Floats, qvel: Floats, goal: Floats) -> bool:
    """Whether a state (nq,), (nv,) achieves a goal (g,); `env` has one world, which is put there."""
    env.place(torch.arange(1), *(torch.from_numpy(values)[None] for values in (qpos, qvel, goal)))
    _, achieved, desired = env.layout.split(env.observation)
    return bool(env.task.is_success(achieved, desired))


class Witness(Protocol):
    """A body in an emulated world that can be looked into."""

    qpos: Floats
    """(nq,) of the world when it was last read."""
    qvel: Floats
    """(nv,)"""

    def place(self, qpos: Floats, qvel: Floats) -> None:
        """Put the world into a state after the next read."""


class SeenTick(Protocol):
    """What is looked at of a loop's tick."""

    @property
    def mode(self) -> Mode:
        """Who commanded."""

    @property
    def verdict(self) -> Verdict:
        """What the gate did."""


AnyTick = TypeVar("AnyTick", bound=SeenTick)


class Trials(ABC, Generic[AnyTick]):
    """The operator who asks for one goal after the other, and who sees in every tick what comes of it.

    An episode is `begin` ticks in which the body gets ready, then as many with the policy as in training.

    Args:
        starts: how they begin.
        begin: number of ticks before the policy's first.
        policy: asked for no goal beyond those it was trained on.
        env: one world of the task, to judge by.
        body: the robot.

    Attributes:
        commands: the present goal.
        last: of each episode, success after its last step.
        reached: of each episode, success after any.
        stopped: of each episode, whether the gate stopped the robot.
    """

    def __init__(self, starts: Starts, begin: int, policy: Policy, env: GoalEnv, body: Witness) -> None:
        self._starts, self._env, self._body = starts, env, body
        self._asked = np.clip(starts.goal, *policy.contract.operator_ranges[GOAL])
        self._begin, self._length = begin, begin + env.task.episode_steps
        self._tick, self._fault = -1, False
        self.commands: dict[str, Floats] = {GOAL: np.full_like(self._asked[0], np.nan)}
        self.last, self.reached, self.stopped = ([False] * len(starts) for _ in range(3))

    def poll(self, elapsed_s: float) -> list[Event]:
        """Return what this tick asks for."""
        self._tick += 1
        episode, phase = divmod(self._tick, self._length)
        if phase == self._begin - 1 and not self.finished():
            self._body.place(self._starts.qpos[episode], self._starts.qvel[episode])
        if phase == self._begin and not self.finished():
            self.commands = {GOAL: self._asked[episode]}
            return [Event.POLICY]
        return self._between() if phase == 0 else []

    @abstractmethod
    def _between(self) -> list[Event]:
        """Return what is asked for when an episode begins, or all are over."""

    def _rearmed(self) -> list[Event]:
        """A re-arm if the gate has stopped the robot since the last one."""
        rearm, self._fault = self._fault, False
        return [Event.REARM] * rearm

    def heed(self, *, orders: bool) -> None:
        """Nothing to do: nothing is asked for before the first `poll`."""

    def finished(self) -> bool:
        """Return whether every episode is over."""
        return self._tick >= self._length * len(self._starts)

    def tick(self, tick: AnyTick) -> None:
        """Judge what the tick before has led to."""
        self._fault |= tick.verdict.level >= Level.HOLD
        episode, phase = divmod(self._tick - 1, self._length)
        if phase < self._begin or not 0 <= episode < len(self._starts):
            return
        success = self._succeeds(episode)
        self.last[episode] = success
        self.reached[episode] |= success
        if self._tick % self._length and tick.mode is not Mode.POLICY:
            self.stopped[episode] = True

    def _succeeds(self, episode: int) -> bool:
        """Whether the emulated world, as it was last seen, achieves the episode's goal."""
        return succeeds(self._env, self._body.qpos, self._body.qvel, self._starts.goal[episode])
