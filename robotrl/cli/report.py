"""`robotrl report`: what a run recorded, drawn as one self-contained HTML page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

if TYPE_CHECKING:
    from robotrl.bench.facts import Facts
    from robotrl.bench.transfer_report import TransferFacts


@dataclass(frozen=True)
class Report:
    """Draw what a demo or a run recorded as one HTML page that needs no other file.

    With --against the page compares the robot with the simulation that its policy was trained in: the same
    commands from the same posture, channel by channel.

    Example: robotrl report demo --against quad12_walk
    """

    recording: tyro.conf.Positional[Path]
    """Recording, or folder with run.mcap; where there are any, truth.npz, metrics.jsonl and summary.json."""
    against: str = ""
    """Folder of a training run; or policy file, its folder or the name of a shipped policy, each of which
    holds its training's configuration."""
    robot: str = ""
    """Name or path of the robot; by default the shipped one that the recording names."""
    json: bool = False
    """Print the page's figures as JSON."""

    def run(self) -> int:
        """Write report.html, or with --against transfer.html, beside the recording."""
        import dataclasses
        import json

        from robotrl.bench.folder import recording_in

        recorded = recording_in(self.recording)
        file = recorded.with_name("transfer.html" if self.against else "report.html")
        facts = self._transfer(recorded, file) if self.against else self._report(file)
        print(json.dumps(_without_nan(dataclasses.asdict(facts)), indent=2) if self.json else file)
        return 0

    def _report(self, file: Path) -> Facts:
        from robotrl.bench.facts import facts_of
        from robotrl.bench.folder import read_run
        from robotrl.bench.report import write_report

        run = read_run(self.recording, self.robot)
        facts = facts_of(run)
        write_report(run, facts, file)
        return facts

    def _transfer(self, recorded: Path, file: Path) -> TransferFacts:
        from robotrl.bench.transfer_report import compare, write_transfer_report
        from robotrl.errors import BadInputError

        if self.robot:
            raise BadInputError("is of no use with --against: the recording holds its robot", key="--robot")
        transfer = compare(recorded, self.against)
        write_transfer_report(transfer, file)
        return transfer.facts


def _without_nan(value: Any) -> Any:  # noqa: ANN401
    """The same with null where there is no number: JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
