"""`robotrl report`: what a run recorded, drawn as one self-contained HTML page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro


@dataclass(frozen=True)
class Report:
    """Draw what a demo or a run recorded as one HTML page that needs no other file.

    Example: robotrl report demo
    """

    folder: tyro.conf.Positional[Path]
    """Folder with run.mcap and, where there are any, truth.npz, metrics.jsonl and summary.json."""
    robot: str = ""
    """Name or path of the robot; by default the shipped one that the recording names."""
    json: bool = False
    """Print the page's figures as JSON."""

    def run(self) -> int:
        """Write report.html into the folder."""
        import dataclasses
        import json

        from robotrl.bench.facts import facts_of
        from robotrl.bench.folder import read_run
        from robotrl.bench.report import write_report

        run = read_run(self.folder, self.robot)
        facts = facts_of(run)
        file = self.folder / "report.html"
        write_report(run, facts, file)
        print(json.dumps(_without_nan(dataclasses.asdict(facts)), indent=2) if self.json else file)
        return 0


def _without_nan(value: Any) -> Any:  # noqa: ANN401
    """The same with null where there is no number: JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
