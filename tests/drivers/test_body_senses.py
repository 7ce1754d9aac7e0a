"""A body without an IMU, and one with an estimator: what the state holds, and what opening refuses."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from robotrl.drivers.body import SerialBody
from robotrl.drivers.estimator import encode
from robotrl.drivers.port import Port
from robotrl.errors import BadInputError, DeviceError, PortError
from robotrl.spec.robot import EstimatorSpec, RobotSpec
from tests.drivers.fake_bus import FakeBus
from tests.drivers.rig import IDS, ROBOT

BLIND = dataclasses.replace(
    ROBOT,
    imu=None,
    limits=dataclasses.replace(ROBOT.limits, tilt_rad=None, imu_stale_s=None, on_fall=None),
)
ESTIMATING = dataclasses.replace(
    BLIND,
    limits=dataclasses.replace(BLIND.limits, estimator_stale_s=0.1),
    estimator=EstimatorSpec("/dev/none", 460800, 100, ("tail",), ("nose", "ear")),
)


class FakeEstimator:
    """A `Port` behind which an estimator sends one packet per drain."""

    def __init__(self, size: int = 8) -> None:
        self.values = np.arange(size, dtype=float)
        self.sending, self.gone, self._sequence = True, False, 0

    def write(self, data: bytes) -> None:
        """Nothing is ever sent to it."""
        raise AssertionError(data)

    def read(self, deadline_s: float) -> bytes:
        """Return one packet."""
        return self.drain()

    def drain(self) -> bytes:
        """Return one packet."""
        if self.gone:
            raise PortError("port fake has gone away")
        if not self.sending:
            return b""
        self._sequence = (self._sequence + 1) % 256
        return encode(self._sequence, self.values)

    def close(self) -> None:
        """Nothing to release."""


def body_of(robot: RobotSpec, estimator: FakeEstimator) -> tuple[SerialBody, list[tuple[str, int]]]:
    """The body over fake ports, and what it opens."""
    bus, opened = FakeBus(IDS), list[tuple[str, int]]()

    def open_port(path: str, baud_bd: int) -> Port:
        opened.append((path, baud_bd))
        return estimator if path == "estimates" else bus

    ports = {"legs": "servos"} | ({"estimator": "estimates"} if robot.estimator else {})
    return SerialBody(robot, ports, open_port), opened


def test_without_an_imu_its_part_of_the_state_never_came() -> None:
    body, opened = body_of(BLIND, FakeEstimator())
    body.open()
    state = body.read(1.0)
    assert opened == [("servos", 1000000)]
    assert (state.joint_age_s == 0).all()
    assert math.isinf(state.imu_age_s)
    for values, size in ((state.imu_quat, 4), (state.imu_gyro_rad_s, 3), (state.imu_accel_m_s2, 3)):
        assert np.isnan(values).all()
        assert values.shape == (size,)
    assert (state.estimate, state.estimate_age_s) == ({}, math.inf)


def test_without_an_imu_there_is_no_such_port() -> None:
    with pytest.raises(BadInputError, match="the robot has no such port, got 'imu'; allowed: legs"):
        SerialBody(BLIND, {"imu": "/dev/null"})


def test_an_estimate_is_named_shaped_and_as_old_as_its_packet() -> None:
    estimator = FakeEstimator()
    body, opened = body_of(ESTIMATING, estimator)
    body.open()
    state = body.read(1.0)
    assert opened == [("servos", 1000000), ("estimates", 460800)]
    assert {name: values.tolist() for name, values in state.estimate.items()} == {
        "passive_joint_pos": [0.0],
        "passive_joint_vel": [1.0],
        "point_pos": [[2.0, 3.0, 4.0], [5.0, 6.0, 7.0]],
    }
    assert state.estimate_age_s == 0.0
    estimator.sending = False
    estimator.values = estimator.values + 1
    later = body.read(1.5)
    assert later.estimate_age_s == 0.5
    np.testing.assert_array_equal(later.estimate["point_pos"], state.estimate["point_pos"])
    estimator.gone = True
    assert body.read(2.0).estimate_age_s == 1.0


def test_a_silent_estimator_is_missed_when_opening() -> None:
    estimator = FakeEstimator()
    estimator.sending = False
    body, _ = body_of(ESTIMATING, estimator)
    with pytest.raises(DeviceError, match="estimator on estimates: no packets arrive at 460800 baud"):
        body.open()


def test_an_estimator_of_another_robot_is_refused() -> None:
    body, _ = body_of(ESTIMATING, FakeEstimator(size=5))
    with pytest.raises(DeviceError, match="estimator on estimates: packets hold 5 values instead of 8"):
        body.open()


def test_a_closed_body_measures_nothing() -> None:
    body, _ = body_of(ESTIMATING, FakeEstimator())
    with pytest.raises(DeviceError, match="the body is not open"):
        body.read(1.0)
