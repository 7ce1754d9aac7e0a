"""A recording fed through gate and policy again, tick by tick: the same answers, bit for bit.

With other limits or another policy it is a what-if in an open loop: what the robot measured and was asked
stays as recorded, also after the tick in which it would have begun to move otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from robotrl.errors import RecordingError
from robotrl.runtime.interpolation import InterpolatedPolicy
from robotrl.runtime.modes import Mode
from robotrl.runtime.recording import TICK_TOPICS, Recording
from robotrl.runtime.tally import Inference
from robotrl.safety import estop, guard, rearm
from robotrl.spec.channels import OPERATOR_CHANNELS
from robotrl.spec.gate import GateLimits, GateMemory, Level, Request, Verdict
from robotrl.spec.state import CommandKind, JointCommand, RobotState

_Fact = Request | JointCommand | Verdict
_Pair = tuple[str, _Fact, _Fact]
"""What, as recorded, as replayed."""
_STATE_FIELDS = tuple(name for name in TICK_TOPICS["/state"] if name != "tick")


@dataclass(frozen=True)
class Difference:
    """A tick in which the replay answers otherwise.

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


@dataclass
class Comparison:
    """What a whole replay adds up to.

    Attributes:
        ticks: number of ticks.
        asked: how often the policy was asked; 0 where there is none, or the recorded one was never in charge.
        differing: ticks in which anything differs.
        first: the first difference; None where every answer is the recorded one, bit for bit.
        last: the first difference of the last tick with one.
        kinds: `policy`, `command` and `verdict` -> ticks in which this differs.
        causes: cause of the gate -> ticks in which only one of both names it: the recording, the replay.
        levels: recorded level of the gate -> replayed level -> ticks.
    """

    ticks: int = 0
    asked: int = 0
    differing: int = 0
    first: Difference | None = None
    last: Difference | None = None
    kinds: dict[str, int] = field(default_factory=dict)
    causes: dict[str, tuple[int, int]] = field(default_factory=dict)
    levels: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, tick: int, now_s: float, pairs: list[_Pair]) -> None:
        """Count one tick."""
        self.ticks += 1
        found = [(what, *facts) for what, *both in pairs if (facts := _first(*map(_facts, both)))]
        for what, *_ in found:
            _count(self.kinds, what)
        _, recorded, replayed = pairs[-1]
        if isinstance(recorded, Verdict) and isinstance(replayed, Verdict):
            self._add_verdicts(recorded, replayed)
        if found:
            self.differing += 1
            self.last = Difference(tick, now_s, *found[0])
            self.first = self.first or self.last

    def _add_verdicts(self, recorded: Verdict, replayed: Verdict) -> None:
        _count(self.levels.setdefault(recorded.level.name, {}), replayed.level.name)
        for cause in recorded.causes ^ replayed.causes:
            old, new = self.causes.get(cause, (0, 0))
            self.causes[cause] = old + (cause in recorded.causes), new + (cause in replayed.causes)


def _count(ticks: dict[str, int], what: str) -> None:
    ticks[what] = ticks.get(what, 0) + 1


def replay(recording: Recording, limits: GateLimits, policy: InterpolatedPolicy | None = None) -> Comparison:
    """Compare every tick's answers with the recorded ones.

    Args:
        recording: what the robot measured, was asked and did.
        limits: the gate's limits, of the recorded robot or others to compare with.
        policy: where given it is asked again, and what it answers is what goes to the gate.

    Raises:
        RecordingError: the recording is of a robot with another number of joints, or holds not every tick.
    """
    _check(recording, limits)
    comparison = Comparison()
    memory = GateMemory.fresh(len(limits.joint_names))
    asked = recording.topics["/request"]
    for tick in range(recording.ticks):
        state, now_s = state_of(recording, tick), float(asked["now_s"][tick])
        if asked["rearmed"][tick]:
            memory = rearm(limits, memory, state, now_s)
        if asked["estopped"][tick]:
            memory = estop(memory)
        recorded = _request_of(recording, tick)
        request, inference = _ask(recording, tick, state, policy) if policy else (recorded, None)
        comparison.asked += inference is not None
        command, memory, verdict = guard(limits, memory, state, request, now_s)
        pairs: list[_Pair] = [
            ("policy", recorded, request),
            ("command", _command_of(recording, tick), command),
            ("verdict", _verdict_of(recording, tick), verdict),
        ]
        comparison.add(tick, now_s, pairs)
    return comparison


def _check(recording: Recording, limits: GateLimits) -> None:
    if not recording.ticks:
        raise RecordingError("the recording holds no tick")
    if recording.missing:
        raise RecordingError(
            "the recording lacks ticks, and a replay needs every one", value=recording.missing
        )
    joints = recording.topics["/state"]["joint_pos_rad"].shape[-1]
    if joints != len(limits.joint_names):
        raise RecordingError(
            "is of a robot with another number of joints", value=joints, allowed=f"{len(limits.joint_names)}"
        )


def _ask(
    recording: Recording, tick: int, state: RobotState, policy: InterpolatedPolicy
) -> tuple[Request, Inference | None]:
    """What would have been requested with `policy` in charge whenever the recorded one was, and why."""
    asked, recorded = recording.topics["/request"], _request_of(recording, tick)
    if asked["policy_reset"][tick]:
        policy.reset()
    if asked["mode"][tick] != Mode.POLICY.name:
        return recorded, None
    commands = {name: asked[name][tick] for name in OPERATOR_CHANNELS}
    target_rad, inference = policy.step(state, commands)
    return Request(recorded.kind, target_rad, recorded.source), inference


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
    if isinstance(fact, Verdict) and not fact.level:
        return fact.level.name
    return str(fact)
