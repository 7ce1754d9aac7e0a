"""Laws of replay: the recorded answers again, bit for bit, and the first difference where there is one."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from robotrl.bench.gate_storm import tilted
from robotrl.cli.replay import Replay
from robotrl.errors import ConfigError, PolicyError, RecordingError
from robotrl.runtime.interpolation import InterpolatedPolicy
from robotrl.runtime.modes import Event
from robotrl.runtime.operator import Step
from robotrl.runtime.recorder import McapRecorder
from robotrl.runtime.recording import Recording, read_recording
from robotrl.runtime.replay import replay
from robotrl.spec.gate import GateLimits
from tests.laws.rig import QUAD12, robot_with
from tests.runtime.fakes import QUICK, WALK, FakePolicy, Rig

LIMITS = GateLimits.of(QUICK)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """A walk that is pushed, loses its IMU, is re-armed, walks on and falls."""
    rig = Rig((*WALK[:3], Step(1.2, rearm=True), Step(1.3, mode="stand"), Step(1.7, mode="policy")))
    file = tmp_path / "run.mcap"

    def change(now_s: float) -> dict[str, object]:
        if now_s > 12.0:
            return {"imu_quat": tilted(1.5, 0.3)}
        if 11.0 < now_s < 11.1:
            return {"imu_age_s": now_s - 11.0}
        pushed = np.where(np.arange(12) == 4, 0.3, 0.0) * (10.7 < now_s < 10.75)
        return {"joint_pos_rad": rig.body.pos_rad + pushed}

    rig.body.change = change
    rig.loop.run(duration_s=2.3)
    return recorded(rig, file)


def recorded(rig: Rig, file: Path, robot: str = "") -> Recording:
    """What a run of a rig leaves behind, of the shipped robot or another robot.toml."""
    attached = robot.encode() or Path(QUAD12.file).read_bytes()
    with McapRecorder(file, {"robot.toml": attached}) as recorder:
        for tick in rig.recorder.ticks:
            recorder.tick(tick)
    return read_recording(file)


def swaying(policy: FakePolicy | None = None, ticks_per_step: int = 1) -> InterpolatedPolicy:
    """The policy of a replay."""
    return InterpolatedPolicy(policy or FakePolicy(), ticks_per_step)


def test_gate_and_policy_answer_again_what_they_answered(recording: Recording) -> None:
    levels = set(recording.topics["/verdict"]["level"])
    assert levels == {"NONE", "LIMITING", "HOLD", "DAMP"}
    assert recording.topics["/request"]["rearmed"].sum() == 1
    assert recording.topics["/request"]["policy_reset"].sum() == 2
    found = replay(recording, LIMITS, swaying())
    assert (found.first, found.last, found.differing) == (None, None, 0)
    counted = recording.topics["/verdict"]["level"].tolist()
    assert found.ticks == recording.ticks
    assert found.levels == {level: {level: counted.count(level)} for level in levels}
    assert (dict(found.kinds), found.causes) == ({}, {})


def test_a_policy_slower_than_its_loop_answers_again_what_it_answered(tmp_path: Path) -> None:
    control = dataclasses.replace(QUICK.control, bus_rate_hz=4 * QUICK.control.rate_hz)
    fast = dataclasses.replace(QUICK, control=control)
    rig = Rig(robot=fast)
    rig.loop.run()
    found = recorded(rig, tmp_path / "run.mcap")
    asked = found.topics["/policy"]["tick"]
    assert 4 * (asked.size - 1) < np.count_nonzero(found.topics["/request"]["mode"] == "POLICY")
    limits = GateLimits.of(fast)
    assert replay(found, limits, swaying(ticks_per_step=4)).first is None
    assert replay(found, limits, swaying(ticks_per_step=2)).first is not None


def test_an_emergency_stop_and_the_re_arm_after_it_are_replayed(tmp_path: Path) -> None:
    rig = Rig((*WALK[:3], Step(1.4, rearm=True), Step(1.5, mode="stand")))
    poll = rig.operator.poll
    rig.operator.poll = lambda elapsed_s: [  # type: ignore[method-assign]
        *poll(elapsed_s),
        *[Event.ESTOP] * (abs(elapsed_s - 1.2) < 1e-3),
    ]
    rig.loop.run(duration_s=2.0)
    found = recorded(rig, tmp_path / "run.mcap")
    request, verdict = found.topics["/request"], found.topics["/verdict"]
    assert (request["estopped"].sum(), request["rearmed"].sum()) == (1, 1)
    stopped = np.array(["estop" in causes for causes in verdict["causes"]])
    assert 5 < stopped.sum() < 15
    assert replay(found, LIMITS, swaying()).first is None
    request["estopped"][:] = False
    without = replay(found, LIMITS)
    assert without.causes == {"estop": (stopped.sum(), 0)}
    assert without.levels["LIMP"]["NONE"] == stopped.sum()


def test_other_limits_show_when_and_how_often_they_matter(recording: Recording) -> None:
    lenient = dataclasses.replace(QUICK, limits=dataclasses.replace(QUICK.limits, tilt_rad=1.6))
    found = replay(recording, GateLimits.of(lenient))
    levels = list(recording.topics["/verdict"]["level"])
    fallen = [tick for tick, level in enumerate(levels) if level == "DAMP"]
    assert found.first is not None
    assert found.last is not None
    assert (found.first.tick, found.first.what) == (fallen[0], "command")
    assert (found.first.recorded, found.first.replayed) == ("DAMP", "TRACK")
    assert f"tick {fallen[0]}" in str(found.first)
    assert found.last.tick == fallen[-1]
    other = {**recording.topics["/verdict"], "level": np.array(["NONE"] * recording.ticks, dtype=object)}
    calmed = dataclasses.replace(recording, topics={**recording.topics, "/verdict": other})
    assert "recorded NONE, replayed LIMITING: " in str(replay(calmed, LIMITS).first)
    assert found.differing == len(fallen) == found.kinds["verdict"]
    assert found.causes["limits.tilt_rad"] == (len(fallen), 0)
    assert "DAMP" not in found.levels["DAMP"]
    assert sum(found.levels["DAMP"].values()) == len(fallen)
    assert all(set(found.levels[level]) == {level} for level in ("NONE", "LIMITING", "HOLD"))


def test_one_changed_bit_of_a_command_is_found(recording: Recording) -> None:
    targets = recording.topics["/command"]["joint_target_rad"]
    tick = 40
    targets[tick, 5] = np.nextafter(targets[tick, 5], 9.0)
    difference = replay(recording, LIMITS).first
    assert difference is not None
    assert (difference.tick, difference.what) == (tick, "command")
    assert difference.recorded == f"joint 5 at {float(targets[tick, 5])!r} rad"


def test_another_policy_is_found_in_its_first_tick(recording: Recording) -> None:
    class Other(FakePolicy):
        """Starts a tick later."""

        def reset(self) -> None:
            """Keep one tick."""
            self.ticks = 1

    found = replay(recording, LIMITS, swaying(Other()))
    assert found.first is not None
    assert found.first.what == "policy"
    assert found.first.tick == list(recording.topics["/request"]["mode"]).index("POLICY")
    assert found.kinds["command"] > 1  # what it answers went through the gate


def test_another_number_of_joints_is_refused(recording: Recording) -> None:
    with pytest.raises(RecordingError, match="another number of joints"):
        replay(recording, GateLimits.of(robot_with(6)))


@pytest.mark.parametrize("lost", [slice(0, None), slice(3, 5)])
def test_a_recording_without_all_its_ticks_is_refused(recording: Recording, lost: slice) -> None:
    kept = {
        topic: {name: np.delete(values, lost, axis=0) for name, values in columns.items()}
        for topic, columns in recording.topics.items()
        if topic != "/policy"
    }
    with pytest.raises(RecordingError, match=r"holds no tick|lacks ticks.* got 2"):
        replay(dataclasses.replace(recording, topics=kept), LIMITS)


def test_the_command_names_the_recording_that_lacks_ticks(tmp_path: Path) -> None:
    rig, file = Rig(WALK[:1]), tmp_path / "holes.mcap"
    rig.loop.run(duration_s=0.2)
    del rig.recorder.ticks[3:5]
    recorded(rig, file)
    with pytest.raises(RecordingError, match=rf"{file}: the recording lacks ticks.* got 2"):
        Replay(file).run()


def test_the_command_takes_the_robot_from_the_recording(
    tmp_path: Path, recording: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    # QUICK differs from the attached robot.toml in blend_in_s, so the replay shows where it mattered.
    assert Replay(tmp_path / "run.mcap", json=True).run() == 1
    result = json.loads(capsys.readouterr().out)
    assert result["ticks"] == recording.ticks
    assert result["first"]["what"] == "command"
    assert result["differing"] == result["kinds"]["command"] > 0


def test_the_command_prints_what_other_limits_would_have_changed(
    tmp_path: Path, recording: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(QUAD12.file).read_text().replace("blend_in_s = 0.5", "blend_in_s = 0.1")
    limits = tmp_path / "robot.toml"
    limits.write_text(text)
    assert Replay(tmp_path / "run.mcap", limits=str(limits)).run() == 0
    assert f"{recording.ticks} ticks: every answer is the recorded one" in capsys.readouterr().out
    limits.write_text(text.replace("tilt_rad = 1.0", "tilt_rad = 1.6"))
    assert Replay(tmp_path / "run.mcap", limits=str(limits)).run() == 1
    out = capsys.readouterr().out
    assert re.search(r"limits.tilt_rad\W+\d+\W+0\W", out)
    assert re.search(r"DAMP\W+NONE\W+\d+\W", out)


def test_the_command_says_how_often_the_policy_was_asked_and_fails_where_it_never_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, limits = tmp_path / "run.mcap", tmp_path / "robot.toml"
    limits.write_text(Path(QUAD12.file).read_text().replace("blend_in_s = 0.5", "blend_in_s = 0.1"))
    rig = Rig((Step(0.0, mode="stand"), Step(0.5, mode="limp")))
    rig.loop.run()
    ticks = recorded(rig, file).ticks
    assert Replay(file, limits=str(limits)).run() == 0
    assert capsys.readouterr().out == f"{ticks} ticks: every answer is the recorded one, bit for bit\n"
    assert Replay(file, policy="quad12_walk", limits=str(limits)).run() == 1
    gate, policy = capsys.readouterr().out.splitlines()
    assert gate == f"{ticks} ticks: every answer of the gate is the recorded one, bit for bit"
    assert policy == "quad12_walk was asked 0 times: none was in charge in the recording"
    assert Replay(file, policy="quad12_walk", limits=str(limits), json=True).run() == 1
    assert json.loads(capsys.readouterr().out)["asked"] == 0


def test_the_policy_is_asked_at_the_recorded_rate_whatever_the_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, text = tmp_path / "run.mcap", Path(QUAD12.file).read_text()
    faster = text.replace("\nrate_hz = 50.0", "\nrate_hz = 50.0\nbus_rate_hz = 200.0")
    control = dataclasses.replace(QUICK.control, bus_rate_hz=4 * QUICK.control.rate_hz)
    rig = Rig(robot=dataclasses.replace(QUICK, control=control))
    rig.loop.run()
    asked = recorded(rig, file, faster).topics["/policy"]["tick"].size
    Replay(file, policy="quad12_walk", limits="quad12").run()
    assert f"quad12_walk was asked {asked} times\n" in capsys.readouterr().out
    Replay(file, policy="quad12_walk", json=True).run()
    assert json.loads(capsys.readouterr().out)["asked"] == asked > 10


def test_the_command_refuses_what_is_of_another_robot(tmp_path: Path, recording: Recording) -> None:
    limits = tmp_path / "robot.toml"
    limits.write_text(Path(QUAD12.file).read_text().replace('"FL_hip"', '"FL_hop"'))
    with pytest.raises(ConfigError, match="joint: are not those of the recording"):
        Replay(tmp_path / "run.mcap", limits=str(limits)).run()
    with pytest.raises(PolicyError, match="does not fit the recorded robot"):
        Replay(tmp_path / "run.mcap", policy="fetch_reach").run()
