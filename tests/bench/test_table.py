"""The README's figures are the kept results, not what somebody remembered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from robotrl.bench.policy_table import BEGIN_POLICIES, END_POLICIES, policies_table
from robotrl.bench.table import (
    BEGIN_GOALS,
    BEGIN_RETURNS,
    BEGIN_SAFE,
    END_GOALS,
    END_RETURNS,
    END_SAFE,
    figures_table,
    goals_table,
    returns_table,
    safe_table,
    table_in,
)
from robotrl.bench.table_learning import finetune_rows, time_rows
from robotrl.errors import BadInputError
from robotrl.spec.shipped import find_shipped

ROOT = Path(__file__).parents[2]
POLICY = "quad12_walk"


def test_readme_shows_the_kept_results() -> None:
    table = figures_table(ROOT / "benchmarks", find_shipped("policies", POLICY))
    assert table_in((ROOT / "README.md").read_text(encoding="utf-8")) == table


def test_readme_shows_the_kept_returns() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table_in(readme, BEGIN_RETURNS, END_RETURNS) == returns_table(ROOT / "benchmarks")


def test_readme_shows_the_kept_successes() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table_in(readme, BEGIN_GOALS, END_GOALS) == goals_table(ROOT / "benchmarks")


def test_readme_shows_the_kept_times_to_safe() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table_in(readme, BEGIN_SAFE, END_SAFE) == safe_table(ROOT / "benchmarks")


def test_readme_shows_what_was_measured_of_the_shipped_policies() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table_in(readme, BEGIN_POLICIES, END_POLICIES) == policies_table(ROOT / "policies")


def test_a_policy_that_was_not_measured_is_not_in_the_table(tmp_path: Path) -> None:
    shutil.copytree(find_shipped("policies", POLICY).parent, tmp_path / POLICY)
    (tmp_path / POLICY / "measured.json").unlink()
    with pytest.raises(BadInputError, match=r"policy\.onnx: was not measured; allowed: .*--card"):
        policies_table(tmp_path)


def test_every_command_of_the_table_is_named() -> None:
    table = figures_table(ROOT / "benchmarks", find_shipped("policies", POLICY))
    for command in (
        "bench sim",
        "bench train",
        "bench learn",
        "bench learn --speed",
        "bench learn --time",
        "bench learn --ablation",
        "bench finetune",
        "bench gate",
        "bench hindsight",
        "bench bus",
        "bench soak",
        "bench fuzz",
        "bench loop",
        "bench deploy",
        "eval quad12_walk",
        "demo",
    ):
        assert f"`robotrl {command}" in table


def test_missing_or_foreign_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"sim\.json"):
        figures_table(tmp_path, find_shipped("policies", POLICY))
    (tmp_path / "sim.json").write_text("[]")
    with pytest.raises(BadInputError, match=r"sim\.json: is not the output of a bench"):
        figures_table(tmp_path, find_shipped("policies", POLICY))


def test_readme_without_a_place_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"README\.md"):
        table_in("# robotrl\n")


def test_a_goal_that_the_median_seed_does_not_reach_is_told_as_never() -> None:
    goal = {"task": "Hopper-v5", "at_least": 3000.0, "median_s": None, "reached": 1, "runs": 3}
    [(_, measured, _)] = time_rows({"goals": [goal | {"share_physics": 0.25}]})
    assert measured == "never; 1 of 3 seeds get there; physics is 25% of the time"


@pytest.mark.parametrize(("seeds", "shown"), [(2, "-"), (3, "8,961, 8,900 to 9,000")])
def test_an_interval_needs_two_seeds_that_finished(seeds: int, shown: str, tmp_path: Path) -> None:
    final = {"mean": 8961.2, "std": None, "iqm": 8961.2, "iqm_low": 8900.0, "iqm_high": 9000.0, "min": 8961.2}
    entry = {"algorithm": "td3", "task": "HalfCheetah-v5", "steps": 1_000_000, "published_mean": None}
    entries = [entry | final | {"seeds": seeds, "diverged": 1}]
    (tmp_path / "returns.json").write_text(json.dumps({"figures": {"entries": entries}}))
    row = returns_table(tmp_path).splitlines()[-1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:5] == [f"8,961 ({seeds})", shown, "8,961"]


def test_of_fine_tuning_the_hardest_ground_that_both_reach_is_told() -> None:
    marks = [(2.0, 4e6, 3e6), (3.0, 5e6, 4e6), (4.0, "never", 5e6)]
    reached = [
        {"figure": "level", "mark": mark, "from nothing": slow, "from flat ground": quick}
        for mark, slow, quick in marks
    ]
    [(what, measured, _)] = finetune_rows({"reached": reached})
    assert "level 3" in what
    assert measured == "4.0 from flat ground against 5.0 from nothing"
    [(what, measured, _)] = finetune_rows({"reached": reached[2:]})
    assert "level 4" in what
    assert measured == "5.0 from flat ground against never from nothing"
