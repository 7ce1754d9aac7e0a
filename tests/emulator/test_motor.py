"""The servo as a machine: torque-speed line, position control, encoder, heat, load, supply."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import xseries as x
from robotrl.emulator.dynamixel_control import OVERLOAD_S
from robotrl.emulator.motor import (
    AMBIENT_C,
    HEAT_CAPACITY_J_K,
    THERMAL_RESISTANCE_K_W,
    warmed_c,
)
from robotrl.emulator.plant import STEP_S
from tests.emulator.host import Host

ID = 11  # row 0, sign +1
SERVO = Host().robot.servo["xc430_w240"]
COUNT_RAD = 1 / SERVO.counts_per_rad


@pytest.fixture
def host() -> Host:
    """Twelve servos at count 2048, torque on, at 12.0 V."""
    host = Host()
    host.position_rad[:] = 0.0
    host.live(0.02)
    host.send(dxl.write(dxl.BROADCAST_ID, x.GOAL_POSITION.address, x.GOAL_POSITION.encode(2048)))
    host.send(dxl.write(dxl.BROADCAST_ID, x.TORQUE_ENABLE.address, b"\x01"))
    return host


def torque_nm(host: Host) -> float:
    host.live(STEP_S)
    return float(host.bus.torque_nm[0])


def test_stall_torque_is_the_data_sheets(host: Host) -> None:
    host.write(ID, x.GOAL_POSITION, 4095)
    assert torque_nm(host) == pytest.approx(1.9, rel=0.02)


def test_a_free_shaft_runs_at_the_data_sheets_no_load_speed(host: Host) -> None:
    host.write(ID, x.GOAL_POSITION, 4095)
    fastest = 0.0
    for _ in range(300):
        host.velocity_rad_s[0] += torque_nm(host) / SERVO.armature_kg_m2 * STEP_S
        host.position_rad[0] += host.velocity_rad_s[0] * STEP_S
        fastest = max(fastest, host.velocity_rad_s[0])
    assert fastest == pytest.approx(70 * 2 * math.pi / 60, rel=0.02)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_torque_falls_linearly_with_speed(host: Host, share: float) -> None:
    host.write(ID, x.GOAL_POSITION, 4095)
    host.velocity_rad_s[0] = share * SERVO.no_load_speed_rad_s
    assert torque_nm(host) == pytest.approx((1 - share) * 1.9, rel=0.02)


def test_torque_scales_with_the_supply(host: Host) -> None:
    host.write(ID, x.GOAL_POSITION, 4095)
    host.supply_v = 9.0
    assert torque_nm(host) == pytest.approx(1.9 * 9 / 12, rel=0.02)


def test_pwm_limit_bounds_the_torque(host: Host) -> None:
    host.write(ID, x.TORQUE_ENABLE, 0)
    host.write(ID, x.PWM_LIMIT, 708)
    host.write(ID, x.TORQUE_ENABLE, 1)
    host.write(ID, x.GOAL_POSITION, 4095)
    assert torque_nm(host) == pytest.approx(SERVO.torque_limit_nm, rel=0.01)
    assert host.read(ID, x.PRESENT_PWM) == 708


def test_goal_pwm_bounds_the_torque(host: Host) -> None:
    host.write(ID, x.GOAL_PWM, 300)
    host.write(ID, x.GOAL_POSITION, 0)
    torque_nm(host)
    assert host.read(ID, x.PRESENT_PWM) == -300
    assert host.read(ID, x.PRESENT_LOAD) == round(-1000 * 300 / 885)


def test_small_errors_meet_the_stiffness_of_robot_toml(host: Host) -> None:
    host.position_rad[:] = -0.1
    assert torque_nm(host) == pytest.approx(0.1 * SERVO.stiffness_nm_rad, rel=0.02)


def test_a_mirrored_servo_pulls_its_joint_the_same_way(host: Host) -> None:
    mirrored = host.robot.joint_names.index("FR_hip")
    assert host.robot.joint[mirrored].sign == -1
    host.position_rad[:] = -0.1
    torque_nm(host)
    assert host.bus.torque_nm[mirrored] == pytest.approx(host.bus.torque_nm[0])
    assert host.read(22, x.PRESENT_POSITION) == round(2048 + 0.1 / COUNT_RAD)
    assert host.bus.goal_rad[mirrored] == 0.0


def test_without_stiffness_the_shorted_motor_brakes(host: Host) -> None:
    host.write(ID, x.POSITION_P_GAIN, 0)
    host.write(ID, x.GOAL_POSITION, 4095)
    host.velocity_rad_s[0] = 2.0
    assert torque_nm(host) == pytest.approx(-2.0 * SERVO.back_emf_nm_s_rad)


def test_torque_off_opens_the_circuit(host: Host) -> None:
    host.write(ID, x.GOAL_POSITION, 4095)
    host.write(ID, x.TORQUE_ENABLE, 0)
    host.velocity_rad_s[0] = 2.0
    assert torque_nm(host) == 0.0


def test_a_goal_survives_torque_off(host: Host) -> None:
    host.write(ID, x.GOAL_POSITION, 3000)
    host.write(ID, x.TORQUE_ENABLE, 0)
    host.live(0.1)
    assert host.read(ID, x.GOAL_POSITION) == 3000


def test_the_encoder_rounds_to_counts(host: Host) -> None:
    seen = set()
    for step in range(40):
        host.position_rad[0] = step * COUNT_RAD / 10
        host.live(STEP_S)
        seen.add(host.read(ID, x.PRESENT_POSITION) - 2048)
        assert abs(host.position_rad[0] / COUNT_RAD - max(seen)) <= 0.5 + 1e-9
    assert seen == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("speed", [-3.0, 0.5, 6.0])
def test_present_velocity_is_within_one_encoder_count_over_its_window(host: Host, speed: float) -> None:
    host.velocity_rad_s[0] = speed
    for _ in range(30):
        host.position_rad[0] += speed * STEP_S
        host.live(STEP_S)
    measured = host.read(ID, x.PRESENT_VELOCITY) * SERVO.velocity_unit_rad_s
    assert measured == pytest.approx(speed, abs=COUNT_RAD / 0.01 + SERVO.velocity_unit_rad_s)
    assert host.read(ID, x.MOVING) == int(abs(speed) > 10 * SERVO.velocity_unit_rad_s)


def test_a_stalled_motor_at_full_drive_shuts_down_by_overload(host: Host) -> None:
    host.write(ID, x.GOAL_POSITION, 4095)
    host.live(OVERLOAD_S - 0.05)
    assert host.read(ID, x.TORQUE_ENABLE) == 1
    host.live(0.1)
    assert host.read(ID, x.HARDWARE_ERROR_STATUS) == x.HardwareError.OVERLOAD
    assert host.read(ID, x.TORQUE_ENABLE) == 0
    assert host.read(12, x.HARDWARE_ERROR_STATUS) == 0


def test_full_drive_on_a_turning_shaft_is_no_overload(host: Host) -> None:
    host.write(ID, x.GOAL_POSITION, 4095)
    host.velocity_rad_s[0] = 1.0
    host.live(OVERLOAD_S + 0.2)
    assert host.read(ID, x.HARDWARE_ERROR_STATUS) == 0


def test_holding_a_torque_warms_the_servo_and_it_says_so(host: Host) -> None:
    host.write(ID, x.GOAL_POSITION, 2048 + 100)
    host.live(1.0)
    current_a = float(abs(host.bus.torque_nm[0])) / 1.9 * 1.4
    rise_c = current_a**2 * (12 / 1.4) / HEAT_CAPACITY_J_K
    assert host.bus.temperature_c[0] - AMBIENT_C == pytest.approx(rise_c, rel=0.05)
    host.bus.heat_c[0] = 61.4
    host.live(STEP_S)
    assert host.read(ID, x.PRESENT_TEMPERATURE) == 61


def test_heat_settles_where_loss_equals_input() -> None:
    temperature_c = np.array([AMBIENT_C])
    for _ in range(20000):
        temperature_c = warmed_c(temperature_c, np.array([2.0]), 0.5)
    assert temperature_c[0] == pytest.approx(AMBIENT_C + 2.0 * THERMAL_RESISTANCE_K_W, abs=0.01)


def test_the_battery_sags_under_load_and_braking_charges_nothing() -> None:
    supply = Host().robot.supply
    assert supply.voltage_v(5.0) < supply.voltage_v(1.0) < supply.voltage_v(0.0) < supply.open_v
    assert supply.voltage_v(-5.0) == supply.voltage_v(0.0)


def test_present_input_voltage(host: Host) -> None:
    host.supply_v = 11.34
    host.live(STEP_S)
    assert host.read(ID, x.PRESENT_INPUT_VOLTAGE) == 113
