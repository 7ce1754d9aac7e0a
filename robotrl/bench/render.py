"""Draws postures of a robot with MuJoCo's renderer: a program of its own, since OpenGL may crash.

`python -m robotrl.bench.render model.xml frames.npz folder` writes folder/000.png and so on. The
environment variable MUJOCO_GL, which mujoco reads when it is imported, picks the OpenGL library.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mujoco
import numpy as np
from PIL import Image

from robotrl.spec.state import Floats


def render(
    model_file: Path,
    qpos: Floats,
    camera: str,
    lower_m: float,
    fov_deg: float,
    size_px: tuple[int, int],
    folder: Path,
) -> None:
    """Write one PNG for each row of `qpos`.

    Args:
        model_file: the robot's MJCF.
        qpos: (F, nq) base position m, quaternion wxyz, joints rad.
        camera: name of a camera in the model.
        lower_m: how far below its place in the model it stands.
        fov_deg: its vertical field of view.
        size_px: width and height.
        folder: where the pictures go.
    """
    spec = mujoco.MjSpec.from_file(str(model_file))
    spec.camera(camera).fovy = fov_deg
    spec.camera(camera).pos[2] -= lower_m
    model = spec.compile()
    data = mujoco.MjData(model)
    width, height = size_px
    with mujoco.Renderer(model, height, width) as renderer:
        for frame, row in enumerate(qpos):
            data.qpos[:] = row
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera)
            Image.fromarray(renderer.render()).save(folder / f"{frame:03}.png", compress_level=1)


def _main() -> None:
    model_file, frames, folder = (Path(argument) for argument in sys.argv[1:])
    with np.load(frames, allow_pickle=False) as job:
        size_px = int(job["size_px"][0]), int(job["size_px"][1])
        lower_m, fov_deg = float(job["lower_m"]), float(job["fov_deg"])
        render(model_file, job["qpos"], str(job["camera"]), lower_m, fov_deg, size_px, folder)


if __name__ == "__main__":
    _main()
