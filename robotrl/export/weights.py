"""The way back from a policy file: its layers become the tensors of an actor that computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.func import functional_call

from robotrl.errors import PolicyError
from robotrl.learn.networks import Actor, MirrorHead, MirrorLift, MirrorLinear

REPEATS: Mapping[type[nn.Module], tuple[int, int]] = {
    nn.Linear: (1, 1),
    MirrorLift: (2, 1),
    MirrorLinear: (2, 1),
    MirrorHead: (1, 2),
}
"""How many times as many rows and columns a layer's weight has in a file: a mirror layer stands there
next to its reflection, so its own weight is the leading block."""


def read_actor(actor: Actor, data: bytes, count: float, file: Path) -> dict[str, Tensor]:
    """Read the tensors with which `actor` computes what the network of a policy file does.

    Weights come back bit for bit, deviations of the normaliser to the rounding of a square root. A
    variance below the normaliser's floor is in no file; the floor's own stands for it.

    Args:
        actor: whose layers to look for; it is not changed.
        data: the policy file, an ONNX model.
        count: observations that the normaliser has seen.
        file: where it came from, for the error.

    Returns:
        By the names of the actor's tensors, on its device.

    Raises:
        PolicyError: another normaliser, number, shape or symmetry of layers, or layers that a file
            cannot be read back into.
    """
    graph = onnx.load_from_string(data).graph
    constants = {
        part.name: torch.from_numpy(numpy_helper.to_array(part).copy()) for part in graph.initializer
    }
    layers = _layers(actor, file)
    found = [node for node in graph.node if node.op_type == "Gemm"]
    if len(found) != len(layers):
        raise PolicyError(
            "is the policy of another network",
            file=file,
            key="actor.net",
            value=f"{len(found)} layers",
            allowed=f"{len(layers)}",
        )
    tensors = {"norm.count": torch.tensor(count, dtype=torch.float64)}
    tensors |= _normaliser(actor, graph, found[0].input[0], constants, file)
    for (name, layer), node in zip(layers.items(), found, strict=True):
        weight = constants[node.input[1]]
        bias = constants[node.input[2]] if node.input[2:] else torch.zeros(len(weight))  # none if all are 0
        device = next(layer.parameters()).device
        own = _layer(name, layer, weight.to(device), bias.to(device), file)
        tensors |= {f"{name}.{key}": value for key, value in own.items()}
    return tensors


def _layers(actor: Actor, file: Path) -> dict[str, nn.Module]:
    """An actor's linear layers in the order of evaluation."""
    layers = {}
    for name, module in actor.named_modules():
        if type(module) in REPEATS:
            layers[name] = module
        elif any(True for _ in module.parameters(recurse=False)):
            raise PolicyError(
                "cannot be read back from a policy file",
                file=file,
                key=f"actor.{name}",
                value=type(module).__name__,
                allowed="linear layers, or the folder of a run",
            )
    return layers


def _normaliser(
    actor: Actor, graph: onnx.GraphProto, normalised: str, constants: Mapping[str, Tensor], file: Path
) -> dict[str, Tensor]:
    """Mean and variance: of clip((x - mean) / deviation), which the first layer reads."""
    made_by = {name: node for node in graph.node for name in node.output}
    nodes = []
    for kind in ("Clip", "Div", "Sub"):
        node = made_by.get(normalised)
        if node is None or node.op_type != kind:
            raise PolicyError("has no normaliser before its first layer", file=file)
        nodes.append(node)
        normalised = node.input[0]
    deviation, mean = (constants[node.input[1]] for node in nodes[1:])
    _check_shape("norm.mean", mean, list(actor.norm.mean.shape), file)
    device = actor.norm.mean.device
    return {"norm.mean": mean.to(device), "norm.var": deviation.to(device).square()}


def _layer(name: str, layer: nn.Module, weight: Tensor, bias: Tensor, file: Path) -> dict[str, Tensor]:
    """A layer's own tensors, the leading blocks of those in the file, which must repeat them."""
    (rows, columns), (down, across) = layer.get_parameter("weight").shape, REPEATS[type(layer)]
    _check_shape(f"{name}.weight", weight, [rows * down, columns * across], file)
    own = {"weight": weight[:rows, :columns], "bias": bias[: len(layer.get_parameter("bias"))]}
    probe = torch.eye(weight.shape[1], device=weight.device)
    if not torch.equal(functional_call(layer, own, probe), nn.functional.linear(probe, weight, bias)):
        raise PolicyError(
            "is not mirrored as the task's reflection says",
            file=file,
            key=f"actor.{name}",
            allowed="a policy of this task with its symmetry",
        )
    return own


def _check_shape(name: str, found: Tensor, wanted: list[int], file: Path) -> None:
    if list(found.shape) != wanted:
        raise PolicyError(
            "is the policy of another network",
            file=file,
            key=f"actor.{name}",
            value=list(found.shape),
            allowed=str(wanted),
        )
