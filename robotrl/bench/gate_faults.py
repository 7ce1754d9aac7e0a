"""What the gate must find wrong, written down a second time: one joint at a time, in plain Python.

A `Judge` keeps its own counts of failures in a row. Where rounding decides, a cause may or may not be named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from robotrl.spec.gate import Level, Request, Verdict
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, Floats, RobotState

TRACKING, STUCK = "limits.tracking_error_rad", "limits.stuck_nm"

SLACK = 1e-9
"""Width around a computed bound, in its own unit, in which two ways of computing it may differ."""


@dataclass
class Findings:
    """Causes that apply, and those that rounding decides, with the level and the joints of each."""

    sure: dict[str, Level] = field(default_factory=dict)
    maybe: dict[str, Level] = field(default_factory=dict)
    joints: set[str] = field(default_factory=set)
    maybe_joints: set[str] = field(default_factory=set)

    def add(self, cause: str, level: Level, joint: str = "") -> None:
        """Note a cause that applies."""
        self.sure[cause] = max(level, self.sure.get(cause, level))
        self.joints |= {joint} - {""}

    def doubt(self, cause: str, level: Level, joint: str = "") -> None:
        """Note a cause that may apply."""
        self.maybe[cause] = max(level, self.maybe.get(cause, level))
        self.maybe_joints |= {joint} - {""}

    def beyond(self, excess: float, cause: str, level: Level, joint: str = "", slack: float = SLACK) -> None:
        """Note a cause that applies where `excess` is positive and rounding decides about `slack`."""
        if excess > slack:
            self.add(cause, level, joint)
        elif excess > -slack:
            self.doubt(cause, level, joint)

    def broken_by(self, verdict: Verdict) -> Iterator[str]:
        """Say what is wrong with a verdict."""
        if missing := self.sure.keys() - verdict.causes:
            yield f"a cause is not named: {', '.join(sorted(missing))}"
        if invented := verdict.causes - self.sure.keys() - self.maybe.keys():
            yield f"a cause does not apply: {', '.join(sorted(invented))}"
        levels = [self.sure.get(c) or self.maybe.get(c) or Level.NONE for c in verdict.causes]
        if verdict.level is not max(levels, default=Level.NONE):
            yield f"{verdict} has not the level of its causes"
        if not self.joints <= verdict.joints <= self.joints | self.maybe_joints:
            yield f"{verdict} names other joints than {sorted(self.joints)}"


class Judge:
    """Knows one robot's limits, and which checks of which joints have failed how often in a row."""

    def __init__(self, robot: RobotSpec) -> None:
        self.names, self._robot, self._limits = robot.joint_names, robot, robot.limits
        self._low, self._high = robot.position_min_rad.tolist(), robot.position_max_rad.tolist()
        self.on_fault = Level[robot.limits.on_fault.upper()]
        self._on_lost = Level[robot.limits.on_lost_sensing.upper()]
        self._counts: dict[tuple[str, str], tuple[int, int]] = {}
        """Failures in a row of a check of a joint: those that are sure, and with those that may be."""
        self._still: dict[str, tuple[float, list[float]]] = {}
        """What each joint reads, and everywhere that it was asked to be since it first read so."""

    def forget(self) -> None:
        """Count from nothing."""
        self._counts.clear()
        self._still.clear()

    def tick(
        self, found: Findings, state: RobotState, request: Request, asked: list[float], now_s: float
    ) -> None:
        """Find everything that is wrong in one tick; call once for each.

        Args:
            found: where it is noted.
            state: what was measured.
            request: what was asked for.
            asked: (n,) where each joint was asked to be in the tick before, rad; NaN for nowhere.
            now_s: when.
        """
        self.joints(found, state, now_s)
        self._senses(found, state, now_s)
        self._health(found, state, asked)
        self._stillness(found, state, asked)
        if request.kind is CommandKind.TRACK:
            self._request(found, request)

    def joints(self, found: Findings, state: RobotState, now_s: float) -> None:
        """Joints lost, or measured beyond their limits."""
        limits, since_s = self._limits, abs(now_s - state.stamp_s)
        margin, speed, stale_s = limits.position_margin_rad, limits.speed_rad_s, limits.joint_stale_s
        measured = zip(
            self.names,
            state.joint_pos_rad.tolist(),
            state.joint_vel_rad_s.tolist(),
            state.joint_age_s.tolist(),
            self._low,
            self._high,
            strict=True,
        )
        for name, pos, vel, age_s, low, high in measured:
            if not (age_s >= 0.0 and age_s + since_s <= stale_s):
                found.add("limits.joint_stale_s", self._on_lost, name)
            if not math.isfinite(pos):
                found.add("joint_pos_rad", self._on_lost, name)
            if not math.isfinite(vel):
                found.add("joint_vel_rad_s", self._on_lost, name)
            if pos < low - margin:
                found.add(f"joint.{name}.position_min_rad", self.on_fault, name)
            if pos > high + margin:
                found.add(f"joint.{name}.position_max_rad", self.on_fault, name)
            if not (-speed <= vel <= speed or math.isnan(vel)):
                found.add("limits.speed_rad_s", self.on_fault, name)

    def _senses(self, found: Findings, state: RobotState, now_s: float) -> None:
        limits, since_s = self._limits, abs(now_s - state.stamp_s)
        if self._robot.imu is not None and limits.imu_stale_s is not None:
            if not (state.imu_age_s >= 0.0 and state.imu_age_s + since_s <= limits.imu_stale_s):
                found.add("limits.imu_stale_s", self._on_lost)
            if not _numbers(state.imu_gyro_rad_s):
                found.add("imu_gyro_rad_s", self._on_lost)
            if not _numbers(state.imu_accel_m_s2):
                found.add("imu_accel_m_s2", self._on_lost)
            self._attitude(found, state.imu_quat)
        if self._robot.estimator is not None and limits.estimator_stale_s is not None:
            if not (
                state.estimate_age_s >= 0.0 and state.estimate_age_s + since_s <= limits.estimator_stale_s
            ):
                found.add("limits.estimator_stale_s", self._on_lost)
            if not all(_numbers(values) for values in state.estimate.values()):
                found.add("estimate", self._on_lost)

    def _attitude(self, found: Findings, quat: Floats) -> None:
        """A quaternion of length 1 within 5 %, whose turned vertical is not too far from the vertical."""
        limits = self._limits
        if not _numbers(quat):
            found.add("imu_quat", self._on_lost)
            return
        w, x, y, z = quat.tolist()
        length = math.hypot(w, x, y, z)
        excess = abs(length - 1.0) - 0.05
        found.beyond(excess, "imu_quat", self._on_lost)
        if excess > SLACK or limits.on_fall is None or limits.tilt_rad is None:
            return
        up = 1.0 - 2.0 * (x * x + y * y) / length**2
        tilt_rad = math.acos(min(max(up, -1.0), 1.0))
        slack = math.inf if excess > -SLACK else 1e-7
        found.beyond(
            tilt_rad - limits.tilt_rad, "limits.tilt_rad", Level[limits.on_fall.upper()], slack=slack
        )

    def _health(self, found: Findings, state: RobotState, asked: list[float]) -> None:
        """Each must fail so and so many times in a row, of one joint."""
        limits = self._limits
        measured = zip(
            self.names,
            state.temperature_c.tolist(),
            state.voltage_v.tolist(),
            state.hardware_error.tolist(),
            state.joint_pos_rad.tolist(),
            asked,
            strict=True,
        )
        for name, temperature_c, voltage_v, error, pos, wanted in measured:
            cold = math.inf if temperature_c == -math.inf else temperature_c
            away = abs(wanted - pos) - limits.tracking_error_rad
            self._count(found, "limits.temperature_c", name, cold - limits.temperature_c)
            self._count(found, "limits.voltage_min_v", name, limits.voltage_min_v - voltage_v)
            self._count(found, "limits.voltage_max_v", name, voltage_v - limits.voltage_max_v)
            self._count(found, "hardware_error", name, float(error != 0))
            self._count(found, TRACKING, name, -1.0 if math.isnan(away) else away, SLACK)

    def _stillness(self, found: Findings, state: RobotState, asked: list[float]) -> None:
        """A joint that reads the same although it was asked to go far enough."""
        limit_nm, stiffness = self._limits.stuck_nm, self._robot.stiffness_nm_rad.tolist()
        measured = state.joint_pos_rad.tolist(), state.joint_age_s.tolist()
        for name, pos, age_s, target, gain in zip(self.names, *measured, asked, stiffness, strict=True):
            before, targets = self._still.get(name, (math.nan, []))
            if not (before == pos and age_s < self._robot.control.period_s) or math.isnan(target):
                targets = []
            targets = targets if math.isnan(target) else [*targets, target]
            self._still[name] = pos, targets
            if limit_nm is not None:
                travel = max(targets) - min(targets) if targets else 0.0
                self._count(found, STUCK, name, travel - limit_nm / gain, SLACK)

    def _count(self, found: Findings, cause: str, name: str, excess: float, slack: float = 0.0) -> None:
        """Count on where a check has failed; what is no number has failed."""
        if excess <= -slack:
            self._counts.pop((cause, name), None)
            return
        surely, maybe = self._counts.get((cause, name), (0, 0))
        surely, maybe = (0 if excess <= slack else surely + 1), maybe + 1
        self._counts[cause, name] = surely, maybe
        if surely >= self._limits.fault_ticks:
            found.add(cause, self.on_fault, name)
        elif maybe >= self._limits.fault_ticks:
            found.doubt(cause, self.on_fault, name)

    def _request(self, found: Findings, request: Request) -> None:
        target = request.joint_target_rad
        if target.shape != (len(self.names),):
            found.add("request.joint_target_rad", self.on_fault)
            return
        for name, wish in zip(self.names, target.tolist(), strict=True):
            if not math.isfinite(wish):
                found.add("request.joint_target_rad", self.on_fault, name)


def _numbers(values: Floats) -> bool:
    return all(abs(value) < math.inf for value in values.ravel().tolist())
