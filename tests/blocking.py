"""Runs Python code in a process where chosen packages cannot be imported, as on a robot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

SIMULATION = ("torch", "mujoco", "warp", "mujoco_warp")
"""Never on a robot."""

TRAIN = (
    *SIMULATION,
    "gymnasium",
    "gymnasium_robotics",
    "matplotlib",
    "onnx",
    "onnxscript",
    "safetensors",
    "tensorboard",
)
"""Everything that a base-only install lacks."""

_HOOK = """\
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def run_without(
    blocked: Iterable[str], code: str, *, path: Sequence[Path] = (), cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter in which importing any of `blocked` raises.

    Args:
        blocked: top-level import names.
        code: Python text.
        path: folders put first on the module search path.
        cwd: working folder.
    """
    environment = os.environ | ({"PYTHONPATH": os.pathsep.join(map(str, path))} if path else {})
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", _HOOK.format(names=set(blocked)) + code],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
