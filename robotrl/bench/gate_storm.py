"""Random ticks for a gate: a robot that follows, and everything that can go wrong with what is told about it.

Values lie densely around each limit, to the last bit, or are no numbers, infinite or far too large;
measurements go missing, come late, out of order or from the future; the clock stops, jumps and goes back.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from robotrl.bench.gate_laws import Witness
from robotrl.bench.storm import ODD, Storm, around
from robotrl.safety import estop, guard, rearm
from robotrl.spec.gate import GateLimits, GateMemory, Level, Request
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, Floats, RobotState

_BLOCK = 64
"""Ticks whose noise is drawn at once."""


def calm(robot: RobotSpec, now_s: float) -> RobotState:
    """Return a level robot in its default posture with nothing wrong."""
    n, seeing = len(robot.joint), robot.imu is not None
    estimator = robot.estimator.channels if robot.estimator else {}
    return RobotState(
        stamp_s=now_s,
        joint_pos_rad=robot.default_rad.copy(),
        joint_vel_rad_s=np.zeros(n),
        joint_load=np.zeros(n),
        voltage_v=np.full(n, (robot.limits.voltage_min_v + robot.limits.voltage_max_v) / 2),
        temperature_c=np.full(n, 40.0),
        hardware_error=np.zeros(n, dtype=np.int64),
        joint_age_s=np.zeros(n),
        imu_quat=np.array([1.0, 0.0, 0.0, 0.0]) if seeing else np.full(4, math.nan),
        imu_gyro_rad_s=np.full(3, 0.0 if seeing else math.nan),
        imu_accel_m_s2=np.array([0.0, 0.0, 9.81]) if seeing else np.full(3, math.nan),
        imu_age_s=0.0 if seeing else math.inf,
        estimate={name: np.zeros(shape) for name, shape in estimator.items()},
        estimate_age_s=0.0 if robot.estimator else math.inf,
    )


def of_size(robot: RobotSpec, joints: int) -> RobotSpec:
    """Return a robot with another number of joints."""
    many = [robot.joint[i % len(robot.joint)] for i in range(joints)]
    named = tuple(dataclasses.replace(joint, name=f"joint{i}", id=i) for i, joint in enumerate(many))
    return dataclasses.replace(robot, joint=named)


def boundaries(robot: RobotSpec, joint: int) -> Mapping[str, tuple[float, ...]]:
    """Return, for each measured field of a joint, the values at which a gate may go wrong."""
    limits = robot.limits
    low, high = float(robot.position_min_rad[joint]), float(robot.position_max_rad[joint])
    margin = limits.position_margin_rad
    return {
        "joint_pos_rad": (*around(low - margin), *around(high + margin), *around(low), *around(high)),
        "joint_vel_rad_s": (*around(limits.speed_rad_s), *around(-limits.speed_rad_s)),
        "joint_age_s": (*around(limits.joint_stale_s), *around(0.0)),
        "temperature_c": around(limits.temperature_c),
        "voltage_v": (*around(limits.voltage_min_v), *around(limits.voltage_max_v)),
    }


def tilted(angle_rad: float, heading_rad: float, yaw_rad: float = 0.0) -> Floats:
    """Return the orientation after a turn about world up, then about a level axis in the given direction."""
    w, s = math.cos(angle_rad / 2), math.sin(angle_rad / 2)
    x, y = s * math.cos(heading_rad), s * math.sin(heading_rad)
    c, d = math.cos(yaw_rad / 2), math.sin(yaw_rad / 2)
    return np.array([w * c, x * c + y * d, y * c - x * d, w * d])


class JointStorm(Storm):
    """A robot with servos, its gate and the gate's witness."""

    def __init__(self, robot: RobotSpec, seed: int) -> None:
        super().__init__(robot.name, seed)
        self._robot, self._limits = robot, GateLimits.of(robot)
        self._n, self._period_s = len(robot.joint), robot.control.period_s
        self._boundaries = [boundaries(robot, joint) for joint in range(self._n)]
        self._block = np.empty((0, 3, self._n))
        self._begin()

    def _begin(self) -> None:
        self._memory, self._witness = GateMemory.fresh(self._n), Witness(self._robot)
        self._now_s = self._random.choice((0.0, 100.0, 1e6))
        self._pos = self._robot.default_rad.copy()
        self._past: list[RobotState] = []
        self._scale, self._source, self._kind = 0.1, "policy", CommandKind.TRACK
        self._attack: Callable[[RobotState], RobotState] | None = None
        self._lasts = 0

    def _tick(self) -> list[str]:
        now_s = self._clock()
        state = self._measure(now_s)
        self._operate(state, now_s)
        request = self._ask()
        command, self._memory, verdict = guard(self._limits, self._memory, state, request, now_s)
        self.seen[verdict.level.name] += 1
        self.seen.update(verdict.causes)
        self._follow(command.joint_target_rad if command.kind is CommandKind.TRACK else None)
        return self._witness.tick(state, request, now_s, command, verdict)

    def _clock(self) -> float:
        """Mostly one period later; rarely anything at all, for this tick only."""
        if self._luck(0.005):
            return self._random.choice((self._now_s, self._now_s - self._period_s, -1e30, *ODD[:3]))
        odd = (1e-6, 0.3, 0.999, 1.001, 1.5, 2.0, 40.0)
        self._now_s += self._period_s * (self._random.choice(odd) if self._luck(0.1) else 1.0)
        return self._now_s

    def _measure(self, now_s: float) -> RobotState:
        """What the body tells, true or not."""
        if not len(self._block):
            self._block = self._noise.normal(size=(_BLOCK, 3, self._n))
        noise, self._block = self._block[0], self._block[1:]
        speed = 0.05 * self._robot.limits.speed_rad_s
        pos, vel = self._pos + 1e-3 * noise[0], speed * noise[1]
        state = dataclasses.replace(calm(self._robot, now_s), joint_pos_rad=pos, joint_vel_rad_s=vel)
        self._wishes = noise[2]
        self._past = [*self._past[-5:], state]
        if not self._lasts and self._luck(0.03):
            self._attack = self._random.choice(self._attacks())()
            self._lasts = self._random.choice((1, 1, 2, 3, self._robot.limits.fault_ticks, 12))
        if not self._lasts or self._attack is None:
            return state
        self._lasts -= 1
        return self._attack(state)

    def _operate(self, state: RobotState, now_s: float) -> None:
        """Re-arm soon after a fault; rarely stop."""
        if self._memory.latched.level and self._luck(0.2):
            self._memory = rearm(self._limits, self._memory, state, now_s)
            self._witness.rearm(state, now_s)
        if self._luck(0.001):
            self._memory = estop(self._memory)
            self._witness.estop()

    def _ask(self) -> Request:
        """Mostly targets about the default posture, near or far; rarely anything."""
        draw = self._random
        if self._luck(0.03):
            self._scale = draw.choice((0.0, 1e-3, 0.02, 0.1, 0.5, 10.0, 1e30))
            self._source = draw.choice(("policy", "stand", "hold"))
            self._kind = draw.choice((*[CommandKind.TRACK] * 8, CommandKind.DAMP, CommandKind.LIMP))
        wish = self._robot.default_rad + self._scale * self._wishes
        if self._luck(0.02):
            joint = draw.randrange(self._n)
            low, high = self._robot.position_min_rad[joint], self._robot.position_max_rad[joint]
            wish[joint] = draw.choice((*around(low), *around(high), low - 1e-6, high + 1e-6))
        elif self._luck(0.003):
            wish[draw.randrange(self._n)] = draw.choice(ODD)
        elif self._luck(0.001):
            wish = np.zeros(draw.choice(((self._n + 1,), (), (1, self._n), (0,))))
        return Request(self._kind, wish, self._source)

    def _follow(self, target: Floats | None) -> None:
        """Go where one is sent; a robot without stiffness sinks towards its default posture."""
        goal = self._robot.default_rad if target is None else target
        self._pos = self._pos + 0.6 * (goal - self._pos)

    def _attacks(self) -> tuple[Callable[[], Callable[[RobotState], RobotState]], ...]:
        """What may befall this robot's measurements."""
        single = (self._one_value, self._one_value, self._one_value)
        attacks = (*single, self._error, self._stuck, self._silence, self._old)
        imu = (self._imu_value, self._attitude) if self._robot.imu else ()
        return (*attacks, *imu, *((self._estimate,) if self._robot.estimator else ()))

    def _one_value(self) -> Callable[[RobotState], RobotState]:
        joint = self._random.randrange(self._n)
        name, values = self._random.choice([*self._boundaries[joint].items()])
        value = self._random.choice((*values, *values, *ODD))

        def change(state: RobotState) -> RobotState:
            array = np.array(getattr(state, name))
            array[joint] = value
            changes: dict[str, Any] = {name: array}
            return dataclasses.replace(state, **changes)

        return change

    def _error(self) -> Callable[[RobotState], RobotState]:
        error = np.zeros(self._n, dtype=np.int64)
        error[self._random.randrange(self._n)] = self._random.choice((1, 32, -1, 2**40))
        return lambda state: dataclasses.replace(state, hardware_error=error)

    def _stuck(self) -> Callable[[RobotState], RobotState]:
        """Encoders that repeat their last count, in answers that are fresh."""
        last, stuck = (
            self._past[-1].joint_pos_rad,
            self._noise.random(self._n) < self._random.choice((0.1, 1.0)),
        )

        def change(state: RobotState) -> RobotState:
            return dataclasses.replace(state, joint_pos_rad=np.where(stuck, last, state.joint_pos_rad))

        return change

    def _silence(self) -> Callable[[RobotState], RobotState]:
        """Joints that answer no longer: their values stay, or were never there, and their ages grow."""
        since, gone = self._past[-1], self._noise.random(self._n) < self._random.choice((0.1, 1.0))
        pos = since.joint_pos_rad if self._luck(0.7) else np.full(self._n, np.nan)

        def change(state: RobotState) -> RobotState:
            age_s = np.where(gone, state.stamp_s - since.stamp_s, 0.0)
            here = np.where(gone, pos, state.joint_pos_rad)
            return dataclasses.replace(state, joint_pos_rad=here, joint_age_s=np.abs(age_s))

        return change

    def _old(self) -> Callable[[RobotState], RobotState]:
        """States out of order, of another time, or of none."""
        kind = self._random.randrange(3)
        by_s = self._random.choice((*around(self._robot.limits.joint_stale_s), 1e30, math.inf, math.nan))
        if kind == 0:
            return lambda _: self._random.choice(self._past)
        sign = (-1.0, 1.0)[kind - 1]
        return lambda state: dataclasses.replace(state, stamp_s=state.stamp_s + sign * by_s)

    def _imu_value(self) -> Callable[[RobotState], RobotState]:
        name = self._random.choice(("imu_quat", "imu_gyro_rad_s", "imu_accel_m_s2", "imu_age_s"))
        limit_s = self._robot.limits.imu_stale_s or 0.0
        value, age_s = self._random.choice(ODD), self._random.choice((*around(limit_s), *around(0.0), *ODD))

        def change(state: RobotState) -> RobotState:
            values: dict[str, Any] = {name: age_s}
            if name != "imu_age_s":
                values[name] = np.array(getattr(state, name))
                values[name][-1] = value
            return dataclasses.replace(state, **values)

        return change

    def _attitude(self) -> Callable[[RobotState], RobotState]:
        angle = self._random.choice((*around(self._robot.limits.tilt_rad or 0.0), math.pi))
        length = self._random.choice((1.0, 1.0, 1.0, *around(1.05), *around(0.95), 1e-30, 1e200))
        quat = length * tilted(angle, self._random.uniform(-4, 4), self._random.uniform(-4, 4))
        return lambda state: dataclasses.replace(state, imu_quat=quat)

    def _estimate(self) -> Callable[[RobotState], RobotState]:
        limit_s = self._robot.limits.estimator_stale_s or 0.0
        age_s = self._random.choice((*around(limit_s), *around(0.0), *ODD))
        name, value = self._random.choice([*self._past[-1].estimate]), self._random.choice(ODD)
        if self._luck(0.5):
            return lambda state: dataclasses.replace(state, estimate_age_s=age_s)

        def change(state: RobotState) -> RobotState:
            told = {channel: np.array(values) for channel, values in state.estimate.items()}
            told[name].flat[-1] = value
            return dataclasses.replace(state, estimate=told)

        return change


def tripped(seen: Counter[str]) -> int:
    """Return how many ticks of a storm were stopped."""
    return sum(seen[level.name] for level in Level if level >= Level.HOLD)
