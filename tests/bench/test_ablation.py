"""PPO's ablation: its arms differ in the surrogate alone, and its scores are the paper's arithmetic."""

from __future__ import annotations

import io
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

from robotrl.bench import ablation
from robotrl.bench.ablation import ARMS, TASKS, ablation_run, ablation_tables, draw_ablation, last_return
from robotrl.cli.gymfile import parse_training

RETURNS = {
    "Hopper-v5": {"none": [0.0], "clip": [110.0, 60.0], "adaptive_kl": [60.0], "fixed_kl": []},
    "Reacher-v5": {"none": [-90.0], "clip": [-10.0, -30.0], "adaptive_kl": [], "fixed_kl": []},
}
RANDOM = {"Hopper-v5": 10.0, "Reacher-v5": -50.0}


@pytest.fixture
def known_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "random_return", RANDOM.__getitem__)


@pytest.mark.parametrize("task", TASKS)
def test_arms_differ_in_the_surrogate_alone(task: str, tmp_path: Path) -> None:
    tables = [tomllib.loads(ablation_run(arm, task, 1).text) for arm in ARMS]
    assert [table["ppo"].pop("surrogate") for table in tables] == [arm.surrogate for arm in ARMS]
    assert all(table == tables[0] for table in tables)
    config = parse_training(ablation_run(ARMS[0], task, 1).text, tmp_path).config
    assert config.steps == 1_000_000
    assert config.ppo is not None
    assert config.ppo.steps * config.sim.worlds == 2048, "the paper's horizon"


@pytest.mark.usefixtures("known_random")
def test_scores_are_zero_for_random_one_for_the_best_run_and_averaged_over_runs(tmp_path: Path) -> None:
    figures = ablation.table_of(RETURNS, tmp_path)
    scores = {arm["arm"]: arm["score"] for arm in figures["arms"]}
    assert scores == {
        "none": pytest.approx((-0.1 - 1.0) / 2),
        "clip": pytest.approx((1.0 + 0.5 + 1.0 + 0.5) / 4),
        "adaptive_kl": pytest.approx(0.5),
        "fixed_kl": None,
    }
    clip = figures["arms"][1]
    assert clip["tasks"] == pytest.approx({"Hopper-v5": 0.75, "Reacher-v5": 0.75})
    assert (clip["runs"], clip["paper"]) == (4, 0.82)
    assert [(one["best"], one["random"]) for one in figures["tasks"]] == [(110.0, 10.0), (-10.0, -50.0)]


def test_the_last_hundred_episodes_are_those_of_the_last_iterations() -> None:
    rows = [
        {"steps": 1.0, "episodes": 500.0, "episode_return": 0.0},
        {"steps": 2.0, "episodes": 60.0, "episode_return": 10.0},
        {"steps": 3.0},
        {"steps": 4.0, "episodes": 40.0, "episode_return": 20.0},
    ]
    assert last_return(rows) == pytest.approx(14.0)
    assert last_return(rows[:3]) == pytest.approx(600 / 560), "too few in the last ones"


def test_a_random_policy_hardly_moves_and_is_the_same_every_time() -> None:
    first = ablation.random_return("InvertedPendulum-v5")
    assert 3.0 < first < 12.0
    assert ablation.random_return("InvertedPendulum-v5") == first


@pytest.mark.usefixtures("known_random")
def test_the_table_and_the_plot_show_every_arm(tmp_path: Path) -> None:
    figures = ablation.table_of(RETURNS, tmp_path)
    written = io.StringIO()
    console = Console(width=160, file=written)
    console.print(ablation_tables(figures)[0])
    text = written.getvalue()
    for part in ("no clipping or penalty", "-0.55", "0.75", "0.82", "fixed KL, beta 1", "Reacher"):
        assert part in text
    draw_ablation(figures, tmp_path / "ablation.png")
    assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")
