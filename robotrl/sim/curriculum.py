"""Which tile of a terrain each world walks on: harder after it walked far, easier after it did not.

The rule is that of Rudin et al. 2022 ("Learning to Walk in Minutes Using Massively Parallel Deep
Reinforcement Learning", section 3.2; `_update_terrain_curriculum` of legged_gym) with two changes: a
robot that leaves its tile ends its episode there, so that every step counts for the tile's own level,
and the distance that was wanted is where the commands would have led the robot with the headings that
it had, not their length times the longest episode.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from robotrl.sim.saving import State, put_back
from robotrl.tasks.terrain import Terrain
from robotrl.tasks.velocity import heading

START_SHARE = 0.25
"""Robots start within +- this share of the pad's side from its middle, so that they stand on it."""
WALKED_SHARE = 0.5
"""A world goes down when its robot got less far than this share of what was wanted."""


class Curriculum:
    """Level and kind of tile of each of B worlds; kinds are dealt out evenly and stay.

    `place` belongs before each reset, `follow` after each control step, `finish` where an episode
    ends, before the next `place`. Draws come from the environment's generator.
    """

    def __init__(self, terrain: Terrain, num: int, device: torch.device, fixed: bool = False) -> None:
        """Spread worlds evenly over the start levels or, when `fixed`, over all tiles for ever."""
        self.terrain, self._fixed = terrain, fixed
        worlds = torch.arange(num, device=device)
        kinds = len(terrain.params.kinds)
        levels = terrain.params.levels if fixed else terrain.params.start_levels
        self.kind = worlds % kinds
        """(B,) index into the terrain's kinds."""
        self.level = (worlds // kinds) % levels
        """(B,)"""
        self._centre = terrain.centre(self.level, self.kind)
        self.start = self._centre.clone()
        """(B, 2) m, where the present episodes began."""
        self._wanted = torch.zeros_like(self._centre)

    def place(self, ids: Tensor, qpos: Tensor, generator: torch.Generator) -> Tensor:
        """Move poses (k, nq) above flat ground at the origin onto the pads of the worlds `ids` (k,)."""
        p = self.terrain.params
        spread = 2 * torch.rand((len(ids), 2), generator=generator, device=generator.device) - 1
        centre = self.terrain.centre(self.level[ids], self.kind[ids])
        start = centre + START_SHARE * p.pad_m * spread
        self._centre[ids], self.start[ids], self._wanted[ids] = centre, start, 0.0
        height = qpos[:, 2] + self.terrain.height_at(start)
        return torch.cat((start.to(qpos.dtype), height[:, None], qpos[:, 3:]), dim=-1)

    def follow(self, qpos: Tensor, command: Tensor, period_s: float) -> None:
        """Add where the commands (B, 3) of one control period would have led robots (B, nq)."""
        ahead = heading(qpos[:, 3:7])
        aside = torch.stack((-ahead[:, 1], ahead[:, 0]), dim=-1)
        self._wanted = self._wanted + period_s * (command[:, :1] * ahead + command[:, 1:2] * aside)

    def outside(self, qpos: Tensor) -> Tensor:
        """(B,) bool: the base has left its tile."""
        away: Tensor = (qpos[:, :2] - self._centre).abs().amax(-1)
        return away > self.terrain.params.tile_m / 2

    def finish(self, ids: Tensor, qpos: Tensor, failed: Tensor, generator: torch.Generator) -> None:
        """Judge the episodes of the worlds `ids` that end in poses (k, nq), by a fall or not (k,) bool."""
        walked_m = torch.linalg.vector_norm(qpos[:, :2] - self.start[ids], dim=-1)
        wanted_m = torch.linalg.vector_norm(self._wanted[ids], dim=-1)
        self.judge(ids, walked_m, wanted_m, failed, generator)

    def judge(
        self, ids: Tensor, walked_m: Tensor, wanted_m: Tensor, failed: Tensor, generator: torch.Generator
    ) -> None:
        """Promote and demote the worlds `ids` by distances (k,) from the start; falls (k,) demote.

        Far enough is from a start anywhere on the pad to the tile's edge. A world beyond the last level
        gets a random one, so that no level is forgotten.
        """
        if self._fixed:
            return
        p = self.terrain.params
        far_m = p.tile_m / 2 - START_SHARE * p.pad_m
        up = (walked_m > far_m) & ~failed
        down = ~up & (failed | (walked_m < WALKED_SHARE * wanted_m))
        level = (self.level[ids] + up.long() - down.long()).clamp_min(0)
        anywhere = torch.randint(p.levels, level.shape, generator=generator, device=generator.device)
        self.level[ids] = torch.where(level < p.levels, level, anywhere)

    def state(self) -> State:
        """Tiles and progress of all worlds, see `robotrl.sim.saving`."""
        return {
            "kind": self.kind,
            "level": self.level,
            "centre": self._centre,
            "start": self.start,
            "wanted": self._wanted,
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        put_back(self.state(), tensors)

    def metrics(self) -> dict[str, float]:
        """Mean level over all worlds, and over those of each kind."""
        kinds = self.terrain.params.kinds
        level = self.level.double()
        by_kind = {
            f"level/{kind}": float(level[self.kind == k].mean()) for k, kind in enumerate(kinds[: len(level)])
        }
        return {"level": float(level.mean())} | by_kind
