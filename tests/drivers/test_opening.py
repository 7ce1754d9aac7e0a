"""Opening the body: what is configured, what is refused, and that nothing moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from robotrl.drivers import xseries as x
from robotrl.drivers.body import SerialBody
from robotrl.drivers.handshake import configuration
from robotrl.drivers.registers import Area
from robotrl.errors import BadInputError, DeviceError, PortError
from tests.drivers.rig import NAMES, ROBOT, Rig


def test_opening_configures_every_servo_and_moves_nothing(rig: Rig) -> None:
    rig.body.open()
    assert rig.opened == [("servo port", 1000000), ("imu port", 115200)]
    for register, values in configuration(ROBOT, ROBOT.joint):
        assert rig.servos(register) == values.tolist(), register.name
    assert rig.servos(x.TORQUE_ENABLE) == [0] * 12
    assert rig.servos(x.BUS_WATCHDOG) == [0] * 12
    assert "Goal Position" not in rig.bus.writes()


def test_the_configuration_is_that_of_robot_toml() -> None:
    written = {register.name: values for register, values in configuration(ROBOT, ROBOT.joint)}
    assert set(written["PWM Limit"]) == {708}
    assert set(written["Position P Gain"]) == {700}
    assert set(written["Temperature Limit"]) == {80}
    assert set(written["Max Voltage Limit"]) == {148}
    assert set(written["Min Voltage Limit"]) == {65}
    fl_hip, fr_hip = NAMES.index("FL_hip"), NAMES.index("FR_hip")  # -0.7 to 1.9 rad, signs + and -
    limits = list(zip(written["Min Position Limit"], written["Max Position Limit"], strict=True))
    assert limits[fl_hip] == (1592, 3287)
    assert limits[fr_hip] == (809, 2504)


def test_a_servo_that_holds_the_configuration_is_not_written_again(rig: Rig) -> None:
    rig.body.open()
    rig.body.close()
    rig.bus.sent.clear()
    rig.body.open()
    eeprom = {r.name for r in x.REGISTERS.values() if r.area is Area.EEPROM}
    assert not eeprom & {name for name in rig.bus.writes() if not name.startswith("?")}
    assert all(packet.code != 0x03 for packet in rig.bus.sent)


def test_a_servo_left_with_torque_on_and_a_tripped_watchdog_is_taken_over(rig: Rig) -> None:
    for servo in rig.bus.servos.values():
        servo[x.TORQUE_ENABLE], servo[x.BUS_WATCHDOG] = 1, x.WATCHDOG_TRIPPED
        servo[x.STATUS_RETURN_LEVEL] = 1
    rig.body.open()
    assert rig.servos(x.TORQUE_ENABLE) == [0] * 12
    assert rig.servos(x.STATUS_RETURN_LEVEL) == [2] * 12


Spoil = Callable[[Rig], None]


def wrong_model(rig: Rig) -> None:
    rig.bus.servos[22][x.MODEL_NUMBER] = 1060


def missing_servo(rig: Rig) -> None:
    del rig.bus.servos[13], rig.bus.servos[41]


def no_servo(rig: Rig) -> None:
    rig.bus.servos.clear()


def wrong_read_back(rig: Rig) -> None:
    rig.bus.servos[31].stuck[x.PWM_LIMIT] = 885


def stuck_torque(rig: Rig) -> None:
    rig.bus.servos[31][x.TORQUE_ENABLE] = rig.bus.servos[31].stuck[x.TORQUE_ENABLE] = 1


def overload(rig: Rig) -> None:
    rig.bus.servos[12][x.HARDWARE_ERROR_STATUS] = 0x21


def deaf_imu(rig: Rig) -> None:
    rig.imu.sending = rig.imu.obeys = False


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (wrong_model, r"servo 22 \(FR_hip\) has model number 1060; servo.xc430_w240.model_number is 1080"),
        (
            missing_servo,
            r"bus legs on servo port: no answer from servo 13 \(FL_knee\), servo 41 \(RR_abduction",
        ),
        (no_servo, "bus legs on servo port: no servo answers; check power, cable, baud rate and ids"),
        (wrong_read_back, r"31 \(RL_abduction\): PWM Limit \(36\) was written as 708 but reads 885"),
        (stuck_torque, r"31 \(RL_abduction\): Torque Enable \(64\) was written as 0 but reads 1"),
        (overload, r"12 \(FL_hip\) reports hardware error input voltage, overload"),
        (deaf_imu, "imu on imu port: acceleration.* do not arrive at 115200 baud"),
    ],
)
def test_opening_refuses_a_body_that_is_not_the_robot(rig: Rig, spoil: Spoil, sentence: str) -> None:
    spoil(rig)
    with pytest.raises(DeviceError, match=sentence):
        rig.body.open()
    assert rig.bus.closed


def test_a_missing_port_is_told_and_leaves_none_open(rig: Rig) -> None:
    rig.present = False
    with pytest.raises(PortError, match="port servo port does not exist"):
        rig.body.open()


def test_an_imu_with_factory_settings_is_configured(rig: Rig) -> None:
    rig.imu.sending = False
    rig.body.open()
    assert rig.imu.written.startswith(bytes.fromhex("FF AA 69 88 B5"))
    assert rig.imu.written.endswith(bytes.fromhex("FF AA 00 00 00"))


def test_an_imu_that_sends_everything_is_left_alone(rig: Rig) -> None:
    rig.body.open()
    assert rig.imu.written == b""


def test_opening_survives_lost_packets(rig: Rig) -> None:
    rig.bus.faults = ([lambda reply: reply] * 4 + [lambda _: b""]) * 12
    rig.body.open()
    assert rig.bus.faults == []
    assert rig.servos(x.PWM_LIMIT) == [708] * 12


def test_ports_that_the_robot_does_not_have_are_refused() -> None:
    with pytest.raises(BadInputError, match="no such port, got 'arms'; allowed: legs, imu"):
        SerialBody(ROBOT, {"arms": "x"})
