"""Randomisation moves the physical quantity that it names, by as much as it says, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import pytest
import torch
from torch import Tensor

from robotrl.errors import ConfigError
from robotrl.sim.model import position_model
from robotrl.sim.native import NativeWorlds
from robotrl.sim.randomize import RandomizeParams, Randomizer, nominal_params
from robotrl.spec.records import read_record
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped

QUAD12 = load_robot(find_shipped("hardware", "quad12"))
STEP_S = 0.001
G = 9.81
KP, LIMIT_NM, BACK_EMF = 8.0, 1.5, 0.25
ARM_KG_M2, ROTOR_KG_M2 = 0.02, 0.01

RIG = """
<mujoco>
  <option timestep=".001" gravity="0 0 {gravity}" integrator="implicitfast" cone="elliptic"/>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 1" contype="1" conaffinity="0"/>
    <body name="base" pos="0 0 .1">
      <freejoint name="root"/>
      <inertial pos="0 0 0" mass="{base_kg}" diaginertia="{base_kg} {base_kg} {base_kg}"/>
      <geom name="box" type="box" size=".2 .2 .1" contype="0" conaffinity="1" priority="1" friction=".8"/>
      <site name="front" type="box" pos=".2 0 -.1" size=".1 .3 .1"/>
      <site name="back" type="box" pos="-.2 0 -.1" size=".1 .3 .1"/>
      <body name="arm" pos="0 0 .2">
        <joint name="arm" axis="{axis}" damping="0.25" armature=".01" frictionloss=".03"/>
        <inertial pos=".1 0 0" mass="1" diaginertia=".01 .01 .01"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position name="arm" joint="arm" kp="8" forcerange="-1.5 1.5"/>
  </actuator>
  <sensor>
    <touch name="front_load" site="front"/>
    <touch name="back_load" site="back"/>
  </sensor>
</mujoco>
"""
"""A box on the floor with an arm of 1 kg at 0.1 m (0.02 kg m2 about its joint) and a rotor of 0.01 kg m2."""


def on_the_floor() -> mujoco.MjModel:
    """4 kg of box, the arm turning about the vertical."""
    return mujoco.MjModel.from_xml_string(RIG.format(gravity=-G, base_kg=4, axis="0 0 1"))


def on_the_bench() -> mujoco.MjModel:
    """A box too heavy to be moved by its arm, without weight: only the joint's own torques count."""
    return mujoco.MjModel.from_xml_string(RIG.format(gravity=0, base_kg=1e6, axis="0 0 1"))


def loaded() -> mujoco.MjModel:
    """The same box with weight, held by the floor, the arm stretched out level: 0.981 N m on its servo."""
    return mujoco.MjModel.from_xml_string(RIG.format(gravity=-G, base_kg=1000, axis="0 1 0"))


class Rig:
    """Two worlds of a model, of which the second is randomised to the given values."""

    def __init__(self, model: mujoco.MjModel, **values: float) -> None:
        spans: dict[str, Any] = {name: (value, value) for name, value in values.items()}
        params = dataclasses.replace(nominal_params(model), **spans)
        self.worlds = NativeWorlds(model, 2, threads=1)
        self.randomizer = Randomizer(self.worlds, params)
        self.randomizer.redraw(torch.tensor([1]), torch.Generator().manual_seed(0))
        self.start()

    def start(self, arm_rad_s: float = 0.0) -> None:
        qpos, qvel = torch.zeros(2, 8), torch.zeros(2, 7)
        qpos[:, 2], qpos[:, 3], qvel[:, 6] = 0.1, 1.0, arm_rad_s
        self.worlds.reset(torch.arange(2), qpos, qvel)

    def run(self, seconds: float, goal_rad: float = 0.0) -> None:
        self.worlds.step(torch.full((round(seconds / STEP_S), 2, 1), goal_rad))

    def arm_acceleration(self, goal_rad: float = 0.0) -> Tensor:
        """(2,) rad/s2 over the next millisecond."""
        before = self.worlds.qvel[:, 6].clone()
        self.run(STEP_S, goal_rad)
        return (self.worlds.qvel[:, 6] - before) / STEP_S

    def load_n(self) -> tuple[Tensor, Tensor]:
        """Weight (2,) on the floor, and the place (2,) in m along x at which it acts."""
        self.run(0.5)
        front, back = self.worlds.sensor("front_load", "back_load")[..., 0].unbind(1)
        return front + back, 0.2 * (front - back) / (front + back)


def near(actual: Tensor, *expected: float, rel: float = 0.01) -> bool:
    return actual.tolist() == pytest.approx(expected, rel=rel)


@pytest.mark.parametrize("friction", [0.3, 1.2])
def test_friction_slows_a_sliding_box_by_mu_g(friction: float) -> None:
    rig = Rig(on_the_floor(), friction=friction)
    rig.run(0.3)
    pushed = rig.worlds.qvel.clone()
    pushed[:, 0] = 6.0
    rig.worlds.set_velocity(torch.arange(2), pushed)
    rig.run(0.4)
    gained = rig.worlds.qvel - pushed
    pressed = G * 0.4 + gained[:, 2]  # the box rattles: impulse of the floor, per mass
    assert near(-gained[:, 0] / pressed, 0.8, friction, rel=0.03)


def test_trunk_mass_and_limb_masses_weigh_on_the_floor() -> None:
    weight, _ = Rig(on_the_floor(), trunk_mass_scale=1.5).load_n()
    assert near(weight, 5 * G, 7 * G)
    weight, _ = Rig(on_the_floor(), limb_mass_scale=1.5).load_n()
    assert near(weight, 5 * G, 5.5 * G)


def test_inertia_grows_with_the_mass() -> None:
    rig = Rig(on_the_bench(), limb_mass_scale=2.0)
    torque = LIMIT_NM - 0.03
    nominal, heavy = rig.arm_acceleration(goal_rad=9.0).tolist()
    assert nominal == pytest.approx(torque / (ARM_KG_M2 + ROTOR_KG_M2), rel=0.02)
    assert heavy == pytest.approx(torque / (2 * ARM_KG_M2 + ROTOR_KG_M2), rel=0.02)


def test_centres_of_mass_move_the_load() -> None:
    _, at = Rig(on_the_floor(), trunk_com_m=0.04).load_n()
    assert at.tolist() == pytest.approx([0.1 / 5, (0.1 + 4 * 0.04) / 5], abs=1e-3)
    _, at = Rig(on_the_floor(), limb_com_m=-0.03).load_n()
    assert at.tolist() == pytest.approx([0.1 / 5, 0.07 / 5], abs=1e-3)


def test_armature_resists_acceleration() -> None:
    rig = Rig(on_the_bench(), armature_scale=3.0)
    torque = LIMIT_NM - 0.03
    assert near(rig.arm_acceleration(9.0), torque / 0.03, torque / 0.05, rel=0.02)


def test_torque_scale_bounds_the_servo() -> None:
    rig = Rig(on_the_bench(), torque_scale=0.5)
    assert near(rig.arm_acceleration(9.0), 1.47 / 0.03, 0.72 / 0.03, rel=0.02)


def test_damping_brakes_in_proportion_to_speed() -> None:
    rig = Rig(on_the_bench(), damping_scale=2.0)
    rig.start(arm_rad_s=4.0)
    assert near(-rig.arm_acceleration(), (4 * 0.25 + 0.03) / 0.03, (4 * 0.5 + 0.03) / 0.03, rel=0.03)


def test_servo_damping_brakes_in_proportion_to_speed_within_the_drive_limit() -> None:
    rig = Rig(on_the_bench(), servo_damping_nm_s_rad=0.3)
    rig.start(arm_rad_s=4.0)
    assert near(-rig.arm_acceleration(), 1.03 / 0.03, (1.03 + 1.2) / 0.03, rel=0.03)
    rig.start(arm_rad_s=20.0)
    rig.run(STEP_S)
    assert near(-rig.worlds.actuator_force[1], LIMIT_NM)


def test_joint_friction_brakes_regardless_of_speed() -> None:
    rig = Rig(on_the_bench(), joint_friction_nm=0.3)
    for speed in (2.0, 6.0):
        rig.start(arm_rad_s=speed)
        nominal, rough = (-rig.arm_acceleration()).tolist()
        assert rough - nominal == pytest.approx(0.27 / 0.03, rel=0.03)


def test_stiffness_is_torque_over_sag() -> None:
    rig = Rig(loaded(), stiffness_scale=2.0, joint_friction_nm=0.0)
    rig.run(3.0)
    sag = rig.worlds.qpos[:, 7]
    force = -rig.worlds.actuator_force[:, 0]
    assert near(force / sag, KP, 2 * KP)
    assert float(force[1]) == pytest.approx(G * 0.1 * float(torch.cos(sag[1])), rel=1e-3)


@pytest.mark.parametrize("tilt_rad", [0.1, -0.3])
def test_gravity_tilt_turns_the_direction_of_free_fall(tilt_rad: float) -> None:
    model = on_the_floor()
    params = dataclasses.replace(nominal_params(model), gravity_tilt_rad=(min(tilt_rad, 0), max(tilt_rad, 0)))
    worlds = NativeWorlds(model, 20, threads=1)
    randomizer = Randomizer(worlds, params)
    randomizer.redraw(torch.arange(20), torch.Generator().manual_seed(1))
    qpos = torch.zeros(20, 8)
    qpos[:, 2], qpos[:, 3] = 5.0, 1.0
    worlds.reset(torch.arange(20), qpos, torch.zeros(20, 7))
    worlds.step(torch.zeros(100, 20, 1))
    fall = worlds.qvel[:, :3].double() / 0.1
    assert torch.allclose(fall.norm(dim=1), torch.tensor(G, dtype=torch.float64), rtol=1e-3)
    assert randomizer.vertical is not None
    w, x, y, _ = randomizer.vertical.double().unbind(1)
    # Turned by `vertical`, the z axis points against the fall.
    up = torch.stack((2 * w * y, -2 * w * x, 1 - 2 * (x * x + y * y)), dim=1)
    torch.testing.assert_close(-fall / G, up, atol=2e-3, rtol=0)
    vector = 2 * torch.stack((x, y), dim=1)  # the rotation vector, to third order
    assert (vector * tilt_rad >= 0).all()
    assert 0.8 * abs(tilt_rad) < vector.abs().max() < 1.01 * abs(tilt_rad)


SPANS = {
    "friction": (0.4, 1.1), "trunk_mass_scale": (0.9, 1.2), "trunk_com_m": (-0.02, 0.02),
    "stiffness_scale": (0.8, 1.2), "damping_scale": (0.8, 1.2), "joint_friction_nm": (0.01, 0.06),
    "torque_scale": (0.8, 1.0), "action_delay_s": (0.0, 0.02), "limb_mass_scale": (0.8, 1.3),
    "limb_com_m": (-0.01, 0.01), "armature_scale": (0.5, 2.0), "servo_damping_nm_s_rad": (0.0, 0.2),
    "gravity_tilt_rad": (-0.05, 0.05), "battery_v": (10.5, 12.6), "battery_ohm": (0.05, 0.2),
    "observation_delay_s": (0.0, 0.01),
}  # fmt: skip
READ: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "friction": ("geom_friction", lambda f, _: f[:, -1, 0]),
    "trunk_mass_scale": ("body_mass", lambda f, n: f[:, 1] / n[1]),
    "trunk_com_m": ("body_ipos", lambda f, n: f[:, 1] - n[1]),
    "stiffness_scale": ("actuator_gainprm", lambda f, n: f[:, 0, 0] / n[0, 0]),
    "damping_scale": ("dof_damping", lambda f, n: f[:, 7] / n[7]),
    "joint_friction_nm": ("dof_frictionloss", lambda f, _: f[:, 7]),
    "torque_scale": ("actuator_forcerange", lambda f, n: f[:, 3] / n[3]),
    "limb_mass_scale": ("body_inertia", lambda f, n: f[:, 2:] / n[2:]),
    "limb_com_m": ("body_ipos", lambda f, n: f[:, 2:] - n[2:]),
    "armature_scale": ("dof_armature", lambda f, n: f[:, 6:] / n[6:]),
    "servo_damping_nm_s_rad": ("actuator_biasprm", lambda f, _: -f[:, :, 2]),
}


def quad12(num: int, **spans: object) -> tuple[NativeWorlds, Randomizer]:
    worlds = NativeWorlds(position_model(QUAD12, 0.005), num, threads=1)
    return worlds, Randomizer(worlds, dataclasses.replace(nominal_params(worlds.model), **spans))  # type: ignore[arg-type]


def test_the_spans_of_these_tests_are_all_there_are() -> None:
    ranges = {f.name for f in dataclasses.fields(RandomizeParams)} - {
        "push_every_s",
        "push_m_s",
        "push_rad_s",
    }
    assert ranges == set(SPANS)


@pytest.mark.parametrize("name", sorted(READ))
def test_a_quantity_fills_its_range_however_often_it_is_drawn(name: str) -> None:
    worlds, randomizer = quad12(64, **{name: SPANS[name]})
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        randomizer.redraw(torch.arange(64), generator)
    field, read = READ[name]
    values = read(worlds.field(field), torch.tensor(getattr(worlds.model, field)))
    low, high = SPANS[name]
    assert low - 1e-9 <= float(values.min()) < low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) < float(values.max()) <= high + 1e-9


def test_limbs_have_each_their_own_mass_and_a_limb_one_density() -> None:
    worlds, randomizer = quad12(8, limb_mass_scale=SPANS["limb_mass_scale"])
    randomizer.redraw(torch.arange(8), torch.Generator().manual_seed(0))
    mass = worlds.field("body_mass") / torch.tensor(worlds.model.body_mass).clamp_min(1e-9)
    inertia = worlds.field("body_inertia") / torch.tensor(worlds.model.body_inertia).clamp_min(1e-12)
    assert (mass[:, 1] == 1).all()
    assert len(set(mass[:, 2:].flatten().tolist())) == 8 * 12
    torch.testing.assert_close(inertia[:, 2:], mass[:, 2:, None].expand(-1, -1, 3))


def test_a_redraw_moves_no_other_world() -> None:
    worlds, randomizer = quad12(6, **SPANS)
    generator = torch.Generator().manual_seed(0)
    randomizer.redraw(torch.arange(6), generator)
    names = {field for field, _ in READ.values()} | {"opt.gravity"}
    kept = {name: worlds.field(name).clone() for name in names}
    delays = randomizer.action_delay_s.clone(), randomizer.observation_delay_s.clone()
    randomizer.redraw(torch.tensor([4, 1]), generator)
    others = torch.tensor([0, 2, 3, 5])
    for name in names:
        assert torch.equal(worlds.field(name)[others], kept[name][others]), name
    for now, before in zip((randomizer.action_delay_s, randomizer.observation_delay_s), delays, strict=True):
        assert torch.equal(now[others], before[others])
        assert not torch.equal(now, before)


def test_delays_fill_their_ranges() -> None:
    _, randomizer = quad12(200, action_delay_s=(0.01, 0.03), observation_delay_s=(0.0, 0.005))
    randomizer.redraw(torch.arange(200), torch.Generator().manual_seed(0))
    assert 0.01 <= float(randomizer.action_delay_s.min()) < 0.011
    assert 0.029 < float(randomizer.action_delay_s.max()) <= 0.03
    assert 0.0 <= float(randomizer.observation_delay_s.min()) < 0.0005
    assert 0.0045 < float(randomizer.observation_delay_s.max()) <= 0.005


def test_derived_constants_follow_the_masses() -> None:
    """`body_subtreemass` of the root is what the whole robot weighs."""
    worlds, randomizer = quad12(3, limb_mass_scale=(1.5, 1.5))
    randomizer.redraw(torch.tensor([1]), torch.Generator().manual_seed(0))
    limbs = float(worlds.model.body_mass[2:].sum())
    assert float(worlds.world_model(1).body_subtreemass[1]) == pytest.approx(1.9 + 0.5 * limbs)
    assert float(worlds.world_model(0).body_subtreemass[1]) == pytest.approx(1.9)


def test_neutral_ranges_draw_nothing_write_nothing_and_take_no_memory() -> None:
    _, randomizer = quad12(3)
    generator = torch.Generator().manual_seed(5)
    randomizer.redraw(torch.arange(3), generator)
    randomizer.push(0.02, generator)
    randomizer.before_step()
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(5).get_state())
    assert randomizer.bytes_per_world() == 0
    assert randomizer.vertical is None
    assert randomizer.supply_v is None


def test_new_quantities_leave_the_draws_of_old_ones_alone() -> None:
    old = {name: SPANS[name] for name in list(SPANS)[:8]}
    few, small = quad12(4, **old)
    many, large = quad12(4, **SPANS)
    for randomizer in (small, large):
        randomizer.redraw(torch.arange(4), torch.Generator().manual_seed(3))
    assert torch.equal(few.field("geom_friction"), many.field("geom_friction"))
    assert torch.equal(few.field("dof_frictionloss"), many.field("dof_frictionloss"))
    assert torch.equal(small.action_delay_s, large.action_delay_s)


def test_memory_of_a_world_is_as_stated() -> None:
    walk = {name: SPANS[name] for name in list(SPANS)[:8]}
    assert quad12(2, **walk)[1].bytes_per_world() == 4072
    assert quad12(2, **SPANS)[1].bytes_per_world() == 6352


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("friction", [0.5, 0.4]), ("friction", [0.0, 0.5]), ("trunk_mass_scale", [-1.0, 1.0]),
        ("limb_mass_scale", [0.0, 1.0]), ("armature_scale", [-0.5, 1.0]), ("damping_scale", [-0.1, 1.0]),
        ("joint_friction_nm", [-0.01, 0.0]), ("servo_damping_nm_s_rad", [-0.1, 0.0]),
        ("action_delay_s", [0.0, 0.6]), ("observation_delay_s", [-0.01, 0.0]),
        ("gravity_tilt_rad", [0.0, 1.6]), ("battery_ohm", [0.0, 3.0]), ("torque_scale", [0.0, 1.0]),
    ],
)  # fmt: skip
def test_impossible_ranges_are_refused_where_they_are_read_and_where_they_are_used(
    name: str, value: list[float]
) -> None:
    nominal = dataclasses.asdict(nominal_params(position_model(QUAD12, 0.005)))
    table = {k: list(v) if isinstance(v, tuple) else v for k, v in nominal.items()}
    file = Path("run.toml")
    read_record(RandomizeParams, table, file=file, key="randomize")
    with pytest.raises(ConfigError, match=rf"run\.toml: randomize\.{name}: .*got .*; allowed: ") as refused:
        read_record(RandomizeParams, {**table, name: value}, file=file, key="randomize")
    assert refused.value.value == value
    with pytest.raises(ConfigError, match=rf"randomize\.{name}: .*; allowed: "):
        quad12(1, **{name: tuple(value)})


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"randomize\.gravity: unknown key; allowed: .*gravity_tilt_rad"):
        read_record(RandomizeParams, {"gravity": [0, 1]}, file=Path("run.toml"), key="randomize")


def test_a_battery_needs_servos_that_it_suits() -> None:
    with pytest.raises(ConfigError, match=r"randomize\.battery_v: .*\(3\.7, 3\.7\); allowed: .*6\.5.*14\.8"):
        quad12(1, battery_v=(3.7, 3.7))
    with pytest.raises(ConfigError, match=r"randomize\.battery_v"):
        quad12(1, battery_ohm=(0.1, 0.1))
    with pytest.raises(ConfigError, match=r"randomize\.battery_v: the model's actuators have no supply"):
        Rig(on_the_floor(), battery_v=12.0)
