"""A walking policy through loop, gate, drivers and emulated robot, beside the same walks in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robotrl.bench.evaluate import EPISODE_S
from robotrl.bench.lockstep import LockstepRobot, WitnessedBody
from robotrl.bench.resimulate import FileDriver, Tensors, initial_memory
from robotrl.bench.transfer import SHOWN
from robotrl.runtime.clock import FakeClock
from robotrl.runtime.loop import Loop
from robotrl.runtime.modes import Event, Mode
from robotrl.runtime.operator import VELOCITY
from robotrl.runtime.policy import Policy
from robotrl.runtime.tally import Happening, LoopReport, Tick
from robotrl.sim.env import Env
from robotrl.spec.gate import Level
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import Floats
from robotrl.tasks.rewards import Rewards
from robotrl.tasks.velocity import DOWN, VelocityStep, rotate_into_body

QUANTILES = np.linspace(0.01, 0.99, 99)
NARROWEST = 0.01
"""In a channel's unit: what training hardly moved at all counts as spread so far."""


@dataclass(frozen=True)
class Walks:
    """N episodes, each up to a fall.

    Attributes:
        returns: (N,)
        survived: (N,) bool: no fall, and on the robot no stop by the gate.
        seen: compared channel -> (rows, k) over all steps of all episodes.
    """

    returns: Floats
    survived: NDArray[np.bool_]
    seen: Mapping[str, Floats]


@dataclass(frozen=True)
class Walked:
    """How N episodes of T steps went in the training environment, and what the robot needs to do the same."""

    walks: Walks
    qpos: Floats
    """(N, nq) at the start."""
    qvel: Floats
    """(N, nv)"""
    commands: Floats
    """(T, N, 3) m/s, m/s, rad/s."""


@torch.no_grad()
def walk_in_training(env: Env[VelocityStep], file: Path, episode_s: float = EPISODE_S) -> Walked:
    """Run an episode of each world of `env`, which becomes as new, with a policy file.

    Args:
        env: nominal worlds of the task that the policy was trained on.
        file: the policy.
        episode_s: length of an episode, no longer than the task's.
    """
    policy = env.task.policy
    env.task = dataclasses.replace(env.task, initial_memory=lambda count, _: initial_memory(policy, count))
    env.restart(spread_ages=False)
    qpos, qvel, driver = env.worlds.qpos, env.worlds.qvel, FileDriver(file, env.num)
    returns, alive = torch.zeros(env.num, dtype=torch.float64), torch.ones(env.num, dtype=torch.bool)
    commands, seen = [], []
    for _ in range(round(episode_s / env.period_s) - 1):  # the last step would time out and reset the worlds
        seen.append({name: values[alive].clone() for name, values in env.channels.items()})
        target, memory = driver.step(env.channels)
        transition = env.follow(target, memory)
        commands.append(transition.step.command)
        returns += transition.reward * alive
        alive = alive & ~transition.terminated
    walks = Walks(returns.numpy(), alive.numpy(), compared(seen))
    asked = torch.stack(commands).double().numpy()
    return Walked(walks, qpos.double().numpy(), qvel.double().numpy(), asked)


def compared(steps: Sequence[Tensors]) -> dict[str, Floats]:
    """Join the channels (B, ...) of steps, as they are compared."""
    joined = {name: torch.cat([step[name] for step in steps]) for name in steps[0]}
    joined["gravity"] = rotate_into_body(joined["imu_quat"], torch.tensor([DOWN]))
    return {name: joined[name].double().numpy() for name in SHOWN}


def walk_through_runtime(
    robot: RobotSpec, policy: Policy, env: Env[VelocityStep], walked: Walked, stand_ticks: int
) -> tuple[Walks, LoopReport]:
    """Let an emulated robot do the same walks on the bus clock.

    Args:
        robot: the robot.
        policy: may drive it.
        env: of the task, which says what a step earns.
        walked: the walks.
        stand_ticks: until the robot has stood up and come to rest.
    """
    with LockstepRobot(robot) as emulated:
        body = WitnessedBody(robot, emulated)
        trials = WalkTrials(walked, stand_ticks, robot, policy, Judge(env, robot, emulated, body))
        loop = Loop(robot, body, policy, trials, FakeClock(), armed=True, recorder=trials)
        report = loop.run()
    return trials.walks(), report


class EmulatedView:
    """The emulated robot as one simulated world, for `Task.measure`: what was true when it was last read."""

    def __init__(self, robot: RobotSpec, emulated: LockstepRobot, body: WitnessedBody) -> None:
        self._plant, self._body = emulated.machine.plant, body
        self.qpos = torch.from_numpy(body.qpos)[None].float()
        self.qvel = torch.from_numpy(body.qvel)[None].float()
        # The motors' torque has the back-EMF in it, which is a damping of the joint in training.
        back_emf = robot.servo_of(robot.joint[0]).back_emf_nm_s_rad
        self.actuator_force = torch.from_numpy(body.torque_nm)[None].float() + back_emf * self.qvel[:, 6:]

    def sensor(self, *names: str) -> Tensor:
        """Values (1, names, size) of sensors of equal size."""
        values = [self._body.sensordata[self._plant.sensor_slice(name)] for name in names]
        return torch.from_numpy(np.stack(values))[None].float()

    def data(self, name: str) -> Tensor:
        """No other field is witnessed."""
        return torch.full((1, 1), torch.nan)


class Judge:
    """What the emulated robot's steps earn, by the rule of the training environment."""

    def __init__(
        self, env: Env[VelocityStep], robot: RobotSpec, emulated: LockstepRobot, body: WitnessedBody
    ) -> None:
        self.body, self.period_s = body, env.period_s
        self._task, self._robot, self._emulated = env.task, robot, emulated
        self._rewards = Rewards(env.task.rewards, torch.device("cpu"))

    def __call__(self, command: Floats, before: Tensors, after: Tensors) -> tuple[float, bool]:
        """Return the reward of the step that has just ended, and whether it was a failure.

        Args:
            command: (3,) of the step.
            before: what the policy remembered when it answered, (1, ...).
            after: what it remembered afterwards.
        """
        task, view = self._task, EmulatedView(self._robot, self._emulated, self.body)
        asked = torch.from_numpy(command)[None].float()
        record = task.measure(view, asked, after["last_action"], before["last_action"], before)
        failed = task.failed(record)
        reward = self._rewards.earned(self._rewards(record), failed, task, self.period_s)
        return float(reward), bool(failed)


class WalkTrials:
    """The operator who asks for one walk after the other, and who sees in every tick what it earns.

    An episode is `stand_ticks` in which the robot stands up, put upright first, then the walk's steps. The
    emulated world is put into the walk's start state a tick before the policy takes over.

    Attributes:
        commands: the present velocity command.
    """

    def __init__(
        self, walked: Walked, stand_ticks: int, robot: RobotSpec, policy: Policy, judge: Judge
    ) -> None:
        self._walked, self._policy, self._judge = walked, policy, judge
        self._per_step = robot.control.ticks_per_step
        self._begin = stand_ticks + 1
        steps, self._episodes, _ = walked.commands.shape
        self._length = self._begin + steps * self._per_step
        self._tick, self._fault = -1, False
        self._returns = np.zeros(self._episodes)
        self._alive = np.ones(self._episodes, dtype=bool)
        self._memory: Tensors = {}
        self._asked: tuple[Floats, Tensors] | None = None
        self._seen: list[Tensors] = []
        self.commands: dict[str, Floats] = {VELOCITY: np.zeros(3)}

    def poll(self, elapsed_s: float) -> list[Event]:
        """Return what this tick asks for."""
        self._tick += 1
        episode, phase = divmod(self._tick, self._length)
        if self.finished():
            return [Event.LIMP]
        if phase in (0, self._begin - 1):
            self._judge.body.place(self._walked.qpos[episode], self._walked.qvel[episode])
        if phase == 1:
            rearm, self._fault = self._fault, False
            return [*[Event.REARM] * rearm, Event.STAND]
        if phase >= self._begin:
            step = (phase - self._begin) // self._per_step
            self.commands = {VELOCITY: self._walked.commands[step, episode]}
        return [Event.POLICY] if phase == self._begin else []

    def heed(self, *, orders: bool) -> None:
        """Nothing to do: nothing is asked for before the first `poll`."""

    def finished(self) -> bool:
        """Return whether every episode is over."""
        over: bool = self._tick >= self._length * self._episodes
        return over

    def tick(self, tick: Tick) -> None:
        """Judge the step that ends with this tick's measurement, and note the one that begins with it."""
        self._fault |= tick.verdict.level >= Level.HOLD
        if self._asked is not None and (tick.inference is not None or tick.mode is not Mode.POLICY):
            self._judge_step((self._tick - 1) // self._length, *self._asked)
            self._asked = None
        episode, phase = divmod(self._tick, self._length)
        if phase < self._begin or self.finished():
            return
        if tick.mode is not Mode.POLICY:
            self._alive[episode] = False
        elif tick.inference is not None and self._alive[episode]:
            self._note_step(tick, episode)

    def event(self, happening: Happening) -> None:
        """Nothing is kept of events."""

    def walks(self) -> Walks:
        """Return how they went."""
        return Walks(self._returns, self._alive, compared(self._seen))

    def _note_step(self, tick: Tick, episode: int) -> None:
        assert tick.inference is not None
        self._seen.append(
            {name: torch.from_numpy(values)[None] for name, values in tick.inference.channels.items()}
        )
        if tick.policy_reset:
            self._memory = {m.name: torch.tensor([m.initial]) for m in self._policy.contract.memory}
        self._asked = self.commands[VELOCITY], self._memory
        self._memory = {name: torch.from_numpy(values)[None] for name, values in self._policy.memory.items()}

    def _judge_step(self, episode: int, command: Floats, before: Tensors) -> None:
        if self._alive[episode]:
            reward, failed = self._judge(command, before, self._memory)
            self._returns[episode] += reward
            self._alive[episode] = not failed


def differences(real: Mapping[str, Floats], trained: Mapping[str, Floats]) -> dict[str, float]:
    """Say how far the values of every channel's element are from those of training, the furthest first.

    Returns:
        `channel[i]` -> mean distance of the quantiles of both (the Wasserstein-1 distance), in standard
        deviations of training's.
    """
    found = {}
    for name in SHOWN:
        ours, theirs = (np.quantile(values[name], QUANTILES, axis=0) for values in (real, trained))
        spread = np.maximum(trained[name].std(axis=0), NARROWEST)
        for i, distance in enumerate(np.abs(ours - theirs).mean(axis=0) / spread):
            found[f"{name}[{i}]"] = float(distance)
    return dict(sorted(found.items(), key=lambda item: -item[1]))
