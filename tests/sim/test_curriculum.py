"""Levels rise and fall by distance walked; robots stand on their own tile; nobody else is touched."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from robotrl.sim.curriculum import Curriculum
from robotrl.tasks.terrain import Terrain, TerrainParams

PARAMS = TerrainParams(
    seed=0,
    kinds=("flat", "slope_up", "steps_down"),
    levels=3,
    resolution_m=0.05,
    tile_m=3.0,
    pad_m=0.8,
    border_m=0.5,
    rough_m=0.02,
    bump_m=0.1,
    slope_rad=0.25,
    step_m=0.03,
    tread_m=0.25,
)
FAR_M = 1.4
"""More than from anywhere on the pad to the tile's edge at 1.3 m."""
NUM = 12
CPU = torch.device("cpu")


@pytest.fixture
def curriculum() -> Curriculum:
    return Curriculum(Terrain(PARAMS), NUM, CPU)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def standing(count: int) -> Tensor:
    qpos = torch.zeros((count, 19))
    qpos[:, 2], qpos[:, 3] = 0.17, 1.0
    return qpos


def judge(
    curriculum: Curriculum, world: int, walked_m: float, wanted_m: float, failed: bool = False, seed: int = 0
) -> int:
    """Level of one world after one episode."""
    curriculum.judge(
        torch.tensor([world]), torch.tensor([walked_m]), torch.tensor([wanted_m]), torch.tensor([failed]),
        torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return int(curriculum.level[world])


def test_everyone_starts_at_the_easiest_level_with_all_kinds_alike(curriculum: Curriculum) -> None:
    assert (curriculum.level == 0).all()
    assert torch.bincount(curriculum.kind).tolist() == [4, 4, 4]


def test_start_levels_are_dealt_out_evenly_over_the_kinds() -> None:
    params = dataclasses.replace(PARAMS, start_levels=2)
    spread = Curriculum(Terrain(params), NUM, CPU)
    tiles = torch.bincount(spread.level * 3 + spread.kind, minlength=9)
    assert tiles.tolist() == [2] * 6 + [0] * 3


def test_timeline_of_one_world(curriculum: Curriculum) -> None:
    """Far is up, far enough is stay, less than half of what was wanted is down, a fall is down."""
    assert judge(curriculum, 5, walked_m=FAR_M, wanted_m=2.0) == 1
    assert judge(curriculum, 5, walked_m=1.2, wanted_m=2.0) == 1
    assert judge(curriculum, 5, walked_m=0.0, wanted_m=0.0) == 1, "standing was all that was wanted"
    assert judge(curriculum, 5, walked_m=FAR_M, wanted_m=2.0) == 2
    assert judge(curriculum, 5, walked_m=0.9, wanted_m=2.0) == 1
    assert judge(curriculum, 5, walked_m=FAR_M, wanted_m=9.0) == 2, "far is far, whatever was wanted"
    assert judge(curriculum, 5, walked_m=FAR_M, wanted_m=1.0, failed=True) == 1
    assert judge(curriculum, 5, walked_m=0.0, wanted_m=2.0) == 0
    assert judge(curriculum, 5, walked_m=0.0, wanted_m=2.0) == 0, "nothing is below the first level"
    assert curriculum.level.sum() == 0, "no other world moved"


def test_world_beyond_the_last_level_gets_any_level(curriculum: Curriculum) -> None:
    reached = set()
    for seed in range(40):
        curriculum.level[3] = PARAMS.levels - 1
        reached.add(judge(curriculum, 3, FAR_M, 2.0, seed=seed))
    assert reached == {0, 1, 2}


def test_fixed_worlds_cover_every_tile_and_stay(generator: torch.Generator) -> None:
    fixed = Curriculum(Terrain(PARAMS), 9, CPU, fixed=True)
    tiles = set(zip(fixed.level.tolist(), fixed.kind.tolist(), strict=True))
    assert len(tiles) == 9
    before = fixed.level.clone()
    far, wanted = torch.full((9,), FAR_M), torch.full((9,), 2.0)
    for failed in (False, True):
        fixed.judge(torch.arange(9), far, wanted, torch.full((9,), failed), generator)
        assert torch.equal(fixed.level, before)


def test_robots_are_placed_on_the_pad_of_their_tile(
    curriculum: Curriculum, generator: torch.Generator
) -> None:
    terrain, ids = curriculum.terrain, torch.arange(NUM)
    curriculum.level = ids % PARAMS.levels
    plain = standing(NUM) + 0.01 * torch.randn((NUM, 19))
    qpos = curriculum.place(ids, plain, generator)
    away = qpos[:, :2] - terrain.centre(curriculum.level, curriculum.kind)
    assert away.abs().max() <= PARAMS.pad_m / 4
    assert away.std() > 0.05, "anywhere on the pad"
    torch.testing.assert_close(qpos[:, 2] - plain[:, 2], terrain.height_at(qpos[:, :2]))
    assert (qpos[:, 2] - plain[:, 2]).abs().max() > 0.1, "pads lie at their tile's height"
    assert torch.equal(qpos[:, 3:], plain[:, 3:]), "heading and joints stay"
    assert not curriculum.outside(qpos).any()


def test_placement_touches_only_its_worlds(curriculum: Curriculum, generator: torch.Generator) -> None:
    """World 2 starts anew; the others' distances go on counting from where they were placed."""
    everyone = torch.arange(NUM)
    first = curriculum.place(everyone, standing(NUM), generator)
    command = torch.tensor([[0.4, 0.0, 0.0]]).expand(NUM, 3)
    for _ in range(100):
        curriculum.follow(first, command, period_s=0.05)
    curriculum.place(torch.tensor([2]), standing(1), generator)
    halfway = first + torch.tensor([0.8] + [0.0] * 18)
    curriculum.level[:] = 1
    curriculum.finish(everyone, halfway, torch.zeros(NUM, dtype=torch.bool), generator)
    # 2 m were wanted of all but world 2, and 0.8 m are less than half.
    assert curriculum.level.tolist() == [1 if world == 2 else 0 for world in range(NUM)]


def test_leaving_ones_own_tile_is_outside(curriculum: Curriculum, generator: torch.Generator) -> None:
    qpos = curriculum.place(torch.arange(NUM), standing(NUM), generator)
    centre = curriculum.terrain.centre(curriculum.level, curriculum.kind)
    qpos[:, :2] = centre + torch.tensor([1.49, -1.49])
    assert not curriculum.outside(qpos).any()
    qpos[4, 1] -= 0.02
    assert curriculum.outside(qpos).nonzero()[:, 0].tolist() == [4]


def test_whoever_leaves_its_tile_is_promoted(curriculum: Curriculum, generator: torch.Generator) -> None:
    ids = torch.arange(NUM)
    for _ in range(20):
        curriculum.level[:] = 0
        qpos = curriculum.place(ids, standing(NUM), generator)
        centre = curriculum.terrain.centre(curriculum.level, curriculum.kind)
        qpos[:, 0] = centre[:, 0] + PARAMS.tile_m / 2 + 1e-3
        assert curriculum.outside(qpos).all()
        curriculum.finish(ids, qpos, torch.zeros(NUM, dtype=torch.bool), generator)
        assert (curriculum.level == 1).all()


def test_wanted_distance_turns_with_the_robot(curriculum: Curriculum, generator: torch.Generator) -> None:
    """Forwards while facing x, then sideways while facing y and back: what is wanted is where it leads."""
    one = torch.tensor([0])
    curriculum.place(torch.arange(NUM), standing(NUM), generator)
    qpos = standing(NUM)
    turned = standing(NUM)
    turned[:, 3], turned[:, 6] = math.cos(math.pi / 4), math.sin(math.pi / 4)
    forward, right = torch.zeros((NUM, 3)), torch.zeros((NUM, 3))
    forward[:, 0], right[:, 1] = 0.3, -0.3
    curriculum.follow(qpos, forward, period_s=2.0)  # to (0.6, 0)
    curriculum.follow(turned, forward, period_s=1.0)  # to (0.6, 0.3)
    curriculum.follow(turned, right, period_s=1.0)  # to (0.9, 0.3)
    wanted_m = math.hypot(0.9, 0.3)
    for walked_m, level in ((0.51 * wanted_m, 1), (0.49 * wanted_m, 0)):
        curriculum.level[0] = 1
        ends = standing(1)
        ends[0, :2] = curriculum.start[0] + torch.tensor([0.0, walked_m])
        curriculum.finish(one, ends, torch.tensor([False]), generator)
        assert int(curriculum.level[0]) == level


def test_equal_seeds_give_equal_places_and_levels() -> None:
    def history() -> list[Tensor]:
        curriculum, generator = Curriculum(Terrain(PARAMS), NUM, CPU), torch.Generator().manual_seed(7)
        ids, states = torch.arange(NUM), []
        for _ in range(6):
            states.append(curriculum.place(ids, standing(NUM), generator))
            far = torch.full((NUM,), FAR_M)
            curriculum.judge(ids, far, far, torch.zeros(NUM, dtype=torch.bool), generator)
            states.append(curriculum.level.clone())
        return states

    assert all(torch.equal(a, b) for a, b in zip(history(), history(), strict=True))


def test_broken_world_is_demoted_and_starts_again(curriculum: Curriculum, generator: torch.Generator) -> None:
    """A state that is not finite neither promotes nor leaves a trace in the next episode."""
    one = torch.tensor([4])
    curriculum.place(torch.arange(NUM), standing(NUM), generator)
    curriculum.level[4] = 1
    broken = torch.full((NUM, 19), math.nan)
    curriculum.follow(broken, torch.ones((NUM, 3)), period_s=0.02)
    assert not curriculum.outside(broken).any()
    curriculum.finish(one, broken[4:5], torch.tensor([True]), generator)
    assert int(curriculum.level[4]) == 0
    assert torch.isfinite(curriculum.place(one, standing(1), generator)).all()
    curriculum.level[4] = 1
    ends = standing(1)
    ends[0, :2] = curriculum.start[4]
    curriculum.finish(one, ends, torch.tensor([False]), generator)
    assert int(curriculum.level[4]) == 1


def test_metrics_are_mean_levels(curriculum: Curriculum) -> None:
    curriculum.level = torch.tensor([2, 0, 1] * 4)
    assert curriculum.metrics() == {
        "level": 1.0, "level/flat": 2.0, "level/slope_up": 0.0, "level/steps_down": 1.0,
    }  # fmt: skip
    few = Curriculum(Terrain(PARAMS), 2, CPU)
    assert set(few.metrics()) == {"level", "level/flat", "level/slope_up"}, "no figure without a world"
