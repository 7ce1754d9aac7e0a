"""Policies as another library writes them, made of plain ONNX operators, and their descriptions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from robotrl.runtime.policy import Policy
from tests.export import sample
from tests.spec.toml_text import to_toml

JOINTS = tuple(f"{leg}_{joint}" for joint in ("hip", "abduction", "knee") for leg in ("FL", "FR", "RL", "RR"))
"""Joint by joint, where the robot's own order is leg by leg."""

DEFAULT_RAD = [0.6] * 4 + [0.0] * 4 + [-1.2] * 4

WALK: dict[str, Any] = {
    "robot": "quad12",
    "rate_hz": 50.0,
    "joints": list(JOINTS),
    "stiffness_nm_rad": [7.6],
    "damping_nm_s_rad": [0.26],
    "command_low": [-0.4, -0.2, -1.0],
    "command_high": [0.4, 0.2, 1.0],
    "action": {
        "scale_rad": [0.25] * 4 + [-0.125] * 4 + [0.5] * 4,
        "offset_rad": DEFAULT_RAD,
        "clip": [-1.0, 1.0],
    },
    "term": [
        {"name": "imu_gyro", "scale": [0.25]},
        {"name": "projected_gravity"},
        {"name": "velocity_command", "scale": [2.0, 2.0, 0.25]},
        {"name": "joint_pos", "offset": DEFAULT_RAD, "history": 3},
        {"name": "joint_vel", "clip": [-1.5, 2.0], "scale": [0.05]},
        {"name": "last_action"},
    ],
}
CLOCK = {"name": "gait_phase", "period_s": 0.7, "scale": [1.0, 0.5]}
"""A term that may follow."""
TICKS = 60
Shapes = dict[str, list[int | str]]
OBSERVATION = 3 + 3 + 3 + 3 * 12 + 12 + 12


def description(folder: Path, **changes: Any) -> Path:
    """`WALK` with some entries replaced, as a TOML file."""
    file = folder / "walk.toml"
    file.write_text(to_toml(copy.deepcopy(WALK) | changes), encoding="utf-8")
    return file


def mlp(folder: Path, observation: int = OBSERVATION, action: int = 12) -> Path:
    """`obs` (batch, observation) to `actions` (batch, action): normaliser, ELU layer, output layer."""
    rng = np.random.default_rng(4)
    constants = {
        "mean": rng.normal(0, 0.3, (1, observation)),
        "deviation": rng.uniform(0.5, 2.0, (1, observation)),
        "first": rng.normal(0, 0.2, (observation, 32)),
        "bias": rng.normal(0, 0.2, 32),
        "last": rng.normal(0, 0.3, (32, action)),
    }
    nodes = [
        helper.make_node("Sub", ["obs", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], ["normal"]),
        helper.make_node("Gemm", ["normal", "first", "bias"], ["hidden"]),
        helper.make_node("Elu", ["hidden"], ["bent"]),
        helper.make_node("MatMul", ["bent", "last"], ["actions"]),
    ]
    return _save(
        folder, nodes, constants, {"obs": ["batch", observation]}, {"actions": ["batch", action]}, 18
    )


MEMORY = {"h_in": "h_out", "slow_in": "slow_out"}


def recurrent(folder: Path, observation: int = OBSERVATION, action: int = 12, width: int = 8) -> Path:
    """A normaliser, a GRU and a slow average of it, with memories of different shapes; of an older ONNX."""
    rng = np.random.default_rng(5)
    constants = {
        "mean": rng.normal(0, 0.3, (1, observation)),
        "deviation": rng.uniform(0.5, 2.0, (1, observation)),
        "w": rng.normal(0, 0.3, (1, 3 * width, observation)),
        "r": rng.normal(0, 0.6, (1, 3 * width, width)),
        "keep": np.array([0.9]),
        "last": rng.normal(0, 0.2, (2 * width, action)),
    }
    nodes = [
        helper.make_node("Sub", ["obs", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], ["normal"]),
        helper.make_node("Unsqueeze", ["normal", "zero"], ["sequence"]),
        helper.make_node("GRU", ["sequence", "w", "r", "", "", "h_in"], ["", "h_out"], hidden_size=width),
        helper.make_node("Squeeze", ["h_out", "zero"], ["flat"]),
        helper.make_node("Mul", ["slow_in", "keep"], ["kept"]),
        helper.make_node("Add", ["kept", "flat"], ["slow_out"]),
        helper.make_node("Concat", ["flat", "slow_out"], ["both"], axis=1),
        helper.make_node("MatMul", ["both", "last"], ["actions"]),
    ]
    state: Shapes = {"h": [1, 1, width], "slow": [1, width]}
    inputs: Shapes = {"obs": [1, observation], **{f"{name}_in": shape for name, shape in state.items()}}
    outputs: Shapes = {"actions": [1, action], **{f"{name}_out": shape for name, shape in state.items()}}
    return _save(folder, nodes, constants, inputs, outputs, 13)


def _save(
    folder: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, NDArray[np.float64]],
    inputs: Shapes,
    outputs: Shapes,
    opset: int,
) -> Path:
    asked, answers = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()]
        for values in (inputs, outputs)
    )
    held = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in constants.items()]
    held.append(numpy_helper.from_array(np.array([0], np.int64), "zero"))
    model = helper.make_model(
        helper.make_graph(nodes, "foreign", asked, answers, held),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
        producer_name="elsewhere",
        producer_version="1.2",
    )
    onnx.checker.check_model(model, full_check=True)
    file = folder / "foreign.onnx"
    onnx.save(model, str(file))
    return file


def observations(
    channels: dict[str, NDArray[np.float32]], action: NDArray[np.float32], past: list[Any], tick: int
) -> Any:
    """The observation of `WALK` and `CLOCK` in numpy; `past` holds earlier joint offsets and grows."""
    phase = tick * 0.02 % 0.7 / 0.7
    clock = np.array([np.sin(2 * np.pi * phase), 0.5 * np.cos(2 * np.pi * phase)])
    order = [sample.quad12().joint_names.index(name) for name in JOINTS]
    w, x, y, z = channels["imu_quat"].astype(np.float64)
    gravity = -np.array([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)])
    offset = channels["joint_pos"][order] - np.array(DEFAULT_RAD)
    past[:] = [offset] * 3 if not past else [*past[1:], offset]
    speed = np.clip(channels["joint_vel"][order], -1.5, 2.0) * 0.05
    command = channels["velocity_command"] * np.array([2.0, 2.0, 0.25])
    parts = (channels["imu_gyro"] * 0.25, gravity, command, *past, speed, action, clock)
    return np.concatenate(parts).astype(np.float32)


def by_hand(model: Path, memory: dict[str, str]) -> Callable[[dict[str, NDArray[np.float32]]], Any]:
    """One tick after the other of the foreign file itself: channels to joint targets."""
    session, robot = onnxruntime.InferenceSession(model), sample.quad12()
    held = {v.name: np.zeros(v.shape, np.float32) for v in session.get_inputs() if v.name in memory}
    size = next(v.shape[1] for v in session.get_inputs() if v.name == "obs")
    state: dict[str, Any] = {"action": np.zeros(12, np.float32), "past": [], "tick": 0}
    scale = np.array(WALK["action"]["scale_rad"])
    back = [JOINTS.index(name) for name in robot.joint_names]
    reach = 0.95 * robot.limits.torque_nm / robot.stiffness_nm_rad

    def tick(channels: dict[str, NDArray[np.float32]]) -> Any:
        seen = observations(channels, state["action"], state["past"], state["tick"])
        state["tick"] += 1
        answer, *following = session.run(["actions", *memory.values()], {"obs": seen[None, :size]} | held)
        held.update(zip(memory, following, strict=True))
        state["action"] = np.clip(answer[0], -1.0, 1.0)
        target = (np.array(DEFAULT_RAD) + scale * state["action"])[back]
        near = np.clip(target, channels["joint_pos"] - reach, channels["joint_pos"] + reach)
        return np.clip(near, robot.position_min_rad, robot.position_max_rad)

    return tick


def worst_difference(file: Path, tick: Callable[[dict[str, NDArray[np.float32]]], Any]) -> float:
    """Between a policy file and the foreign one along the sample's recording, rad."""
    policy = Policy.load(file)
    rows = [{name: values[t] for name, values in sample.recorded().items()} for t in range(TICKS)]
    return float(max(np.abs(policy.step(row) - tick(row)).max() for row in rows))
