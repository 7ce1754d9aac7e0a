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

_SKY = ([0.97, 0.98, 1.0], [0.86, 0.89, 0.94])
_TILES = ([0.90, 0.92, 0.945], [0.82, 0.845, 0.88])
_TILE_M = 0.1
_PATTERN_M = 2 * _TILE_M
"""The floor looks the same again after this distance."""


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
    spec = _studio(model_file)
    spec.camera(camera).fovy = fov_deg
    spec.camera(camera).pos[2] -= lower_m
    model = spec.compile()
    data = mujoco.MjData(model)
    width, height = size_px
    with mujoco.Renderer(model, height, width) as renderer:
        for frame, row in enumerate(qpos):
            data.qpos[:] = row
            data.qpos[:2] %= _PATTERN_M  # the light's shadow reaches only so far from the origin
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera)
            Image.fromarray(renderer.render()).save(folder / f"{frame:03}.png", compress_level=1)


def _studio(model_file: Path) -> mujoco.MjSpec:
    """The robot under daylight on a tiled floor, so that one sees it move."""
    spec = mujoco.MjSpec.from_file(str(model_file))
    spec.visual.headlight.ambient = [0.45, 0.45, 0.45]
    spec.visual.headlight.diffuse = [0.35, 0.35, 0.35]
    spec.visual.headlight.specular = [0.1, 0.1, 0.1]
    spec.visual.quality.shadowsize = 1024
    for light in spec.lights:
        light.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
        light.diffuse = [0.5, 0.5, 0.5]
    _texture(spec, "sky", mujoco.mjtTexture.mjTEXTURE_SKYBOX, mujoco.mjtBuiltin.mjBUILTIN_GRADIENT, _SKY)
    _texture(spec, "tiles", mujoco.mjtTexture.mjTEXTURE_2D, mujoco.mjtBuiltin.mjBUILTIN_CHECKER, _TILES)
    material = spec.add_material(name="tiles", texuniform=True, texrepeat=[1 / _PATTERN_M, 1 / _PATTERN_M])
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "tiles"
    spec.geom("floor").material = "tiles"
    return spec


def _texture(
    spec: mujoco.MjSpec,
    name: str,
    kind: mujoco.mjtTexture,
    pattern: mujoco.mjtBuiltin,
    colours: tuple[list[float], list[float]],
) -> None:
    spec.add_texture(
        name=name, type=kind, builtin=pattern, rgb1=colours[0], rgb2=colours[1], width=256, height=256
    )


def _main() -> None:
    model_file, frames, folder = (Path(argument) for argument in sys.argv[1:])
    with np.load(frames, allow_pickle=False) as job:
        size_px = int(job["size_px"][0]), int(job["size_px"][1])
        lower_m, fov_deg = float(job["lower_m"]), float(job["fov_deg"])
        render(model_file, job["qpos"], str(job["camera"]), lower_m, fov_deg, size_px, folder)


if __name__ == "__main__":
    _main()
