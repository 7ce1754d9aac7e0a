"""`robotrl video`: a film of a robot, drawn without a screen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from robotrl.cli.actions import Actions

if TYPE_CHECKING:
    from robotrl.bench.steering import Steering


@dataclass(frozen=True)
class Video:
    """Draw a robot or any other trained body into an MP4 file, without a screen.

    A robot that walks by command is shown standing, walking forward, sideways, turning, in a curve and
    stopping. Sensing, delays, randomisation and pushes are those that it trains with.

    Example: robotrl video quad12_walk -o walk.mp4
    """

    what: tyro.conf.Positional[str]
    """A run's folder, a policy or shipped policy, a run's TOML or shipped one, or a quarantine dump."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """MP4 file to write."""
    actions: Actions | None = None
    """Trained by default where there is a policy, otherwise zero."""
    seed: int = 1
    """Of the world's randomisation and of random actions."""
    script: Path | None = None
    """Velocity commands from a script of `robotrl run` instead."""
    seconds: float | None = None
    """Length; by default as long as the commands need."""
    fps: float = 0.0
    """Pictures a second, a divisor of the control rate; 0 chooses one up to 30."""
    size: tuple[int, int] = (1280, 720)
    """Width and height in pixels."""
    plain: bool = False
    """Leave the command and the true velocity out of the picture."""

    def run(self) -> int:
        """Draw."""
        from rich.console import Console
        from rich.progress import Progress

        from robotrl.bench.film import Look, write_film
        from robotrl.bench.opening import open_player
        from robotrl.bench.steering import TOUR_S

        self._check()
        player = open_player(self.what, self.actions, self.seed, self._steering())
        look = Look(self.size, self.fps, self.plain)
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("drawing", total=None)
            frames = write_film(
                player,
                self.out,
                self.seconds or TOUR_S,
                look,
                lambda drawn, total: bar.update(task, completed=drawn, total=total),
            )
        for sentence in player.findings:
            print(sentence)
        restarts = sum(frame.restarted for frame in frames)
        print(f"{self.out}: {len(frames) * player.frame_s:.1f} s, restarts: {restarts}")
        return 0

    def _check(self) -> None:
        from robotrl.errors import BadInputError

        if self.out.suffix != ".mp4":
            raise BadInputError(
                "is no film", key="--out", value=str(self.out), allowed="a name that ends in .mp4"
            )
        if not self.out.absolute().parent.is_dir():
            raise BadInputError("no such folder", key="--out", value=str(self.out.parent))
        if any(side % 2 or not 16 <= side <= 4096 for side in self.size):  # noqa: PLR2004
            raise BadInputError(
                "cannot be drawn", key="--size", value=self.size, allowed="even numbers from 16 to 4096"
            )
        if self.seconds is not None and not 0 < self.seconds <= 3600:  # noqa: PLR2004
            raise BadInputError("is no length", key="--seconds", value=self.seconds, allowed="up to 3600")

    def _steering(self) -> Steering:
        from robotrl.bench.steering import scripted, tour
        from robotrl.runtime.operator import load_steps

        return scripted(load_steps(self.script)) if self.script else tour
