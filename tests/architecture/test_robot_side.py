"""The robot side works in a process where torch, mujoco and warp cannot be imported."""

from __future__ import annotations

from pathlib import Path

import robotrl
from robotrl.cli.main import COMMANDS
from tests.architecture.imports import modules_under
from tests.blocking import SIMULATION, run_without

ROOT = Path(__file__).resolve().parents[2]
ROBOT_SIDE = ("robotrl.errors", "robotrl.spec", "robotrl.safety", "robotrl.drivers", "robotrl.runtime")
MODULES = [
    *(name for name in modules_under(Path(robotrl.__file__).parent) if name.startswith(ROBOT_SIDE)),
    "robotrl.cli.main",
    *(command.__module__ for command in COMMANDS.values()),
]


def test_the_block_blocks() -> None:
    done = run_without(SIMULATION, "import mujoco")
    assert done.returncode == 1
    assert "No module named 'mujoco'" in done.stderr


def test_every_robot_side_module_and_command_imports() -> None:
    done = run_without(SIMULATION, "\n".join(f"import {name}" for name in MODULES))
    assert done.returncode == 0, done.stderr


def test_a_hundred_ticks_of_the_shipped_policy_need_no_simulation() -> None:
    code = "import tests.hundred_ticks as h; print(h.run() >= h.TICKS)"
    done = run_without(SIMULATION, code, path=[ROOT], cwd=ROOT)
    assert done.stdout == "True\n", done.stderr
