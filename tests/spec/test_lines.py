"""Lines of robot.toml: ports of their own, joints on every bus, and streams that fit, sized as drivers do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robotrl.drivers import estimator, gx5, imu, microstrain, vn100
from robotrl.drivers.bno08x import FRAMING as RVC
from robotrl.drivers.vectornav import encode as vectornav
from robotrl.errors import ConfigError
from robotrl.spec.lines import ESTIMATE_OVERHEAD_BYTES, ESTIMATE_VALUE_BYTES, IMU_SAMPLE_BYTES
from robotrl.spec.records import load_toml
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped
from tests.spec.toml_text import changed, to_toml

TABLE = load_toml(find_shipped("hardware", "quad12"))
ESTIMATOR = {"port": "/dev/estimator", "baud_bd": 115200, "rate_hz": 100, "points": ["FL_foot"]}


def refusal(folder: Path, table: dict[str, Any]) -> ConfigError:
    """The error that this robot.toml gets."""
    file = folder / "robot.toml"
    file.write_text(to_toml(table), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_robot(file)
    assert "; allowed: " in str(refused.value)
    return refused.value


def test_a_bus_needs_a_joint(tmp_path: Path) -> None:
    spare = {**TABLE["bus"]["legs"], "port": "/dev/spare"}
    error = refusal(tmp_path, changed(TABLE, ("bus", "spare"), spare))
    assert error.key == "bus.spare"
    assert "has no joint" in str(error)


def test_no_two_devices_share_a_port(tmp_path: Path) -> None:
    legs = TABLE["bus"]["legs"]["port"]
    error = refusal(tmp_path, changed(TABLE, ("imu", "port"), legs))
    assert (error.key, error.value) == ("imu.port", legs)
    assert "is the port of bus.legs already" in str(error)


@pytest.mark.parametrize(
    ("model", "baud_bd", "rate_hz", "most_hz"),
    [("wt901", 9600, 50, 29), ("vn100", 9600, 50, 20), ("gx5", 9600, 50, 28)],
)
def test_an_imu_sends_no_more_than_its_line_carries(
    tmp_path: Path, model: str, baud_bd: int, rate_hz: int, most_hz: int
) -> None:
    slow = {**TABLE["imu"], "model": model, "baud_bd": baud_bd, "rate_hz": rate_hz}
    error = refusal(tmp_path, changed(TABLE, ("imu",), slow))
    assert (error.key, error.value) == ("imu.rate_hz", rate_hz)
    assert f"up to {most_hz}" in str(error)


def test_an_estimator_sends_no_more_than_its_line_carries(tmp_path: Path) -> None:
    """A point is 3 values: 18 bytes, 640 times a second at most."""
    table = changed(TABLE, ("limits", "estimator_stale_s"), 0.05)
    most, more = ({**ESTIMATOR, "rate_hz": rate_hz} for rate_hz in (640, 641))
    file = tmp_path / "robot.toml"
    file.write_text(to_toml({**table, "estimator": most}), encoding="utf-8")
    spec = load_robot(file).estimator
    assert spec is not None
    assert spec.rate_hz == 640
    error = refusal(tmp_path, {**table, "estimator": more})
    assert (error.key, error.value) == ("estimator.rate_hz", 641)


def test_sizes_are_those_that_the_drivers_configure() -> None:
    vectors = {field: (0.0,) * (4 if "QUATERNION" in field.name else 3) for field in vn100.MEASURED}
    inertial = microstrain.imu_packet(dict.fromkeys(gx5.MEASURED, (0.0, 0.0, 0.0))).encode()
    assert {
        "wt901": imu.CONTENT.bit_count() * imu.FRAME_SIZE,
        "bno08x": RVC.measure(b""),
        "vn100": len(vectornav(vectors)),
        "gx5": len(inertial),
    } == IMU_SAMPLE_BYTES
    assert len(estimator.encode(0, np.zeros(3))) == ESTIMATE_OVERHEAD_BYTES + 3 * ESTIMATE_VALUE_BYTES
