"""The import table of the architecture: who may import whom, and no cycles."""

from __future__ import annotations

from pathlib import Path

import pytest

import robotrl
from tests.architecture.imports import Rule, cycles, modules_under, violations

SOURCES = {
    name: file.read_text(encoding="utf-8")
    for name, file in modules_under(Path(robotrl.__file__).parent).items()
}


def _rule(internal: str = "", third_party: str = "") -> Rule:
    return Rule(frozenset(f"robotrl.{name}" for name in internal.split()), frozenset(third_party.split()))


SIM = "sim spec tasks errors"
TABLE = {
    "robotrl": _rule(),
    "robotrl.errors": _rule(),
    "robotrl.spec": _rule("spec errors", "numpy"),
    "robotrl.safety": _rule("spec errors", "numpy"),
    "robotrl.safety_gripper": _rule("spec errors", "numpy"),
    "robotrl.drivers": _rule("drivers spec errors", "numpy serial"),
    "robotrl.runtime": _rule("runtime spec safety safety_gripper drivers errors", "numpy onnxruntime mcap"),
    "robotrl.emulator": _rule("emulator spec drivers sim.model sim.mocap errors", "numpy mujoco"),
    "robotrl.sim": _rule(SIM, "numpy torch mujoco"),
    "robotrl.sim.model": _rule("spec errors", "numpy mujoco"),  # the emulator uses it without torch
    "robotrl.sim.mocap": _rule("spec errors", "numpy mujoco"),  # likewise
    "robotrl.sim.warp": _rule(SIM, "numpy torch mujoco warp mujoco_warp"),
    "robotrl.sim.warp_rows": _rule("", "numpy torch warp"),
    "robotrl.sim.gym": _rule(SIM, "numpy torch mujoco gymnasium"),
    "robotrl.sim.goal_gym": _rule(SIM, "numpy torch mujoco gymnasium"),
    "robotrl.tasks": _rule("tasks spec errors", "torch"),
    "robotrl.learn": _rule("learn spec errors", "numpy torch safetensors rich tensorboard"),
    "robotrl.export": _rule(
        "export spec tasks learn.networks learn.normalize errors", "numpy torch onnx onnxruntime"
    ),
    "robotrl.bench": Rule(anything=True),
    "robotrl.cli": Rule(anything=True),
    "robotrl.__main__": _rule("cli"),
}


def test_every_import_is_in_the_table() -> None:
    assert violations(SOURCES, TABLE, "robotrl") == []


def test_no_import_cycles() -> None:
    assert cycles(SOURCES) == []


def test_the_scan_sees_every_package_of_the_table() -> None:
    """A package that moved away would leave its row unchecked."""
    packages = {".".join(name.split(".")[:2]) for name in SOURCES}
    rows = {".".join(prefix.split(".")[:2]) for prefix in TABLE}
    assert packages == rows


@pytest.mark.parametrize(
    ("module", "source", "broken"),
    [
        ("robotrl.safety", "import torch", "imports torch"),
        ("robotrl.runtime.loop", "def tick():\n    import mujoco", "imports mujoco"),
        ("robotrl.drivers.body", "from robotrl import runtime", "imports robotrl"),
        ("robotrl.spec.robot", "from robotrl.sim.model import position_model", "imports robotrl.sim.model"),
        ("robotrl.sim.model", "import torch", "imports torch"),
        ("robotrl.sim.native", "import warp as wp", "imports warp"),
        ("robotrl.learn.ppo", "from robotrl.cli.main import main", "imports robotrl.cli.main"),
        ("robotrl.learn.ppo", "import importlib\nimportlib.import_module('mujoco')", "import_module"),
        ("robotrl.drivers.body", "from . import port", "imports ."),
        ("robotrl.emulator.plant", "from robotrl.sim.native import NativeWorlds", "robotrl.sim.native"),
        ("robotrl.export.onnx", "from robotrl.learn.ppo import train", "robotrl.learn.ppo"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str, broken: str) -> None:
    [sentence] = violations({module: source}, TABLE, "robotrl")
    assert sentence.startswith(module)
    assert broken in sentence


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("robotrl.sim.warp", "import warp as wp\nimport torch"),
        ("robotrl.emulator.plant", "import mujoco\nfrom robotrl.sim.model import torque_model"),
        ("robotrl.cli.run", "def run():\n    import torch"),
        ("robotrl.spec.robot", "from __future__ import annotations\nimport json, numpy.typing"),
    ],
)
def test_an_allowed_import_passes(module: str, source: str) -> None:
    assert violations({module: source}, TABLE, "robotrl") == []


def test_a_cycle_through_a_function_is_found() -> None:
    sources = {
        "robotrl.a": "from robotrl import b",
        "robotrl.b": "def f():\n    from robotrl.c import x",
        "robotrl.c": "import robotrl.a",
    }
    assert cycles(sources) == ["robotrl.a -> robotrl.b -> robotrl.c -> robotrl.a"]
