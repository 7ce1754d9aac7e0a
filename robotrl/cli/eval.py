"""`robotrl eval`: how well a run or an exported policy walks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Eval:
    """Score a policy on 128 randomised robots and on 128 nominal ones for 20 seconds each.

    Example: robotrl eval quad12_walk --json
    """

    policy: tyro.conf.Positional[str]
    """A training run's folder, a policy file, or the name of a shipped policy."""
    threads: int = 2
    """CPU threads for the physics."""
    json: bool = False
    """Print the scores as JSON."""

    def run(self) -> int:
        """Evaluate and print."""
        from robotrl.bench.evaluate import evaluate_policy, evaluate_run, score_table
        from robotrl.cli.runfile import CONFIG
        from robotrl.spec.shipped import find_shipped

        folder = Path(self.policy)
        if (folder / CONFIG).is_file():
            scores = evaluate_run(folder, self.threads)
        else:
            scores = evaluate_policy(find_shipped("policies", self.policy), self.threads)
        if self.json:
            print(json.dumps(scores, indent=2))
        else:
            from rich.console import Console

            Console().print(score_table(scores, title=self.policy))
        return 0
