"""The table of returns: what is trained, what is told, and that every figure is what it says."""

from __future__ import annotations

import io
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from robotrl.bench.curves import COLOURS, TASKS, aligned, draw_curves
from robotrl.bench.published import FLOORS, PUBLISHED, RANDOM_AND_TD3, TARGETS, best_published
from robotrl.bench.returns import ENTRIES, Entry, bench_returns, returns_tables, summary
from robotrl.bench.runs import Run, Tell, choose
from robotrl.cli.gymfile import parse_training
from robotrl.errors import BadInputError

TINY = Entry("ppo", "Hopper-v5", "hopper_ppo", seeds=2, evaluations=2, steps=4096)
NAMES = [entry.name for entry in ENTRIES]


def keep(folder: Path, entry: Entry, seed: int, final: float | None) -> None:
    """Leave what a run of this entry would: diverged if there is no final return."""
    run = entry.run(seed)
    place = folder / run.name
    place.mkdir(parents=True)
    (place / "config.toml").write_text(run.text)
    row = {"iteration": 0, "steps": entry.steps, "seconds": 2.0 + seed, "steps_per_s": 10.0}
    (place / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    if final is None:
        (place / "failure.txt").write_text("robotrl: iteration 1 diverged\n")
    else:
        (place / "scores.json").write_text(json.dumps({"return_mean": final}))


def shown(figures: dict[str, Any]) -> str:
    written = io.StringIO()
    console = Console(width=200, file=written)
    for table in returns_tables(figures):
        console.print(table)
    return written.getvalue()


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_entry_is_a_run_that_can_be_trained(entry: Entry, tmp_path: Path) -> None:
    run = entry.run(seed=3)
    config = parse_training(run.text, tmp_path).config
    assert run.name == f"{entry.name}/seed3"
    assert tomllib.loads(run.text)["env"] == f"robotrl/{entry.task}"
    assert (config.seed, config.steps) == (3, entry.steps)
    assert config.evaluate_every * entry.evaluations == entry.steps
    assert config.algorithm == entry.algorithm.partition("_")[0]


def test_every_name_is_there_once_and_every_target_has_an_entry() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert {f"{algorithm}/{task}" for algorithm, task in [*TARGETS, *FLOORS]} <= set(NAMES)
    assert {entry.algorithm for entry in ENTRIES} == {name for row in COLOURS.values() for name in row}
    assert {entry.task for entry in ENTRIES} == set(TASKS)
    early = [entry for entry in ENTRIES if entry.algorithm in ("sac_modern", "sac_early")]
    assert {entry.steps for entry in early} == {200_000}


@pytest.mark.parametrize(("algorithm", "sources"), PUBLISHED.items())
def test_published_figures_are_of_a_known_task_and_best_means_of_several_seeds(
    algorithm: str, sources: tuple[Any, ...]
) -> None:
    for task in TASKS:
        best = best_published(algorithm, task)
        rivals = [s.of(task)[0] for s in sources if s.of(task) and (s.seeds or 0) >= 3]
        assert (best is None) == (not rivals)
        assert best is None or best[1] == max(rivals)


def test_one_seed_and_other_algorithms_are_no_best_published_figure() -> None:
    best = best_published("trpo", "Walker2d-v5")
    assert best is not None
    assert (best[0].name, best[1], best[2]) == ("Tianshou", 3827, 783), "not the one run with 4933"
    assert best_published("vpg", "Hopper-v5") is None


def test_a_summary_says_what_the_runs_did(tmp_path: Path) -> None:
    finals = [100.0, 5000.0, 5200.0, 5400.0, 9000.0]
    for seed, final in enumerate(finals):
        keep(tmp_path, TINY, seed, final)
    keep(tmp_path, TINY, 5, None)
    (one,) = summary(tmp_path, [TINY])["entries"]
    assert (one["seeds"], one["diverged"], one["min"]) == (6, 1, 100.0)
    assert one["mean"] == pytest.approx(4940.0)
    assert one["std"] == pytest.approx(np.std(finals, ddof=1))
    assert one["iqm"] == pytest.approx(5200.0)
    assert 100.0 <= one["iqm_low"] < 5200.0 < one["iqm_high"] <= 9000.0
    assert (one["target"], one["published_source"], one["published_mean"]) == (
        2900,
        "FlashSAC repository",
        3392,
    )
    assert [run["final"] for run in one["runs"]] == [*finals, None]
    assert [run["seconds"] for run in one["runs"]] == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert one["runs"][0]["curve"] == [{"steps": 4096, "seconds": 2.0, "value": 100.0}]
    assert "diverged" in one["runs"][5]["failure"]


def test_scores_are_normalised_only_once_all_four_tasks_are_there(tmp_path: Path) -> None:
    entries = [Entry("ppo", task, "halfcheetah_ppo", 1, 2, 4096) for task in RANDOM_AND_TD3]
    for share, entry in zip((0.0, 1.0, 2.0, 9.0), entries, strict=True):
        assert summary(tmp_path, entries)["normalised"] == []
        zero, unit = RANDOM_AND_TD3[entry.task]
        keep(tmp_path, entry, 0, zero + share * (unit - zero))
    (row,) = summary(tmp_path, entries)["normalised"]
    assert row["iqm"] == pytest.approx(1.5)
    assert (row["iqm_low"], row["iqm_high"]) == pytest.approx((1.5, 1.5)), "one seed on each task"


def test_the_table_shows_mean_target_and_source(tmp_path: Path) -> None:
    for seed, final in enumerate((1400.0, 3000.0)):
        keep(tmp_path, Entry("ppo", "Hopper-v5", "hopper_ppo", 2, 2, 4096), seed, final)
    keep(tmp_path, Entry("vpg", "Hopper-v5", "vpg", 1, 2, 4096), 0, None)
    entries = [Entry(name, "Hopper-v5", c, 2, 2, 4096) for name, c in (("ppo", "hopper_ppo"), ("vpg", "vpg"))]
    text = shown(summary(tmp_path, entries))
    ppo = next(line for line in text.splitlines() if "ppo Hopper-v5" in line)
    for part in ("2,200 ± 1,131", "[1,400, 3,000]", "2,900", "3,392 ± 454 (FlashSAC repository, 5)"):
        assert part in ppo
    vpg = next(line for line in text.splitlines() if "vpg Hopper-v5" in line)
    assert "1, 1 diverged" in vpg


def test_an_empty_folder_gives_an_empty_table(tmp_path: Path) -> None:
    figures = summary(tmp_path)
    assert figures["entries"] == []
    assert "final deterministic return" in shown(figures)
    draw_curves(figures, tmp_path / "curves.png")


def test_names_are_chosen_by_their_start() -> None:
    assert [e.name for e in choose(ENTRIES, ("ppo/Hop", "trpo/Ant"))] == ["ppo/Hopper-v5", "trpo/Ant-v4"]
    assert choose(ENTRIES, ()) == list(ENTRIES)
    with pytest.raises(BadInputError, match=r"--only: is the start of no entry, got 'pro'; allowed: ppo/H"):
        choose(ENTRIES, ("ppo", "pro"))


def test_curves_meet_at_the_steps_that_all_reach() -> None:
    one = [{"steps": s, "value": v} for s, v in ((10, 0.0), (20, 2.0), (30, 4.0))]
    other = [{"steps": s, "value": v} for s, v in ((5, 1.0), (25, 5.0))]
    steps, values = aligned([one, other])
    np.testing.assert_array_equal(steps, [10, 20])
    np.testing.assert_allclose(values, [[0.0, 2.0], [2.0, 4.0]])


@pytest.mark.parametrize(
    ("jobs", "seeds", "wanted"),
    [
        (0, None, []),
        (1, None, ["ppo/Hopper-v5/seed0", "ppo/Hopper-v5/seed1"]),
        (2, 1, ["ppo/Hopper-v5/seed0"]),
    ],
)
def test_what_is_chosen_is_trained_and_all_that_is_there_is_told(
    jobs: int, seeds: int | None, wanted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[list[str], Path, int]] = []

    def record(runs: Sequence[Run], folder: Path, at_once: int, _: Tell) -> None:
        trained.append(([run.name for run in runs], folder, at_once))

    monkeypatch.setattr("robotrl.bench.returns.train_all", record)
    other = Entry("vpg", "Hopper-v5", "vpg", 1, 2, 4096)
    keep(tmp_path, other, 0, 77.0)
    figures = bench_returns(tmp_path, ("ppo",), seeds, jobs, lambda _: None, [TINY, other])
    assert trained == ([(wanted, tmp_path, jobs)] if jobs else [])
    assert [one["mean"] for one in figures["entries"]] == [77.0]
    draw_curves(figures, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
