"""`robotrl eval`: how well a run or an exported policy walks, or what a Gymnasium run's episodes return."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Eval:
    """Score a policy without exploration noise.

    A walking robot's: on 128 randomised robots and on 128 nominal ones for 20 seconds each. That of a
    Gymnasium run: returns and lengths of 32 episodes, eight from each of four seeds. With goals it is
    200 episodes, and the shares that succeed at their last step and at any, with 95 % intervals.

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
        from robotrl.bench.evaluate import evaluate_policy
        from robotrl.cli.runfile import CONFIG
        from robotrl.spec.shipped import find_shipped

        folder = Path(self.policy)
        if (folder / CONFIG).is_file():
            scores = score_run(folder, self.threads)
        else:
            scores = evaluate_policy(find_shipped("policies", self.policy), self.threads)
        print_scores(scores, title=self.policy, as_json=self.json)
        return 0


def score_run(folder: Path, threads: int = 2) -> dict[str, float]:
    """Score the newest network of a run of either kind."""
    from robotrl.bench.episodes import evaluate_episodes
    from robotrl.bench.evaluate import evaluate_run
    from robotrl.cli.gymfile import GymJob, read_training
    from robotrl.cli.runfile import config_of

    if isinstance(read_training(config_of(folder)), GymJob):
        return evaluate_episodes(folder, threads)
    return evaluate_run(folder, threads)


def print_scores(scores: dict[str, float], title: str, as_json: bool) -> None:
    """Print scores as JSON, or as the table that fits them."""
    from rich.console import Console
    from rich.table import Table

    from robotrl.bench.episodes import SUCCESS
    from robotrl.bench.evaluate import MEANING, score_table

    if as_json:
        print(json.dumps(scores, indent=2))
        return
    if MEANING.keys() <= scores.keys():
        Console().print(score_table(scores, title=title))
        return
    table = Table("figure", "value", title=title, title_justify="left")
    for name, value in scores.items():
        table.add_row(name, f"{value:.3f}" if name.startswith(SUCCESS) else f"{value:,.1f}")
    Console().print(table)
