"""The flight recording's format: MCAP with one JSON message per topic and tick, and its reader.

Floats are written so that they read back bit for bit; JSON has no NaN or infinity, so those three are
the strings "NaN", "Infinity" and "-Infinity". `stamp_s` and `now_s` are on the loop's clock
(`time.monotonic` on a robot); a message's log time is the same in nanoseconds. The file's metadata name the
version of this schema; where there are none it is 1.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from mcap.exceptions import EndOfFile, McapError
from mcap.records import Attachment, Channel, Footer, Header, Message, Metadata
from mcap.stream_reader import StreamReader
from numpy.typing import NDArray

from robotrl.errors import RecordingError
from robotrl.runtime.tally import Happening, Tick
from robotrl.spec.channels import OPERATOR_CHANNELS
from robotrl.spec.robot import RobotSpec, load_robot

PROFILE = "robotrl"
"""Of the file, and name of its metadata."""
SCHEMA = 2
"""Version of the topics below; 1 had no `POLICY_TOPIC`."""
SCHEMA_KEY = "schema"

CONTRACT_NAME, ROBOT_NAME = "contract.json", "robot.toml"
"""Attachments."""

_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
_KINDS: Mapping[str, dict[str, Any]] = {
    "number": _NUMBER,
    "numbers": {"type": "array", "items": _NUMBER},
    "integer": {"type": "integer"},
    "integers": {"type": "array", "items": {"type": "integer"}},
    "boolean": {"type": "boolean"},
    "string": {"type": "string"},
    "strings": {"type": "array", "items": {"type": "string"}},
    "arrays": {"type": "object", "additionalProperties": {"type": "array"}},
}

TICK_TOPICS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "/state": {
            "tick": "integer",
            "stamp_s": "number",
            "joint_pos_rad": "numbers",
            "joint_vel_rad_s": "numbers",
            "joint_load": "numbers",
            "voltage_v": "numbers",
            "temperature_c": "numbers",
            "hardware_error": "integers",
            "joint_age_s": "numbers",
            "imu_quat": "numbers",
            "imu_gyro_rad_s": "numbers",
            "imu_accel_m_s2": "numbers",
            "imu_age_s": "number",
            "estimate": "arrays",
            "estimate_age_s": "number",
        },
        "/request": {
            "tick": "integer",
            "now_s": "number",
            "mode": "string",
            "rearmed": "boolean",
            "estopped": "boolean",
            "policy_reset": "boolean",
            **dict.fromkeys(OPERATOR_CHANNELS, "numbers"),
            "kind": "string",
            "joint_target_rad": "numbers",
            "source": "string",
        },
        "/command": {"tick": "integer", "now_s": "number", "kind": "string", "joint_target_rad": "numbers"},
        "/verdict": {
            "tick": "integer",
            "now_s": "number",
            "level": "string",
            "causes": "strings",
            "joints": "strings",
        },
        "/timing": {
            "tick": "integer",
            "now_s": "number",
            "read_s": "number",
            "sense_s": "number",
            "infer_s": "number",
            "guard_s": "number",
            "write_s": "number",
            "work_s": "number",
            "late_s": "number",
            "overrun": "boolean",
            "skipped": "integer",
        },
    }
)
"""Topics with one message per tick, in the order they are written; field -> kind."""

_NEWER: dict[str, Any] = {"goal": [], "estimate": {}, "estimate_age_s": "Infinity", "estopped": False}
"""Fields that the first recordings lack, and what they would hold there."""

POLICY_TOPIC = "/policy"
POLICY_FIELDS: Mapping[str, str] = MappingProxyType(
    {"tick": "integer", "now_s": "number", "channels": "arrays", "joint_target_rad": "numbers"}
)
"""What the policy was given and answered, in the ticks in which it was asked."""

EVENT_TOPIC = "/event"
EVENT_FIELDS: Mapping[str, str] = MappingProxyType({"stamp_s": "number", "name": "string", "text": "string"})


def json_schema(fields: Mapping[str, str]) -> bytes:
    """Return the JSON schema of a topic."""
    properties = {name: _KINDS[kind] for name, kind in fields.items()}
    return json.dumps({"type": "object", "properties": properties, "required": list(fields)}).encode()


def messages_of(tick: Tick) -> list[tuple[str, dict[str, Any]]]:
    """Return one tick's messages as plain values, independent of the tick's arrays."""
    state, request, command, verdict = tick.state, tick.request, tick.command, tick.verdict
    stamp = {"tick": tick.index, "now_s": tick.now_s}
    measured = {name: getattr(state, name) for name in TICK_TOPICS["/state"] if name != "tick"}
    phases = dict(zip(("read_s", "sense_s", "infer_s", "guard_s", "write_s"), tick.phases_s, strict=True))
    wake = {"late_s": tick.wake.late_s, "overrun": tick.wake.overrun, "skipped": tick.wake.skipped}
    asked = {
        "mode": tick.mode.name,
        "rearmed": tick.rearmed,
        "estopped": tick.estopped,
        "policy_reset": tick.policy_reset,
        **{name: tick.commands[name].tolist() if name in tick.commands else [] for name in OPERATOR_CHANNELS},
        "kind": request.kind.name,
        "joint_target_rad": request.joint_target_rad.tolist(),
        "source": request.source,
    }
    why = {"causes": sorted(verdict.causes), "joints": sorted(verdict.joints)}
    messages = [
        ("/state", {"tick": tick.index, **{name: _plain(value) for name, value in measured.items()}}),
        ("/request", stamp | asked),
        (
            "/command",
            stamp | {"kind": command.kind.name, "joint_target_rad": command.joint_target_rad.tolist()},
        ),
        ("/verdict", stamp | {"level": verdict.level.name} | why),
        ("/timing", stamp | phases | {"work_s": sum(tick.phases_s)} | wake),
    ]
    if tick.inference:
        given, answer = _plain(tick.inference.channels), tick.inference.command.tolist()
        messages.append((POLICY_TOPIC, stamp | {"channels": given, "joint_target_rad": answer}))
    return messages


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else _spelled(value)


def to_json(message: dict[str, Any]) -> bytes:
    """Encode one message."""
    try:
        text = json.dumps(message, allow_nan=False)
    except ValueError:
        text = json.dumps({name: _spelled(value) for name, value in message.items()}, allow_nan=False)
    return text.encode()


def _spelled(value: Any) -> Any:  # noqa: ANN401
    """Numbers that JSON lacks, as words."""
    if isinstance(value, list):
        return [_spelled(part) for part in value]
    if isinstance(value, dict):
        return {name: _spelled(part) for name, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


Columns = Mapping[str, NDArray[Any]]
"""Field -> values over T ticks: numbers (T,) or (T, k); texts as objects (T,)."""


@dataclass(frozen=True)
class Recording:
    """A recording as columns; T complete ticks.

    Attributes:
        topics: columns of each topic in `TICK_TOPICS`, and those of `POLICY_TOPIC`, which have fewer rows.
        events: what happened.
        attachments: name -> content.
        complete: whether the recorder came to its end; False after a crash.
    """

    topics: Mapping[str, Columns]
    events: list[Happening]
    attachments: Mapping[str, bytes]
    complete: bool

    @property
    def ticks(self) -> int:
        """Number of complete ticks."""
        return len(self.topics["/timing"]["tick"])

    @property
    def missing(self) -> int:
        """Ticks before the last one that the recorder could not keep."""
        return int(self.topics["/timing"]["tick"][-1]) + 1 - self.ticks if self.ticks else 0


def read_recording(file: Path) -> Recording:
    """Read a recording; what a crash left without an end is read up to where it breaks off.

    Raises:
        RecordingError: it cannot be opened, is no MCAP file, is damaged, is not robotrl's, or is of a newer
            schema.
    """
    try:
        with _Remaining(io.FileIO(file)) as stream:
            found = _Found(stream, file)
        return _recording(found, file)
    except OSError as error:
        raise RecordingError(f"cannot be read ({error.strerror})", file=file) from error
    except (McapError, ValueError, KeyError, TypeError, RuntimeError, struct.error) as error:
        raise RecordingError(f"is not an intact recording of robotrl: {error}", file=file) from error


def attached_robot(recording: Recording, file: Path) -> RobotSpec:
    """Return the robot that a recording is of; `file` is where the recording came from.

    Raises:
        RecordingError: the recording does not hold it.
        ConfigError: it holds a robot.toml that this version refuses.
    """
    if ROBOT_NAME not in recording.attachments:
        raise RecordingError(f"holds no {ROBOT_NAME}", file=file)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / ROBOT_NAME
        copy.write_bytes(recording.attachments[ROBOT_NAME])
        return load_robot(copy)


class _Found:
    """What the records of a file hold."""

    def __init__(self, stream: _Remaining, file: Path) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {t: [] for t in (*_COLUMNS, EVENT_TOPIC)}
        self.attachments: dict[str, bytes] = {}
        self.complete, self._file = False, file
        for item in _records(stream):
            self._take(item)

    def _take(self, item: _Item) -> None:
        match item:
            case Header(profile=profile) if profile != PROFILE:
                raise RecordingError("is of another program", file=self._file, value=profile, allowed=PROFILE)
            case Metadata(name=name, metadata=facts) if name == PROFILE:
                schema = int(facts[SCHEMA_KEY])
                if not 1 <= schema <= SCHEMA:
                    raise RecordingError(
                        "is of another schema", file=self._file, value=schema, allowed=f"1 to {SCHEMA}"
                    )
            case Attachment():
                self.attachments[item.name] = item.data
            case Footer():
                self.complete = True
            case (topic, data) if topic in self.rows:
                self.rows[topic].append(json.loads(data))


def _recording(found: _Found, file: Path) -> Recording:
    rows = found.rows
    ticks = min(len(rows[topic]) for topic in TICK_TOPICS)
    numbers = [row["tick"] for row in rows["/timing"][:ticks]]
    if any([row["tick"] for row in rows[topic][:ticks]] != numbers for topic in TICK_TOPICS):
        raise RecordingError("is not an intact recording of robotrl: topics differ in their ticks", file=file)
    rows[POLICY_TOPIC] = [row for row in rows[POLICY_TOPIC] if numbers and row["tick"] <= numbers[-1]]
    for topic in TICK_TOPICS:
        del rows[topic][ticks:]
    topics = {topic: _columns(fields, rows[topic]) for topic, fields in _COLUMNS.items()}
    events = [Happening(**row) for row in rows[EVENT_TOPIC]]
    return Recording(topics, events, found.attachments, found.complete)


class _Remaining(io.BufferedReader):
    """A file of which no more is asked than it holds, whatever a damaged length field says."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes; None or a negative number means all."""
        left = os.fstat(self.fileno()).st_size - self.tell()
        return super().read(left if size is None or size < 0 else min(size, left))


_Item = Header | Metadata | Attachment | Footer | tuple[str, bytes]
_COLUMNS = {**TICK_TOPICS, POLICY_TOPIC: POLICY_FIELDS}


def _records(stream: _Remaining) -> Iterator[_Item]:
    """Header, metadata, attachments, (topic, JSON) and the footer, up to where the file ends."""
    topics: dict[int, str] = {}
    records = iter(StreamReader(stream, validate_crcs=True).records)
    item = next(records)  # a file that breaks off in its very head is no recording
    while True:
        if isinstance(item, Channel):
            topics[item.id] = item.topic
        elif isinstance(item, Message):
            yield topics[item.channel_id], item.data
        elif isinstance(item, Header | Metadata | Attachment | Footer):
            yield item
        try:
            item = next(records)
        except (EndOfFile, struct.error, StopIteration):
            return


def _columns(fields: Mapping[str, str], rows: list[dict[str, Any]]) -> Columns:
    whole = [_NEWER | row for row in rows]
    return {name: _column(kind, [row[name] for row in whole]) for name, kind in fields.items()}


def _column(kind: str, values: list[Any]) -> NDArray[Any]:
    if kind == "number":
        return np.array([float(v) for v in values], dtype=np.float64)
    if kind == "numbers":
        return np.array([[float(part) for part in v] for v in values], dtype=np.float64)
    if kind in ("integer", "integers", "boolean"):
        return np.array(values, dtype=np.bool_ if kind == "boolean" else np.int64)
    column = np.empty(len(values), dtype=object)
    column[:] = [_CELLS[kind](v) for v in values]
    return column


def _arrays(cell: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    return {name: np.array(parts, dtype=np.float64) for name, parts in dict(cell).items()}


_CELLS: Mapping[str, Callable[[Any], Any]] = {"string": str, "strings": tuple, "arrays": _arrays}
