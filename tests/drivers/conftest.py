"""Fixtures of the drivers' tests."""

from __future__ import annotations

import pytest

from tests.drivers.rig import ROBOT, Rig


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A rig that is not open; it does not wait for an IMU that never comes."""
    monkeypatch.setattr("robotrl.drivers.body._LISTEN_S", 0.0)
    monkeypatch.setattr("robotrl.drivers.imu._COMMAND_GAP_S", 0.0)
    return Rig()


@pytest.fixture
def ready(rig: Rig) -> Rig:
    """An open rig in the default posture, read once; what was sent so far is forgotten."""
    rig.body.open()
    rig.place(ROBOT.default_rad)
    rig.body.read(0.0)
    rig.bus.sent.clear()
    return rig
