"""A foreign network put into the middle of the graph around it: both stay node for node what they were."""

from __future__ import annotations

import math

import onnx
import torch
from onnx import compose, inliner, version_converter
from torch import Tensor, nn

from robotrl.errors import PolicyError
from robotrl.export.graph import ACTOR_MEMORY, PolicyGraph
from robotrl.export.network import ForeignNetwork
from robotrl.export.onnx import OPSET, finished, to_onnx

WITHIN = "network/"
"""Put before every name of the foreign graph, so that none meets one of the graph around it."""


class Surrounding(nn.Module):
    """Everything of a policy but its network: what that is asked goes out, what it answers comes in.

    Inputs are those of the policy, then each output of the network; outputs are what the network is given,
    then those of the policy.
    """

    def __init__(self, graph: PolicyGraph, network: ForeignNetwork) -> None:
        super().__init__()
        self.graph, self.network = graph, network
        memory = network.memory
        self.asked = [network.spec.observation, *memory]
        self.answers = [network.spec.action, *memory.values()]
        self.input_names = [*graph.input_shapes, *(WITHIN + name for name in self.answers)]
        self.output_names = [*(WITHIN + name for name in self.asked), *graph.output_names]

    def examples(self) -> tuple[Tensor, ...]:
        """Return inputs of the right shapes."""
        shapes = [*self.graph.input_shapes.values(), *(self.network.shapes[name] for name in self.answers)]
        return tuple(torch.zeros(shape) for shape in shapes)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One tick: inputs and outputs in the order of the class docstring."""
        interface, shapes = self.graph.interface, self.network.shapes
        values = {name: x.unsqueeze(0) for name, x in zip(self.input_names, inputs, strict=True)}
        channels = {name: values[name] for name in interface.channels}
        memory = {m.name: values[m.name] for m in interface.memory}
        asked = [interface.observe(channels, memory).reshape(shapes[self.asked[0]])]
        if self.network.memory_size:
            sizes = [math.prod(shapes[name]) for name in self.network.memory]
            carried = torch.split(values[ACTOR_MEMORY], sizes, dim=1)
            asked += [x.reshape(shapes[n]) for n, x in zip(self.network.memory, carried, strict=True)]
        action, *known = (values[WITHIN + name].reshape(1, -1) for name in self.answers)
        following = interface.advance(channels, memory, action)
        answers = [interface.target(channels, action), *(following[m.name] for m in interface.memory)]
        answers += [torch.cat(known, dim=1)] if known else []
        return (*asked, *(x.squeeze(0) for x in answers))


def spliced_bytes(graph: PolicyGraph, network: ForeignNetwork) -> bytes:
    """Serialise the policy, the foreign network in its middle, as an ONNX model that carries no metadata.

    Raises:
        PolicyError: the network's operators cannot be brought to this version of ONNX.
    """
    around = Surrounding(graph, network)
    outer = to_onnx(around, around.examples(), around.input_names, around.output_names)
    inner = compose.add_prefix(_at_opset(network.model), WITHIN)
    joints = {WITHIN + name for name in around.asked}
    before = _needed_for(outer.graph, joints)
    nodes = list(outer.graph.node)
    first, last = ([n for i, n in enumerate(nodes) if (i in before) is wanted] for wanted in (True, False))
    del outer.graph.node[:]
    outer.graph.node.extend([*first, *inner.graph.node, *last])
    outer.graph.initializer.extend(inner.graph.initializer)
    _keep(outer.graph.input, set(graph.input_shapes))
    _keep(outer.graph.output, set(graph.output_names))
    return finished(outer)


def _at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without functions of its own, at the operator set of `OPSET`."""
    plain = inliner.inline_local_functions(model)
    version = next(entry.version for entry in plain.opset_import if entry.domain in ("", "ai.onnx"))
    if version == OPSET:
        return plain
    try:
        return version_converter.convert_version(plain, OPSET)
    except RuntimeError as error:
        raise PolicyError(
            "cannot be converted", key="opset_import", value=version, allowed=f"{OPSET}: {error}"
        ) from error


def _needed_for(graph: onnx.GraphProto, outputs: set[str]) -> set[int]:
    """Positions of the nodes that some outputs are computed from."""
    wanted, found = set(outputs), set[int]()
    for i in reversed(range(len(graph.node))):
        if wanted & set(graph.node[i].output):
            found.add(i)
            wanted |= set(graph.node[i].input)
    return found


def _keep(values: list[onnx.ValueInfoProto], names: set[str]) -> None:
    for value in [v for v in values if v.name not in names]:
        values.remove(value)
