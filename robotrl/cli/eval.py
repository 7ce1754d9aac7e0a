"""`robotrl eval`: how well a run or an exported policy walks, or what a Gymnasium run's episodes return."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from robotrl.errors import BadInputError, PolicyError

if TYPE_CHECKING:
    from robotrl.cli.gymfile import AnyJob
    from robotrl.export.measured import How
    from robotrl.sim.build import Backend

EPISODES, FEWEST_EPISODES = 200, 2
"""In an original environment or through the runtime; the deviation of returns needs two."""


@dataclass(frozen=True)
class Eval:
    """Score a policy without exploration noise.

    A walking robot's: on 128 randomised robots and on 128 nominal ones for 20 seconds each. That of a
    Gymnasium run: returns and lengths of 32 episodes, eight from each of four seeds. With goals it is
    200 episodes, and the shares that succeed at their last step and at any, with 95 % intervals. With
    `--through runtime` it is the policy file itself that drives its emulated robot, as `robotrl run` does.

    Example: robotrl eval quad12_walk --json
    """

    policy: tyro.conf.Positional[str]
    """A training run's folder, a policy file, or the name of a shipped policy."""
    threads: int = 2
    """CPU threads for the physics."""
    warp: bool = False
    """Simulate a Gymnasium task's episodes by MuJoCo Warp, on its CPU device: does it do as well there?"""
    original: bool = False
    """Run a classic, Fetch or Hand task's episodes one by one in Gymnasium's or Gymnasium-Robotics' own
    environment."""
    through: Literal["runtime"] | None = None
    """Run a policy's episodes through loop, gate, driver and emulated robot, beside those in training."""
    episodes: int | None = None
    """Of --original, each from a seed of its own, or of --through; 200 by default, 16 of a walking robot."""
    card: bool = False
    """Keep the figures of --original, --through or --warp beside the policy file, and write its card anew."""
    json: bool = False
    """Print the scores as JSON."""

    def run(self) -> int:
        """Evaluate and print."""
        from robotrl.cli.runfile import CONFIG
        from robotrl.spec.shipped import find_shipped

        self._check()
        folder = Path(self.policy)
        if self.through:
            scores = self._through_runtime(find_of_robot(self.policy))
        elif self.original:
            scores = self._in_original()
        elif (folder / CONFIG).is_file():
            scores = score_run(folder, self.threads, self._backend)
        else:
            scores = score_policy(find_shipped("policies", self.policy), self.threads, self._backend)
        if self.card:
            how: How = "through_runtime" if self.through else "in_original" if self.original else "on_warp"
            keep_in_card(find_shipped("policies", self.policy), how, scores)
        print_scores(scores, title=self.policy, as_json=self.json)
        return 0

    @property
    def _backend(self) -> Backend:
        return "warp" if self.warp else "native"

    def _in_original(self) -> dict[str, float]:
        from robotrl.bench.in_original import evaluate_beside_training
        from robotrl.cli.runfile import CONFIG
        from robotrl.spec.shipped import find_shipped

        run = Path(self.policy)
        place = run if (run / CONFIG).is_file() else find_shipped("policies", self.policy)
        return evaluate_beside_training(place, self.episodes or EPISODES, self.threads)

    def _through_runtime(self, file: Path) -> dict[str, float]:
        from robotrl.bench.through import evaluate_through_runtime

        return evaluate_through_runtime(file, self.episodes)

    def _check(self) -> None:
        """Refuse options that do not go together.

        Raises:
            BadInputError: one of these.
        """
        from robotrl.cli.runfile import CONFIG

        if self.threads < 1:
            raise BadInputError("is too few", key="--threads", value=self.threads, allowed="1 or more")
        given = {"--warp": self.warp, "--original": self.original, "--through": self.through}
        flags = [name for name, value in given.items() if value]
        if len(flags) > 1:
            raise BadInputError("are given together", key=" ".join(flags), allowed="one")
        if self.episodes and not (self.original or self.through):
            allowed = "with --original or --through"
            raise BadInputError("is not an option of this", key="--episodes", allowed=allowed)
        if self.card and not flags:
            raise BadInputError("is not an option of this", key="--card", allowed=f"with {', '.join(given)}")
        if self.card and (Path(self.policy) / CONFIG).is_file():
            raise BadInputError("is a run, which has no card", value=self.policy, allowed="a policy file")
        if self.episodes is not None and self.episodes < FEWEST_EPISODES:
            allowed = f"{FEWEST_EPISODES} or more"
            raise BadInputError("is too few", key="--episodes", value=self.episodes, allowed=allowed)


def find_of_robot(name: str) -> Path:
    """Return the policy file meant by `name`, whose policy drives a robot.

    Raises:
        BadInputError: there is no such file.
        PolicyError: it drives none.
    """
    from robotrl.spec.contract import read_policy_file
    from robotrl.spec.fit import drives_no_robot
    from robotrl.spec.shipped import find_shipped

    file = find_shipped("policies", name)
    if sentence := drives_no_robot(read_policy_file(file)[1]):
        raise PolicyError(sentence, file=file, key="--through", allowed="--original")
    return file


def score_run(folder: Path, threads: int = 2, backend: Backend = "native") -> dict[str, float]:
    """Score the newest network of a run of either kind.

    Raises:
        BadInputError: the backend cannot simulate the run's environment.
    """
    from robotrl.bench.episodes import evaluate_episodes
    from robotrl.bench.evaluate import evaluate_run
    from robotrl.cli.gymfile import GymJob, read_training
    from robotrl.cli.runfile import config_of

    job = read_training(config_of(folder))
    _check_backend(job, backend, folder)
    if isinstance(job, GymJob):
        return evaluate_episodes(folder, threads, backend)
    return evaluate_run(folder, threads)


def keep_in_card(file: Path, how: How, scores: dict[str, float]) -> None:
    """Keep what was measured of a policy file beside it, and write its card anew."""
    from robotrl.export.card import card_of
    from robotrl.export.measured import keep_measured
    from robotrl.spec.contract import read_policy_file

    sha256 = read_policy_file(file)[2]
    keep_measured(file, sha256, how, scores)
    file.with_name("card.md").write_text(card_of(file), encoding="utf-8")


def _check_backend(job: AnyJob, backend: Backend, place: Path) -> None:
    """Refuse a backend that cannot simulate what a job trains on.

    Raises:
        BadInputError: it is Warp, and not a Gymnasium task of ours.
    """
    from robotrl.cli.gymfile import OURS, GymJob

    if backend != "native" and not (isinstance(job, GymJob) and job.config.env.startswith(OURS)):
        allowed = f"what was trained on an env that starts with {OURS}"
        raise BadInputError("cannot simulate it", file=place, key="--warp", allowed=allowed)


def score_policy(file: Path, threads: int = 2, backend: Backend = "native") -> dict[str, float]:
    """Score a policy file of any kind in the simulation that it was trained in.

    Raises:
        BadInputError: the backend cannot simulate it.
    """
    from robotrl.bench.controls import score_file
    from robotrl.bench.episodes import trained_job
    from robotrl.bench.evaluate import evaluate_policy
    from robotrl.cli.gymfile import GymJob

    job = trained_job(file)
    _check_backend(job, backend, file)
    if isinstance(job, GymJob):
        return score_file(job, file, threads, backend)
    return evaluate_policy(file, threads)


def print_scores(scores: dict[str, float], title: str, as_json: bool) -> None:
    """Print scores as JSON, or as the table that fits them."""
    from rich.console import Console
    from rich.table import Table

    from robotrl.bench.episodes import SUCCESS
    from robotrl.bench.evaluate import MEANING, score_table
    from robotrl.bench.through import DIFFERS

    if as_json:
        print(json.dumps(scores, indent=2))
        return
    if MEANING.keys() <= scores.keys():
        Console().print(score_table(scores, title=title))
        return
    table = Table("figure", "value", title=title, title_justify="left")
    shares = *SUCCESS, "_ratio", "_share", DIFFERS
    for name, value in scores.items():
        table.add_row(name, f"{value:.3f}" if any(part in name for part in shares) else f"{value:,.1f}")
    Console().print(table)
