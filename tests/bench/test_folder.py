"""A run's folder, written by the real recorder, read back as a flight."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from robotrl.bench.flight import POLICY
from robotrl.bench.folder import METRICS, RECORDING, SUMMARY, TRAINING, read_run
from robotrl.errors import RecordingError
from robotrl.runtime.clock import FakeClock
from robotrl.runtime.loop import Loop
from robotrl.runtime.operator import Script, Step
from robotrl.runtime.recorder import McapRecorder
from robotrl.runtime.recording import ROBOT_NAME
from tests.laws.rig import QUAD12
from tests.runtime.fakes import RANGES, FakeBody, FakePolicy

WALK_S = QUAD12.control.stand_s + 0.5
STEPS = (
    Step(0.0, mode="stand"),
    Step(WALK_S, mode="policy", velocity=(0.3, 0.0, 0.0)),
    Step(WALK_S + 2.0, mode="limp"),
)
ATTACHED = {ROBOT_NAME: Path(QUAD12.file).read_bytes()}


def _record(folder: Path, attachments: dict[str, bytes]) -> None:
    """Record `STEPS`, from 10 s on."""
    with McapRecorder(folder / RECORDING, attachments) as recorder:
        script = Script(STEPS, RANGES)
        clock = FakeClock(10.0)
        Loop(QUAD12, FakeBody(QUAD12), FakePolicy(), script, clock, armed=True, recorder=recorder).run()


def test_a_flight_shows_what_was_asked_sent_and_done(tmp_path: Path) -> None:
    _record(tmp_path, ATTACHED)
    flight = read_run(tmp_path).flight
    assert flight.joint_names == QUAD12.joint_names
    assert flight.period_s == 0.02
    assert np.diff(flight.stamp_s) == pytest.approx(0.02)
    walking = flight.stamp_s[flight.walking]
    assert walking[0] - flight.start_s == pytest.approx(WALK_S, abs=0.03)
    assert flight.velocity_command[flight.walking][0] == pytest.approx([0.3, 0.0, 0.0])
    mode = np.array(flight.mode)
    tracked = np.isfinite(flight.joint_target_rad[:, 0])
    assert tracked[mode == POLICY].all()
    assert not tracked[mode == "LIMP"].any()
    assert flight.joint_pos_rad[tracked][1:] == pytest.approx(flight.joint_target_rad[tracked][:-1])


def test_events_of_loop_and_emulator_are_told_in_order_of_time(tmp_path: Path) -> None:
    _record(tmp_path, ATTACHED)
    reported = [{"stamp_s": 13.0, "name": "unplug legs"}, {"stamp_s": 13.1, "name": "watchdog 11"}]
    (tmp_path / SUMMARY).write_text(json.dumps({"events": reported}), encoding="utf-8")
    names = [event.name for event in read_run(tmp_path).events]
    assert names == ["rise", "stand", "policy", "unplug legs", "watchdog 11", "park", "limp"]


def test_the_training_log_is_found_in_the_demos_folder(tmp_path: Path) -> None:
    _record(tmp_path, ATTACHED)
    assert read_run(tmp_path).training == ()
    (tmp_path / TRAINING).mkdir()
    rows = ({"seconds": 0.5, "steps": 100}, {"seconds": 1.0, "steps": 200})
    (tmp_path / TRAINING / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_run(tmp_path).training == rows


def test_a_recording_that_names_no_robot_needs_it_as_an_option(tmp_path: Path) -> None:
    _record(tmp_path, {})
    with pytest.raises(RecordingError, match="--robot"):
        read_run(tmp_path)
    assert read_run(tmp_path, "quad12").robot.name == "quad12"


def test_a_damaged_summary_is_bad_input(tmp_path: Path) -> None:
    _record(tmp_path, ATTACHED)
    (tmp_path / SUMMARY).write_text("{", encoding="utf-8")
    with pytest.raises(RecordingError, match=r"summary\.json"):
        read_run(tmp_path)


def test_events_keep_their_stamps(tmp_path: Path) -> None:
    _record(tmp_path, ATTACHED)
    [policy] = [event for event in read_run(tmp_path).events if event.name == "policy"]
    assert policy.stamp_s == pytest.approx(10.02 + WALK_S, abs=0.03)
