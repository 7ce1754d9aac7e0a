"""`robotrl bench learn`'s flags: one at a time, each with its own options, and one line where they clash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from robotrl.bench import finetune
from robotrl.cli import main as cli


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["learn", "--returns", "--time"], "--returns --time: are given together; allowed: one"),
        (["sim", "--ablation"], "--ablation: is a flag of `learn`, not of `sim`"),
        (
            ["train", "--device", "cuda"],
            "--device: is not for this, got 'cuda'; allowed: with sim and --goals",
        ),
        (["learn", "--seeds", "3"], "--seeds: is not an option of this; allowed: with --returns, "),
        (["learn", "--time", "--plot", "x.png"], "--plot: is not an option of this; allowed: with --returns"),
        (
            ["learn", "--ablation", "--only", "ppo"],
            "--only: is not an option of this; allowed: with --returns",
        ),
        (["learn", "--returns", "--jobs", "-1"], "--jobs: is too few, got -1; allowed: 0 or more"),
        (["learn", "--returns", "--seeds", "0"], "--seeds: is too few, got 0; allowed: 1 or more"),
        (["learn", "--returns", "--only", "pro"], "--only: is the start of no entry, got 'pro'; allowed: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_go_together_is_one_line(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", *arguments]) == cli.WRONG_USE
    error = capsys.readouterr().err.strip()
    assert error.splitlines()[-1].startswith(f"robotrl: {sentence}")


@pytest.mark.parametrize("flag", ["returns", "ablation", "time"])
def test_an_empty_folder_tells_that_nothing_is_there(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "learn", f"--{flag}", "--jobs", "0", "--folder", str(tmp_path), "--json"]
    assert cli.main(arguments) == cli.FINE
    report = json.loads(capsys.readouterr().out)
    assert report["bench"] == f"learn --{flag}"
    assert report["machine"]["cpu"]
    assert not any(tmp_path.iterdir()), "nothing was trained"


@pytest.mark.parametrize(("asked", "seeds"), [([], 3), (["--seeds", "2"], 2)])
def test_fine_tuning_takes_its_seeds_and_folder(
    asked: list[str], seeds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[list[int], Path]] = []

    def tune(_steps: int, seeds: Sequence[int], folder: Path, _report: object) -> dict[str, object]:
        given.append(([*seeds], folder))
        return {"reached": []}

    monkeypatch.setattr(finetune, "bench_finetune", tune)
    assert cli.main(["bench", "finetune", "--folder", str(tmp_path), "--json", *asked]) == cli.FINE
    assert given == [([*range(seeds)], tmp_path)]
