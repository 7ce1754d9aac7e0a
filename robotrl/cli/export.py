"""`robotrl export`: a trained run becomes one verified policy file with its card."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from robotrl.export.verify import ExportReport

PACKAGES = ("robotrl", "torch", "mujoco", "numpy", "onnx", "onnxruntime")
"""Whose versions the contract records."""


@dataclass(frozen=True)
class Export:
    """Write a trained run as one ONNX file, verified against the trained network, with its card.

    A walking run's robot is the one it names; HandReach is done by shadow_hand_sim, FetchReach by fetch_sim.
    No robot does the others: their policies take observations and give controls, as Gymnasium's do.

    Example: robotrl export runs/quad12_walk -o policies/quad12_walk/policy.onnx
    """

    folder: tyro.conf.Positional[Path]
    """Folder of the training run."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Policy file to write, by default policy.onnx in the run's folder; card.md goes beside it."""
    json: bool = False
    """Print what verification measured as JSON."""

    def run(self) -> int:
        """Export, then write the card from the file itself."""
        from robotrl.cli.deployed import read_trained
        from robotrl.cli.outputs import check_policy_file
        from robotrl.cli.runfile import config_of
        from robotrl.export.card import card_of
        from robotrl.export.measured import forget_measured
        from robotrl.export.onnx import export_policy
        from robotrl.export.verify import TRACE_TICKS
        from robotrl.spec.contract_parts import Provenance

        config_of(self.folder)
        file = self.out or self.folder / "policy.onnx"
        check_policy_file(file)
        run = read_trained(self.folder, TRACE_TICKS)
        file.parent.mkdir(parents=True, exist_ok=True)
        provenance = Provenance(
            config=run.config_text,
            seed=run.seed,
            git_commit=git_commit(),
            steps=run.steps,
            versions=versions(),
            scores=dict(run.scores),
        )
        report = export_policy(
            file, run.interface, run.actor, run.robot, run.recorded, provenance, run.command_range
        )
        forget_measured(file)
        file.with_name("card.md").write_text(card_of(file), encoding="utf-8")
        print_report(file, report, as_json=self.json)
        return 0


def git_commit() -> str:
    """Return the commit that this code is at, `+` appended where files differ from it.

    Empty where the package does not lie in its own checkout or git is not installed.
    """
    import subprocess

    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


def versions() -> dict[str, str]:
    """Return the versions of `PACKAGES` that are installed."""
    from contextlib import suppress
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def print_report(file: Path, report: ExportReport, *, as_json: bool) -> None:
    """Print what verification measured of a policy file that was just written."""
    if as_json:
        import json

        print(json.dumps(dataclasses.asdict(report) | {"file": str(file)}, indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(file), title_justify="left", box=box.SIMPLE)
    table.add_column("verification", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in dataclasses.asdict(report).items():
        table.add_row(name, f"{value:.3g}" if isinstance(value, float) else str(value))
    Console().print(table)
