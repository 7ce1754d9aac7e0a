"""Ground for walking tasks: tiles of growing difficulty in one height grid, and its height anywhere.

The kinds of tile and their pyramids around a flat pad follow Rudin et al. 2022 ("Learning to Walk in
Minutes Using Massively Parallel Deep Reinforcement Learning", section 3.2 and its terrain generator).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor

from robotrl.errors import ConfigError
from robotrl.spec.records import Between

Kind = Literal["flat", "rough", "slope_up", "slope_down", "steps_up", "steps_down"]
Length = Annotated[float, Between(0.005, 100)]
_ROUNDING_M = 1e-6


@dataclass(frozen=True)
class TerrainParams:
    """The `[terrain]` table of a run. Level k of L has (k + 1) / L of `rough_m`, `slope_rad`, `step_m`.

    Lengths along the ground are whole numbers of `resolution_m`.
    """

    seed: int
    """Of the bumps; the same seed is the same ground in training and evaluation."""
    kinds: tuple[Kind, ...]
    """Kinds of tile, side by side along y; `up` and `down` are as seen from the pad in the middle."""
    levels: Annotated[int, Between(1, 64)]
    """Along x, the easiest first."""
    resolution_m: Length
    """Distance between heights of the grid; a step's riser is one such distance wide."""
    tile_m: Length
    """Side of a tile."""
    pad_m: Length
    """Side of the flat square in the middle of each tile, where robots start."""
    border_m: Length
    """Flat ground around all tiles."""
    rough_m: Annotated[float, Between(0, 10)]
    """Bumps are uniform within +- this."""
    bump_m: Length
    """Distance between bumps."""
    slope_rad: Annotated[float, Between(0, 1)]
    step_m: Annotated[float, Between(0, 10)]
    """Height of a step."""
    tread_m: Length
    """Depth of a step."""
    start_levels: Annotated[int, Between(1, 64)] = 1
    """Worlds start training spread over this many of the easiest levels."""


@dataclass(frozen=True)
class _Cells:
    """The lengths of a tile in cells of the grid, and the length of a cell."""

    tile: int
    half_pad: int
    border: int
    bump: int
    tread: int
    cell_m: float


class Terrain:
    """One height grid of (kinds x levels) tiles, centred on the world's origin.

    `heights` (rows, columns) float64 m is what is simulated: row along y, column along x, at multiples
    of `resolution_m` from (-`half_x_m`, -`half_y_m`); it lies on the CPU. Tiles have height 0 along
    their edges. What is asked while stepping lies on the default device at construction.
    """

    def __init__(self, params: TerrainParams, file: Path | None = None) -> None:
        """Generate the ground; `file` is where the parameters came from, for the error.

        Raises:
            ConfigError: no kind of tile, or lengths that do not fit into each other.
        """
        cells = _cells(params, file)
        self.params = params
        self.heights = _grid(params, cells)
        rows, columns = self.heights.shape
        self.half_x_m = (columns - 1) / 2 * params.resolution_m
        self.half_y_m = (rows - 1) / 2 * params.resolution_m
        device = torch.get_default_device()
        self._cell_columns = columns - 1
        self._last_cell = torch.tensor((columns - 2, rows - 2), device=device)
        self._middle = torch.tensor(((columns - 1) / 2, (rows - 1) / 2), device=device)
        self._planes = _planes(self.heights).float().to(device)

    def height_at(self, xy: Tensor) -> Tensor:
        """Height of the ground m (...) below world points (..., 2) m.

        Exact for the triangles of MuJoCo's height fields, whose diagonals run from a cell's lowest
        corner in x and y to its highest (`mjc_ConvexHField` in engine_collision_convex.c).
        """
        place = xy / self.params.resolution_m + self._middle
        # A position that is not finite must not become an index: convert first, then clamp.
        cell = torch.minimum(place.long().clamp_min(0), self._last_cell)
        x, y = (place - cell).unbind(-1)
        triangle = 2 * (cell[..., 1] * self._cell_columns + cell[..., 0]) + (x < y)
        height, along_x, along_y = self._planes[triangle].unbind(-1)
        return torch.addcmul(torch.addcmul(height, along_x, x), along_y, y)

    def centre(self, level: Tensor, kind: Tensor) -> Tensor:
        """World x and y of tile centres (k, 2) m for levels and indices into `params.kinds` (k,)."""
        p = self.params
        x = (level - (p.levels - 1) / 2) * p.tile_m
        y = (kind - (len(p.kinds) - 1) / 2) * p.tile_m
        return torch.stack((x, y), dim=-1)


def _cells(p: TerrainParams, file: Path | None) -> _Cells:
    """Lengths in cells; refuses what does not fit together."""

    def refuse(key: str, problem: str, allowed: str) -> ConfigError:
        return ConfigError(problem, file=file, key=f"terrain.{key}", value=getattr(p, key), allowed=allowed)

    def whole(key: str, multiple: int = 1) -> int:
        cells: int = round(getattr(p, key) / p.resolution_m)
        if (
            cells < multiple
            or cells % multiple
            or abs(cells * p.resolution_m - getattr(p, key)) > _ROUNDING_M
        ):
            raise refuse(key, "does not fit the grid", f"multiples of {multiple * p.resolution_m:g}")
        return cells

    if not p.kinds or len(set(p.kinds)) != len(p.kinds):
        raise refuse("kinds", "must name different kinds of tile", "some of " + ", ".join(SHAPES))
    tile, pad, bump = whole("tile_m", 2), whole("pad_m", 2), whole("bump_m")
    if pad >= tile:
        raise refuse("pad_m", "leaves nothing of the tile", f"below {p.tile_m:g}")
    if p.start_levels > p.levels:
        raise refuse("start_levels", "is more than there are", f"1 to {p.levels}")
    if tile % bump:
        raise refuse("bump_m", "does not divide the tile", f"{p.tile_m:g} divided by a whole number")
    return _Cells(tile, pad // 2, whole("border_m"), bump, whole("tread_m"), p.resolution_m)


def _grid(p: TerrainParams, cells: _Cells) -> Tensor:
    """The whole ground (rows, columns) m, on the CPU whatever the default device."""
    generator = torch.Generator("cpu").manual_seed(p.seed)
    size, edge = cells.tile, cells.border
    shape = (len(p.kinds) * size + 2 * edge + 1, p.levels * size + 2 * edge + 1)
    heights = torch.zeros(shape, dtype=torch.float64, device="cpu")
    for k, kind in enumerate(p.kinds):
        for level in range(p.levels):
            tile = SHAPES[kind](p, cells, (level + 1) / p.levels, generator)
            row, column = edge + k * size, edge + level * size
            heights[row : row + size + 1, column : column + size + 1] = tile
    return heights


def _inward(cells: _Cells) -> Tensor:
    """How many cells each height of a tile is away from the tile's edge, no more than the pad's edge is."""
    steps = torch.arange(cells.tile + 1, dtype=torch.float64, device="cpu")
    from_side = torch.minimum(steps, cells.tile - steps)
    from_edge = torch.minimum(from_side[:, None], from_side[None, :])
    return from_edge.clamp_max(cells.tile // 2 - cells.half_pad)


def _flat(p: TerrainParams, cells: _Cells, share: float, generator: torch.Generator) -> Tensor:
    return torch.zeros_like(_inward(cells))


def _rough(p: TerrainParams, cells: _Cells, share: float, generator: torch.Generator) -> Tensor:
    """Random bumps, linear between them, none that would reach the pad or the tile's edge."""
    count = cells.tile // cells.bump + 1
    bumps = 2 * torch.rand((count, count), generator=generator, dtype=torch.float64, device="cpu") - 1
    from_middle = (torch.arange(count, device="cpu") * cells.bump - cells.tile / 2).abs()
    away = torch.maximum(from_middle[:, None], from_middle[None, :])
    allowed = (away >= cells.half_pad + cells.bump) & (away < cells.tile / 2)
    coarse = (share * p.rough_m * bumps * allowed)[None, None]
    fine: Tensor = torch.nn.functional.interpolate(
        coarse, size=(cells.tile + 1,) * 2, mode="bilinear", align_corners=True
    )
    return fine[0, 0]


def _slope(sign: float) -> Shape:
    def pyramid(p: TerrainParams, cells: _Cells, share: float, generator: torch.Generator) -> Tensor:
        return sign * math.tan(share * p.slope_rad) * cells.cell_m * _inward(cells)

    return pyramid


def _steps(sign: float) -> Shape:
    def pyramid(p: TerrainParams, cells: _Cells, share: float, generator: torch.Generator) -> Tensor:
        return sign * share * p.step_m * torch.floor(_inward(cells) / cells.tread)

    return pyramid


Shape = Callable[[TerrainParams, _Cells, float, torch.Generator], Tensor]
"""(parameters, lengths in cells, share of the hardest level's amplitude, generator) -> heights of a tile."""

SHAPES: dict[Kind, Shape] = {
    "flat": _flat,
    "rough": _rough,
    "slope_up": _slope(-1.0),
    "slope_down": _slope(1.0),
    "steps_up": _steps(-1.0),
    "steps_down": _steps(1.0),
}


def _planes(heights: Tensor) -> Tensor:
    """Height at the cell's corner, rise along x and along y of both triangles of each cell (2 cells, 3).

    Rises are per cell. A cell's first triangle lies on the side of x, the second on that of y.
    """
    corner, east = heights[:-1, :-1], heights[:-1, 1:]
    north, far = heights[1:, :-1], heights[1:, 1:]
    below = torch.stack((corner, east - corner, far - east), dim=-1)
    above = torch.stack((corner, far - north, north - corner), dim=-1)
    return torch.stack((below, above), dim=-2).reshape(-1, 3)
