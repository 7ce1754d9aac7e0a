"""Laws of the card: made from the policy file alone, the same every time, complete."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from robotrl.errors import PolicyError
from robotrl.export.card import card_of, card_tables
from robotrl.spec.seal import seal
from tests.blocking import TRAIN, run_without
from tests.export import sample


def test_the_same_file_gives_the_same_card_wherever_it_lies(tmp_path: Path) -> None:
    copy = tmp_path / "other.onnx"
    copy.write_bytes(sample.exported()[0].read_bytes())
    assert card_of(copy) == card_of(sample.exported()[0])


def test_the_card_shows_inputs_outputs_limits_provenance_and_scores() -> None:
    card = card_of(sample.exported()[0])
    lines = card.splitlines()
    assert "| joint_vel | 12 | rad/s | joint | joints | -0.998..0.997 |" in lines
    assert "| error_vx_m_s | 0.3 |" in lines
    assert "| control rate | 50 Hz |" in lines
    assert "| trained for | 1,000,000 steps, seed 7 |" in lines
    assert "| git commit | 0123abc |" in lines
    assert any(line.startswith("| FR_knee | -1.2 | -2.4..-0.1 |") for line in lines)
    assert any(sample.exported()[1].sha256 in line for line in lines)
    assert '```toml\n[task]\nname = "velocity"\n```' in card


def test_every_row_is_as_wide_as_its_header() -> None:
    for table in card_tables(sample.contract(), "0" * 64):
        assert {len(row) for row in table.rows} <= {len(table.header)}


def test_another_contract_gives_another_card(tmp_path: Path) -> None:
    contract = sample.contract()
    better = dataclasses.replace(contract.provenance, scores={"survival": 0.5}, config="", git_commit="")
    file = tmp_path / "policy.onnx"
    file.write_bytes(seal(b"", dataclasses.replace(contract, provenance=better).to_json()))
    card = card_of(file)
    assert "| survival | 0.5 |" in card
    assert "| git commit | not from a checkout |" in card
    assert "```" not in card


def test_a_damaged_file_has_no_card(tmp_path: Path) -> None:
    file = tmp_path / "policy.onnx"
    file.write_bytes(sample.exported()[0].read_bytes()[:-1])
    with pytest.raises(PolicyError, match="is damaged or cut short"):
        card_of(file)


def test_the_card_needs_neither_torch_nor_onnx() -> None:
    imports = "from pathlib import Path; from robotrl.export.card import card_of; "
    done = run_without(TRAIN, f"{imports}print(card_of(Path({str(sample.exported()[0])!r})))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == card_of(sample.exported()[0]).strip()
