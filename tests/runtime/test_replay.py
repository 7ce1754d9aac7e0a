"""Laws of replay: the recorded answers again, bit for bit, and the first difference where there is one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from robotrl.cli.replay import Replay
from robotrl.errors import RecordingError
from robotrl.runtime.operator import Step
from robotrl.runtime.recorder import McapRecorder
from robotrl.runtime.recording import Recording, read_recording
from robotrl.runtime.replay import replay
from robotrl.spec.gate import GateLimits
from tests.laws.rig import QUAD12, robot_with, tilted
from tests.runtime.fakes import QUICK, WALK, FakePolicy, Rig

LIMITS = GateLimits.of(QUICK)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """A walk that is pushed, loses its IMU, is re-armed, walks on and falls."""
    rig = Rig((*WALK[:3], Step(1.2, rearm=True), Step(1.3, mode="stand"), Step(1.7, mode="policy")))

    def change(now_s: float) -> dict[str, object]:
        if now_s > 12.0:
            return {"imu_quat": tilted(1.5, 0.3)}
        if 11.0 < now_s < 11.1:
            return {"imu_age_s": now_s - 11.0}
        pushed = np.where(np.arange(12) == 4, 0.3, 0.0) * (10.7 < now_s < 10.75)
        return {"joint_pos_rad": rig.body.pos_rad + pushed}

    rig.body.change = change
    rig.loop.run(duration_s=2.3)
    file = tmp_path / "run.mcap"
    with McapRecorder(file, {"robot.toml": Path(QUAD12.file).read_bytes()}) as recorder:
        for tick in rig.recorder.ticks:
            recorder.tick(tick)
    return read_recording(file)


def test_gate_and_policy_answer_again_what_they_answered(recording: Recording) -> None:
    levels = set(recording.topics["/verdict"]["level"])
    assert levels == {"NONE", "LIMITING", "HOLD", "DAMP"}
    assert recording.topics["/request"]["rearmed"].sum() == 1
    assert recording.topics["/request"]["policy_reset"].sum() == 2
    assert replay(recording, LIMITS, FakePolicy()) is None


def test_another_limit_shows_in_the_first_tick_it_matters(recording: Recording) -> None:
    strict = dataclasses.replace(LIMITS, scalar=dataclasses.replace(QUICK.limits, tilt_rad=1.6))
    difference = replay(recording, strict)
    assert difference is not None
    fallen = list(recording.topics["/verdict"]["level"]).index("DAMP")
    assert (difference.tick, difference.what) == (fallen, "command")
    assert (difference.recorded, difference.replayed) == ("DAMP", "TRACK")
    assert f"tick {fallen}" in str(difference)


def test_one_changed_bit_of_a_command_is_found(recording: Recording) -> None:
    targets = recording.topics["/command"]["joint_target_rad"]
    tick = 40
    targets[tick, 5] = np.nextafter(targets[tick, 5], 9.0)
    difference = replay(recording, LIMITS)
    assert difference is not None
    assert (difference.tick, difference.what) == (tick, "command")
    assert difference.recorded == f"joint 5 at {float(targets[tick, 5])!r} rad"


def test_another_policy_is_found_in_its_first_tick(recording: Recording) -> None:
    class Other(FakePolicy):
        """Starts a tick later."""

        def reset(self) -> None:
            """Keep one tick."""
            self.ticks = 1

    difference = replay(recording, LIMITS, Other())
    assert difference is not None
    assert difference.what == "policy"
    assert difference.tick == list(recording.topics["/request"]["mode"]).index("POLICY")


def test_another_number_of_joints_is_refused(recording: Recording) -> None:
    with pytest.raises(RecordingError, match="another number of joints"):
        replay(recording, GateLimits.of(robot_with(6)))


def test_the_command_takes_the_robot_from_the_recording(
    tmp_path: Path, recording: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    # QUICK differs from the attached robot.toml in blend_in_s, so the replay shows where it mattered.
    assert Replay(tmp_path / "run.mcap", json=True).run() == 1
    result = json.loads(capsys.readouterr().out)
    assert result["ticks"] == recording.ticks
    assert result["difference"]["what"] == "command"


def test_the_command_is_fine_with_an_equal_replay(
    tmp_path: Path, recording: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(QUAD12.file).read_text().replace("blend_in_s = 0.5", "blend_in_s = 0.1")
    (tmp_path / "robot.toml").write_text(text)
    assert Replay(tmp_path / "run.mcap", robot=str(tmp_path / "robot.toml")).run() == 0
    assert f"{recording.ticks} ticks: every answer is the recorded one" in capsys.readouterr().out
