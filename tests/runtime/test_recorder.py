"""Laws of the flight recorder: every bit comes back, also after the process was killed."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.writer import Writer

from robotrl.errors import RecordingError
from robotrl.runtime import recorder, recording
from robotrl.runtime.recorder import McapRecorder
from robotrl.runtime.recording import EVENT_TOPIC, POLICY_TOPIC, TICK_TOPICS, Recording, read_recording
from robotrl.runtime.replay import state_of
from robotrl.runtime.tally import Happening, Tick
from tests.runtime.fakes import Rig

NOTHING_LOST_S = 0.5
ATTACHMENTS = {"robot.toml": b"a = 1\n", "contract.json": b"{}"}


def flight() -> tuple[list[Tick], list[Happening]]:
    """Ticks and events of a walk with an estimate, in which the IMU spoke nonsense at the end."""
    rig = Rig()
    odd = np.array([math.nan, math.inf, -math.inf, -0.0])

    def change(now_s: float) -> dict[str, object]:
        told = {"estimate": {"point_pos": now_s * odd[None]}}
        return told | ({"imu_quat": odd, "imu_age_s": math.inf} if now_s > 10.9 else {})

    rig.body.change = change
    rig.loop.run()
    return rig.recorder.ticks, rig.recorder.events


def written(file: Path) -> tuple[list[Tick], list[Happening], Recording]:
    """A flight, recorded and read back."""
    ticks, events = flight()
    with McapRecorder(file, ATTACHMENTS) as recorder:
        for event in events:
            recorder.event(event)
        for tick in ticks:
            recorder.tick(tick)
    return ticks, events, read_recording(file)


def bits(values: object) -> bytes:
    """The bits of numbers."""
    return np.ascontiguousarray(values, dtype=np.float64).tobytes()


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    ticks, events, recording = written(tmp_path / "run.mcap")
    assert recording.complete
    assert recording.ticks == len(ticks) > 50
    assert recording.events == events
    assert recording.attachments == ATTACHMENTS
    state, request = recording.topics["/state"], recording.topics["/request"]
    for field in (f for f in dataclasses.fields(ticks[0].state) if f.name != "estimate"):
        assert bits(state[field.name]) == bits([getattr(t.state, field.name) for t in ticks])
    for found, tick in zip(state["estimate"], ticks, strict=True):
        assert found.keys() == tick.state.estimate.keys() == {"point_pos"}
        assert bits(found["point_pos"]) == bits(tick.state.estimate["point_pos"])
        assert found["point_pos"].shape == (1, 4)
    assert request["goal"].shape == (len(ticks), 0)
    assert bits(request["joint_target_rad"]) == bits([t.request.joint_target_rad for t in ticks])
    assert bits(request["velocity_command"]) == bits([t.commands["velocity_command"] for t in ticks])
    assert list(request["mode"]) == [t.mode.name for t in ticks]
    assert list(request["source"]) == [t.request.source for t in ticks]
    assert list(request["policy_reset"]) == [t.policy_reset for t in ticks]
    command, verdict = recording.topics["/command"], recording.topics["/verdict"]
    assert bits(command["joint_target_rad"]) == bits([t.command.joint_target_rad for t in ticks])
    assert list(command["kind"]) == [t.command.kind.name for t in ticks]
    assert list(verdict["level"]) == [t.verdict.level.name for t in ticks]
    assert [set(c) for c in verdict["causes"]] == [t.verdict.causes for t in ticks]
    timing = recording.topics["/timing"]
    assert bits(timing["now_s"]) == bits([t.now_s for t in ticks])
    assert bits(timing["work_s"]) == bits([sum(t.phases_s) for t in ticks])


def test_every_message_is_json_of_its_schema_for_any_mcap_tool(tmp_path: Path) -> None:
    written(tmp_path / "run.mcap")
    topics = set()
    with (tmp_path / "run.mcap").open("rb") as stream:
        for schema, channel, message in make_reader(stream).iter_messages():
            assert schema is not None
            topics.add(channel.topic)
            assert schema.encoding == "jsonschema"
            properties = json.loads(schema.data)["properties"]

            def refuse(word: str) -> None:
                raise AssertionError(f"{word} is no JSON")

            assert json.loads(message.data, parse_constant=refuse).keys() == properties.keys()
    assert topics == {*TICK_TOPICS, POLICY_TOPIC, EVENT_TOPIC}


def test_what_the_policy_was_given_and_answered_is_there(tmp_path: Path) -> None:
    ticks, _, recording = written(tmp_path / "run.mcap")
    asked = [t for t in ticks if t.inference]
    assert 10 < len(asked) < len(ticks)
    assert [t.index for t in ticks if t.mode.name == "POLICY"] == [t.index for t in asked]
    rows = recording.topics[POLICY_TOPIC]
    assert rows["tick"].tolist() == [t.index for t in asked]
    for given, answer, tick in zip(rows["channels"], rows["joint_target_rad"], asked, strict=True):
        assert tick.inference is not None
        assert given.keys() == tick.inference.channels.keys()
        for name, values in tick.inference.channels.items():
            assert bits(given[name]) == bits(values)
        assert bits(answer) == bits(tick.inference.command)


CHILD = """
import dataclasses, sys, time
from pathlib import Path
from robotrl.runtime import recorder, recording
from robotrl.runtime.recorder import McapRecorder
from tests.runtime.fakes import Rig

rig = Rig()
rig.loop.run()
tick = rig.recorder.ticks[50]
recorder = McapRecorder(Path(sys.argv[1]), {"robot.toml": b"x"})
for index in range(100000):
    now_s = time.monotonic()
    recorder.tick(dataclasses.replace(tick, index=index, now_s=now_s))
    print(repr(now_s), flush=True)
    time.sleep(0.01)
"""


def test_after_kill_9_all_but_the_last_half_second_is_there(tmp_path: Path) -> None:
    file = tmp_path / "run.mcap"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(file)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    first_s = last_s = float(child.stdout.readline())
    while last_s - first_s < 3 * NOTHING_LOST_S:
        last_s = float(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    recording = read_recording(file)
    assert not recording.complete
    assert recording.attachments == {"robot.toml": b"x"}
    stamps = recording.topics["/timing"]["now_s"]
    assert stamps[0] == first_s
    assert stamps[-1] >= last_s - NOTHING_LOST_S


def test_a_recording_cut_anywhere_gives_its_first_ticks(tmp_path: Path) -> None:
    ticks, _ = flight()
    file, cut = tmp_path / "run.mcap", tmp_path / "cut.mcap"
    recorder = McapRecorder(file, ATTACHMENTS)
    for start in range(0, len(ticks), 20):
        for tick in ticks[start : start + 20]:
            recorder.tick(tick)
        time.sleep(0.25)  # a flush lies between
    recorder.close()
    data = file.read_bytes()
    counts = []
    for length in [*range(64, len(data), len(data) // 50), len(data)]:
        cut.write_bytes(data[:length])
        recording = read_recording(cut)
        counts.append(recording.ticks)
        np.testing.assert_array_equal(
            recording.topics["/timing"]["now_s"], [t.now_s for t in ticks[: recording.ticks]]
        )
    assert counts == sorted(counts)
    assert {0, len(ticks)} <= set(counts)


@pytest.mark.parametrize("content", [b"", b"short", b"not a recording of anything" * 10, b"\x89MCAP0\r\n"])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "run.mcap"
    file.write_bytes(content)
    with pytest.raises(RecordingError, match=r"run\.mcap"):
        read_recording(file)


def test_damage_never_changes_a_number(tmp_path: Path) -> None:
    file = tmp_path / "run.mcap"
    ticks, _, _ = written(file)
    data = file.read_bytes()
    refused = 0
    for place in range(0, len(data), len(data) // 80):
        file.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            recording = read_recording(file)
        except RecordingError:
            refused += 1
            continue
        same = ticks[: recording.ticks]
        assert bits(recording.topics["/timing"]["now_s"]) == bits([t.now_s for t in same])
        pos = recording.topics["/state"]["joint_pos_rad"]
        assert bits(pos) == bits([t.state.joint_pos_rad for t in same])
    assert refused > 40


def test_what_cannot_be_written_or_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be written"):
        McapRecorder(tmp_path / "none" / "run.mcap", {})
    with pytest.raises(RecordingError, match="cannot be read"):
        read_recording(tmp_path / "none.mcap")


def test_an_earlier_recording_is_never_recorded_over(tmp_path: Path) -> None:
    file = tmp_path / "run.mcap"
    file.write_bytes(b"all that is left of a crash")
    with pytest.raises(RecordingError, match=r"run\.mcap: exists already; nothing is recorded over it"):
        McapRecorder(file, {})
    assert file.read_bytes() == b"all that is left of a crash"


def test_a_recording_of_nothing_is_taken_away_and_one_of_anything_stays(tmp_path: Path) -> None:
    ticks, events = flight()
    file = tmp_path / "run.mcap"
    with McapRecorder(file, ATTACHMENTS):
        assert file.exists()
    assert not file.exists()
    with McapRecorder(file, ATTACHMENTS) as kept:
        kept.event(events[0])
    assert read_recording(file).events == events[:1]
    file.unlink()
    with McapRecorder(file, ATTACHMENTS) as kept:
        kept.tick(ticks[0])
    assert read_recording(file).ticks == 1


def test_what_the_recorder_has_not_created_it_never_takes_away(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "run.mcap"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    McapRecorder(pipe, {}).close()
    os.close(reader)
    link.symlink_to(tmp_path / "elsewhere")
    McapRecorder(link, {}).close()
    assert pipe.is_fifo()
    assert link.is_symlink()


def test_a_recording_of_another_schema_or_program_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.mcap"
    monkeypatch.setattr(recorder, "SCHEMA", 3)
    with McapRecorder(file, {}) as kept:
        kept.event(Happening(10.0, "mode", "limp -> stand"))
    with pytest.raises(RecordingError, match=r"run\.mcap: is of another schema, got 3; allowed: 1 to 2"):
        read_recording(file)
    with file.open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="ros2")
        writer.finish()  # type: ignore[no-untyped-call]
    with pytest.raises(RecordingError, match=r"is of another program, got 'ros2'; allowed: robotrl"):
        read_recording(file)


def test_a_recording_from_before_goals_and_estimates_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the fields hold that it lacks is what its robot and policy would have given."""
    newer = {"goal", "estimate", "estimate_age_s", "estopped"}
    older = recording.messages_of

    def messages_of(tick: Tick) -> list[tuple[str, dict[str, Any]]]:
        return [
            (topic, {name: value for name, value in message.items() if name not in newer})
            for topic, message in older(tick)
            if topic != POLICY_TOPIC
        ]

    monkeypatch.setattr(recorder, "SCHEMA", 1)
    monkeypatch.setattr(recorder, "messages_of", messages_of)
    ticks, _, found = written(tmp_path / "run.mcap")
    assert found.ticks == len(ticks)
    assert found.topics["/request"]["goal"].shape == (len(ticks), 0)
    assert found.topics[POLICY_TOPIC]["tick"].size == 0
    state = state_of(found, 7)
    assert (state.estimate, state.estimate_age_s) == ({}, math.inf)
    assert bits(state.joint_pos_rad) == bits(ticks[7].state.joint_pos_rad)
