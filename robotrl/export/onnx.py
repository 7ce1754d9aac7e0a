"""Write a trained policy as one ONNX file: build, seal, verify, and only then put it in its place."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robotrl.errors import PolicyError
from robotrl.export.graph import PolicyGraph, Trace, trace
from robotrl.export.verify import TRACE_TICKS, ExportReport, verify
from robotrl.learn.networks import Actor
from robotrl.spec.channels import CHANNELS
from robotrl.spec.commands import GRIPPER_AXES
from robotrl.spec.contract import GOLDEN_TICKS, SCHEMA, PolicyContract, parse_contract
from robotrl.spec.contract_parts import (
    ContractAxis,
    ContractChannel,
    ContractControl,
    ContractJoint,
    ContractMemory,
    GoldenTick,
    Provenance,
)
from robotrl.spec.fit import unsourced
from robotrl.spec.hardware import Driven, rate_hz
from robotrl.spec.robot import RobotSpec
from robotrl.spec.seal import seal
from robotrl.spec.simulated import SimulatedTask
from robotrl.tasks.task import PolicyInterface

OPSET = 18
"""ONNX operator set: what onnxruntime 1.20, the oldest supported, runs."""

Recording = Mapping[str, NDArray[np.float32]]


def export_policy(
    file: Path,
    interface: PolicyInterface,
    actor: Actor,
    robot: Driven,
    recorded: Recording,
    provenance: Provenance,
    command_range: tuple[Sequence[float], Sequence[float]],
) -> ExportReport:
    """Write one policy file, verified against the trained network before it gets its name.

    Args:
        file: where to put it; an existing file is replaced at once or not at all.
        interface: the task's channels, memory and functions.
        actor: the trained network, normaliser included.
        robot: what it was trained for, or the simulated task that no robot does.
        recorded: channel name -> (T, ...) of one world, T at least `TRACE_TICKS`, in the
            channel's unit: the golden ticks, ranges and half of the verification inputs.
        provenance: how it was trained.
        command_range: lowest and highest operator command of the training.

    Raises:
        PolicyError: a channel that the robot has no source for; a file that cannot be written.
        VerificationError: the graph differs from the network, or the recording does not serve.
    """
    check_sources(interface, robot, file)
    graph = PolicyGraph(interface, actor, robot.sizes)
    count = float(actor.norm.count)
    return write_policy(file, graph, model_bytes, robot, recorded, provenance, command_range, count)


def check_sources(interface: PolicyInterface, robot: Driven, file: Path) -> None:
    """Refuse a policy that reads what the robot does not deliver.

    Raises:
        PolicyError: with a clause for each such channel.
    """
    missing = unsourced(interface.channels, robot)
    if missing:
        raise PolicyError("; ".join(missing), file=file)


def write_policy(
    file: Path,
    graph: PolicyGraph,
    serialise: Callable[[PolicyGraph], bytes],
    robot: Driven,
    recorded: Recording,
    provenance: Provenance,
    command_range: tuple[Sequence[float], Sequence[float]],
    normaliser_count: float,
) -> ExportReport:
    """Run a policy in torch, serialise, seal and verify it, and give the file its name at last.

    Args:
        file: as `export_policy`, like everything not named here.
        graph: the policy in torch.
        serialise: makes it an ONNX model without metadata.
        robot: what it drives.
        recorded: channels.
        provenance: where it comes from.
        command_range: of the operator.
        normaliser_count: observations that its normaliser has seen.

    Raises:
        PolicyError: a file that cannot be written.
        VerificationError: the graph differs from the network, or the recording does not serve.
    """
    run = trace(graph, recorded, TRACE_TICKS)
    contract = _contract(graph, normaliser_count, robot, run, provenance, command_range)
    data = seal(serialise(graph), contract.to_json())
    report = verify(data, graph, parse_contract(contract.to_json(), file), run)
    _replace(file, data)
    return report


def model_bytes(graph: PolicyGraph) -> bytes:
    """Serialise the graph as an ONNX model that carries no metadata.

    Args:
        graph: the policy.
    """
    examples = tuple(torch.zeros(shape) for shape in graph.input_shapes.values())
    return finished(to_onnx(graph, examples, list(graph.input_shapes), list(graph.output_names)))


def to_onnx(
    module: nn.Module, examples: tuple[Tensor, ...], inputs: list[str], outputs: list[str]
) -> onnx.ModelProto:
    """Turn a torch module into an ONNX model.

    Args:
        module: takes and returns tensors in the order of the names.
        examples: inputs of the right shapes.
        inputs: names of the inputs.
        outputs: names of the outputs.
    """
    # The exporter warns about its own internals and about operators of packages not installed.
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                examples,
                dynamo=True,
                opset_version=OPSET,
                input_names=inputs,
                output_names=outputs,
                verbose=False,
            )
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
    assert program is not None  # it is None only for the exporter that `dynamo=False` selects
    return program.model_proto


def finished(model: onnx.ModelProto) -> bytes:
    """Serialise a model that says nothing about this machine, checked."""
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes about this machine: stack traces with paths, class names."""
    model.graph.name = "policy"
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _contract(
    graph: PolicyGraph,
    normaliser_count: float,
    robot: Driven,
    run: Trace,
    provenance: Provenance,
    command_range: tuple[Sequence[float], Sequence[float]],
) -> PolicyContract:
    interface = graph.interface
    return PolicyContract(
        schema=SCHEMA,
        robot=robot.name,
        policy_hash=robot.policy_hash,
        rate_hz=rate_hz(robot),
        channels=tuple(_channel(name, run.inputs[name]) for name in interface.channels),
        memory=tuple(ContractMemory(m.name, _values(np.array(m.initial))) for m in graph.memory),
        joints=_joints(robot, run.command) if isinstance(robot, RobotSpec) else (),
        servo={j.servo: robot.servo_of(j) for j in robot.joint} if isinstance(robot, RobotSpec) else {},
        action_scale_rad=interface.action_scale_rad,
        command_low=_values(np.array(command_range[0])),
        command_high=_values(np.array(command_range[1])),
        normaliser_count=normaliser_count,
        provenance=provenance,
        golden=_golden(graph, run),
        command=interface.command,
        axes=_axes(interface, run.command) if interface.command == "gripper" else (),
        controls=_controls(robot, run.command) if isinstance(robot, SimulatedTask) else (),
    )


def _channel(name: str, values: NDArray[np.float32]) -> ContractChannel:
    known = CHANNELS[name]
    low, median, high = np.quantile(values.reshape(len(values), -1), (0.001, 0.5, 0.999), axis=0)
    return ContractChannel(
        name=name,
        shape=values.shape[1:],
        unit=known.unit,
        frame=known.frame,
        source=known.source.value,
        low=_values(low),
        median=_values(median),
        high=_values(high),
    )


def _joints(robot: RobotSpec, target_rad: NDArray[np.float32]) -> tuple[ContractJoint, ...]:
    return tuple(
        ContractJoint(
            name=joint.name,
            servo=joint.servo,
            default_rad=joint.default_rad,
            position_min_rad=joint.position_min_rad,
            position_max_rad=joint.position_max_rad,
            stiffness_nm_rad=robot.servo_of(joint).stiffness_nm_rad,
            target_min_rad=float(target_rad[:, i].min()),
            target_max_rad=float(target_rad[:, i].max()),
        )
        for i, joint in enumerate(robot.joint)
    )


def _axes(interface: PolicyInterface, moves_m: NDArray[np.float32]) -> tuple[ContractAxis, ...]:
    ranges = zip(GRIPPER_AXES, interface.gripper_scale_m, moves_m.T, strict=True)
    return tuple(
        ContractAxis(name, scale_m, float(seen.min()), float(seen.max())) for name, scale_m, seen in ranges
    )


def _controls(task: SimulatedTask, commands: NDArray[np.float32]) -> tuple[ContractControl, ...]:
    return tuple(
        ContractControl(control.name, control.low, control.high, float(seen.min()), float(seen.max()))
        for control, seen in zip(task.controls, commands.T, strict=True)
    )


def _golden(graph: PolicyGraph, run: Trace) -> tuple[GoldenTick, ...]:
    """Pick ticks spread evenly over the trace, the first one with the initial memory."""
    names = [m.name for m in graph.memory]
    command = graph.interface.command
    return tuple(
        GoldenTick(
            channels={name: _values(run.inputs[name][t]) for name in graph.interface.channels},
            memory={name: _values(run.inputs[name][t]) for name in names},
            next_memory={name: _values(run.outputs[f"next_{name}"][t]) for name in names},
            joint_target=_values(run.command[t]) if command == "joint_target" else (),
            gripper_command=_values(run.command[t]) if command == "gripper" else (),
            control=_values(run.command[t]) if command == "control" else (),
        )
        for t in np.linspace(0, len(run) - 1, GOLDEN_TICKS).astype(int)
    )


def _values(array: NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(v) for v in array.ravel())


def _replace(file: Path, data: bytes) -> None:
    """Write beside the final name and rename, so that no reader ever sees half a policy."""
    part = file.with_name(file.name + ".part")
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise PolicyError(f"cannot be written ({error.strerror})", file=file) from error
