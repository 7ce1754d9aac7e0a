"""The body behind the servos: it starts lying still, falls by gravity, and can be pushed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from robotrl.emulator.plant import Plant
from robotrl.emulator.truth import TruthLog
from robotrl.errors import ConfigError, SimulationError
from robotrl.spec.robot import RobotSpec
from tests.emulator.host import quad12

ROBOT = quad12()
LIMP = np.zeros(12)


@pytest.fixture
def plant() -> Plant:
    return Plant(ROBOT, seed=0)


def run(plant: Plant, steps: int) -> None:
    for _ in range(steps):
        plant.step(LIMP)


def test_it_lies_still_on_the_floor_at_time_zero(plant: Plant) -> None:
    before = plant.data.qpos.copy()
    assert plant.data.time == 0.0
    assert plant.data.qpos[2] < 0.1
    run(plant, 500)
    assert abs(plant.data.qpos - before).max() < 0.01


def test_joints_rest_within_the_gates_margin(plant: Plant) -> None:
    margin = ROBOT.limits.position_margin_rad
    q = plant.joint_pos_rad()
    assert (q > ROBOT.position_min_rad - margin).all()
    assert (q < ROBOT.position_max_rad + margin).all()


def test_the_start_posture_depends_on_the_seed_alone(plant: Plant) -> None:
    assert (Plant(ROBOT, seed=0).data.qpos == plant.data.qpos).all()
    assert (Plant(ROBOT, seed=1).data.qpos != plant.data.qpos).any()


def test_joints_are_in_spec_order(plant: Plant) -> None:
    torque = np.zeros(12)
    torque[ROBOT.joint_names.index("RR_hip")] = 1.0
    plant.data.qpos[2] += 1.0
    before = plant.joint_pos_rad()
    for _ in range(20):
        plant.step(torque)
    assert int(np.argmax(plant.joint_pos_rad() - before)) == ROBOT.joint_names.index("RR_hip")
    assert int(np.argmax(plant.joint_vel_rad_s())) == ROBOT.joint_names.index("RR_hip")


def test_the_imu_at_rest_feels_the_floor_push_upwards(plant: Plant) -> None:
    plant.step(LIMP)
    imu = plant.imu()
    assert imu.accel_m_s2 == pytest.approx([0, 0, 9.81], abs=0.1)
    assert imu.gyro_rad_s == pytest.approx([0, 0, 0], abs=0.05)
    assert imu.quat == pytest.approx(plant.data.qpos[3:7], abs=1e-3)


def test_an_imu_in_free_fall_feels_nothing(plant: Plant) -> None:
    plant.data.qpos[2] += 2.0
    run(plant, 100)
    assert plant.imu().accel_m_s2 == pytest.approx([0, 0, 0], abs=0.2)


def test_a_push_changes_the_trunks_velocity_in_the_world_frame(plant: Plant) -> None:
    plant.data.qpos[3:7] = [np.sqrt(0.5), 0, 0, np.sqrt(0.5)]  # a quarter turn to the left
    plant.data.qvel[:] = 0.0
    plant.push((0.5, 0.0))
    linear, angular = plant.base_velocity_b()
    assert linear == pytest.approx([0, -0.5, 0])
    assert angular == pytest.approx([0, 0, 0])


def test_a_diverged_world_is_an_error(plant: Plant) -> None:
    plant.check_finite()
    plant.data.qvel[0] = np.nan
    with pytest.raises(SimulationError, match="diverged"):
        plant.check_finite()


def changed_model(folder: Path, old: str, new: str) -> RobotSpec:
    text = ROBOT.model_file.read_text(encoding="utf-8")
    assert old in text
    (folder / "model.xml").write_text(text.replace(old, new), encoding="utf-8")
    return dataclasses.replace(ROBOT, model="model.xml", file=str(folder / "robot.toml"))


def test_a_model_without_imu_or_free_joint_is_refused(tmp_path: Path) -> None:
    without_gyro = changed_model(tmp_path, '<gyro name="imu_gyro" site="imu"/>', "")
    with pytest.raises(ConfigError, match="imu_gyro"):
        Plant(without_gyro, seed=0)
    fixed = changed_model(tmp_path, '<freejoint name="root"/>', "")
    with pytest.raises(SimulationError, match="has an IMU, but its model has no free joint"):
        Plant(fixed, seed=0)


def test_the_truth_log_holds_what_happened_under_plain_arrays(plant: Plant, tmp_path: Path) -> None:
    log = TruthLog(plant)
    heights = []
    for step in range(5):
        plant.step(LIMP)
        log.sample(0.01 * step, {"goal_rad": np.full(12, float(step))})
        heights.append(plant.data.qpos[2])
    log.save(tmp_path / "truth.npz", origin_s=100.0)
    with np.load(tmp_path / "truth.npz", allow_pickle=False) as truth:
        assert truth["stamp_s"] == pytest.approx([100.0, 100.01, 100.02, 100.03, 100.04])
        assert truth["qpos"].shape == (5, 19)
        assert truth["qvel"].shape == (5, 18)
        assert (truth["qpos"][:, 2] == heights).all()
        assert truth["base_lin_vel_b"].shape == truth["base_ang_vel_b"].shape == (5, 3)
        assert truth["foot_height_m"].shape == truth["foot_touch_n"].shape == (5, 4)
        assert truth["knee_touch_n"].shape == (5, 4)
        assert truth["trunk_touch_n"].shape == (5, 1)
        assert truth["goal_rad"][3, 0] == 3.0
    assert [f.name for f in tmp_path.iterdir()] == ["truth.npz"]


def test_touch_forces_carry_the_robot(plant: Plant, tmp_path: Path) -> None:
    log = TruthLog(plant)
    run(plant, 5)
    log.sample(0.0, {})
    log.save(tmp_path / "truth.npz", 0.0)
    with np.load(tmp_path / "truth.npz") as truth:
        parts = ("foot_touch_n", "knee_touch_n", "trunk_touch_n")
        total_n = sum(float(truth[part].sum()) for part in parts)
        assert total_n == pytest.approx(1.9 * 9.81, rel=0.05)
        assert abs(truth["foot_height_m"]).max() < 0.1
