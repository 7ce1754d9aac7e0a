"""Every servo model of the X series behind the driver: opened, held, restarted, and its registers' units."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robotrl.drivers import xseries as x
from robotrl.drivers.models import MODELS
from robotrl.drivers.registers import ControlTable
from robotrl.emulator.dynamixel_servos import DynamixelServos
from robotrl.emulator.faults import FaultScript, ServoFault
from robotrl.spec.robot import RobotSpec
from tests.emulator.host import quad12
from tests.hil.on_emulated_time import emulated_robot
from tests.hil.timelines import follows, run_until_strike, shifted, watch

X_SERIES = [table for table in MODELS.values() if x.GOAL_POSITION in table]
STALL_A = 1.4


def robot_with(table: ControlTable) -> RobotSpec:
    """quad12 on servos of another model, at a voltage that they take."""
    robot = quad12()
    lowest_v = table[x.MIN_VOLTAGE_LIMIT].minimum * x.VOLTAGE_UNIT_V
    highest_v = table[x.MAX_VOLTAGE_LIMIT].maximum * x.VOLTAGE_UNIT_V
    (old,) = robot.servo.values()
    servo = dataclasses.replace(
        old, model_number=table.model_number, voltage_min_v=lowest_v, voltage_max_v=highest_v
    )
    supply = dataclasses.replace(robot.supply, open_v=0.9 * highest_v)
    limits = dataclasses.replace(robot.limits, voltage_min_v=lowest_v, voltage_max_v=highest_v)
    return dataclasses.replace(robot, servo=dict.fromkeys(robot.servo, servo), supply=supply, limits=limits)


def model(table: ControlTable) -> str:
    return table.model


@pytest.mark.parametrize("table", X_SERIES, ids=model)
def test_a_robot_of_any_model_opens_holds_and_is_healthy(table: ControlTable) -> None:
    with emulated_robot(robot_with(table), FaultScript()) as robot:
        run_until_strike(robot)
        assert watch(robot, 10) == {}
        assert follows(robot)
        tables = robot.machine.buses["legs"].tables  # type: ignore[attr-defined]
        assert (tables.values[x.MODEL_NUMBER.address] == table.model_number).all()


@pytest.mark.parametrize("table", X_SERIES, ids=model)
def test_what_a_restart_has_forgotten_is_written_again_before_torque(table: ControlTable) -> None:
    """XL430 and XL330-M077 wake up with D and I gains that robot.toml does not want."""
    spec = robot_with(table)
    silent = ServoFault("legs", 22, 0.0, 1.0)
    with emulated_robot(spec, shifted({"brown_out": (silent,)}, 0, 1, 0.02)) as robot:
        run_until_strike(robot)
        watch(robot, 8)
        bus = robot.machine.buses["legs"]
        assert isinstance(bus, DynamixelServos)
        gains = (x.POSITION_D_GAIN, x.POSITION_I_GAIN, x.FEEDFORWARD_1ST_GAIN)
        assert [bus.tables.of(gain, 4) for gain in gains] == [table[gain].initial for gain in gains]
        robot.rearm()
        assert follows(robot)
        assert [bus.tables.of(gain, 4) for gain in gains] == [0, 0, 0]


@pytest.mark.parametrize("table", X_SERIES, ids=model)
def test_load_is_the_share_of_full_drive_also_where_a_model_gives_the_current(table: ControlTable) -> None:
    spec = robot_with(table)
    (servo,) = spec.servo.values()
    (stall_a,) = spec.supply.stall_current_a.values()
    assert stall_a == STALL_A
    with emulated_robot(spec, FaultScript()) as robot:
        run_until_strike(robot)
        robot.target_rad = np.clip(
            robot.target_rad - 0.3, spec.position_min_rad + 0.05, spec.position_max_rad - 0.05
        )
        seen = []
        for _ in range(25):
            state, _ = robot.tick()
            bus = robot.machine.buses["legs"]
            assert isinstance(bus, DynamixelServos)
            seen.append((state.joint_load, bus.torque_nm))
        load, torque_nm = (np.array(part) for part in zip(*seen, strict=True))
        hardest = np.unravel_index(np.abs(load).argmax(), load.shape)
        assert 0.02 < abs(load[hardest]) <= 0.8 + 1e-3
        assert np.sign(load[hardest]) == np.sign(torque_nm[hardest])
        measures_current = table.registers[126].name == "Present Current"
        assert measures_current == (table.model[:5] in ("XL330", "XC330", "XM430"))
        if measures_current:
            np.testing.assert_allclose(load, torque_nm / servo.stall_torque_nm, atol=0.05)
