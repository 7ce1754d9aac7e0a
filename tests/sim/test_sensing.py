"""Sensing errs as stated: zero, backlash, mounting, bias, noise, counts and range, each measured."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from robotrl.errors import ConfigError
from robotrl.sim.model import position_model
from robotrl.sim.native import NativeWorlds
from robotrl.sim.sensing import EXACT, Sensing, SensingParams
from robotrl.spec.records import read_record
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped

QUAD12 = load_robot(find_shipped("hardware", "quad12"))
SERVO = QUAD12.servo["xc430_w240"]
NUM = 2000


def state(num: int = NUM) -> tuple[Tensor, Tensor]:
    """Upright and at rest."""
    qpos = torch.zeros(num, 19)
    qpos[:, 3] = 1.0
    return qpos, torch.zeros(num, 18)


def sensing(num: int = NUM, **params: Any) -> Sensing:
    made = Sensing(QUAD12, dataclasses.replace(EXACT, **params), num)
    made.redraw(torch.arange(num), torch.Generator().manual_seed(0))
    return made


def read(made: Sensing, qpos: Tensor, qvel: Tensor, force: Tensor | None = None) -> dict[str, Tensor]:
    force = torch.zeros(len(qpos), 12) if force is None else force
    return made.measure(slice(None), qpos, qvel, force, torch.Generator().manual_seed(1))


def rotation_vector(quat: Tensor) -> Tensor:
    """(B, 4) -> (B, 3) rad, for small turns."""
    return 2 * quat[:, 1:] * torch.sign(quat[:, :1])


def test_exact_sensors_count_as_the_servo_and_the_imu_do() -> None:
    qpos, qvel = state()
    qpos[:, 7:] = torch.linspace(-0.5, 0.5, NUM)[:, None]
    qvel[:, 6:], qvel[:, 3:6] = 3 * qpos[:, 7:], 5 * qpos[:, 7:10]
    seen = read(sensing(), qpos, qvel)
    gyro_unit = math.radians(2000) / 32768
    for value, true, unit in (
        (seen["joint_pos"], qpos[:, 7:], 2 * math.pi / 4096),
        (seen["joint_vel"], qvel[:, 6:], 0.229 * 2 * math.pi / 60),
        (seen["imu_gyro"], qvel[:, 3:6], gyro_unit),
    ):
        counts = value.double() / unit
        torch.testing.assert_close(counts, counts.round(), atol=1e-2, rtol=0)
        assert 0.45 * unit < (value - true).abs().max() < 0.51 * unit


def test_the_gyro_saturates_at_2000_degrees_per_second() -> None:
    qpos, qvel = state(3)
    qvel[:, 3] = torch.tensor([30.0, 40.0, -40.0])
    gyro = read(sensing(3), qpos, qvel)["imu_gyro"][:, 0]
    assert gyro.tolist() == pytest.approx([30.0, math.radians(2000), -math.radians(2000)], abs=2e-3)


@pytest.mark.parametrize("name", ["joint_zero_rad", "gyro_bias_rad_s", "imu_tilt_rad"])
def test_constant_errors_fill_their_span_and_stay_for_an_episode(name: str) -> None:
    span: dict[str, Any] = {name: 0.1}
    made, size = sensing(**span), 0.1
    first, second = read(made, *state()), read(made, *state())
    error = {
        "joint_zero_rad": first["joint_pos"],
        "gyro_bias_rad_s": first["imu_gyro"],
        "imu_tilt_rad": rotation_vector(first["imu_quat"]),
    }[name]
    assert 0.98 * size < error.abs().max() < 1.02 * size
    assert float(error.mean()) == pytest.approx(0.0, abs=0.05 * size)
    for channel, value in first.items():
        assert torch.equal(value, second[channel])
    made.redraw(torch.tensor([3]), torch.Generator().manual_seed(9))
    third = read(made, *state())
    changed = torch.stack([(third[c] != first[c]).any(-1) for c in first]).any(0)
    assert changed.nonzero()[:, 0].tolist() == [3]


def test_noise_has_the_stated_size_and_is_new_each_time() -> None:
    made = sensing(
        joint_pos_noise_rad=0.05, joint_vel_noise_rad_s=0.5, gyro_noise_rad_s=0.2, attitude_noise_rad=0.1
    )
    seen = read(made, *state())
    assert float(seen["joint_pos"].std()) == pytest.approx(0.05, rel=0.02)
    assert float(seen["joint_vel"].std()) == pytest.approx(0.5, rel=0.02)
    assert float(seen["imu_gyro"].std()) == pytest.approx(0.2, rel=0.03)
    assert float(rotation_vector(seen["imu_quat"]).std()) == pytest.approx(0.1, rel=0.04)
    torch.testing.assert_close(seen["imu_quat"].norm(dim=-1), torch.ones(NUM))
    other = made.measure(slice(None), *state(), torch.zeros(NUM, 12), torch.Generator().manual_seed(2))
    assert not torch.equal(other["joint_pos"], seen["joint_pos"])


def test_a_mounting_error_turns_in_the_frame_of_the_body() -> None:
    """Equal to MuJoCo's own product and rotation by quaternions, in any attitude and motion."""
    made = sensing(5, imu_tilt_rad=0.02)
    upright = read(made, *state(5))["imu_quat"].double()
    qpos, qvel = state(5)
    qpos[:, 3:7] = torch.nn.functional.normalize(
        torch.randn(5, 4, generator=torch.Generator().manual_seed(3)), dim=-1
    )
    qvel[:, 3:6] = torch.randn(5, 3, generator=torch.Generator().manual_seed(4))
    seen = read(made, qpos, qvel)
    for i in range(5):
        attitude, back, rates = np.empty(4), np.empty(4), np.empty(3)
        mujoco.mju_mulQuat(attitude, qpos[i, 3:7].double().numpy(), upright[i].numpy())
        np.testing.assert_allclose(seen["imu_quat"][i], attitude, atol=1e-5)
        mujoco.mju_negQuat(back, upright[i].numpy())
        mujoco.mju_rotVecQuat(rates, qvel[i, 3:6].double().numpy(), back)
        np.testing.assert_allclose(seen["imu_gyro"][i], rates, atol=2e-3)


def test_attitude_is_measured_against_gravity_where_gravity_is_tilted() -> None:
    half = 0.05
    vertical = torch.tensor([[math.cos(half), math.sin(half), 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    made = Sensing(QUAD12, EXACT, 2, vertical=vertical)
    qpos, qvel = state(2)
    seen = read(made, qpos, qvel)["imu_quat"]
    expected = torch.tensor([[math.cos(half), -math.sin(half), 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(seen, expected)


COUNT_RAD = 2 * math.pi / 4096


def test_a_standing_robot_hangs_on_its_loaded_flanks_and_is_still() -> None:
    """Physics, servo and play in a closed loop: readings lead by half the play where weight is carried."""
    worlds = NativeWorlds(position_model(QUAD12, 0.005), 1, threads=1)
    made = sensing(1, backlash_rad=(0.04, 0.04))
    qpos, qvel = state(1)
    qpos[:, 2], qpos[:, 7:] = 0.18, torch.tensor(QUAD12.default_rad)
    goal = qpos[:, 7:].clone()
    worlds.reset(torch.tensor([0]), qpos, qvel)
    for _ in range(150):
        worlds.step((goal - made.target_offset).expand(4, -1, -1))
        seen = read(made, worlds.qpos, worlds.qvel, worlds.actuator_force)
    force, reading, true = worlds.actuator_force[0], seen["joint_pos"][0], worlds.qpos[0, 7:]
    loaded = force.abs() > 2 * SERVO.friction_nm
    assert loaded.sum() >= 4
    lead = reading - true
    torch.testing.assert_close(lead[loaded], 0.02 * force[loaded].sign(), atol=COUNT_RAD, rtol=0)
    # The servo sees only its shaft: its torque is what its own reading is short of the goal.
    torch.testing.assert_close(
        force, SERVO.stiffness_nm_rad * (goal[0] - reading), atol=COUNT_RAD * SERVO.stiffness_nm_rad, rtol=0
    )
    assert worlds.qvel.abs().max() < 0.01


def test_backlash_moves_the_goal_against_the_reading() -> None:
    """What the servo brings to the goal is its shaft: the link stops half the play short of it."""
    made = sensing(1, backlash_rad=(0.04, 0.04))
    read(made, *state(1), force=torch.full((1, 12), 1.0))
    torch.testing.assert_close(made.target_offset, torch.full((1, 12), 0.02))
    read(made, *state(1), force=torch.full((1, 12), -1.0))
    torch.testing.assert_close(made.target_offset, torch.full((1, 12), -0.02))


def test_a_load_below_friction_leaves_the_shaft_on_its_last_flank() -> None:
    made = sensing(1, backlash_rad=(0.04, 0.04))
    for force, lead in (
        (1.0, 0.02),
        (0.0, 0.02),
        (-0.9 * SERVO.friction_nm, 0.02),
        (-1.0, -0.02),
        (0.02, -0.02),
    ):
        read(made, *state(1), force=torch.full((1, 12), force))
        torch.testing.assert_close(made.target_offset, torch.full((1, 12), lead))


def test_the_shaft_crosses_the_play_only_as_far_as_the_servo_drives_it() -> None:
    """A servo whose goal lies within the play moves there and pushes no more."""
    made = sensing(1, backlash_rad=(0.04, 0.04))
    read(made, *state(1), force=torch.full((1, 12), 1.0))
    turn = -(SERVO.friction_nm + 0.01 * SERVO.stiffness_nm_rad)
    read(made, *state(1), force=torch.full((1, 12), turn))
    torch.testing.assert_close(made.target_offset, torch.full((1, 12), 0.01))


def test_play_is_drawn_from_its_range_and_adds_to_the_wrong_zero() -> None:
    made = sensing(backlash_rad=(0.01, 0.03), joint_zero_rad=0.1)
    forward = read(made, *state(), force=torch.ones(NUM, 12))["joint_pos"]
    back = read(made, *state(), force=-torch.ones(NUM, 12))["joint_pos"]
    play = forward - back
    assert 0.01 - 2 * COUNT_RAD < play.min() < 0.011 + 2 * COUNT_RAD
    assert 0.029 - 2 * COUNT_RAD < play.max() < 0.03 + 2 * COUNT_RAD
    torch.testing.assert_close((forward + back) / 2, made.joint_zero, atol=2 * COUNT_RAD, rtol=0)


def test_exact_sensing_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(4)
    made = Sensing(QUAD12, EXACT, 3)
    made.redraw(torch.arange(3), generator)
    made.measure(slice(None), *state(3), torch.zeros(3, 12), generator)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(4).get_state())


def test_measurements_do_not_share_memory_with_the_state() -> None:
    qpos, qvel = state(3)
    kept = qpos.clone(), qvel.clone()
    for value in read(sensing(3), qpos, qvel).values():
        value.add_(1.0)
    assert torch.equal(qpos, kept[0])
    assert torch.equal(qvel, kept[1])


@pytest.mark.parametrize(
    ("name", "value"),
    [("joint_zero_rad", -0.1), ("backlash_rad", [0.02, 0.01]), ("backlash_rad", [-0.1, 0.0])],
)
def test_impossible_sizes_are_refused(name: str, value: object) -> None:
    table = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(EXACT).items()}
    with pytest.raises(ConfigError, match=rf"run\.toml: sensing\.{name}: .*; allowed: "):
        read_record(SensingParams, {**table, name: value}, file=Path("run.toml"), key="sensing")
    with pytest.raises(ConfigError, match=rf"sensing\.{name}: .*; allowed: "):
        sensing(1, **{name: tuple(value) if isinstance(value, list) else value})
