"""The emulated robot as a child process: its ports, its cable and its record."""

from __future__ import annotations

from pathlib import Path

import pytest

from robotrl.bench.emulated import EmulatedRobot
from robotrl.bench.flight import read_truth
from robotrl.errors import DeviceError


def test_it_has_ports_obeys_and_leaves_its_record(tmp_path: Path) -> None:
    with EmulatedRobot("quad12", tmp_path / "truth.npz") as robot:
        assert set(robot.ports) == {"legs", "imu"}
        assert all(Path(port).exists() for port in robot.ports.values())
        robot.send("unplug legs")
        robot.send("plug legs")
    assert [event.name for event in robot.events][:2] == ["unplug legs", "plug legs"]
    assert robot.events[0].stamp_s <= robot.events[1].stamp_s
    record = read_truth(tmp_path / "truth.npz")
    assert record.qpos.shape == (record.stamp_s.size, 19)


def test_one_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="exit code 2"):
        EmulatedRobot("no-such-robot", tmp_path / "truth.npz")
