"""What a policy trained elsewhere reads and moves: the TOML file that says it, checked against the robot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from robotrl.errors import ConfigError
from robotrl.spec.channels import CHANNELS, JOINTS, OPERATOR_CHANNELS
from robotrl.spec.records import Between, parse_toml, read_record
from robotrl.spec.robot import RobotSpec

LAST_ACTION, GRAVITY, PHASE = "last_action", "projected_gravity", "gait_phase"
"""Terms that are no channel."""

GAIN_TOLERANCE = 0.1
"""Largest relative difference between the gains of the training and the robot's own."""

Values = tuple[float, ...]
"""One number for all components, or one for each."""


@dataclass(frozen=True)
class TermSpec:
    """One piece of the observation: `clip(x - offset) * scale`, then as many past values as asked for.

    That is the order of mjlab's and Isaac Lab's observation managers; a history is oldest first and starts
    filled with the first value. Components of joints are in the order of the policy's `joints`.
    """

    name: str
    """A channel; or `projected_gravity`, the unit vector of gravity in the body's frame; or `last_action`,
    what the network answered in the tick before, 0 at first; or `gait_phase`, sine and cosine of a clock that
    begins at 0 and always runs, as unitree_rl_gym's."""
    offset: Values = (0.0,)
    clip: tuple[float, float] | None = None
    scale: Values = (1.0,)
    history: Annotated[int, Between(1, 1000)] = 1
    """Ticks, this one included."""
    period_s: Annotated[float, Between(0)] = 0.0
    """Of `gait_phase`: time of one cycle."""


@dataclass(frozen=True)
class ActionSpec:
    """How an action becomes joint targets: `offset + scale * clip(action)`, in the policy's order."""

    scale_rad: Values
    offset_rad: Values
    clip: tuple[float, float] | None = None


@dataclass(frozen=True)
class NetworkSpec:
    """Names of the foreign graph's inputs and outputs: rsl_rl's by default."""

    observation: str = "obs"
    action: str = "actions"
    memory: dict[str, str] | None = None
    """Of a recurrent network: each input that carries memory, and the output it comes from."""


@dataclass(frozen=True)
class ForeignSpec:
    """Everything about a foreign policy that its ONNX file does not say."""

    robot: str
    """robot.toml or its folder, or the name of a shipped robot."""
    rate_hz: float
    joints: tuple[str, ...]
    """The robot's joints in the order of the network's actions."""
    stiffness_nm_rad: Values
    """Position gain that the policy was trained with."""
    damping_nm_s_rad: Values
    """Velocity gain that it was trained with."""
    action: ActionSpec
    term: tuple[TermSpec, ...]
    command_low: Values = ()
    """Lowest operator command of the training, its channels one after the other."""
    command_high: Values = ()
    network: NetworkSpec = NetworkSpec()


def read_foreign(text: str, file: Path) -> ForeignSpec:
    """Read the TOML text that describes a foreign policy.

    Raises:
        ConfigError: an unknown, missing, ill-typed or out-of-range entry.
    """
    return read_record(ForeignSpec, parse_toml(text, file), file=file)


def check_foreign(spec: ForeignSpec, robot: RobotSpec, file: Path) -> None:
    """Refuse a description that does not fit the robot or contradicts itself.

    Raises:
        ConfigError: other joints, rate or gains than the robot's; a term without a source, or with a number
            of values that is not its own.
    """
    if sorted(spec.joints) != sorted(robot.joint_names):
        raise ConfigError(
            "are not the robot's", file=file, key="joints", value=list(spec.joints), allowed=robot.joint_names
        )
    if spec.rate_hz != robot.control.rate_hz:
        raise ConfigError(
            "is not the robot's",
            file=file,
            key="rate_hz",
            value=spec.rate_hz,
            allowed=f"{robot.control.rate_hz}",
        )
    joints = [robot.joint[robot.joint_names.index(name)] for name in spec.joints]
    servos = [robot.servo_of(joint) for joint in joints]
    _check_gains("stiffness_nm_rad", spec.stiffness_nm_rad, [s.stiffness_nm_rad for s in servos], spec, file)
    _check_gains("damping_nm_s_rad", spec.damping_nm_s_rad, [s.back_emf_nm_s_rad for s in servos], spec, file)
    _check_terms(spec, robot, file)


def _check_gains(key: str, trained: Values, actual: list[float], spec: ForeignSpec, file: Path) -> None:
    _check_count(key, trained, len(actual), file)
    for name, gain, own in zip(spec.joints, each(trained, len(actual)), actual, strict=True):
        if abs(gain - own) > GAIN_TOLERANCE * own:
            raise ConfigError(
                f"is not what the servo of {name} has",
                file=file,
                key=key,
                value=gain,
                allowed=f"{own:.4g} within {GAIN_TOLERANCE:.0%}",
            )


def _check_terms(spec: ForeignSpec, robot: RobotSpec, file: Path) -> None:
    if not spec.term:
        raise ConfigError("is missing", file=file, key="term", allowed="[[term]] tables")
    n = len(spec.joints)
    for key in ("scale_rad", "offset_rad"):
        _check_count(f"action.{key}", getattr(spec.action, key), n, file)
    if not all(spec.action.scale_rad):
        raise ConfigError(
            "moves nothing",
            file=file,
            key="action.scale_rad",
            value=spec.action.scale_rad,
            allowed="numbers other than 0",
        )
    known = {name for name, channel in CHANNELS.items() if not set(channel.shape) - {JOINTS, 3, 4}}
    known |= {LAST_ACTION, GRAVITY, PHASE}
    for i, term in enumerate(spec.term):
        if term.name not in known:
            raise ConfigError(
                "is no term", file=file, key=f"term[{i}].name", value=term.name, allowed=sorted(known)
            )
        if (term.name == PHASE) != (term.period_s > 0):
            raise ConfigError(
                "belongs to a clock alone",
                file=file,
                key=f"term[{i}].period_s",
                value=term.period_s,
                allowed=f"above 0 for {PHASE}, and for no other term",
            )
        size = term_size(term, n)
        _check_count(f"term[{i}].offset", term.offset, size, file)
        _check_count(f"term[{i}].scale", term.scale, size, file)
    asked = sum(3 for name in channels_of(spec) if name in OPERATOR_CHANNELS)
    for key in ("command_low", "command_high"):
        _check_count(key, getattr(spec, key), asked, file, one_for_all=False)


def _check_count(key: str, values: Values, count: int, file: Path, *, one_for_all: bool = True) -> None:
    if len(values) != count and not (one_for_all and len(values) == 1):
        allowed = f"{count} numbers" + (" or one for all" if one_for_all else "")
        raise ConfigError(
            "has another number of values", file=file, key=key, value=list(values), allowed=allowed
        )


def term_size(term: TermSpec, joints: int) -> int:
    """Components of one tick of a term."""
    of_no_channel = {LAST_ACTION: joints, GRAVITY: 3, PHASE: 2}
    if term.name in of_no_channel:
        return of_no_channel[term.name]
    (size,) = CHANNELS[term.name].shape_on({JOINTS: joints})
    return size


def observation_size(spec: ForeignSpec) -> int:
    """Number of components of the whole observation."""
    return sum(term_size(term, len(spec.joints)) * term.history for term in spec.term)


def channels_of(spec: ForeignSpec) -> tuple[str, ...]:
    """Return the channels that the policy reads, in `CHANNELS`' order; targets need `joint_pos`."""
    read = {"imu_quat" if term.name == GRAVITY else term.name for term in spec.term} | {"joint_pos"}
    return tuple(name for name in CHANNELS if name in read)


def each(values: Values, count: int) -> Values:
    """Return one number for each of `count` components."""
    return values * count if len(values) == 1 else values
