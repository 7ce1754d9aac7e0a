"""The table of goal tasks: what is trained, what is told, and that a run is judged in the original once."""

from __future__ import annotations

import io
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from robotrl.bench import goals
from robotrl.bench.goals import ENTRIES, Entry, bench_goals, draw_goals, goals_tables
from robotrl.bench.runs import Tell
from robotrl.cli.gymfile import GymJob, parse_training
from robotrl.cli.main import FINE, main
from robotrl.errors import BadInputError, ConfigError

PUSH = ENTRIES[1]


def ignore(_: object) -> None:
    """Progress that nobody sees."""


def keep(folder: Path, entry: Entry, seed: int, success: float) -> Path:
    """Leave what a run of this entry would, evaluated at half and at the end."""
    run = entry.run(seed)
    place = folder / run.name
    place.mkdir(parents=True)
    (place / "config.toml").write_text(run.text)
    rows = [
        {"steps": 100, "seconds": 2.0, "steps_per_s": 50.0, "eval/success_last": 0.5, "eval/return_mean": 0},
        {"steps": 200, "seconds": 9.0, "steps_per_s": 50.0},
    ]
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = {"return_mean": -9.0, "success_last": success, "success_any": 1.0}
    (place / "scores.json").write_text(json.dumps(scores))
    return place


def judged(success: float) -> dict[str, float]:
    interval = {"success_last_low": success - 0.1, "success_last_high": min(success + 0.1, 1.0)}
    return {"return_mean": -9.0, "success_last": success, **interval, "success_any": 1.0}


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])
def test_every_entry_is_a_run_that_can_be_trained(entry: Entry, tmp_path: Path) -> None:
    run = entry.run(seed=3)
    assert run.name == f"{entry.name}/seed3"
    assert tomllib.loads(run.text)["env"] == f"robotrl/{entry.task}"
    assert parse_training(run.text, tmp_path).config.seed == 3


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])
def test_a_gpu_learns_from_as_many_samples_a_step_and_stops_at_four_in_five(
    entry: Entry, tmp_path: Path
) -> None:
    mine, own = (tomllib.loads(entry.run(3, device).text) for device in ("cuda", "cpu"))
    job = parse_training(entry.run(3, "cuda").text, tmp_path)
    assert isinstance(job, GymJob)
    sim, params = job.config.sim, job.config.algorithm_params
    assert (sim.backend, sim.device, sim.threads) == ("warp", "cuda", 1)
    assert params.start == sim.worlds * params.steps, "one episode of every world is random"
    table = own[own["algorithm"]]
    assert params.batch * params.updates_per_step == table["batch"] * table["updates_per_step"]
    assert mine["target"] == {"figure": "success_last", "at_least": 0.8}
    iteration = sim.worlds * params.steps
    assert mine["steps"] == max(own["steps"], 100 * iteration)
    assert mine["evaluate_every"] == iteration, "or the target would never be looked at"
    assert not params.bfloat16


def test_bfloat16_is_refused_on_a_gpu(tmp_path: Path) -> None:
    text = PUSH.run(0, "cuda").text
    assert text.count("bfloat16 = false") == 1
    with pytest.raises(
        ConfigError, match=r"td3\.bfloat16: is for updates on a CPU, got True; allowed: false"
    ):
        parse_training(text.replace("bfloat16 = false", "bfloat16 = true"), tmp_path)


@pytest.mark.parametrize(("device", "place", "jobs"), [("cpu", "goals", 2), ("cuda", "goals_cuda", 1)])
def test_the_command_trains_where_it_is_told_to(
    device: str, place: str, jobs: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, str, str, int]] = []

    def train(runs: Any, folder: Path, jobs: int, tell: Tell) -> None:
        for run in runs:
            sim = parse_training(run.text, tmp_path).config.sim
            asked.append((run.name, sim.device, str(folder), jobs))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(goals, "train_all", train)
    assert main(["bench", "learn", "--goals", "--only", "hand_reach", "--device", device, "--json"]) == FINE
    assert asked == [("hand_reach/seed0", device, f"runs/{place}", jobs)]


def test_on_a_gpu_four_in_five_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goals, "evaluate_original", lambda *_: judged(0.9))
    place = keep(tmp_path, PUSH, seed=0, success=0.82)
    (place / "config.toml").write_text(PUSH.run(0, "cuda").text)
    (entry,) = bench_goals(tmp_path, (), None, 0, ignore, device="cuda")["entries"]
    assert (entry["target"], entry["within_s"]) == (0.8, None)


def test_a_run_tells_its_curve_and_is_judged_in_the_original_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, int]] = []

    def judge(place: Path, episodes: int) -> dict[str, float]:
        asked.append((place, episodes))
        return judged(0.9)

    monkeypatch.setattr(goals, "evaluate_original", judge)
    place = keep(tmp_path, PUSH, seed=1, success=0.97)
    first, again = (bench_goals(tmp_path, (), None, 0, ignore) for _ in range(2))
    assert first == again
    assert asked == [(place, 200)]
    (entry,) = first["entries"]
    (run,) = entry["runs"]
    assert (entry["task"], entry["target"], run["seed"]) == ("FetchPush-v4", 0.95, 1)
    assert (run["steps"], run["seconds"]) == (200, 4.0), "the evaluation took the other five seconds"
    assert run["curve"] == [{"steps": 100, "seconds": 2.0, "success_last": 0.5}]
    assert (run["success"]["success_last"], run["original"]["success_last"]) == (0.97, 0.9)
    assert "return_mean" not in run["original"]


def test_a_run_that_diverged_is_told_and_not_judged(tmp_path: Path) -> None:
    place = keep(tmp_path, PUSH, seed=0, success=0.0)
    (place / "failure.txt").write_text("robotrl: iteration 7 diverged\n")
    (run,) = bench_goals(tmp_path, (), None, 0, ignore)["entries"][0]["runs"]
    assert run == {"seed": 0, "failure": "robotrl: iteration 7 diverged"}


def test_only_what_is_chosen_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def train(runs: Any, folder: Path, jobs: int, tell: Tell) -> None:
        assert (folder, jobs) == (tmp_path, 2)
        trained.extend(run.name for run in runs)

    monkeypatch.setattr(goals, "train_all", train)
    bench_goals(tmp_path, ("hand_", "fetch_p"), 1, 2, ignore)
    assert sorted(trained) == [
        "fetch_pick_and_place/seed0",
        "fetch_push/seed0",
        "hand_block_rotate_z/seed0",
        "hand_reach/seed0",
    ]
    with pytest.raises(BadInputError, match=r"--only: is the start of no entry, got 'ant'"):
        bench_goals(tmp_path, ("ant",), 1, 2, ignore)


def test_a_run_of_another_configuration_is_refused(tmp_path: Path) -> None:
    place = keep(tmp_path, PUSH, seed=0, success=0.9)
    (place / "config.toml").write_text(PUSH.run(0).text.replace("batch = 512", "batch = 64"))
    with pytest.raises(BadInputError, match="another configuration"):
        bench_goals(tmp_path, (), None, 0, ignore)


def test_the_table_marks_what_falls_short_and_the_plot_has_every_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        goals, "evaluate_original", lambda place, _: judged(0.9 + 0.05 * ("seed1" in str(place)))
    )
    for seed in (0, 1):
        keep(tmp_path, PUSH, seed, success=0.97)
    figures = bench_goals(tmp_path, (), None, 0, ignore)
    written = io.StringIO()
    Console(width=160, file=written, force_terminal=True).print(goals_tables(figures)[0])
    assert "\x1b[31m90.0%" in written.getvalue(), "red: 95 % are wanted"
    assert "\x1b[32m95.0%" in written.getvalue()
    assert "95% in 15 min" in written.getvalue()
    assert "\x1b[31m4" not in written.getvalue()
    figures["entries"][0]["runs"][0]["seconds"] = 901.0
    Console(width=160, file=written, force_terminal=True).print(goals_tables(figures)[0])
    assert "\x1b[31m901" in written.getvalue(), "red: 900 s are wanted"
    for run in figures["entries"][0]["runs"]:
        run["curve"].append({"steps": 200, "seconds": 4.0, "success_last": 0.9})
    draw_goals(figures, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
