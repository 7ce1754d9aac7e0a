"""The report's figures, checked on a made-up run whose answers are known."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from robotrl.bench.facts import cable_facts, loop_facts, walk_facts
from robotrl.bench.flight import Event, longest, read_truth, smooth_velocity, steady
from robotrl.bench.gait import postures, stride
from robotrl.errors import RecordingError
from tests.bench.recorded import EVENTS, PULL_S, START_S, WALK_S, flight, truth


def test_errors_are_means_of_instantaneous_differences_while_the_policy_drives() -> None:
    walk = walk_facts(flight(), truth())
    assert walk.error_vx_m_s == pytest.approx(0.02, abs=1e-6)
    assert walk.error_vy_m_s == pytest.approx(0.0)
    assert walk.error_wz_rad_s == pytest.approx(0.1, abs=1e-6)


def test_swing_height_is_the_median_peak() -> None:
    assert walk_facts(flight(), truth()).swing_clearance_mm == pytest.approx(30.0, abs=0.5)


def test_a_bounce_is_no_swing() -> None:
    bounced = truth()
    for stamp in np.arange(WALK_S + 0.1, WALK_S + 3.9, 0.25):  # each foot stands for a quarter second
        bounced.foot_touch_n[np.searchsorted(bounced.stamp_s, stamp), :] = 0.0
    assert walk_facts(flight(), bounced).swing_clearance_mm == pytest.approx(30.0, abs=0.5)


def test_postures_are_turned_along_x_and_keep_their_shape() -> None:
    turned = truth()
    yaw = 0.5 * np.pi + 0.1 * turned.stamp_s
    turned.qpos[:, 3], turned.qpos[:, 6] = np.cos(yaw / 2), np.sin(yaw / 2)
    turned.qpos[:, 0], turned.qpos[:, 1] = np.sin(0.1), turned.stamp_s
    stamps = np.array([WALK_S, WALK_S + 1.0])
    first, second = postures(turned, stamps)
    assert first[:2] == pytest.approx([0.0, 0.0])
    assert first[3:7] == pytest.approx([1.0, 0.0, 0.0, 0.0])
    assert second[3:7] == pytest.approx([np.cos(0.05), 0.0, 0.0, np.sin(0.05)])
    heading = 0.5 * np.pi + 0.1 * WALK_S
    assert second[:2] == pytest.approx([np.sin(heading), np.cos(heading)])
    assert second[2] == pytest.approx(0.17)


def test_a_knee_on_the_ground_while_walking_is_seen_and_not_while_standing() -> None:
    touched = truth()
    touched.knee_touch_n[touched.stamp_s < WALK_S - 0.1, 0] = 9.0
    assert walk_facts(flight(), touched).knee_contact_s == 0.0
    touched.knee_touch_n[touched.between(WALK_S + 1.0, WALK_S + 1.1), 2] = 9.0
    assert walk_facts(flight(), touched).knee_contact_s == pytest.approx(0.1, abs=0.011)


def test_a_tick_that_starts_late_and_ends_after_its_period_has_missed_its_deadline() -> None:
    loop = loop_facts(flight())
    assert loop.missed_deadlines == 1
    assert loop.ticks == 500
    assert loop.tick_p50_ms == pytest.approx(6.0)


def test_limiting_counts_steady_walking_only() -> None:
    made = flight()
    level = list(made.level)
    tick = int((WALK_S + 2.0 - START_S) / 0.02)
    level[tick] = "LIMITING"
    level[3] = "LIMITING"  # standing
    count = int(np.count_nonzero(steady(made)))
    loop = loop_facts(dataclasses.replace(made, level=tuple(level)))
    assert loop.limiting_percent == pytest.approx(100 / count)


def test_the_pulled_cable_is_followed_to_the_re_arm() -> None:
    cable = cable_facts(flight(), truth(), EVENTS)
    assert cable is not None
    assert cable.noticed_ms == pytest.approx(26.0, abs=0.01)
    assert cable.reacted_ms == pytest.approx(46.0, abs=0.01)
    assert cable.reaction == "hold"
    assert cable.servos_stopped_ms == pytest.approx(110.0, abs=0.01)
    assert cable.moved_after_plug_rad == pytest.approx(0.002)


def test_motion_before_the_re_arm_is_not_hidden() -> None:
    moved = truth()
    moved.qpos[moved.stamp_s > PULL_S + 2.2, 7] = 0.5
    cable = cable_facts(flight(), moved, EVENTS)
    assert cable is not None
    assert cable.moved_after_plug_rad == pytest.approx(0.5)


def test_servos_that_never_stop_are_no_number() -> None:
    cable = cable_facts(flight(), truth(), [Event(PULL_S, "unplug legs")])
    assert cable is not None
    assert math.isnan(cable.servos_stopped_ms)
    assert math.isnan(cable.moved_after_plug_rad)


def test_a_robot_that_had_already_stopped_proves_nothing_about_the_cable() -> None:
    cable = cable_facts(flight(), truth(), [Event(PULL_S + 1.0, "unplug legs")])
    assert cable is not None
    assert math.isnan(cable.noticed_ms)
    assert math.isnan(cable.reacted_ms)


def test_no_pulled_cable_no_facts() -> None:
    assert cable_facts(flight(), truth(), []) is None


def test_steady_walking_leaves_out_the_start_and_the_hold() -> None:
    made = flight()
    chosen = made.stamp_s[steady(made)]
    assert chosen[0] == pytest.approx(WALK_S + 0.5)
    assert chosen[-1] == pytest.approx(PULL_S + 0.02)


def test_longest_stretch_is_cut_to_its_end() -> None:
    made = flight()
    window = longest(steady(made), made.stamp_s, at_most_s=2.0)
    assert window is not None
    assert window.end_s == pytest.approx(PULL_S + 0.02)
    assert window.end_s - window.start_s == pytest.approx(2.0)
    assert longest(np.zeros(500, dtype=bool), made.stamp_s, at_most_s=2.0) is None


def test_a_stride_is_from_touch_down_to_touch_down() -> None:
    made = flight()
    window = longest(steady(made), made.stamp_s, at_most_s=3.0)
    assert window is not None
    cycle = stride(truth(), window)
    assert cycle.end_s - cycle.start_s == pytest.approx(0.5, abs=0.011)


def test_smoothing_keeps_a_constant_velocity() -> None:
    middle = smooth_velocity(truth())[400]
    assert middle == pytest.approx([0.28, 0.0, 0.1])


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 truncated"])
def test_a_damaged_truth_file_is_bad_input(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "truth.npz"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RecordingError, match=r"truth\.npz"):
        read_truth(file)


def test_a_truth_file_without_an_array_is_bad_input(tmp_path: Path) -> None:
    np.savez(tmp_path / "truth.npz", stamp_s=np.zeros(3))
    with pytest.raises(RecordingError, match="qpos"):
        read_truth(tmp_path / "truth.npz")
