"""What `bench finetune` tells of runs: when each start reached a mark, and its figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from robotrl.bench.finetune import FIGURES, NEVER, Record, bench_finetune, draw_finetune, reached
from robotrl.errors import BadInputError


def curve(start: str, seed: int, survived: dict[int, float]) -> list[Record]:
    """A run whose errors fall as its robots survive."""
    rows = []
    for steps, share in survived.items():
        row: Record = {"start": start, "seed": seed, "steps": steps}
        rows.append(row | dict.fromkeys(FIGURES, 1 - share) | {"survived_share": share, "level": 4 * share})
    return rows


CURVES = [
    *curve("from nothing", 0, {10: 0.1, 20: 0.7, 30: 0.75}),
    *curve("from nothing", 1, {10: 0.1, 20: 0.2, 30: 0.3}),
    *curve("from nothing", 2, {10: 0.1, 20: 0.6, 30: 0.95}),
    *curve("from flat ground", 0, {10: 0.71, 20: 0.8, 30: 0.91}),
    *curve("from flat ground", 1, {10: 0.5, 20: 0.85, 30: 0.95}),
    *curve("from flat ground", 2, {10: 0.95, 20: 0.2, 30: 0.2}),
]


def test_the_median_seed_says_when_a_mark_is_reached() -> None:
    found = {
        (row["figure"], row["mark"]): (row["from nothing"], row["from flat ground"])
        for row in reached(CURVES, (0, 1, 2))
    }
    assert found["error_vx_m_s", 0.1] == (NEVER, 30)
    assert found["error_wz_rad_s", 0.3] == (30, 10)
    assert found["error_wz_rad_s", 0.2] == (NEVER, 20)
    assert found["level", 3.0] == (30, 20)


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    draw_finetune({"curves": CURVES}, tmp_path / "finetune.png")
    assert (tmp_path / "finetune.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_measure_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="steps: is too little, got 1"):
        bench_finetune(1, (0,), tmp_path / "runs", print)
    assert not (tmp_path / "runs").exists()
