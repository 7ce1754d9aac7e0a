"""A recorded walk beside the same commands in the training simulation: errors, delays, effort, reward."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robotrl.bench.flight import Truth
from robotrl.bench.resimulate import Driver, Rollout, initial_memory
from robotrl.bench.stretch import Stretch, sampled
from robotrl.sim.env import Env
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import Floats
from robotrl.tasks.task import RewardTerm, Task
from robotrl.tasks.velocity import DOWN, FOOT_SENSORS, LEGS, TOUCH_SENSORS, VelocityStep, rotate_into_body

MOST_LAG_S = 0.2
"""Delays are looked for up to this: a trot of 2.2 Hz repeats itself after 0.45 s."""

ALIKE = 0.5
"""Correlation below which two courses are no delayed copies of each other: the peak is anywhere."""


@dataclass(frozen=True)
class Trace:
    """One robot over T steps of its policy, n joints.

    Attributes:
        channels: name -> (T, k), at the beginning of each step.
        target_rad: (T, n) what the servos were sent in it.
        velocity: (T, 3) true forward m/s, left m/s and turn rad/s at its end; NaN where not measured.
        torque_nm: (T, n) at its end.
        terms: reward term -> (T,) weighted, per second; NaN where not measured.
    """

    channels: Mapping[str, Floats]
    target_rad: Floats
    velocity: Floats
    torque_nm: Floats
    terms: Mapping[str, Floats]

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.target_rad)

    def cut(self, count: int) -> Trace:
        """Return the first steps."""
        return Trace(
            {name: values[:count] for name, values in self.channels.items()},
            self.target_rad[:count],
            self.velocity[:count],
            self.torque_nm[:count],
            {name: values[:count] for name, values in self.terms.items()},
        )


class RecordedView:
    """The robot after each of T - 1 steps as a batch of worlds, for `Task.measure`; unmeasured is NaN."""

    def __init__(self, stretch: Stretch, robot: RobotSpec, radius_m: float, truth: Truth | None) -> None:
        after = {name: torch.from_numpy(values[1:]) for name, values in stretch.channels.items()}
        stamp_s, count = stretch.stamp_s[1:], len(stretch.stamp_s) - 1

        def known(part: Callable[[Truth], Floats], size: int) -> Tensor:
            if truth is None:
                return torch.full((count, size), torch.nan)
            return torch.from_numpy(sampled(part(truth), truth, stamp_s)).float()

        position = known(lambda t: t.qpos[:, :3], 3)
        velocity = known(lambda t: t.base_lin_vel_b, 3)
        quat, joint_vel = after["imu_quat"], after["joint_vel"]
        to_world = quat * torch.tensor([1.0, -1.0, -1.0, -1.0])
        self.qpos = torch.cat((position, quat, after["joint_pos"]), dim=-1)
        self.qvel = torch.cat((rotate_into_body(to_world, velocity), after["imu_gyro"], joint_vel), dim=-1)
        servo = robot.servo_of(robot.joint[0])
        drive = stretch.load[1:] * servo.stall_torque_nm * stretch.voltage_v[1:] / servo.nominal_voltage_v
        self.actuator_force = torch.from_numpy(drive).float()
        height = known(lambda t: t.foot_height_m, len(LEGS))
        self._foot_pos = torch.nn.functional.pad(height[..., None] + radius_m, (2, 0), value=torch.nan)
        self.touch = known(
            lambda t: np.concatenate((t.foot_touch_n, t.knee_touch_n, t.trunk_touch_n), axis=1),
            len(TOUCH_SENSORS),
        )

    def sensor(self, *names: str) -> Tensor:
        """Feet's places, whose speeds nobody measures, or touches."""
        if names == FOOT_SENSORS:
            return torch.cat((self._foot_pos, torch.full_like(self._foot_pos, torch.nan)), dim=1)
        return self.touch[..., None]

    def data(self, name: str) -> Tensor:
        """No field of the simulator is measured."""
        return torch.full((len(self.qpos), 1), torch.nan)


@dataclass(frozen=True)
class Recomputed:
    """What the compared policy makes of the recorded channels.

    Attributes:
        trace: the robot's; the rewards for actions are those of the compared policy.
        answers_differ_rad: largest difference from the recorded answers; 0 for the recorded policy.
    """

    trace: Trace
    answers_differ_rad: float


def recorded_trace(
    stretch: Stretch, robot: RobotSpec, env: Env[VelocityStep], driver: Driver, truth: Truth | None
) -> Recomputed:
    """Arrange what was recorded as a trace.

    Args:
        stretch: T + 1 steps; the last one has no end.
        robot: the robot.
        env: of the same task.
        driver: the policy in one world, at its start.
        truth: the emulator's record, if the robot was an emulated one.
    """
    given = {name: torch.from_numpy(values) for name, values in stretch.channels.items()}
    answered = [
        driver.step({name: v[i : i + 1] for name, v in given.items()}) for i in range(len(stretch.stamp_s))
    ]
    answers = torch.cat([target for target, _ in answered]).double().numpy()
    initial = initial_memory(env.task.policy, 1)
    memory = {name: torch.cat([initial[name], *(m[name] for _, m in answered)]) for name in initial}
    actions = memory["last_action"]
    radius_m = float(env.worlds.model.geom(f"{LEGS[0]}_foot").size[0])
    view = RecordedView(stretch, robot, radius_m, truth)
    before = {name: values[:-2] for name, values in memory.items()}
    step = env.task.measure(view, given["velocity_command"][:-1], actions[1:-1], actions[:-2], before)
    if truth is None:
        step = dataclasses.replace(
            step,
            **{part: torch.full_like(getattr(step, part), torch.nan) for part in CONTACTS},
        )
    trace = _trace(
        {name: values[:-1] for name, values in given.items()}, stretch.target_rad[:-1], step, env.task
    )
    return Recomputed(trace, float(np.abs(answers - stretch.answer_rad).max()))


CONTACTS = ("foot_contact", "knee_contact", "trunk_contact")


def simulated_trace(rollout: Rollout, task: Task[VelocityStep]) -> Trace:
    """Arrange the first world of a rollout as a trace, up to its fall."""
    count = int(rollout.upright[:, 0].sum())
    fields = [f.name for f in dataclasses.fields(VelocityStep)]
    joined = {f: torch.stack([getattr(s, f)[0] for s in rollout.steps[:count]]) for f in fields}
    channels = {name: values[:count, 0] for name, values in rollout.channels.items()}
    return _trace(channels, rollout.target_rad[:count, 0].numpy(), VelocityStep(**joined), task)


def _trace(
    channels: Mapping[str, Tensor],
    target_rad: NDArray[np.floating],
    step: VelocityStep,
    task: Task[VelocityStep],
) -> Trace:
    down = rotate_into_body(channels["imu_quat"], torch.tensor([DOWN]))
    shown = {**channels, "gravity": down}
    velocity = torch.cat((step.lin_vel[:, :2], step.gyro[:, 2:]), dim=-1)
    return Trace(
        channels={name: values.double().numpy() for name, values in shown.items()},
        target_rad=np.asarray(target_rad, dtype=np.float64),
        velocity=velocity.double().numpy(),
        torque_nm=step.torque.double().numpy(),
        terms={name: _per_second(term, step).double().numpy() for name, term in task.rewards.items()},
    )


def _per_second(term: RewardTerm[VelocityStep], step: VelocityStep) -> Tensor:
    """Weighted value (T,) of a reward term, as its shape says."""
    value = term.value(step)
    if term.shape == "sum":
        return term.weight * value.sum(dim=-1)
    squares = value.square().sum(dim=-1)
    return term.weight * (squares if term.shape == "squares" else torch.exp(-squares))


@dataclass(frozen=True)
class ChannelFigures:
    """How far one channel of the robot is from the simulation's.

    Attributes:
        rmse: root mean square of the difference over steps and elements, in the channel's unit.
        spread: the same of the simulation's about its own mean, to compare with.
        delay_ms: how much later the robot's course is; NaN where nothing moves, or not alike.
        correlation: with that delay taken out, 1 at most; NaN where nothing moves.
        inside: share of values within the range of the randomised simulations at the same step.
    """

    rmse: float
    spread: float
    delay_ms: float
    correlation: float
    inside: float


SHOWN = ("joint_pos", "joint_vel", "gravity", "imu_gyro")
"""Channels to compare. `gravity` is its direction in the body, from `imu_quat`, which also has a heading."""


def channel_figures(
    robot: Trace, nominal: Trace, low: Mapping[str, Floats], high: Mapping[str, Floats], period_s: float
) -> dict[str, ChannelFigures]:
    """Compare channel by channel, over the steps that both have."""
    found, count = {}, min(len(robot), len(nominal))
    for name in SHOWN:
        real, simulated = robot.channels[name][:count], nominal.channels[name][:count]
        lag_s, correlation = delay(real, simulated, period_s)
        inside = (real >= low[name][:count]) & (real <= high[name][:count])
        found[name] = ChannelFigures(
            rmse=_rms(real - simulated),
            spread=_rms(simulated - simulated.mean(axis=0)),
            delay_ms=1e3 * lag_s,
            correlation=correlation,
            inside=float(inside.mean()),
        )
    return found


def ranges(rollout: Rollout, count: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Lowest and highest values (T, k) of every channel among the worlds that have not fallen.

    Args:
        rollout: it ends where the last world has fallen; no value is in range from there on.
        count: steps to have at least.
    """
    down = rotate_into_body(rollout.channels["imu_quat"], torch.tensor(DOWN).expand(1, 1, 3))
    ends: tuple[dict[str, Floats], dict[str, Floats]] = ({}, {})
    for name, values in {**rollout.channels, "gravity": down}.items():
        standing = rollout.upright[..., None]
        for end, nothing, choose in ((ends[0], torch.inf, torch.amin), (ends[1], -torch.inf, torch.amax)):
            found = choose(torch.where(standing, values, nothing), dim=1).double().numpy()
            missing = max(0, count - len(found))
            end[name] = np.pad(found, ((0, missing), (0, 0)), constant_values=nothing)
    return ends


def delay(late: Floats, early: Floats, period_s: float) -> tuple[float, float]:
    """Return by how much `late` (T, k) follows `early` (T, k), and their correlation there.

    The peak of the normalised cross-correlation over all columns together, between two samples by the
    parabola through the highest and its neighbours. (NaN, NaN) where one of both stands still; no delay
    either where they are not `ALIKE`.
    """
    late, early = late - late.mean(axis=0), early - early.mean(axis=0)
    most = min(round(MOST_LAG_S / period_s), len(late) - 2)
    lags = np.arange(-most, most + 1)
    found = np.array([_correlation(late, early, int(lag)) for lag in lags])
    if np.isnan(found).any():
        return float("nan"), float("nan")
    best = int(np.argmax(found))
    if found[best] < ALIKE:
        return float("nan"), float(found[best])
    between = 0.0
    if 0 < best < len(found) - 1:
        before, peak, after = found[best - 1 : best + 2]
        between = 0.5 * (before - after) / (before - 2 * peak + after)
    return float((lags[best] + between) * period_s), float(found[best])


def _correlation(late: Floats, early: Floats, lag: int) -> float:
    count = len(late) - abs(lag)
    a, b = late[max(lag, 0) :][:count], early[max(-lag, 0) :][:count]
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else float("nan")


def response_ms(trace: Trace, period_s: float) -> float:
    """How much later the joints are where they were sent: delay of actuators, wire and sensors together."""
    return 1e3 * delay(trace.channels["joint_pos"], trace.target_rad, period_s)[0]


def tracking_errors(trace: Trace) -> Floats:
    """(3,) mean |commanded - true| of forward m/s, left m/s and turn rad/s; NaN where not measured."""
    return np.asarray(np.abs(trace.velocity - trace.channels["velocity_command"]).mean(axis=0))


def measured_terms(robot: Trace) -> list[str]:
    """Names of the reward terms that follow from what was recorded."""
    return [name for name, values in robot.terms.items() if np.isfinite(values).all()]


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
