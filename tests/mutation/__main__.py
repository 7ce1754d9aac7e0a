"""Every mutant of the gates and modes against the tests that state their laws: python -m tests.mutation.

A mutant that no test fails for has survived. Those that cannot be killed are listed with the reason in
survivors.toml; the command fails for one that is not listed, and for a listed one that is killed after all.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.mutation.mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")

LAWS = (
    "tests/laws/test_gate_storm.py",  # kills most, and soonest
    "tests/laws/test_gate_limiting.py",
    "tests/laws/test_gate_senses.py",
    "tests/laws/test_gate_memory.py",
    "tests/laws/test_gate_faults.py",
    "tests/laws/test_gate_stuck.py",
    "tests/laws/test_every_robot.py",
)

TESTS: dict[str, tuple[str, ...]] = {
    "robotrl/safety.py": LAWS,
    "robotrl/safety_gripper.py": ("tests/laws/test_gripper_gate.py", "tests/laws/test_gate_storm.py"),
    "robotrl/spec/gate.py": LAWS,
    "robotrl/runtime/modes.py": ("tests/runtime/test_modes.py",),
}
"""The modules whose mutants must die, and the tests that kill them."""

COPIED = ("robotrl", "tests", "hardware", "policies", "configs")

LONGEST_S = 600.0
"""A mutant that keeps the tests busy for longer is killed, too."""


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    file: str
    mutant: Mutant
    survived: bool

    @property
    def name(self) -> str:
        """As survivors.toml has it."""
        return f"{self.file} {self.mutant.name}"


def copy_tree(folder: Path) -> Path:
    """Copy what the tests need, so that the checkout stays as it is."""
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def passes(tree: Path, tests: Sequence[str]) -> bool:
    """Return whether the tests pass in a copied tree."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=LONGEST_S, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return False
    return True


def outcomes(files: Sequence[str], jobs: int, only: str = "") -> Iterator[Outcome]:
    """Try every mutant of some files whose name contains `only`, several at once, each in a copied tree.

    Raises:
        SystemExit: the tests fail without any mutant.
    """
    work = [(file, mutant) for file in files for mutant in mutants((ROOT / file).read_text())]
    work = [(file, mutant) for file, mutant in work if only in mutant.name]
    with tempfile.TemporaryDirectory() as scratch:
        trees: SimpleQueue[Path] = SimpleQueue()
        for job in range(jobs):
            trees.put(copy_tree(Path(scratch) / str(job)))

        def attempt(item: tuple[str, Mutant]) -> Outcome:
            file, mutant = item
            tree = trees.get()
            original = (tree / file).read_text()
            (tree / file).write_text(mutant.source)
            survived = passes(tree, TESTS[file])
            (tree / file).write_text(original)
            trees.put(tree)
            return Outcome(file, mutant, survived)

        tree = trees.get()
        for tests in {TESTS[file] for file in files}:
            if not passes(tree, tests):
                raise SystemExit(f"{' '.join(tests)}: fail without any mutant")
        trees.put(tree)
        with ThreadPoolExecutor(jobs) as pool:
            yield from _told(pool.map(attempt, work), len(work))


def _told(found: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    """Pass on, with a bar on the error output."""
    survived = 0
    words = TextColumn("mutants, {task.fields[survived]} survived")
    with Progress(
        BarColumn(), MofNCompleteColumn(), words, TimeRemainingColumn(), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task("", total=total, survived=0)
        for outcome in found:
            survived += outcome.survived
            if outcome.survived:
                bar.console.print(f"survived: {outcome.name} (line {outcome.mutant.line})", markup=False)
            bar.update(task, advance=1, survived=survived)
            yield outcome


def listed() -> dict[str, str]:
    """Return the known survivors, each with its reason."""
    table = tomllib.loads(SURVIVORS.read_text())
    return {f"{entry['file']} {entry['mutant']}": entry["reason"] for entry in table["survivor"]}


def judge(found: Sequence[Outcome], known: dict[str, str]) -> list[str]:
    """Return what is wrong: survivors that are not listed, and listed ones that are killed."""
    survived = {outcome.name for outcome in found if outcome.survived}
    killed = {outcome.name for outcome in found} - survived
    wrong = [f"survived, and is not listed: {name}" for name in sorted(survived - known.keys())]
    return wrong + [f"is listed, and was killed: {name}" for name in sorted(killed & known.keys())]


def main(arguments: Sequence[str]) -> int:
    """Run, and print what is wrong; 1 where something is."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--file", action="append", choices=[*TESTS], help="only mutants of this file")
    parser.add_argument("--only", default="", help="only mutants whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="mutants tried at once")
    asked = parser.parse_args(arguments)
    found = [*outcomes(asked.file or [*TESTS], asked.jobs, asked.only)]
    wrong = judge(found, listed())
    survived = sum(outcome.survived for outcome in found)
    counts = f"{len(found)} mutants, {len(found) - survived} killed, {survived} survived"
    Console().print(counts, *wrong, sep="\n", markup=False, soft_wrap=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
