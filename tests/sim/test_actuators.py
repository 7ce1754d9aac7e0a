"""The servo of training is the servo of the emulator: one torque-speed line, one supply, one robot.toml."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from robotrl.emulator.motor import Motors
from robotrl.errors import ConfigError
from robotrl.sim.model import position_model, torque_model
from robotrl.sim.native import NativeWorlds
from robotrl.sim.randomize import Randomizer, nominal_params
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped

QUAD12 = load_robot(find_shipped("hardware", "quad12"))
SERVO = QUAD12.servo["xc430_w240"]
MOTORS = Motors.of(QUAD12, list(QUAD12.joint))
ERRORS_RAD = np.linspace(-0.6, 0.6, 12)
"""Position errors of the twelve joints: saturated both ways, and in between."""


def emulated_nm(supply_v: float, speed_rad_s: float) -> np.ndarray:
    """The emulator's motor torque, its firmware's drive taken before rounding to counts and PWM steps."""
    pwm = SERVO.position_p_gain / SERVO.p_gain_divisor * ERRORS_RAD * SERVO.counts_per_rad
    drive = np.clip(pwm, -SERVO.pwm_limit, SERVO.pwm_limit) / SERVO.pwm_full
    return MOTORS.torque_nm(drive, np.ones(12, bool), supply_v, np.full(12, speed_rad_s))


def powered(num: int, open_v: float, ohm: float = 0.0) -> tuple[NativeWorlds, Randomizer]:
    worlds = NativeWorlds(position_model(QUAD12, 0.001), num, threads=1)
    params = dataclasses.replace(
        nominal_params(worlds.model), battery_v=(open_v, open_v), battery_ohm=(ohm, ohm)
    )
    randomizer = Randomizer(worlds, params)
    randomizer.redraw(torch.arange(num), torch.Generator().manual_seed(0))
    return worlds, randomizer


def place(worlds: NativeWorlds, speed_rad_s: float = 0.0) -> torch.Tensor:
    """Every world in the default posture in the air; returns the posture (B, n)."""
    qpos, qvel = torch.zeros(worlds.num, 19), torch.zeros(worlds.num, 18)
    qpos[:, 2], qpos[:, 3], qpos[:, 7:] = 1.0, 1.0, torch.tensor(QUAD12.default_rad)
    qvel[:, 6:] = speed_rad_s
    worlds.reset(torch.arange(worlds.num), qpos, qvel)
    return qpos[:, 7:]


def trained_nm(model: mujoco.MjModel, speed_rad_s: float) -> np.ndarray:
    """What MuJoCo computes for one world's model: actuator force less the joint's damping."""
    data = mujoco.MjData(model)
    data.qpos[7:] = QUAD12.default_rad
    data.qvel[6:] = speed_rad_s
    data.ctrl[:] = QUAD12.default_rad + ERRORS_RAD
    mujoco.mj_forward(model, data)
    torque: np.ndarray = data.qfrc_actuator[6:] + data.qfrc_damper[6:]
    return torque


@pytest.mark.parametrize("speed_rad_s", [-7.33, -2.0, 0.0, 3.0, 7.33, 11.0])
@pytest.mark.parametrize("supply_v", [8.0, 10.8, 12.0, 12.6])
def test_torque_at_any_voltage_speed_and_error_is_the_emulators(supply_v: float, speed_rad_s: float) -> None:
    worlds, randomizer = powered(1, supply_v)
    randomizer.before_step()
    trained = trained_nm(worlds.world_model(0), speed_rad_s)
    np.testing.assert_allclose(trained, emulated_nm(supply_v, speed_rad_s), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("speed_rad_s", [-2.0, 0.0, 3.0])
def test_one_step_of_each_model_ends_in_the_same_speeds(speed_rad_s: float) -> None:
    """The training model as it steps, and the emulator's torque on the emulator's model."""
    worlds, randomizer = powered(1, 11.0)
    posture = place(worlds, speed_rad_s)
    randomizer.before_step()
    worlds.step((posture + torch.tensor(ERRORS_RAD)).float()[None])
    model = torque_model(QUAD12, 1e-3)
    data = mujoco.MjData(model)
    data.qpos[2], data.qpos[7:], data.qvel[6:] = 1.0, QUAD12.default_rad, speed_rad_s
    data.ctrl[:] = emulated_nm(11.0, speed_rad_s)
    mujoco.mj_step(model, data)
    # Back-EMF is integrated implicitly in training: to the order of step * damping / inertia.
    change = np.abs(data.qvel[6:] - speed_rad_s).max()
    np.testing.assert_allclose(worlds.qvel[0, 6:], data.qvel[6:], atol=0.03 * change)


@pytest.mark.parametrize("supply_v", [9.0, 12.0])
def test_stall_torque_and_no_load_speed_scale_with_the_present_voltage(supply_v: float) -> None:
    worlds, randomizer = powered(1, supply_v)
    randomizer.before_step()
    model, share = worlds.world_model(0), supply_v / 12.0
    stall = trained_nm(model, 0.0)[-1]
    assert stall == pytest.approx(SERVO.torque_limit_nm * share)
    free_rad_s = SERVO.no_load_speed_rad_s * SERVO.pwm_limit / SERVO.pwm_full * share
    assert trained_nm(model, free_rad_s)[-1] == pytest.approx(0.0, abs=1e-12)


def test_derived_numbers_are_the_data_sheets() -> None:
    model = position_model(QUAD12, 0.001)
    assert model.actuator_gainprm[:, 0] == pytest.approx(1.9 * 700 / 128 * 4096 / (2 * np.pi) / 885)
    assert model.actuator_biasprm[:, 1] == pytest.approx(-model.actuator_gainprm[:, 0])
    assert (model.actuator_biasprm[:, 2] == 0).all()
    assert model.actuator_forcerange[:, 1] == pytest.approx(1.9 * 708 / 885)
    assert model.dof_damping[6:] == pytest.approx(1.9 / (70 * 2 * np.pi / 60))


def test_the_battery_sags_as_the_emulators_does() -> None:
    """After a step at known forces: open voltage less resistance times what bridges and computer draw."""
    worlds, randomizer = powered(2, QUAD12.supply.open_v, QUAD12.supply.ohm)
    posture = place(worlds)
    goals = posture + torch.tensor(ERRORS_RAD).float()
    assert randomizer.supply_v is not None
    volts = []
    for _ in range(30):
        randomizer.before_step()
        volts.append(float(randomizer.supply_v[0, 0]))
        worlds.step(goals[None])
    force, speed = worlds.actuator_force[0].double().numpy(), worlds.qvel[0, 6:].double().numpy()
    drive = force / SERVO.stall_torque_nm * SERVO.nominal_voltage_v / volts[-1]
    current = MOTORS.current_a(MOTORS.torque_nm(drive, np.ones(12, bool), volts[-1], speed))
    expected = QUAD12.supply.voltage_v(float(drive @ current))
    randomizer.before_step()
    assert float(randomizer.supply_v[0, 0]) == pytest.approx(expected, abs=1e-6)
    assert volts[0] == pytest.approx(QUAD12.supply.voltage_v(0.0))
    assert min(volts) < volts[0] - 0.2, "twelve servos at work are felt"


def test_a_sagging_battery_never_compounds_and_recovers_without_load() -> None:
    worlds, randomizer = powered(1, 12.0, 0.2)
    posture = place(worlds)
    for _ in range(50):
        randomizer.before_step()
        worlds.step((posture + 0.5)[None])
    place(worlds)
    randomizer.redraw(torch.tensor([0]), torch.Generator().manual_seed(0))
    randomizer.before_step()
    share = (12.0 - 0.2 * 1.0) / 12.0
    gain = worlds.field("actuator_gainprm")[0, :, 0].numpy()
    limit = worlds.field("actuator_forcerange")[0, :, 1].numpy()
    np.testing.assert_allclose(gain, SERVO.stiffness_nm_rad * share)
    np.testing.assert_allclose(limit, SERVO.torque_limit_nm * share)


def changed(folder: Path, edit: Callable[[str], str]) -> RobotSpec:
    """quad12 with another model file."""
    text = QUAD12.model_file.read_text(encoding="utf-8")
    assert edit(text) != text
    (folder / "model.xml").write_text(edit(text), encoding="utf-8")
    return dataclasses.replace(QUAD12, model="model.xml", file=str(folder / "robot.toml"))


TAIL = '<body name="tail"><joint name="tail" axis="0 1 0"/><geom size=".01" mass=".01"/></body>'
WRONG = {
    "an actuator": (
        lambda t: t.replace("<sensor>", '<actuator><motor name="own" joint="FL_knee"/></actuator><sensor>'),
        r"model\.xml: actuator: .*got 'own'; allowed: none",
    ),
    "a joint too many": (
        lambda t: t.replace('<freejoint name="root"/>', f'<freejoint name="root"/>{TAIL}'),
        r"model\.xml: joint: is no joint of .*robot\.toml, got 'tail'; allowed: FL_abduction, ",
    ),
    "a joint too few": (
        lambda t: t.replace('name="RR_knee" axis', 'name="RR_shin" axis'),
        r"robot\.toml: joint\[11\]\.name: is no joint of .*model\.xml, got 'RR_knee'; allowed: .*RR_shin",
    ),
    "a sensor too few": (
        lambda t: t.replace('<gyro name="imu_gyro" site="imu"/>', ""),
        r"model\.xml: sensor: .*got .*; allowed: imu_quat, imu_gyro, imu_accel",
    ),
    "a sensor too many": (
        lambda t: t.replace("<sensor>", '<sensor><magnetometer name="imu_mag" site="imu"/>'),
        r"model\.xml: sensor: .*imu_mag.*; allowed: imu_quat, imu_gyro, imu_accel",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", sorted(WRONG))
@pytest.mark.parametrize("build", [position_model, torque_model])
def test_a_model_that_does_not_fit_robot_toml_is_refused(
    tmp_path: Path, wrong: str, build: Callable[[RobotSpec, float], mujoco.MjModel]
) -> None:
    edit, sentence = WRONG[wrong]
    with pytest.raises(ConfigError, match=sentence):
        build(changed(tmp_path, edit), 0.005)


def test_joints_in_another_order_are_refused(tmp_path: Path) -> None:
    """Arrays are in spec order; a model that counts differently would move the wrong leg."""
    swapped = dataclasses.replace(QUAD12, joint=(*QUAD12.joint[3:], *QUAD12.joint[:3]))
    with pytest.raises(ConfigError, match=r"robot\.toml: joint: are in another order"):
        position_model(swapped, 0.005)
