"""What there is to see of a robot or a Gymnasium task: one frame for each control period, without OpenGL."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import mujoco
import numpy as np
import torch
from torch import Tensor

from robotrl.bench.camera import View
from robotrl.bench.evaluate import TIMESTEP_S
from robotrl.learn.networks import Actor
from robotrl.learn.playing import play
from robotrl.sim.direct import DirectEnv, direct_model
from robotrl.sim.env import Env
from robotrl.sim.goal import GoalEnv, goal_model
from robotrl.spec.state import Floats
from robotrl.tasks.velocity import VelocityStep, rotate_into_body

if TYPE_CHECKING:
    from robotrl.bench.steering import Steering
    from robotrl.cli.runfile import Job
    from robotrl.sim.boxed import UnitActions

ENDLESS_S = 1e6
"""A robot's episode does not time out while it is watched; after a fall it still begins anew."""
SMOOTH_S = 0.3
"""True velocities are means over this time, or a step's jolts would hide them."""

TARGET_JOINT = "target:joint"
"""Of the body that shows where the Shadow Hand's object is wanted."""

ARM = View((1.25, 0.75, 0.55), 1.9, 132.0, -18.0)
"""Of the Fetch arm's table."""
HAND = View((1.0, 0.92, 0.18), 0.6, 55.0, -30.0)
"""Of the Shadow Hand's palm."""

Table = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Frame:
    """One state to draw."""

    qpos: Floats
    """(nq,)"""
    table: Table
    """Rows of figures to write beside the picture, each with its name first."""
    restarted: bool
    """The world was reset since the frame before."""
    markers_m: Floats = dataclasses.field(default_factory=lambda: np.empty((0, 3)))
    """(k, 3) world positions of goals; their number stays the same."""


class Player(Protocol):
    """Something that moves.

    Attributes:
        model: what to draw it with.
        frame_s: time between two frames.
        findings: sentences about what is played.
        view: where to stand; None: follow what moves.
    """

    model: mujoco.MjModel
    frame_s: float
    findings: Sequence[str]
    view: View | None

    def frames(self) -> Iterator[Frame]:
        """Yield the present state, then each next one; a playback with an end can be played again."""
        ...


class Stepped(Protocol):
    """What is read of one step of an environment."""

    @property
    def reward(self) -> Tensor:
        """Rewards (B,)."""

    @property
    def final_ids(self) -> Tensor:
        """(k,) worlds that were reset in this step."""


class Steppable(Protocol):
    """What actions need of an environment."""

    num: int
    action_size: int

    @property
    def observation(self) -> Tensor:
        """What the next action is computed from (B, obs)."""

    def step(self, action: Tensor) -> Stepped:
        """Apply actions (B, n)."""


Advance = Callable[[], Stepped]
"""Moves every world on by one control period."""


def zero_actions(env: Steppable) -> Advance:
    """Drive with actions of zero: a robot's default posture, the middle of a Gymnasium task's controls."""
    action = torch.zeros((env.num, env.action_size))
    return lambda: env.step(action)


def random_actions(seed: int) -> Callable[[Steppable], Advance]:
    """Drive with uniform actions in [-1, 1], drawn anew at every tick."""
    generator = torch.Generator().manual_seed(seed)

    def drive(env: Steppable) -> Advance:
        return lambda: env.step(2 * torch.rand((env.num, env.action_size), generator=generator) - 1)

    return drive


def trained_actions(actor: Actor) -> Callable[[Steppable], Advance]:
    """Drive with a network's mean actions."""
    return lambda env: play(env, actor)


class VelocityPlayer:
    """One world of a velocity task, commanded from outside; sensing, delays and pushes are as in training."""

    def __init__(
        self, job: Job, drive: Callable[[Env[VelocityStep]], Advance], seed: int, steering: Steering
    ) -> None:
        self._steering = steering
        self._low, self._high = np.array(job.task.command_low), np.array(job.task.command_high)
        self._command = torch.zeros(3)
        self._env = job.evaluation_env(1, seed, threads=1, timestep_s=TIMESTEP_S, randomized=True)
        self._env.task = dataclasses.replace(
            self._env.task,
            episode_s=ENDLESS_S,
            command_every_s=(0.0, 0.0),  # asked for at every tick
            sample_command=lambda count, _: self._command.expand(count, 3),
        )
        self._env.restart(spread_ages=False)
        self._advance = drive(self._env)
        self.model = self._env.worlds.world_model(0)
        self.frame_s = self._env.period_s
        self.findings: Sequence[str] = ()
        self.view: View | None = None
        self._recent: collections.deque[Floats] = collections.deque(maxlen=round(SMOOTH_S / self.frame_s))

    def frames(self) -> Iterator[Frame]:
        """Yield one frame a control period, for ever."""
        yield self._frame(restarted=False)
        for tick in itertools.count(1):
            command = self._steering(tick * self.frame_s, self._low, self._high)
            self._command = torch.from_numpy(command).float()
            with torch.no_grad():
                stepped = self._advance()
            yield self._frame(restarted=len(stepped.final_ids) > 0)

    def _frame(self, *, restarted: bool) -> Frame:
        if restarted:
            self._recent.clear()
        worlds = self._env.worlds
        forward_left = rotate_into_body(worlds.qpos[:, 3:7], worlds.qvel[:, :3])[0, :2]
        self._recent.append(torch.cat((forward_left, worlds.qvel[0, 5:6])).double().numpy())
        command = self._env.channels["velocity_command"][0]
        table = (
            ("", "forward m/s", "left m/s", "turn rad/s"),
            ("command", *(f"{value:+.2f}" for value in command.tolist())),
            ("true", *(f"{value:+.2f}" for value in np.mean(self._recent, axis=0))),
        )
        return Frame(worlds.qpos[0].double().numpy(), table, restarted)


class DirectPlayer:
    """One world of a classic Gymnasium task, episode after episode."""

    def __init__(self, env: UnitActions, drive: Callable[[UnitActions], Advance]) -> None:
        if not isinstance(env.inner, DirectEnv):
            raise TypeError(f"{type(env.inner).__name__} has no worlds to draw")
        self._worlds = env.inner.worlds
        self.model, self.frame_s = direct_model(env.inner.task), env.inner.period_s
        self.findings: Sequence[str] = ()
        self.view: View | None = None
        self._advance = drive(env)

    def frames(self) -> Iterator[Frame]:
        """Yield one frame an action, for ever."""
        reward, total, restarted = 0.0, 0.0, False
        while True:
            table = (("reward", f"{reward:+.2f}"), ("return", f"{total:+.1f}"))
            yield Frame(self._worlds.qpos[0].double().numpy(), table, restarted)
            with torch.no_grad():
                stepped = self._advance()
            restarted = len(stepped.final_ids) > 0
            reward = float(stepped.reward[0])
            total = 0.0 if restarted else total + reward


class GoalPlayer:
    """One world of a goal task, episode after episode; goals that are places are marked by spheres."""

    def __init__(self, env: UnitActions, drive: Callable[[UnitActions], Advance]) -> None:
        if not isinstance(env.inner, GoalEnv):
            raise TypeError(f"{type(env.inner).__name__} has no goals")
        self._env = inner = env.inner
        self.model, self.frame_s = goal_model(inner.task), inner.period_s
        self.findings: Sequence[str] = ()
        self.view: View | None = HAND if inner.task.settling is None else ARM
        self._advance = drive(env)
        self._target = inner.facts.joint_qpos.get(TARGET_JOINT)
        if self._target is None:  # what would mark the goal does not move on its own
            self.model.site_rgba[_targets(self.model), 3] = 0.0

    def frames(self) -> Iterator[Frame]:
        """Yield one frame an action, for ever."""
        ticks, restarted = 0, False
        while True:
            yield self._frame(ticks * self.frame_s, restarted)
            with torch.no_grad():
                stepped = self._advance()
            restarted = len(stepped.final_ids) > 0
            ticks = 0 if restarted else ticks + 1

    def _frame(self, time_s: float, restarted: bool) -> Frame:
        env, goal = self._env, self._env.goal[0].double().numpy()
        _, achieved, desired = env.layout.split(env.observation)
        success = bool(env.task.success(achieved, desired)[0])
        table = (("time", f"{time_s:.2f} s"), ("goal", "reached" if success else "-"))
        qpos = env.worlds.qpos[0].double().numpy()
        if self._target is None:
            return Frame(qpos, table, restarted, goal.reshape(-1, 3))
        qpos[self._target : self._target + len(goal)] = goal
        return Frame(qpos, table, restarted)


def _targets(model: mujoco.MjModel) -> list[int]:
    return [i for i in range(model.nsite) if model.site(i).name.startswith("target")]
