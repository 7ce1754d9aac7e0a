"""A recording fed through gate and policy again, tick by tick: the same answers, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from robotrl.errors import RecordingError
from robotrl.runtime.modes import Mode
from robotrl.runtime.parts import Policy
from robotrl.runtime.policy import channels_of
from robotrl.runtime.recording import TICK_TOPICS, Recording
from robotrl.safety import GateMemory, guard, rearm
from robotrl.spec.channels import OPERATOR_CHANNELS
from robotrl.spec.gate import GateLimits, Level, Request, Verdict
from robotrl.spec.state import CommandKind, JointCommand, RobotState

_Fact = Request | JointCommand | Verdict
_STATE_FIELDS = tuple(name for name in TICK_TOPICS["/state"] if name != "tick")


@dataclass(frozen=True)
class Difference:
    """The first tick in which the replay answers otherwise.

    Attributes:
        tick: index of the tick.
        now_s: its time on the recording's clock.
        what: `policy`, `command` or `verdict`.
        recorded: what the robot did.
        replayed: what the replay gives.
    """

    tick: int
    now_s: float
    what: str
    recorded: str
    replayed: str

    def __str__(self) -> str:
        """Read as one sentence."""
        return (
            f"tick {self.tick} at {self.now_s:.4f} s: the {self.what} differs: "
            f"recorded {self.recorded}, replayed {self.replayed}"
        )


def replay(recording: Recording, limits: GateLimits, policy: Policy | None = None) -> Difference | None:
    """Return the first difference, or None where every answer is the recorded one bit for bit.

    Args:
        recording: what the robot measured, was asked and did.
        limits: the gate's limits, of the recorded robot or of another to compare with.
        policy: where given, its targets are compared too.

    Raises:
        RecordingError: the recording is of a robot with another number of joints.
    """
    joints = recording.topics["/state"]["joint_pos_rad"].shape[-1]
    if recording.ticks and joints != len(limits.joint_names):
        raise RecordingError(
            "is of a robot with another number of joints", value=joints, allowed=f"{len(limits.joint_names)}"
        )
    memory = GateMemory.fresh(len(limits.joint_names))
    for tick in range(recording.ticks):
        state, request = state_of(recording, tick), _request_of(recording, tick)
        asked = recording.topics["/request"]
        now_s = float(asked["now_s"][tick])
        if asked["rearmed"][tick]:
            memory = rearm(memory, state)
        command, memory, verdict = guard(limits, memory, state, request, now_s)
        pairs: list[tuple[str, _Fact, _Fact]] = [
            ("command", _command_of(recording, tick), command),
            ("verdict", _verdict_of(recording, tick), verdict),
        ]
        if policy is not None and asked["mode"][tick] == Mode.POLICY.name:
            if asked["policy_reset"][tick]:
                policy.reset()
            commands = {name: asked[name][tick] for name in OPERATOR_CHANNELS}
            target = policy.step(channels_of(state, commands))
            pairs.insert(0, ("policy", request, Request(request.kind, target, request.source)))
        for what, recorded, replayed in pairs:
            if difference := _first(_facts(recorded), _facts(replayed)):
                return Difference(tick, now_s, what, *difference)
    return None


def state_of(recording: Recording, tick: int) -> RobotState:
    """Return what the robot measured in one tick."""
    columns = recording.topics["/state"]
    values: dict[str, Any] = {name: columns[name][tick] for name in _STATE_FIELDS}
    for name in ("stamp_s", "imu_age_s", "estimate_age_s"):
        values[name] = float(values[name])
    return RobotState(**values)


def _request_of(recording: Recording, tick: int) -> Request:
    columns = recording.topics["/request"]
    kind = CommandKind[columns["kind"][tick]]
    return Request(kind, columns["joint_target_rad"][tick], columns["source"][tick])


def _command_of(recording: Recording, tick: int) -> JointCommand:
    columns = recording.topics["/command"]
    return JointCommand(CommandKind[columns["kind"][tick]], columns["joint_target_rad"][tick])


def _verdict_of(recording: Recording, tick: int) -> Verdict:
    columns = recording.topics["/verdict"]
    return Verdict(
        Level[columns["level"][tick]], frozenset(columns["causes"][tick]), frozenset(columns["joints"][tick])
    )


def _facts(record: _Fact) -> list[object]:
    """What must be equal: targets as the bits of their numbers."""
    if isinstance(record, Verdict):
        return [record]
    return [record.kind.name, *_bits(record.joint_target_rad)]


def _bits(values: NDArray[Any]) -> Iterator[tuple[int, str]]:
    """Index and value; `float.hex` tells every bit, and NaN is equal to NaN."""
    return ((i, float(value).hex()) for i, value in enumerate(values))


def _first(recorded: list[object], replayed: list[object]) -> tuple[str, str] | None:
    for old, new in zip(recorded, replayed, strict=True):
        if old != new:
            return _in_words(old), _in_words(new)
    return None


def _in_words(fact: object) -> str:
    if isinstance(fact, tuple):
        index, bits = fact
        return f"joint {index} at {float.fromhex(bits)!r} rad"
    return str(fact)
