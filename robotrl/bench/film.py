"""Makes an MP4 file of a playback."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path

import mujoco
import numpy as np

from robotrl.bench.opengl import drawing_environment
from robotrl.bench.playback import Frame, Player
from robotrl.bench.render_film import FILM, JOB, MODEL
from robotrl.errors import BadInputError, ScreenError

SMOOTH_FPS = 30.0
"""Without a wish: the highest rate up to this that divides the playback's own."""


@dataclass(frozen=True)
class Look:
    """How a film is made."""

    size_px: tuple[int, int]
    """Width and height; both even, as the colour format of MP4 needs."""
    fps: float
    """Pictures a second; 0 chooses."""
    plain: bool
    """Leave the figures out of the picture."""


def every_nth(frame_s: float, fps: float) -> int:
    """Return how many of a playback's frames each picture stands for, so that the film runs in real time.

    Args:
        frame_s: time between the playback's frames.
        fps: the wish; 0 leaves the choice.

    Raises:
        BadInputError: `fps` does not divide the playback's rate.
    """
    rate = 1 / frame_s
    if fps == 0:
        return math.ceil(rate / SMOOTH_FPS - 1e-9)
    nth = max(round(rate / fps), 1)
    if not math.isclose(rate / nth, fps, rel_tol=1e-3):
        possible = ", ".join(f"{rate / n:.4g}" for n in range(1, 6))
        raise BadInputError(
            "does not divide the motion's rate", key="--fps", value=fps, allowed=f"{possible}, ..."
        )
    return nth


def write_film(
    player: Player, file: Path, seconds: float, look: Look, progress: Callable[[int, int], None]
) -> list[Frame]:
    """Play and draw.

    Args:
        player: what to draw.
        file: the MP4 file to write.
        seconds: length; a playback that ends sooner makes a shorter film.
        look: size, rate and figures.
        progress: is called with the number of pictures drawn, and of all.

    Returns:
        The frames that were played.

    Raises:
        BadInputError: an impossible rate.
        ScreenError: no OpenGL library works, or drawing failed.
    """
    nth = every_nth(player.frame_s, look.fps)
    environment = drawing_environment()
    frames = list(islice(player.frames(), round(seconds / player.frame_s)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = _save_job(folder, player, frames, nth, look)
        _draw(folder, environment, lambda drawn: progress(drawn, pictures))
        file.write_bytes((folder / FILM).read_bytes())
    return frames


def _save_job(folder: Path, player: Player, frames: Sequence[Frame], nth: int, look: Look) -> int:
    """Write what `render_film` reads; return the number of pictures."""
    groups = [frames[start : start + nth] for start in range(0, len(frames), nth)]
    mujoco.mj_saveModel(player.model, str(folder / MODEL))
    np.savez(
        folder / JOB,
        qpos=np.array([group[0].qpos for group in groups]),
        restarted=np.array([any(frame.restarted for frame in group) for group in groups]),
        markers_m=np.array([group[0].markers_m for group in groups]),
        table=np.array([() if look.plain else group[0].table for group in groups], dtype=np.str_),
        view=() if (view := player.view) is None else (*view.lookat_m, *astuple(view)[1:]),
        picture_s=nth * player.frame_s,
        size_px=np.array(look.size_px),
    )
    return len(groups)


def _draw(folder: Path, environment: dict[str, str], progress: Callable[[int], None]) -> None:
    with (
        (folder / "errors").open("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "robotrl.bench.render_film", str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as drawing,
    ):
        for drawn, _ in enumerate(drawing.stdout or (), start=1):
            progress(drawn)
        code = drawing.wait()
        if code:
            errors.seek(0)
            problem = (errors.read().strip().splitlines() or [f"it ends with code {code}"])[-1]
            raise ScreenError(f"drawing failed: {problem}")
