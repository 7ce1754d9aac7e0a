"""Whether a policy may drive a robot or a task: every difference between its contract and what is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from robotrl.spec.arm import ArmSpec
from robotrl.spec.channels import CHANNELS, GOAL, Channel, Source
from robotrl.spec.contract import PolicyContract
from robotrl.spec.contract_parts import ContractChannel
from robotrl.spec.hardware import Driven, command_of, rate_hz
from robotrl.spec.robot import RobotSpec
from robotrl.spec.servos import ServoType
from robotrl.spec.simulated import SimulatedTask


def drives_no_robot(contract: PolicyContract) -> str:
    """Say of a policy, as the end of a sentence, that no robot takes its commands; nothing if one may."""
    if contract.command != "control":
        return ""
    return f"drives no robot: it commands the controls of the simulated task {contract.robot}"


def unsourced(channels: Iterable[str], robot: Driven) -> list[str]:
    """Say for each channel that `robot` cannot deliver why not.

    Args:
        channels: channel names.
        robot: the robot to drive.
    """
    sources = ", ".join(s.value for s in Source if s in robot.sources)
    lines = []
    for name in channels:
        if name not in CHANNELS:
            lines.append(f"channel {name} is unknown; known are {', '.join(sorted(CHANNELS))}")
        elif not _delivers(robot, CHANNELS[name]):
            lines.append(f"channel {name} has no source on {robot.name}; sources are {sources}")
    return lines


def _delivers(robot: Driven, channel: Channel) -> bool:
    if channel.source is Source.ESTIMATOR and isinstance(robot, RobotSpec):
        return robot.estimator is not None and channel.name in robot.estimator.channels
    return channel.source in robot.sources


def incompatibilities(contract: PolicyContract, robot: Driven) -> list[str]:
    """List everything that keeps this policy from driving `robot`; empty when it may.

    Each entry is a clause of its own: what it is, its value in the policy, its value on the robot.
    """
    lines = [*_robot_differences(contract, robot), *unsourced((c.name for c in contract.channels), robot)]
    for channel in contract.channels:
        if channel.name in CHANNELS and _delivers(robot, CHANNELS[channel.name]):
            lines += _channel_differences(channel, CHANNELS[channel.name], robot)
    if isinstance(robot, ArmSpec):
        return [*lines, *_reach_differences(contract, robot)]
    if isinstance(robot, SimulatedTask):
        lines += _control_differences(contract, robot)
    elif contract.joint_names == robot.joint_names:
        lines += [*_joint_differences(contract, robot), *_servo_differences(contract, robot)]
    if not lines and contract.policy_hash != robot.policy_hash:
        lines.append(_differs("policy_hash", contract.policy_hash, robot.policy_hash, robot))
    return lines


def _differs(what: str, trained: object, actual: object, robot: Driven) -> str:
    return f"{what} is {trained} in the policy and {actual} on {robot.name}"


def _robot_differences(contract: PolicyContract, robot: Driven) -> Iterator[str]:
    if contract.robot != robot.name:
        yield _differs("robot", contract.robot, robot.name, robot)
    if contract.rate_hz != rate_hz(robot):
        yield _differs("control.rate_hz", contract.rate_hz, rate_hz(robot), robot)
    if contract.command != command_of(robot):
        yield _differs("command", contract.command, command_of(robot), robot)
    elif isinstance(robot, RobotSpec) and contract.joint_names != robot.joint_names:
        trained, actual = ", ".join(contract.joint_names), ", ".join(robot.joint_names)
        same = sorted(contract.joint_names) == sorted(robot.joint_names)
        yield _differs("joint order" if same else "the list of joints", trained, actual, robot)


def _channel_differences(trained: ContractChannel, known: Channel, robot: Driven) -> Iterator[str]:
    here = {
        "shape": known.shape_on({**robot.sizes, GOAL: trained.size}),
        "unit": known.unit,
        "frame": known.frame,
        "source": known.source.value,
    }
    for name, value in here.items():
        if getattr(trained, name) != value:
            old = getattr(trained, name)
            yield f"channel {trained.name} has {name} {old!r} in the policy and {value!r} here"


def _reach_differences(contract: PolicyContract, arm: ArmSpec) -> Iterator[str]:
    """One unit of action must be within what the gate lets pass."""
    limits = arm.limits
    for axis in contract.axes:
        low, high = (
            limits.opening_m if axis.name == "opening" else (-limits.displacement_m, limits.displacement_m)
        )
        if not low <= -axis.scale_m <= axis.scale_m <= high:
            yield _differs(
                f"one unit of action along {axis.name}", f"{axis.scale_m} m", f"within {low} to {high} m", arm
            )


def _control_differences(contract: PolicyContract, task: SimulatedTask) -> Iterator[str]:
    trained, actual = (
        ", ".join(f"{c.name} {c.low} to {c.high}" for c in controls)
        for controls in (contract.controls, task.controls)
    )
    if trained != actual:
        yield _differs("the list of controls", trained, actual, task)


def _joint_differences(contract: PolicyContract, robot: RobotSpec) -> Iterator[str]:
    for trained, joint in zip(contract.joints, robot.joint, strict=True):
        for name in ("default_rad", "position_min_rad", "position_max_rad"):
            old, new = getattr(trained, name), getattr(joint, name)
            if old != new:
                yield _differs(f"{name} of {joint.name}", old, new, robot)


def _servo_differences(contract: PolicyContract, robot: RobotSpec) -> Iterator[str]:
    """Differences of servo type and gains, one line per value however many joints share it."""
    joints_with: dict[tuple[str, object, object], list[str]] = {}
    for trained, joint in zip(contract.joints, robot.joint, strict=True):
        old, new = contract.servo[trained.servo], robot.servo_of(joint)
        for name in (f.name for f in dataclasses.fields(ServoType)):
            pair = getattr(old, name), getattr(new, name)
            if pair[0] != pair[1]:
                joints_with.setdefault((name, *pair), []).append(joint.name)
    for (name, old_value, new_value), names in joints_with.items():
        who = "every joint" if len(names) == len(robot.joint) else ", ".join(names)
        yield _differs(f"servo {name} of {who}", old_value, new_value, robot)
