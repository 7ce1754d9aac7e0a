"""Runs of goal tasks from the command line: train with hindsight, resume, eval, and what is refused."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from robotrl.bench import episodes
from robotrl.bench.episodes import SUCCESS
from robotrl.bench.opening import open_player
from robotrl.cli.gymfile import GymJob, read_training
from robotrl.cli.main import FINE, WRONG_USE, main
from robotrl.cli.train import Train
from robotrl.learn.checkpoint import newest_checkpoint
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.robotics import ROBOTICS, goal_task
from tests.cli.small import written

SHIPPED = find_shipped("configs", "fetch_reach").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo logs its warnings into a file of the working directory."""
    monkeypatch.chdir(tmp_path)


def config(folder: Path, *replacements: tuple[str, str]) -> Path:
    """The shipped run of FetchReach, small: three episodes of 4 worlds each, the first one random."""
    small = (
        ("steps = 4_000 ", "steps = 600 "),
        ("worlds = 16", "worlds = 4"),
        ("start = 800 ", "start = 200 "),
        ("[128, 128]", "[16, 16]"),
        ("batch = 256", "batch = 32"),
        ("steps = 50 ", "steps = 20 "),
    )
    return written(folder, SHIPPED, (*small, *replacements))


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return newest_checkpoint(folder).tensors(0, "learner") | newest_checkpoint(folder).tensors(0, "env")


def test_a_resumed_run_equals_one_in_a_piece_bit_for_bit(tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    file = config(tmp_path)
    Train(config=str(file), out=whole, steps=560).train(quiet=True)
    Train(config=str(file), out=parted, steps=320).train(quiet=True)
    Train(resume=parted, steps=560).train(quiet=True)
    one, other = tensors(whole), tensors(parted)
    assert {"replay.episodes", "replay.begun", "spread.held", "actor_adam.0.exp_avg"} <= one.keys()
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_a_run_is_scored_by_its_success_in_200_episodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    Train(config=str(config(tmp_path)), out=folder).train(quiet=True)
    assert main(["eval", str(folder), "--json"]) == FINE
    scores = json.loads(capsys.readouterr().out)
    assert (scores["episodes"], scores["length_mean"]) == (200, 50)
    for name in SUCCESS:
        assert scores[f"{name}_low"] <= scores[name] <= scores[f"{name}_high"]
    assert scores["success_last"] <= scores["success_any"]


def test_a_run_is_scored_in_the_original_environment_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    file = config(tmp_path, ("seed = 0\n", "seed = 0\noptions.max_episode_steps = 20\n"))
    Train(config=str(file), out=folder).train(quiet=True)
    assert main(["eval", str(folder), "--json", "--original", "--episodes", "5"]) == FINE
    told = capsys.readouterr()
    scores = json.loads(told.out)
    assert (scores["episodes"], scores["length_mean"], told.err) == (5, 20, "")
    for name in SUCCESS:
        assert scores[f"{name}_low"] <= scores[name] <= scores[f"{name}_high"]


def test_a_run_is_scored_on_warp_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mujoco_warp")
    from robotrl.sim import warp

    monkeypatch.setattr(episodes, "GOAL_WORLDS", 2)
    monkeypatch.setattr(episodes, "SEEDS", (101,))
    built: list[int] = []
    build = warp.WarpWorlds.__init__

    def counted(self: warp.WarpWorlds, model: object, num: int, **options: object) -> None:
        built.append(num)
        build(self, model, num, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(warp.WarpWorlds, "__init__", counted)
    folder = tmp_path / "run"
    file = config(tmp_path, ("seed = 0\n", "seed = 0\noptions.max_episode_steps = 2\n"))
    Train(config=str(file), out=folder).train(quiet=True)
    assert main(["export", str(folder)]) == FINE
    for place in (folder, folder / "policy.onnx"):
        capsys.readouterr()
        built.clear()
        card = ["--card"] if place.suffix else []
        assert main(["eval", str(place), "--json", "--warp", *card]) == FINE
        scores = json.loads(capsys.readouterr().out)
        assert (scores["episodes"], scores["length_mean"], built) == (2, 2, [2])
    kept = json.loads((folder / "measured.json").read_text())
    assert kept["on_warp"] == pytest.approx(scores, rel=1e-5)
    assert "simulated by MuJoCo Warp" in (folder / "card.md").read_text()


def test_a_policy_file_is_scored_and_shown_as_its_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(episodes, "SEEDS", (101,))
    monkeypatch.setattr(episodes, "GOAL_WORLDS", 2)
    text = find_shipped("configs", "hand_reach").read_text(encoding="utf-8")
    for old, new in (
        ("steps = 400_000 ", "steps = 100 "),
        ("worlds = 64", "worlds = 2"),
        ("start = 3200 ", "start = 20 "),
        ("[256, 256]", "[16, 16]"),
        ("batch = 512", "batch = 32"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (tmp_path / "hand.toml").write_text(text, encoding="utf-8")
    folder = tmp_path / "run"
    Train(config=str(tmp_path / "hand.toml"), out=folder).train(quiet=True)
    assert main(["export", str(folder)]) == FINE
    rows = torch.randn((50, 93), generator=torch.Generator().manual_seed(0))
    actions = []
    for place in (folder, folder / "policy.onnx"):
        job = episodes.trained_job(place)
        assert isinstance(job, GymJob)
        assert job.config.env == "robotrl/HandReach-v3"
        actions.append(episodes.trained_actor(job, place)(rows))
    torch.testing.assert_close(actions[0], actions[1])
    assert actions[0].std(0).min() > 1e-4, "they depend on what is observed"
    capsys.readouterr()
    shown, scores = [], []
    for place in (folder, folder / "policy.onnx"):
        assert main(["eval", str(place), "--json"]) == FINE
        scores.append(json.loads(capsys.readouterr().out))
        frames = open_player(str(place), None, 1, lambda *_: np.zeros(3)).frames()
        shown.append([frame.qpos for frame in islice(frames, 5)])
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    np.testing.assert_allclose(shown[0], shown[1], atol=1e-5)
    assert (shown[0][0] != shown[0][4]).any(), "the fingers move"


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        (
            "reach",
            ["--episodes", "5"],
            "--episodes: is not an option of this; allowed: with --original or --through",
        ),
        ("reach", ["--original", "--episodes", "1"], "--episodes: is too few, got 1; allowed: 2 or more"),
        ("walk", ["--original"], "config.toml: has no original environment; allowed: what was trained on a"),
        ("cheetah", ["--original"], "holds no checkpoint"),
        (
            "walk",
            ["--warp"],
            "--warp: cannot simulate it; allowed: what was trained on an env that starts with",
        ),
    ],
)
def test_what_cannot_be_evaluated_so_is_one_line(
    name: str, arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = {"reach": "fetch_reach", "walk": "quad12_walk_ppo", "cheetah": "halfcheetah_ppo"}[name]
    text = find_shipped("configs", shipped).read_text(encoding="utf-8")
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    assert main(["eval", str(tmp_path), *arguments]) == WRONG_USE
    [line] = capsys.readouterr().err.splitlines()
    assert sentence in line


def test_a_runs_options_are_those_of_the_task_and_stay_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    file = config(tmp_path, ("\n[sim]", "\n[options]\nmax_episode_steps = 25\n\n[sim]"))
    Train(config=str(file), out=folder, steps=320).train(quiet=True)
    Train(resume=folder, steps=560).train(quiet=True)
    job = read_training(folder / "config.toml")
    assert isinstance(job, GymJob)
    assert job.goals is not None
    assert job.goals.episode_steps == 25
    assert main(["eval", str(folder), "--json"]) == FINE
    assert json.loads(capsys.readouterr().out)["length_mean"] == 25


def test_training_can_stop_at_a_share_of_successes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "GOAL_WORLDS", 2)
    folder = tmp_path / "run"
    file = config(
        tmp_path, ("seed = 0\n", "seed = 0\nevaluate_every = 300\n"), ("\n[sim]", TARGET + "\n[sim]")
    )
    Train(config=str(file), out=folder).train(quiet=True)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in rows if "eval/success_last" in row] == [320], "any share is enough"
    assert rows[-1]["steps"] == 320


TARGET = """
[target]
figure = "success_last"
at_least = 0.0
"""


@pytest.mark.parametrize(
    ("name", "env", "steps"),
    [
        ("fetch_reach", "FetchReach-v4", 50),
        ("fetch_push", "FetchPush-v4", 50),
        ("fetch_pick_and_place", "FetchPickAndPlace-v4", 50),
        ("fetch_slide", "FetchSlide-v4", 50),
        ("hand_reach", "HandReach-v3", 50),
        ("hand_block_rotate_z", "HandManipulateBlockRotateZ-v1", 100),
    ],
)
def test_shipped_configurations_say_what_they_train(name: str, env: str, steps: int) -> None:
    job = read_training(find_shipped("configs", name))
    assert isinstance(job, GymJob)
    assert job.config.env == f"robotrl/{env}"
    assert job.goals is not None
    row = job.env(2, seed=0, threads=1).observation
    achieved, desired = row[:, job.goals.achieved], row[:, job.goals.desired]
    assert torch.equal(job.goals.reward(achieved, achieved), -torch.zeros(2))
    assert torch.equal(desired, row[:, -desired.shape[1] :])
    assert (job.goals.episode_steps, job.config.algorithm_params.steps) == (steps, steps)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("robotrl/FetchReach-v4", "robotrl/Reacher-v5", "td3.hindsight: the task has no goals"),
        ("robotrl/FetchReach-v4", "gym:Pendulum-v1", "td3.hindsight: the task has no goals"),
        ("robotrl/FetchReach-v4", "robotrl/FetchRead-v4", "env: there is no such environment"),
        ('h-v4"', 'h-v4"\noptions.slip = 1', "options.slip: FetchReach-v4 has no such option; allowed: max_"),
        ('h-v4"', 'h-v4"\noptions.max_episode_steps = 0', "options.max_episode_steps: is not a count, got 0"),
        ('h-v4"', 'h-v4"\noptions = 3', "options: has the wrong type, got 3; allowed: a table"),
        (
            '"robotrl/FetchReach-v4"',
            '"gym:Pendulum-v1"\noptions.g = 9.8',
            "options: are for tasks of robotrl's own, got {'g': 9.8}; allowed: none",
        ),
        ("replay = 100_000", "replay = 399", "td3.replay: does not hold two episodes"),
        ("policy_delay = 1", "policy_delay = 1\nn_step = 2", "td3.n_step: does not go together with"),
        ("policy_delay = 1", "policy_delay = 1\npriority = 0.5", "td3.priority: does not go together with"),
        ('strategy = "future"', 'strategy = "past"', "td3.hindsight.strategy: is not one of the choices"),
        ("k = 4  ", "k = -1  ", "td3.hindsight.k: is out of range, got -1; allowed: 0 or more"),
        ("k = 4  ", "reward = 4  ", "td3.hindsight.reward: unknown key"),
        ("k = 4  ", "moved = [2.0, 1.0]\nk = 4  ", "td3.hindsight.moved: is out of range"),
        (
            "robotrl/FetchReach-v4",
            "robotrl/FetchReachDense-v4",
            "td3.hindsight.clip_targets: bounds returns of rewards that are -1 or 0",
        ),
        ("random_steps = 9 ", "random_steps = 0 ", "td3.exploration.random_steps: is out of range"),
    ],
)
def test_a_bad_run_is_refused_in_one_sentence(
    old: str, new: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = config(tmp_path, (old, new)), tmp_path / "run"
    assert main(["train", str(file), "--out", str(folder)]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"robotrl: {file}: {named}")
    assert not folder.exists()


def test_a_dense_task_is_trained_without_bounds(tmp_path: Path) -> None:
    changes = (
        ("clip_targets = true", "clip_targets = false"),
        ("robotrl/FetchReach-v4", "robotrl/FetchReachDense-v4"),
    )
    job = read_training(config(tmp_path, *changes))
    assert isinstance(job, GymJob)
    assert job.goals is not None


@pytest.mark.parametrize("name", ROBOTICS)
def test_rewards_of_sparse_tasks_are_minus_one_or_zero_and_no_others_are(name: str) -> None:
    task, draws = goal_task(name), torch.Generator().manual_seed(0)
    achieved, apart = torch.randn((2, 64, task.goal_size), generator=draws, dtype=torch.float64)
    desired = achieved + torch.linspace(0, 1, 64, dtype=torch.float64)[:, None] * apart
    rewards = set(task.compute_reward(achieved, desired).tolist())
    assert task.sparse is (rewards <= {-1.0, 0.0})


def test_a_robots_run_has_no_goals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = find_shipped("configs", "quad12_walk_ppo").read_text(encoding="utf-8")
    head, table = text.replace('algorithm = "ppo"', 'algorithm = "sac"').split("\n[ppo]")
    rest = table.partition("\n[")[2]
    file = tmp_path / "walk.toml"
    file.write_text(f"{head}\n[sac]\n[sac.hindsight]\n" + (f"[{rest}" if rest else ""), encoding="utf-8")
    assert main(["train", str(file), "--out", str(tmp_path / "run")]) == WRONG_USE
    assert "sac.hindsight: the task has no goals" in capsys.readouterr().err
