"""Laws of the figures beside a policy file: they are in its card, and never those of another policy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from robotrl.cli.main import main
from robotrl.errors import ConfigError, PolicyError
from robotrl.export.card import card_of
from robotrl.export.measured import NAME, keep_measured, read_measured
from robotrl.spec.contract import read_policy_file
from robotrl.spec.shipped import find_shipped
from tests.export import foreign_policy as foreign


@pytest.fixture
def file(tmp_path: Path) -> Path:
    place = tmp_path / "policy.onnx"
    shutil.copy(find_shipped("policies", "fetch_reach"), place)
    return place


def test_what_is_kept_is_read_and_stands_in_the_card(file: Path) -> None:
    sha256 = read_policy_file(file)[2]
    assert "Through the runtime" not in card_of(file)
    keep_measured(file, sha256, "through_runtime", {"return_ratio": 0.987654321})
    keep_measured(file, sha256, "in_original", {"success_last": 1.0})
    keep_measured(file, sha256, "on_warp", {"success_last": 0.5})
    found = read_measured(file, sha256)
    assert (found.through_runtime, found.in_original) == ({"return_ratio": 0.987654}, {"success_last": 1.0})
    assert found.on_warp == {"success_last": 0.5}
    card = card_of(file)
    assert "## Through the runtime\n\n| figure | value |\n| --- | --- |\n| return_ratio | 0.9877 |" in card
    assert "## In the original environment\n\n| figure | value |\n| --- | --- |\n| success_last | 1 |" in card


def test_new_figures_replace_those_got_in_the_same_way_and_those_of_another_policy(file: Path) -> None:
    sha256 = read_policy_file(file)[2]
    keep_measured(file, sha256, "through_runtime", {"old": 1.0})
    keep_measured(file, sha256, "through_runtime", {"new": 2.0})
    assert read_measured(file, sha256).through_runtime == {"new": 2.0}
    keep_measured(file, "0" * 64, "in_original", {"other": 3.0})
    assert read_measured(file, "0" * 64).through_runtime == {}


def test_figures_of_another_policy_are_refused(file: Path) -> None:
    keep_measured(file, "0" * 64, "through_runtime", {"return_ratio": 1.0})
    with pytest.raises(
        PolicyError, match=rf"{NAME}: sha256: is of another policy, got '0+'; allowed: [0-9a-f]+"
    ):
        card_of(file)


def test_a_new_policy_takes_the_place_of_an_old_one_and_of_its_figures(tmp_path: Path) -> None:
    model, out = foreign.mlp(tmp_path), tmp_path / "out" / "policy.onnx"
    for seed in (0.25, 0.5):
        scale = foreign.WALK["action"] | {"scale_rad": [seed]}
        toml = foreign.description(tmp_path, action=scale)
        assert main(["import", str(model), str(toml), "--out", str(out), "--json"]) == 0
        assert "Through the runtime" not in out.with_name("card.md").read_text(encoding="utf-8")
        keep_measured(out, read_policy_file(out)[2], "through_runtime", {"return_ratio": 1.0})
        assert "Through the runtime" in card_of(out)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("{", PolicyError, "cannot be read as figures"),
        ('{"through": {}}', ConfigError, "through"),
        (json.dumps({"sha256": "0", "in_original": {"x": "much"}}), ConfigError, "in_original"),
    ],
)
def test_damaged_figures_are_refused(file: Path, text: str, error: type[Exception], said: str) -> None:
    file.with_name(NAME).write_text(text, encoding="utf-8")
    with pytest.raises(error, match=said):
        card_of(file)
    with pytest.raises(error, match=said):
        keep_measured(file, read_policy_file(file)[2], "in_original", {"success_last": 1.0})
    assert file.with_name(NAME).read_text(encoding="utf-8") == text, "nothing is lost"
