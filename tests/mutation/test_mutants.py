"""The mutator changes one thing at a time, finds every kind of it, and its command judges survivors."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutation import __main__ as command
from tests.mutation.mutants import Mutant, mutants

SOURCE = '''"""Docstring."""

LIMIT: float | None = 2


def f(a, b):
    """Say it."""
    if not a < b and a is not None:
        return min(a, -b)
    c = (a + 0.5) * b if a else ~b
    return Level.HOLD, "word", c, True
'''

CHANGES = {
    "module: drop LIMIT": None,
    "module: 2 -> 3": "LIMIT: float | None = 3",
    "f: a < b -> a <= b": "not a <= b",
    "f: a < b -> a >= b": "not a >= b",
    "f: not a < b -> a < b": "if a < b and",
    "f: not a < b and a is not None -> not a < b or a is not None": "not a < b or a",
    "f: a is not None -> a is None": "and a is None",
    "f: if not a < b and a is not None -> if not": "if not (not a < b and a is not None):",
    "f: min -> max": "max(a, -b)",
    "f: -b -> b": "min(a, b)",
    "f: return min(a, -b) -> return None": "        return None",
    "f: a + 0.5 -> a - 0.5": "(a - 0.5) * b",
    "f: 0.5 -> 1.5": "(a + 1.5)",
    "f: 0.5 -> 1.0": "(a + 1.0)",
    "f: (a + 0.5) * b -> (a + 0.5) / b": "(a + 0.5) / b",
    "f: (a + 0.5) * b if a else ~b -> (a + 0.5) * b if not a else ~b": "if not a else",
    "f: ~b -> b": "else b",
    "f: drop c = (a + 0.5) * b if a else ~b": "    pass",
    "f: Level.HOLD -> Level.DAMP": "return (Level.DAMP,",
    "f: 'word' -> 'word?'": "'word?'",
    "f: True -> False": "c, False)",
}


def test_every_kind_of_change_is_made_and_nothing_else_changes() -> None:
    found = {mutant.name: mutant for mutant in mutants(SOURCE)}
    original = ast.unparse(ast.parse(SOURCE)).splitlines()
    for name, text in CHANGES.items():
        if text is None:
            assert name not in found, "a declaration without a value of its own is no statement to drop"
            continue
        assert text in found[name].source, name
        changed = [line for line in found[name].source.splitlines() if line not in original]
        assert len(changed) == 1, name


def test_no_two_mutants_have_one_name_or_the_original_text() -> None:
    for file in command.TESTS:
        source = (command.ROOT / file).read_text()
        found = mutants(source)
        assert len(found) > 30
        assert len({mutant.name for mutant in found}) == len(found)
        assert ast.unparse(ast.parse(source)) not in {mutant.source for mutant in found}


def test_what_is_said_of_survivors_and_of_listed_ones_that_are_killed() -> None:
    one, other = Mutant("f: 1 -> 2", 1, ""), Mutant("f: 2 -> 3", 2, "")
    outcomes = [command.Outcome("a.py", one, survived=True), command.Outcome("a.py", other, survived=False)]
    assert command.judge(outcomes, {"a.py f: 1 -> 2": "why"}) == []
    assert command.judge(outcomes, {"a.py f: 2 -> 3": "why"}) == [
        "survived, and is not listed: a.py f: 1 -> 2",
        "is listed, and was killed: a.py f: 2 -> 3",
    ]
    assert command.judge([], {"a.py f: 2 -> 3": "why"}) == [], "what was not tried is not judged"


def test_every_listed_survivor_is_a_mutant_of_today_and_has_a_reason() -> None:
    names = {f"{file} {m.name}" for file in command.TESTS for m in mutants((command.ROOT / file).read_text())}
    for name, reason in command.listed().items():
        assert name in names
        assert len(reason) > 10


def test_a_mutant_lives_and_dies_in_its_own_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "law").mkdir()
    (tmp_path / "law" / "code.py").write_text("def double(x):\n    return 2 * x + 0 * x\n")
    (tmp_path / "law" / "test_law.py").write_text(
        "from law.code import double\n\n\ndef test_law():\n    assert double(3) == 6\n"
    )
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "COPIED", ("law",))
    monkeypatch.setattr(command, "TESTS", {"law/code.py": ("law/test_law.py",)})
    outcomes = command.outcomes(["law/code.py"], 1, "+ 0 * x")
    survived = {outcome.mutant.name: outcome.survived for outcome in outcomes}
    assert survived == {
        "double: return 2 * x + 0 * x -> return None": False,
        "double: 2 * x + 0 * x -> 2 * x - 0 * x": True,
    }
    assert (tmp_path / "law" / "code.py").read_text() == "def double(x):\n    return 2 * x + 0 * x\n"
