"""PolicyContract: everything about a policy that is not its graph, as strict JSON at full precision."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from robotrl.errors import ConfigError, PolicyError
from robotrl.spec.channels import CHANNELS, GOAL, OPERATOR_CHANNELS, Channel, Source
from robotrl.spec.records import Between, read_record
from robotrl.spec.robot import RobotSpec
from robotrl.spec.seal import unseal
from robotrl.spec.servos import ServoType, written

SCHEMA = 1
"""Version of the contract that this reader understands."""

GOLDEN_TICKS = 16
"""Recorded ticks that every policy carries and every robot replays before torque."""

Values = tuple[float, ...]


@dataclass(frozen=True)
class ContractChannel:
    """One input of the graph, as it was defined when the policy was trained.

    `low`, `median` and `high` are the 0.1, 50 and 99.9 % quantiles of each element over the
    recorded ticks, in `unit`, flattened.
    """

    name: str
    shape: tuple[Annotated[int, Between(1)], ...]
    unit: str
    frame: str
    source: Literal["joints", "imu", "operator", "estimator"]
    low: Values
    median: Values
    high: Values

    @property
    def size(self) -> int:
        """Number of values."""
        total = 1
        for part in self.shape:
            total *= part
        return total


@dataclass(frozen=True)
class ContractMemory:
    """One vector that the graph carries from tick to tick: input `name`, output `next_<name>`."""

    name: str
    initial: Values


@dataclass(frozen=True)
class ContractJoint:
    """One joint of the trained robot, in the order of `joint_target`."""

    name: str
    servo: str
    """Key in the contract's `servo`."""
    default_rad: float
    position_min_rad: float
    position_max_rad: float
    stiffness_nm_rad: float
    """Servo stiffness at nominal voltage."""
    target_min_rad: float
    """Lowest target over the recorded ticks."""
    target_max_rad: float


@dataclass(frozen=True)
class Provenance:
    """Where the policy comes from: enough to train it again."""

    config: str
    """Text of the run's TOML file."""
    seed: int
    git_commit: str
    """Empty where the code was not in a git checkout."""
    steps: Annotated[int, Between(0)]
    """Control steps of experience."""
    versions: dict[str, str]
    scores: dict[str, float]


@dataclass(frozen=True)
class GoldenTick:
    """One recorded tick: what went into the trained policy and what it answered."""

    channels: dict[str, Values]
    memory: dict[str, Values]
    joint_target: Values
    """(n,) rad."""
    next_memory: dict[str, Values]


@dataclass(frozen=True)
class PolicyContract:
    """What a policy expects of a robot and promises to it. Per-joint data are in target order."""

    schema: int
    robot: str
    policy_hash: str
    """`RobotSpec.policy_hash` of the robot it was trained for."""
    rate_hz: float
    channels: tuple[ContractChannel, ...]
    memory: tuple[ContractMemory, ...]
    joints: tuple[ContractJoint, ...]
    servo: dict[str, ServoType]
    action_scale_rad: float
    """Joint angle that one unit of the network's action stands for."""
    command_low: Values
    """Lowest value of what an operator could ask for in training: its channels, one after the other."""
    command_high: Values
    normaliser_count: float
    """Observations that the normaliser inside the graph has seen."""
    provenance: Provenance
    golden: tuple[GoldenTick, ...]

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names in target order."""
        return tuple(j.name for j in self.joints)

    @property
    def operator_ranges(self) -> dict[str, tuple[Values, Values]]:
        """Lowest and highest values, flattened, of every channel that an operator sets."""
        ranges, start = {}, 0
        for channel in self.channels:
            if channel.name in OPERATOR_CHANNELS:
                part = slice(start, start + channel.size)
                ranges[channel.name] = self.command_low[part], self.command_high[part]
                start = part.stop
        return ranges

    @property
    def input_sizes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every input of the graph: channels, then memory."""
        shapes = {c.name: c.shape for c in self.channels}
        return shapes | {m.name: (len(m.initial),) for m in self.memory}

    @property
    def output_sizes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every output of the graph: joint targets, then next memory."""
        shapes: dict[str, tuple[int, ...]] = {"joint_target": (len(self.joints),)}
        return shapes | {f"next_{m.name}": (len(m.initial),) for m in self.memory}

    def to_json(self) -> str:
        """Return the contract as JSON; floats keep every bit."""
        table = dataclasses.asdict(self, dict_factory=written)
        return json.dumps(table, allow_nan=False, separators=(",", ":"))


def parse_contract(text: str, file: Path) -> PolicyContract:
    """Read a contract's JSON.

    Args:
        text: the JSON.
        file: the policy file, for the error.

    Raises:
        PolicyError: another schema version; an unknown, missing or ill-typed entry; parts that
            contradict each other.
    """
    try:
        table = json.loads(text)
    except json.JSONDecodeError as error:
        raise PolicyError(f"holds a contract that is not JSON: {error}", file=file) from error
    version = table.get("schema") if isinstance(table, dict) else None
    if version != SCHEMA:
        raise PolicyError(
            "is not this version", file=file, key="contract.schema", value=version, allowed=f"{SCHEMA}"
        )
    try:
        contract = read_record(PolicyContract, table, file=file, key="contract")
    except ConfigError as error:
        raise PolicyError(str(error)) from error
    _check_consistent(contract, file)
    return contract


def read_policy_file(file: Path) -> tuple[bytes, PolicyContract, str]:
    """Read a policy file without running it.

    Returns:
        Its bytes (an ONNX model), its contract and its SHA-256.

    Raises:
        PolicyError: missing, damaged, cut short, foreign, or of another schema version.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PolicyError(f"cannot be read ({error.strerror})", file=file) from error
    text, digest = unseal(data, file)
    return data, parse_contract(text, file), digest


def unsourced(channels: Iterable[str], robot: RobotSpec) -> list[str]:
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


def _delivers(robot: RobotSpec, channel: Channel) -> bool:
    if channel.source is Source.ESTIMATOR:
        return robot.estimator is not None and channel.name in robot.estimator.channels
    return channel.source in robot.sources


def incompatibilities(contract: PolicyContract, robot: RobotSpec) -> list[str]:
    """List everything that keeps this policy from driving `robot`; empty when it may.

    Each entry is a clause of its own: what it is, its value in the policy, its value on the robot.
    """
    lines = [*_robot_differences(contract, robot), *unsourced((c.name for c in contract.channels), robot)]
    for channel in contract.channels:
        if channel.name in CHANNELS and _delivers(robot, CHANNELS[channel.name]):
            lines += _channel_differences(channel, CHANNELS[channel.name], robot)
    if contract.joint_names == robot.joint_names:
        lines += [*_joint_differences(contract, robot), *_servo_differences(contract, robot)]
    if not lines and contract.policy_hash != robot.policy_hash:
        lines.append(_differs("policy_hash", contract.policy_hash, robot.policy_hash, robot))
    return lines


def _differs(what: str, trained: object, actual: object, robot: RobotSpec) -> str:
    return f"{what} is {trained} in the policy and {actual} on {robot.name}"


def _robot_differences(contract: PolicyContract, robot: RobotSpec) -> Iterator[str]:
    if contract.robot != robot.name:
        yield _differs("robot", contract.robot, robot.name, robot)
    if contract.rate_hz != robot.control.rate_hz:
        yield _differs("control.rate_hz", contract.rate_hz, robot.control.rate_hz, robot)
    if contract.joint_names != robot.joint_names:
        trained, actual = ", ".join(contract.joint_names), ", ".join(robot.joint_names)
        same = sorted(contract.joint_names) == sorted(robot.joint_names)
        yield _differs("joint order" if same else "the list of joints", trained, actual, robot)


def _channel_differences(trained: ContractChannel, known: Channel, robot: RobotSpec) -> Iterator[str]:
    here = {
        "shape": known.shape_on(robot.sizes | {GOAL: trained.size}),
        "unit": known.unit,
        "frame": known.frame,
        "source": known.source.value,
    }
    for name, value in here.items():
        if getattr(trained, name) != value:
            old = getattr(trained, name)
            yield f"channel {trained.name} has {name} {old!r} in the policy and {value!r} here"


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


def _check_consistent(contract: PolicyContract, file: Path) -> None:
    """Refuse parts that contradict each other: lengths, dangling names, missing golden ticks."""

    def expect(key: str, value: Any, allowed: Any) -> None:  # noqa: ANN401
        if value != allowed:
            raise PolicyError(
                "contradicts the contract",
                file=file,
                key=f"contract.{key}",
                value=value,
                allowed=f"{allowed}",
            )

    for i, channel in enumerate(contract.channels):
        for name in ("low", "median", "high"):
            expect(f"channels[{i}].{name}", len(getattr(channel, name)), channel.size)
    for i, joint in enumerate(contract.joints):
        if joint.servo not in contract.servo:
            expect(f"joints[{i}].servo", joint.servo, " or ".join(sorted(contract.servo)))
    names = sorted([*(c.name for c in contract.channels), *(m.name for m in contract.memory)])
    expect("channels and memory", names, sorted(set(names)))
    expect("command_high", len(contract.command_high), len(contract.command_low))
    asked = sum(c.size for c in contract.channels if c.name in OPERATOR_CHANNELS)
    expect("command_low", len(contract.command_low), asked)
    expect("golden", len(contract.golden), GOLDEN_TICKS)
    inputs, outputs = _flat(contract.input_sizes), _flat(contract.output_sizes)
    for i, tick in enumerate(contract.golden):
        expect(f"golden[{i}] inputs", _lengths({**tick.channels, **tick.memory}), inputs)
        answered = {"joint_target": tick.joint_target}
        answered |= {f"next_{name}": values for name, values in tick.next_memory.items()}
        expect(f"golden[{i}] outputs", _lengths(answered), outputs)


def _lengths(vectors: Mapping[str, Values]) -> dict[str, int]:
    return {name: len(values) for name, values in vectors.items()}


def _flat(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    sizes = {}
    for name, shape in shapes.items():
        sizes[name] = 1
        for part in shape:
            sizes[name] *= part
    return sizes
