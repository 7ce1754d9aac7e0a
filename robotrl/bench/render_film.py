"""Draws states of a model into an MP4 file: a program of its own, since OpenGL may crash.

`python -m robotrl.bench.render_film folder` draws the job in the folder into film.mp4 there, and prints a
line after each picture. The environment variable MUJOCO_GL picks the OpenGL library.
"""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from pathlib import Path

import av
import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from robotrl.bench.camera import Follower, View
from robotrl.bench.markers import add_markers
from robotrl.sim.exact import register_contact_forces

MODEL, JOB, FILM = "model.mjb", "job.npz", "film.mp4"
"""The job's model; its arrays as `draw` reads them; the result."""
QUALITY = "20"
"""x264's constant rate factor: 18 looks lossless, 23 is its default."""
TEXT_SHARE, PANEL, INK = 1 / 32, (255, 255, 255, 190), (40, 46, 60, 255)
"""Text height as a share of the picture's, and colours (RGBA)."""

Picture = NDArray[np.uint8]


def draw(folder: Path) -> None:
    """Draw a job.

    Its arrays are qpos (F, nq); restarted (F,) bool: the camera jumps; markers_m (F, k, 3) places of goals;
    table (F, rows, columns) text, empty for none; picture_s between two pictures; view, numbers of a `View`,
    empty to follow what moves; size_px (2,) width and height, both even.
    """
    register_contact_forces()  # a dump of a task that observes them names the plugin
    model = mujoco.MjModel.from_binary_path(str(folder / MODEL))
    with np.load(folder / JOB, allow_pickle=False) as job:
        rows = job["qpos"], job["restarted"], job["markers_m"], job["table"]
        view = tuple(job["view"].tolist())
        picture_s, (width, height) = float(job["picture_s"]), (int(side) for side in job["size_px"])
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    rate = Fraction(1 / picture_s).limit_denominator(1000)
    data = mujoco.MjData(model)
    data.qpos[:] = rows[0][0]
    mujoco.mj_forward(model, data)
    follower = Follower(
        model, data, View(view[:3], *view[3:]) if view else None
    )  # before the renderer, which reads the extent that it sets
    with (
        mujoco.Renderer(model, height, width) as renderer,
        av.open(str(folder / FILM), "w", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=rate, options={"crf": QUALITY})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for qpos, jump, markers_m, figures in zip(*rows, strict=True):
            data.qpos[:] = qpos
            mujoco.mj_forward(model, data)
            follower.follow(data, math.inf if jump else picture_s)
            renderer.update_scene(data, follower.camera)
            add_markers(renderer.scene, markers_m, model.stat.extent)
            picture = _with_table(renderer.render(), figures)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            print(flush=True)  # noqa: T201 - whoever waits counts lines
        container.mux(stream.encode())


def _with_table(picture: Picture, table: NDArray[np.str_]) -> Picture:
    """Write rows of figures into the upper left corner, above the floor: names left, numbers right."""
    if not table.size:
        return picture
    image = Image.fromarray(picture)
    brush = ImageDraw.Draw(image, "RGBA")
    letter = round(TEXT_SHARE * image.height)
    font = ImageFont.load_default(letter)
    line, edge = 1.4 * letter, 0.8 * letter
    rights = np.cumsum([max(brush.textlength(str(c), font) for c in column) + edge for column in table.T])
    left = top = 1.5 * edge
    panel = (edge / 2, edge / 2, left + rights[-1] + edge, top + line * len(table) + edge / 2)
    brush.rectangle(panel, PANEL)
    for row, cells in enumerate(table):
        base = top + line * (row + 0.7)
        brush.text((left, base), str(cells[0]), INK, font, anchor="ls")
        for cell, right in zip(cells[1:], rights[1:], strict=True):
            brush.text((left + right, base), str(cell), INK, font, anchor="rs")
    return np.asarray(image)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
