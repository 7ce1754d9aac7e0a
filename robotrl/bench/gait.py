"""Pictures of the gait: rendered postures over one stride, or stick figures without OpenGL."""

from __future__ import annotations

import base64
import dataclasses
import io
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from PIL import Image

from robotrl.bench.flight import FOOT_DOWN_N, Truth, Window
from robotrl.bench.opengl import drawing_environment
from robotrl.errors import ScreenError
from robotrl.sim.model import torque_model
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import Floats

SHORTEST_STRIDE_S = 0.15
"""A foot that comes down again sooner has only bounced."""


@dataclass(frozen=True)
class View:
    """How the robot is looked at: a camera of its model, let down a little, and size in pixels."""

    camera: str
    lower_m: float
    fov_deg: float
    """Vertical field of view."""
    size_px: tuple[int, int]


@dataclass(frozen=True)
class Pictures:
    """Rendered frames, or the reason why there are none."""

    frames: tuple[Image.Image, ...]
    problem: str = ""


def stride(truth: Truth, window: Window) -> Window:
    """Return one stride inside the window, from touch-down to touch-down of the first foot.

    The stride of median length; the whole window if the foot never comes down twice.
    """
    chosen = truth.between(window.start_s, window.end_s)
    down = truth.foot_touch_n[chosen, 0] > FOOT_DOWN_N
    stamps: list[float] = []
    for stamp in truth.stamp_s[chosen][1:][down[1:] & ~down[:-1]]:
        if not stamps or stamp - stamps[-1] > SHORTEST_STRIDE_S:
            stamps.append(float(stamp))
    if len(stamps) < 2:  # noqa: PLR2004 - a stride has two ends
        return window
    lengths = np.diff(stamps)
    typical = int(np.argmin(np.abs(lengths - np.median(lengths))))
    return Window(stamps[typical], stamps[typical + 1])


def postures(truth: Truth, stamps_s: Floats) -> Floats:
    """(F, 7 + n) the recorded qpos nearest to each stamp, turned so that the first faces along x."""
    index = np.searchsorted(truth.stamp_s, stamps_s).clip(0, truth.stamp_s.size - 1)
    qpos: Floats = truth.qpos[index].copy()
    w, x, y, z = qpos[0, 3:7]
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    c, s = np.cos(yaw), np.sin(yaw)
    qpos[:, :2] = (qpos[:, :2] - qpos[0, :2]) @ np.array([[c, -s], [s, c]])
    w, x, y, z = qpos[:, 3:7].T
    c, s = np.cos(-yaw / 2), np.sin(-yaw / 2)
    qpos[:, 3:7] = np.column_stack([c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w])
    return qpos


def render(robot: RobotSpec, qpos: Floats, view: View) -> Pictures:
    """Draw postures in a child process with the first OpenGL library that works."""
    try:
        environment = drawing_environment()
    except ScreenError as error:
        return Pictures((), str(error))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "frames.npz", qpos=qpos, **dataclasses.asdict(view))
        program = [sys.executable, "-m", "robotrl.bench.render"]
        done = subprocess.run(
            [*program, robot.model_file, folder / "frames.npz", folder],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        files = sorted(folder.glob("*.png"))
        if done.returncode == 0 and len(files) == len(qpos):
            return Pictures(tuple(Image.open(file).copy() for file in files))
        return Pictures((), (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])


def stick_figures(robot: RobotSpec, qpos: Floats) -> list[Floats]:
    """For each posture the (K, 2, 2) ends x, z in m of the lines from every body to its parent."""
    model = torque_model(robot, timestep_s=0.005)
    data = mujoco.MjData(model)
    figures = []
    for row in qpos:
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        bodies = [(data.xpos[model.body_parentid[b]], data.xpos[b]) for b in range(2, model.nbody)]
        sites = [(data.xpos[model.site_bodyid[s]], data.site_xpos[s]) for s in range(model.nsite)]
        figures.append(np.array(bodies + sites)[:, :, ::2] - [row[0], 0.0])
    return figures


def still(picture: Image.Image) -> str:
    """Return the picture as a data URI (JPEG: a rendered floor is a smooth gradient)."""
    data = io.BytesIO()
    picture.save(data, format="JPEG", quality=88)
    return _uri("jpeg", data.getvalue())


def moving(frames: Sequence[Image.Image], frame_s: float) -> str:
    """Return the frames as an animated WebP data URI that repeats for ever."""
    data = io.BytesIO()
    frames[0].save(
        data,
        format="WEBP",
        save_all=True,
        append_images=list(frames[1:]),
        duration=round(1e3 * frame_s),
        loop=0,
        quality=70,
        method=2,
    )
    return _uri("webp", data.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
