"""PolicyContract: everything about a policy that is not its graph, as strict JSON at full precision."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from robotrl.errors import ConfigError, PolicyError
from robotrl.spec.channels import OPERATOR_CHANNELS
from robotrl.spec.commands import GRIPPER_AXES, OUTPUTS, UNITS, CommandType, GripperAxis
from robotrl.spec.records import Between, read_record
from robotrl.spec.seal import unseal
from robotrl.spec.servos import ServoType, written
from robotrl.spec.tensors import check_tensors

SCHEMA = 1
"""Version of the contract that this reader understands.

Rule of migration. An entry may be added under the same version if it has a default that says what every
older file meant; it goes into `_ADDED`, so that older files are read as they are and their contracts written
byte for byte as they were; an older reader refuses a file that needs it as an unknown key. Whatever changes
the meaning, the unit or the presence of an entry that is there raises the version, together with a function
that turns a table of the version before into one of this, applied one version after the other; files of a
later version are refused. `contract.schema.json` is written anew with either.
"""

MAX_BYTES = 256 << 20
"""Largest policy file that is opened at all."""

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
    source: Literal["joints", "imu", "operator", "estimator", "controller"]
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
class ContractAxis:
    """One number of a gripper command, in m."""

    name: GripperAxis
    scale_m: float
    """What one unit of the network's action stands for; 0 where it is not heeded."""
    command_min_m: float
    """Lowest command over the recorded ticks."""
    command_max_m: float


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
    origin: str = ""
    """The foreign file whose network this is, with its SHA-256; empty where robotrl trained it."""


@dataclass(frozen=True)
class GoldenTick:
    """One recorded tick: what went into the trained policy and what it answered."""

    channels: dict[str, Values]
    memory: dict[str, Values]
    joint_target: Values
    """(n,) rad; empty where the policy commands something else."""
    next_memory: dict[str, Values]
    gripper_command: Values = ()
    """(4,) m; empty where the policy commands something else."""

    @property
    def command(self) -> Values:
        """What the policy commanded, of whichever type."""
        return self.joint_target or self.gripper_command


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
    """Joint angle that one unit of the network's action stands for; 0 where no joint is commanded."""
    command_low: Values
    """Lowest value of what an operator could ask for in training: its channels, one after the other."""
    command_high: Values
    normaliser_count: float
    """Observations that the normaliser inside the graph has seen."""
    provenance: Provenance
    golden: tuple[GoldenTick, ...]
    command: CommandType = "joint_target"
    """What the graph's first output is."""
    axes: tuple[ContractAxis, ...] = ()
    """Of a gripper command, in order."""

    @property
    def action_scale(self) -> float:
        """What one unit of action stands for, in the unit of the command; the largest where axes differ."""
        return max((a.scale_m for a in self.axes), default=self.action_scale_rad)

    @property
    def command_output(self) -> str:
        """Name of the graph's first output."""
        return OUTPUTS[self.command]

    @property
    def command_unit(self) -> str:
        """Unit of the first output."""
        return UNITS[self.command]

    @property
    def command_size(self) -> int:
        """Numbers in a command."""
        return len(self.axes) if self.command == "gripper" else len(self.joints)

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
        """Shape of every output of the graph: the command, then next memory."""
        shapes: dict[str, tuple[int, ...]] = {self.command_output: (self.command_size,)}
        return shapes | {f"next_{m.name}": (len(m.initial),) for m in self.memory}

    def to_json(self) -> str:
        """Return the contract as JSON; floats keep every bit."""
        table = dataclasses.asdict(self, dict_factory=_without_additions)
        return json.dumps(table, allow_nan=False, separators=(",", ":"))


_ADDED: Mapping[str, object] = MappingProxyType(
    {"command": "joint_target", "axes": (), "gripper_command": (), "origin": ""}
)
"""Entries that the first files did not have, and what their absence means; written only where they say more,
so that the contract of a policy of joints stays the same byte for byte."""


def _without_additions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return written((name, value) for name, value in pairs if name not in _ADDED or value != _ADDED[name])


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
    except (ValueError, RecursionError) as error:
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
        PolicyError: missing, too large, damaged, cut short, foreign, of another schema version, or with
            tensors that are not all in it.
    """
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise PolicyError("is too large", file=file, value=f"{size} bytes", allowed=f"up to {MAX_BYTES}")
        data = file.read_bytes()
    except OSError as error:
        raise PolicyError(f"cannot be read ({error.strerror})", file=file) from error
    text, digest = unseal(data, file)
    check_tensors(data, file)
    return data, parse_contract(text, file), digest


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
    _check_command(contract, expect)
    names = sorted([*(c.name for c in contract.channels), *(m.name for m in contract.memory)])
    expect("channels and memory", names, sorted(set(names)))
    expect("command_high", len(contract.command_high), len(contract.command_low))
    asked = sum(c.size for c in contract.channels if c.name in OPERATOR_CHANNELS)
    expect("command_low", len(contract.command_low), asked)
    expect("golden", len(contract.golden), GOLDEN_TICKS)
    inputs, outputs = _flat(contract.input_sizes), _flat(contract.output_sizes)
    for i, tick in enumerate(contract.golden):
        expect(f"golden[{i}] inputs", _lengths({**tick.channels, **tick.memory}), inputs)
        answered = {contract.command_output: tick.command}
        answered |= {f"next_{name}": values for name, values in tick.next_memory.items()}
        expect(f"golden[{i}] outputs", _lengths(answered), outputs)


def _check_command(contract: PolicyContract, expect: Callable[[str, Any, Any], None]) -> None:
    """Refuse joints of a gripper command, and axes that are not its own or of another command."""
    axes = list(GRIPPER_AXES) if contract.command == "gripper" else []
    expect("axes", [axis.name for axis in contract.axes], axes)
    if axes:
        expect("joints", list(contract.joint_names), [])
        expect("servo", sorted(contract.servo), [])
        expect("action_scale_rad", contract.action_scale_rad, 0.0)
    for i, tick in enumerate(contract.golden):
        other = tick.joint_target if axes else tick.gripper_command
        expect(f"golden[{i}] of another command", list(other), [])


def _lengths(vectors: Mapping[str, Values]) -> dict[str, int]:
    return {name: len(values) for name, values in vectors.items()}


def _flat(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    sizes = {}
    for name, shape in shapes.items():
        sizes[name] = 1
        for part in shape:
            sizes[name] *= part
    return sizes
