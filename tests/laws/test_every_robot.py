"""Laws that hold for every shipped robot, whatever joints and senses it has."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from robotrl.spec.channels import CHANNELS, GOAL, Source
from robotrl.spec.fit import unsourced
from robotrl.spec.gate import GateLimits, Level
from robotrl.spec.hardware import load_hardware
from robotrl.spec.limits import OF_SENSES
from robotrl.spec.robot import RobotSpec
from robotrl.spec.shipped import find_shipped, shipped_names
from tests.laws.rig import Gate, track

EVERY = [load_hardware(find_shipped("hardware", name)) for name in shipped_names("hardware")]
ROBOTS = [robot for robot in EVERY if isinstance(robot, RobotSpec)]


def told(robot: RobotSpec) -> dict[str, Any]:
    """A fresh estimate, where the robot has one."""
    if robot.estimator is None:
        return {}
    channels = {name: np.zeros(shape) for name, shape in robot.estimator.channels.items()}
    return {"estimate": channels, "estimate_age_s": 0.0, "imu_quat": np.full(4, math.nan)}


@pytest.fixture(params=ROBOTS, ids=lambda robot: robot.name)
def robot(request: pytest.FixtureRequest) -> RobotSpec:
    found: RobotSpec = request.param
    return found


def settled(robot: RobotSpec) -> Gate:
    gate = Gate(robot)
    gate.now_s = 10.0
    wait_s = 1.0 / robot.control.rate_hz
    for _ in range(math.ceil(robot.limits.blend_in_s / wait_s) + 1):
        assert gate.tick(wait_s=wait_s, **told(robot)).level is Level.NONE
    return gate


def test_its_own_postures_pass_its_own_gate(robot: RobotSpec) -> None:
    for posture in (robot.default_rad, robot.park_rad):
        gate = Gate(robot)
        for _ in range(5):
            verdict = gate.tick(track(posture), joint_pos_rad=posture.copy(), **told(robot))
            assert verdict.level is Level.NONE


def test_a_sense_that_it_has_and_loses_stops_it(robot: RobotSpec) -> None:
    senses = {"joint_age_s": "limits.joint_stale_s"}
    senses |= {"imu_age_s": "limits.imu_stale_s"} if robot.imu else {}
    senses |= {"estimate_age_s": "limits.estimator_stale_s"} if robot.estimator else {}
    for age, cause in senses.items():
        lost = np.full(len(robot.joint), 9.0) if age == "joint_age_s" else 9.0
        verdict = settled(robot).tick(**{**told(robot), age: lost})
        assert verdict.causes == {cause}
        assert verdict.level == Level[robot.limits.on_lost_sensing.upper()]


def test_it_has_the_limits_of_its_senses_and_no_others(robot: RobotSpec) -> None:
    has = {"imu": robot.imu, "estimator": robot.estimator}
    for sense, limits in OF_SENSES.items():
        for name in limits:
            assert (getattr(robot.limits, name) is None) == (has[sense] is None)


def test_no_target_leaves_a_joints_limits(robot: RobotSpec) -> None:
    limits = GateLimits.of(robot)
    for far in (-10.0, 10.0):
        gate = settled(robot)
        gate.tick(track(np.full(len(robot.joint), far)), **told(robot))
        assert (gate.target_rad >= limits.position_min_rad).all()
        assert (gate.target_rad <= limits.position_max_rad).all()


def test_its_lines_and_channels_are_those_of_its_parts(robot: RobotSpec) -> None:
    senses = {"imu": robot.imu, "estimator": robot.estimator}
    assert set(robot.lines) == {*robot.bus, *(name for name, spec in senses.items() if spec)}
    delivered = {name for name in CHANNELS if not unsourced([name], robot)}
    estimated = set(robot.estimator.channels) if robot.estimator else set()
    assert delivered == estimated | {
        c.name for c in CHANNELS.values() if c.source in robot.sources - {Source.ESTIMATOR}
    }
    for name in delivered:
        assert all(size > 0 for size in CHANNELS[name].shape_on(robot.sizes | {GOAL: 1}))


def test_what_a_policy_depends_on_is_its_hash(robot: RobotSpec) -> None:
    other = dataclasses.replace(robot, joint=robot.joint[::-1])
    assert other.policy_hash != robot.policy_hash
    if robot.estimator:
        turned = dataclasses.replace(robot.estimator, points=robot.estimator.points[::-1])
        assert dataclasses.replace(robot, estimator=turned).policy_hash != robot.policy_hash


def test_the_quadrupeds_hash_has_not_changed() -> None:
    """Policies that are out there name it."""
    quad12 = next(robot for robot in ROBOTS if robot.name == "quad12")
    assert quad12.policy_hash == "e9652e36d84f328097fda7ebf2e2748c5a8f51405363c17bf8bd6f7cd6ebc621"
