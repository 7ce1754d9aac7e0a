"""quad12 with Feetech servos in the place of its own, read from a robot.toml like any other robot."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from robotrl.spec.buses import ServoProtocol
from robotrl.spec.records import load_toml
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from tests.spec.toml_text import to_toml

_FILE = find_shipped("hardware", "quad12")

STS3215 = {
    "protocol": "feetech_sts",
    "model_number": 777,
    "counts_per_rev": 4096,
    "velocity_unit_rad_s": 0.0015339807878856412,  # one step a second
    "pwm_full": 1000,
    "pwm_limit": 800,
    "position_p_gain": 32,  # factory value
    # Rhoban's BAM measured a duty cycle of 0.166 P per radian with an oscilloscope.
    "p_gain_divisor": 3.927,
    "stall_torque_nm": 1.9,
    "no_load_speed_rad_s": 5.4,
    "nominal_voltage_v": 7.4,
    "armature_kg_m2": 0.012,
    "friction_nm": 0.03,
    "temperature_limit_c": 70,
    "voltage_min_v": 4.5,
    "voltage_max_v": 8.0,
}
SCS0009 = STS3215 | {
    "protocol": "feetech_scs",
    "model_number": 1284,
    "counts_per_rev": 1229,  # 1024 steps of 300 degrees
    "velocity_unit_rad_s": 0.005113269292952138,
    "p_gain_divisor": 1.0,
    "voltage_max_v": 8.4,
}
SERVOS: dict[ServoProtocol, dict[str, Any]] = {"feetech_sts": STS3215, "feetech_scs": SCS0009}


def table(protocol: ServoProtocol) -> dict[str, Any]:
    """robot.toml of quad12 on Feetech servos at 7.4 V."""
    robot = load_toml(_FILE)
    robot["model"] = str(_FILE.parent / robot["model"])
    robot["bus"]["legs"] |= {
        "protocol": protocol,
        "fast_sync_read": False,
        "watchdog": "guardian",
    }
    robot["servo"] = {"feetech": SERVOS[protocol]}
    robot["supply"] |= {"open_v": 7.6, "stall_current_a": {"feetech": 2.5}}
    robot["limits"] |= {"temperature_c": 60.0, "voltage_min_v": 6.0, "voltage_max_v": 8.0}
    for joint in robot["joint"]:
        joint["servo"] = "feetech"
        if protocol == "feetech_scs":  # 300 degrees only
            joint["zero_count"] = 512
    return robot


def feetech_robot(protocol: ServoProtocol = "feetech_sts") -> RobotSpec:
    """The robot, through the only reader there is."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "robot.toml"
        file.write_text(to_toml(table(protocol)), encoding="utf-8")
        return load_robot(file)
