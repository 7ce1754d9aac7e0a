"""The ground: exact heights, tiles as stated, harder level by level, and what the critic sees of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from robotrl.errors import ConfigError, SimulationError
from robotrl.sim.terrain_model import add_terrain
from robotrl.spec.records import load_toml, read_record
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.task import Mirror, Task
from robotrl.tasks.terrain import Terrain, TerrainParams
from robotrl.tasks.velocity import VelocityParams, VelocityStep, heading, velocity_task

PARAMS = TerrainParams(
    seed=3,
    kinds=("flat", "rough", "slope_up", "slope_down", "steps_up", "steps_down"),
    levels=4,
    resolution_m=0.05,
    tile_m=2.0,
    pad_m=0.6,
    border_m=0.5,
    rough_m=0.02,
    bump_m=0.1,
    slope_rad=0.25,
    step_m=0.03,
    tread_m=0.2,
)
HARDEST = PARAMS.levels - 1


@pytest.fixture(scope="module")
def terrain() -> Terrain:
    return Terrain(PARAMS)


_BALL = (
    "<body><freejoint/><inertial pos='0 0 0' mass='1' diaginertia='1 1 1'/>"
    "<geom type='sphere' size='.0001'/></body>"
)


def compiled(terrain: Terrain, bodies: str = "") -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_string(
        f"<mujoco><worldbody><geom name='floor' type='plane' size='0 0 1' friction='.3 .1 .1'/>{bodies}"
        "</worldbody></mujoco>"
    )
    add_terrain(spec, terrain)
    return spec.compile()


def scattered(terrain: Terrain, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    half = torch.tensor([terrain.half_x_m, terrain.half_y_m], dtype=torch.float64)
    return (2 * torch.rand((count, 2), generator=generator, dtype=torch.float64) - 1) * half


def around_tile(terrain: Terrain, kind: str, level: int, offsets: Tensor) -> NDArray[np.float64]:
    """Heights at offsets (k, 2) m from a tile's centre."""
    index = torch.tensor([PARAMS.kinds.index(kind)])
    height = terrain.height_at(terrain.centre(torch.tensor([level]), index).double() + offsets)
    return np.asarray(height.numpy())


def whole_tile(count: int = 4000) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand((count, 2), generator=generator, dtype=torch.float64) - 0.5) * PARAMS.tile_m


def test_height_is_that_of_mujocos_own_rays(terrain: Terrain) -> None:
    model = compiled(terrain)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    points, geom = scattered(terrain, 2000), np.zeros(1, np.int32)
    down = np.array([0.0, 0.0, -1.0])
    seen = [
        5.0 - mujoco.mj_ray(model, data, np.array([x, y, 5.0]), down, None, 1, -1, geom)
        for x, y in points.tolist()
    ]
    assert np.ptp(seen) > 0.3, "the ground is not flat"
    np.testing.assert_allclose(terrain.height_at(points), seen, rtol=0, atol=1e-6)
    np.testing.assert_allclose(terrain.height_at(points.float()), seen, rtol=0, atol=2e-6)


def test_contacts_lie_on_the_same_triangles_as_the_rays(terrain: Terrain) -> None:
    """A tiny ball touches just below a cell's middle and not just above, where diagonals matter most."""
    h = terrain.heights
    middle, other = (h[:-1, :-1] + h[1:, 1:]) / 2, (h[:-1, 1:] + h[1:, :-1]) / 2
    cells = ((middle - other).abs() > 0.002).nonzero()[::4]
    assert len(cells) > 100
    model, radius = compiled(terrain, _BALL), 1e-4
    data = mujoco.MjData(model)
    for row, column in cells.tolist():
        x = (column + 0.5) * PARAMS.resolution_m - terrain.half_x_m
        y = (row + 0.5) * PARAMS.resolution_m - terrain.half_y_m
        height = float(terrain.height_at(torch.tensor([x, y])))
        assert height == pytest.approx(float(middle[row, column]), abs=1e-6)
        for above_m, touches in ((-5 * radius, True), (5 * radius, False)):
            data.qpos[:3] = x, y, height + above_m
            mujoco.mj_forward(model, data)
            assert (data.ncon > 0) == touches


def test_floor_keeps_its_contact_parameters(terrain: Terrain) -> None:
    floor = compiled(terrain).geom("floor")
    assert floor.type[0] == mujoco.mjtGeom.mjGEOM_HFIELD
    assert floor.friction.tolist() == [0.3, 0.1, 0.1]


def test_flat_terrain_is_a_floor_at_height_zero() -> None:
    flat = Terrain(dataclasses.replace(PARAMS, kinds=("flat",)))
    model = compiled(flat)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    geom = np.zeros(1, np.int32)
    distance = mujoco.mj_ray(
        model, data, np.array([0.3, 0.1, 1.0]), np.array([0, 0, -1.0]), None, 1, -1, geom
    )
    assert distance == pytest.approx(1.0, abs=1e-12)


def test_model_without_a_floor_is_refused(terrain: Terrain) -> None:
    with pytest.raises(SimulationError, match="'floor'"):
        add_terrain(mujoco.MjSpec.from_string("<mujoco model='bare'/>"), terrain)


@pytest.mark.parametrize("kind", PARAMS.kinds)
@pytest.mark.parametrize("level", range(PARAMS.levels))
def test_pad_is_flat_and_tiles_meet_at_height_zero(terrain: Terrain, kind: str, level: int) -> None:
    pad = around_tile(terrain, kind, level, whole_tile() * PARAMS.pad_m / PARAMS.tile_m)
    np.testing.assert_allclose(pad, pad[0], rtol=0, atol=1e-6)
    side = torch.linspace(-1, 1, 41, dtype=torch.float64) * PARAMS.tile_m / 2
    edge = torch.stack((side, torch.full_like(side, PARAMS.tile_m / 2)), dim=-1)
    for offsets in (edge, -edge, edge.flip(1), -edge.flip(1)):
        np.testing.assert_allclose(around_tile(terrain, kind, level, offsets), 0.0, atol=1e-6)


def test_border_is_flat(terrain: Terrain) -> None:
    points = scattered(terrain, 5000)
    margin = torch.tensor([terrain.half_x_m, terrain.half_y_m]) - points.abs()
    outside = points[(margin < PARAMS.border_m).any(-1)]
    assert len(outside) > 500
    assert (terrain.height_at(outside) == 0).all()


def extent(heights: NDArray[np.float64]) -> float:
    return float(np.ptp(heights))


@pytest.mark.parametrize("kind", PARAMS.kinds)
def test_amplitude_grows_in_equal_parts_to_the_stated_one(terrain: Terrain, kind: str) -> None:
    run_m = (PARAMS.tile_m - PARAMS.pad_m) / 2
    stated = {
        "flat": 0.0,
        "rough": 2 * PARAMS.rough_m,
        "slope": run_m * math.tan(PARAMS.slope_rad),
        "steps": PARAMS.step_m * math.floor(run_m / PARAMS.tread_m + 1e-9),
    }[kind.split("_", maxsplit=1)[0]]
    for level in range(PARAMS.levels):
        share = (level + 1) / PARAMS.levels
        expected = run_m * math.tan(share * PARAMS.slope_rad) if "slope" in kind else share * stated
        measured = extent(around_tile(terrain, kind, level, whole_tile()))
        if kind == "rough":
            assert 0.85 * expected < measured <= expected + 1e-6
        else:
            assert measured == pytest.approx(expected, abs=1e-6, rel=0.02)


def test_slopes_are_as_steep_as_stated(terrain: Terrain) -> None:
    offsets = torch.tensor([[0.5, 0.1], [0.8, 0.1]], dtype=torch.float64)
    rise = math.tan(PARAMS.slope_rad) * 0.3
    for kind, sign in (("slope_up", 1.0), ("slope_down", -1.0)):
        near, far = around_tile(terrain, kind, HARDEST, offsets)
        assert far - near == pytest.approx(sign * rise, abs=1e-6)


def test_up_and_down_are_as_seen_from_the_pad(terrain: Terrain) -> None:
    middle = torch.zeros((1, 2), dtype=torch.float64)
    for kind in ("slope", "steps"):
        assert around_tile(terrain, f"{kind}_up", HARDEST, middle)[0] < -0.05
        assert around_tile(terrain, f"{kind}_down", HARDEST, middle)[0] > 0.05


def test_treads_are_level_and_as_deep_as_stated(terrain: Terrain) -> None:
    walk = torch.arange(0.0, PARAMS.tile_m / 2, 0.001, dtype=torch.float64)
    heights = around_tile(terrain, "steps_down", HARDEST, torch.stack((walk, 0 * walk), dim=-1))
    rising = np.diff(heights) < -1e-6
    risers = np.flatnonzero(np.diff(rising.astype(int)) == 1)
    np.testing.assert_allclose(np.diff(risers) * 0.001, PARAMS.tread_m, atol=0.0021)
    assert rising.mean() == pytest.approx(len(risers) * PARAMS.resolution_m / walk[-1].item(), abs=0.01)


def test_seed_decides_the_bumps_and_nothing_else(terrain: Terrain) -> None:
    again, other = Terrain(PARAMS), Terrain(dataclasses.replace(PARAMS, seed=4))
    assert torch.equal(again.heights, terrain.heights)
    differs = (other.heights != terrain.heights).any(1).nonzero()[
        :, 0
    ] * PARAMS.resolution_m - PARAMS.border_m
    rough = PARAMS.kinds.index("rough") * PARAMS.tile_m
    assert rough < float(differs.min()) < float(differs.max()) < rough + PARAMS.tile_m


def test_positions_that_are_not_finite_give_no_height_and_no_crash(terrain: Terrain) -> None:
    places = torch.tensor([[math.nan, 0.0], [math.inf, 0.0], [-math.inf, math.nan], [1e30, 0.0], [0.01, 0.0]])
    heights = terrain.height_at(places)
    assert torch.isnan(heights[:3]).all()
    assert torch.isfinite(heights[4])


BAD: dict[str, Any] = {
    "kinds": (), "tile_m": 2.03, "pad_m": 2.0, "bump_m": 0.15, "tread_m": 0.07, "border_m": 0.52,
    "start_levels": 5,
}  # fmt: skip


@pytest.mark.parametrize("key", BAD)
def test_lengths_that_do_not_fit_are_refused_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"run\.toml: terrain\.{key}: .*got .*allowed"):
        Terrain(dataclasses.replace(PARAMS, **{key: BAD[key]}), Path("run.toml"))


def test_kind_named_twice_or_unknown_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"terrain\.kinds"):
        Terrain(dataclasses.replace(PARAMS, kinds=("rough", "rough")))
    table = dataclasses.asdict(PARAMS) | {"kinds": ["lava"]}
    with pytest.raises(ConfigError, match=r"terrain\.kinds\[0\].*'lava'.*rough"):
        read_record(TerrainParams, table, file=Path("run.toml"), key="terrain")


# The walking task on it.


class View:
    """A `WorldView` of robots in given poses."""

    def __init__(self, qpos: Tensor, feet: Tensor) -> None:
        self.qpos, self.qvel = qpos, torch.zeros((len(qpos), qpos.shape[1] - 1))
        self.actuator_force = torch.zeros((len(qpos), 12))
        self._feet = feet

    def sensor(self, *names: str) -> Tensor:
        values = torch.zeros((len(self.qpos), len(names), 1 if names[0].endswith("_touch") else 3))
        if names[0].endswith("_foot_pos"):
            values[:, : self._feet.shape[1]] = self._feet
        return values

    def data(self, name: str) -> Tensor:
        raise AssertionError(name)


Measure = Callable[[Tensor, Tensor], VelocityStep]
FOOT_RADIUS_M = 0.015


@pytest.fixture(scope="module")
def robot() -> RobotSpec:
    return load_robot(find_shipped("hardware", "quad12"))


@pytest.fixture(scope="module")
def params() -> VelocityParams:
    file = find_shipped("configs", "quad12_walk_ppo")
    return read_record(VelocityParams, load_toml(file)["velocity"], file=file, key="velocity")


@pytest.fixture(scope="module")
def task(robot: RobotSpec, params: VelocityParams, terrain: Terrain) -> Task[VelocityStep]:
    return velocity_task(robot, params, FOOT_RADIUS_M, terrain)


def measured(task: Task[VelocityStep], qpos: Tensor, feet: Tensor) -> VelocityStep:
    zeros = torch.zeros((len(qpos), 12))
    memory = {"gait_phase": torch.full((len(qpos), 1), 0.2)}
    return task.measure(View(qpos, feet), torch.zeros((len(qpos), 3)), zeros, zeros, memory)


def poses(count: int) -> tuple[Tensor, Tensor]:
    """Random bases (count, 19) and feet (count, 4, 3), anywhere above the terrain."""
    generator = torch.Generator().manual_seed(2)
    qpos = torch.randn((count, 19), generator=generator)
    qpos[:, 3:7] = torch.nn.functional.normalize(qpos[:, 3:7], dim=-1)
    return qpos, qpos[:, None, :3] + 0.2 * torch.randn((count, 4, 3), generator=generator)


def test_heights_are_above_the_ground_below(terrain: Terrain, task: Task[VelocityStep]) -> None:
    qpos, feet = poses(200)
    step = measured(task, qpos, feet)
    torch.testing.assert_close(step.height_m, qpos[:, 2] - terrain.height_at(qpos[:, :2]))
    torch.testing.assert_close(
        step.foot_height, feet[..., 2] - FOOT_RADIUS_M - terrain.height_at(feet[..., :2])
    )


def test_scan_shows_the_ground_ahead_and_to_the_left(terrain: Terrain, task: Task[VelocityStep]) -> None:
    """At the foot of an upward slope, facing it: every row is as high as its distance says."""
    index = torch.tensor([PARAMS.kinds.index("slope_up")])
    x, y = terrain.centre(torch.tensor([HARDEST]), index)[0].tolist()
    qpos = torch.zeros((1, 19))
    for yaw, dx, dy in ((0.0, 0.6, 0.0), (math.pi / 2, 0.0, 0.6), (math.pi, -0.6, 0.0)):
        qpos[0, :7] = torch.tensor([x + dx, y + dy, 0.2, math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)])
        scan = measured(task, qpos, torch.zeros((1, 4, 3))).scan.reshape(5, 3)
        ahead = math.tan(PARAMS.slope_rad) * torch.tensor([-0.2, -0.1, 0.0, 0.1, 0.2])
        torch.testing.assert_close(scan, ahead[:, None].expand(5, 3), atol=1e-5, rtol=0)
    qpos[0, :7] = torch.tensor([x + 0.6, y, 0.2, math.cos(-math.pi / 4), 0.0, 0.0, math.sin(-math.pi / 4)])
    across = measured(task, qpos, torch.zeros((1, 4, 3))).scan.reshape(5, 3)  # the slope rises to the left
    expected = math.tan(PARAMS.slope_rad) * torch.tensor([-0.12, 0.0, 0.12])
    torch.testing.assert_close(across, expected.expand(5, 3), atol=1e-5, rtol=0)


class MirroredTerrain(Terrain):
    """The same ground reflected at the plane y = 0."""

    def height_at(self, xy: Tensor) -> Tensor:
        return super().height_at(xy * torch.tensor([1.0, -1.0]))


def mirrored(x: Tensor, mirror: Mirror) -> Tensor:
    return x[..., list(mirror.source)] * torch.tensor(mirror.sign)


def test_mirrored_robot_on_mirrored_ground_has_the_mirrored_critic_observation(
    robot: RobotSpec, params: VelocityParams, task: Task[VelocityStep]
) -> None:
    qpos, feet = poses(200)
    plain = task.privileged(measured(task, qpos, feet))
    other = velocity_task(robot, params, FOOT_RADIUS_M, MirroredTerrain(PARAMS))
    reflection = torch.ones(19)
    reflection[[1, 4, 6]] = -1.0  # y; a quaternion's x and z
    swapped = feet[:, [1, 0, 3, 2]] * torch.tensor([1.0, -1.0, 1.0])
    reflected = other.privileged(measured(other, qpos * reflection, swapped))
    assert plain.shape == (200, 12 + 15)
    assert float(plain[:, 12:].abs().amax()) > 0.02
    torch.testing.assert_close(reflected, mirrored(plain, task.symmetry.privileged), atol=2e-5, rtol=0)


def test_actor_is_blind_and_flat_ground_has_no_scan(
    robot: RobotSpec, params: VelocityParams, task: Task[VelocityStep]
) -> None:
    flat = velocity_task(robot, params, FOOT_RADIUS_M)
    qpos, feet = poses(3)
    step = measured(flat, qpos, feet)
    assert task.policy.channels == flat.policy.channels
    assert task.symmetry.observation == flat.symmetry.observation
    assert flat.privileged(step).shape == (3, 12)
    assert len(flat.symmetry.privileged.source) == 12
    assert torch.equal(step.height_m, qpos[:, 2])


def test_heading_is_the_direction_of_the_bodys_x_axis() -> None:
    quats = torch.nn.functional.normalize(torch.randn((50, 4), dtype=torch.float64), dim=-1)
    for quat, ahead in zip(quats.numpy(), heading(quats).numpy(), strict=True):
        axis = np.zeros(3)
        mujoco.mju_rotVecQuat(axis, np.array([1.0, 0.0, 0.0]), quat)
        np.testing.assert_allclose(ahead, axis[:2] / np.linalg.norm(axis[:2]), atol=1e-9)
