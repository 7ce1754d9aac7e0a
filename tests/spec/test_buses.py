"""Laws of the buses in robot.toml: what a protocol does not allow is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from robotrl.drivers import scs, sts
from robotrl.drivers import xseries as x
from robotrl.errors import ConfigError
from robotrl.spec.buses import BAUD_RATES, ServoProtocol
from robotrl.spec.records import load_toml
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped
from tests.feetech_robot import SERVOS, feetech_robot, table
from tests.spec.toml_text import changed, to_toml, without

FEETECH = pytest.mark.parametrize("protocol", SERVOS)
QUAD12 = load_toml(find_shipped("hardware", "quad12"))


def refusal(folder: Path, robot: dict[str, Any]) -> ConfigError:
    """The error that this robot.toml gets."""
    file = folder / "robot.toml"
    file.write_text(to_toml(robot), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_robot(file)
    return refused.value


@FEETECH
def test_a_robot_of_feetech_servos_is_read(protocol: ServoProtocol) -> None:
    robot = feetech_robot(protocol)
    assert robot.bus["legs"].protocol == protocol
    assert robot.bus["legs"].watchdog == "guardian"


@FEETECH
def test_feetech_servos_without_a_guardian_are_refused(tmp_path: Path, protocol: ServoProtocol) -> None:
    for robot in (
        without(table(protocol), ("bus", "legs", "watchdog")),
        changed(table(protocol), ("bus", "legs", "watchdog"), "servo"),
    ):
        error = refusal(tmp_path, robot)
        assert error.key == "bus.legs.watchdog"
        assert "have none; a guardian process" in str(error)
        assert "allowed: guardian" in str(error)


@FEETECH
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("bus", "legs", "baud_bd"), 3000000),
        (("bus", "legs", "baud_bd"), 57600),
        (("bus", "legs", "fast_sync_read"), True),
        (("servo", "feetech", "position_p_gain"), 255),
        (("servo", "feetech", "pwm_full"), 1001),
    ],
    ids=str,
)
def test_what_feetech_servos_cannot_do_is_refused(
    tmp_path: Path, protocol: ServoProtocol, path: tuple[str, ...], value: object
) -> None:
    error = refusal(tmp_path, changed(table(protocol), path, value))
    assert error.key == ".".join(path)
    assert error.value == value
    assert "; allowed: " in str(error)


def test_a_servo_of_another_protocol_than_its_bus_is_refused(tmp_path: Path) -> None:
    robot = changed(QUAD12, ("bus", "legs", "baud_bd"), 1000000)
    robot["servo"]["feetech"] = SERVOS["feetech_sts"] | {"voltage_max_v": 14.0, "temperature_limit_c": 80}
    robot["supply"]["stall_current_a"]["feetech"] = 2.5
    robot["joint"][3]["servo"] = "feetech"
    error = refusal(tmp_path, robot)
    assert (error.key, error.value) == ("joint[3].servo", "feetech")
    assert "does not speak dynamixel2 as bus legs does" in str(error)
    assert "allowed: xc430_w240" in str(error)


def test_a_dynamixel_bus_lacks_feetech_rates(tmp_path: Path) -> None:
    error = refusal(tmp_path, changed(QUAD12, ("bus", "legs", "baud_bd"), 500000))
    assert error.key == "bus.legs.baud_bd"


def test_a_dynamixel_bus_may_have_a_guardian_too(tmp_path: Path) -> None:
    file = tmp_path / "robot.toml"
    file.write_text(to_toml(changed(QUAD12, ("bus", "legs", "watchdog"), "guardian")), encoding="utf-8")
    assert load_robot(file).bus["legs"].watchdog == "guardian"


def test_every_rate_has_a_code_in_the_servos_register() -> None:
    registers = {"dynamixel2": x.BAUD_RATE, "feetech_sts": sts.BAUD_RATE, "feetech_scs": scs.BAUD_RATE}
    for protocol, rates in BAUD_RATES.items():
        assert len(set(rates)) == len(rates) <= registers[protocol].maximum + 1
