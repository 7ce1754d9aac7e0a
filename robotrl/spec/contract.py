"""PolicyContract: everything about a policy that is not its graph, as strict JSON at full precision."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from robotrl.errors import ConfigError, PolicyError
from robotrl.spec.channels import OPERATOR_CHANNELS
from robotrl.spec.commands import GRIPPER_AXES, OUTPUTS, UNITS, CommandType
from robotrl.spec.contract_parts import (
    ContractAxis,
    ContractChannel,
    ContractControl,
    ContractJoint,
    ContractMemory,
    GoldenTick,
    Provenance,
    Values,
)
from robotrl.spec.records import read_record
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


@dataclass(frozen=True)
class PolicyContract:
    """What a policy expects of a robot and promises to it. Per-joint data are in target order."""

    schema: int
    robot: str
    """What it drives: the name of a robot, or of a simulated task as Gymnasium calls it."""
    policy_hash: str
    """`policy_hash` of the robot that it was trained for, or of the `SimulatedTask`."""
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
    controls: tuple[ContractControl, ...] = ()
    """Of a simulated model, in the order of its actuators."""

    @property
    def action_scale(self) -> float:
        """What one unit of action stands for, in the unit of the command; the largest where they differ."""
        scales = [a.scale_m for a in self.axes] + [(c.high - c.low) / 2 for c in self.controls]
        return max(scales, default=self.action_scale_rad)

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
        parts = {"joint_target": self.joints, "gripper": self.axes, "control": self.controls}
        return len(parts[self.command])

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
    {
        "command": "joint_target",
        "axes": (),
        "gripper_command": (),
        "origin": "",
        "controls": (),
        "control": (),
    }
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
    """Refuse what is of another type of command, and axes or ranges that are none."""
    axes = list(GRIPPER_AXES) if contract.command == "gripper" else []
    expect("axes", [axis.name for axis in contract.axes], axes)
    if contract.command != "control":
        expect("controls", [control.name for control in contract.controls], [])
    if contract.command != "joint_target":
        expect("joints", list(contract.joint_names), [])
        expect("servo", sorted(contract.servo), [])
        expect("action_scale_rad", contract.action_scale_rad, 0.0)
    for i, control in enumerate(contract.controls):
        if not control.low < control.high:
            expect(f"controls[{i}].low", control.low, f"less than {control.high}")
    others = [name for command, name in OUTPUTS.items() if command != contract.command]
    for i, tick in enumerate(contract.golden):
        other = [value for name in others for value in getattr(tick, name)]
        expect(f"golden[{i}] of another command", other, [])


def _lengths(vectors: Mapping[str, Values]) -> dict[str, int]:
    return {name: len(values) for name, values in vectors.items()}


def _flat(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in shapes.items()}
