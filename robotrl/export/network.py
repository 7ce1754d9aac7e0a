"""A foreign ONNX network: opened without looking outside of its folder, run by onnxruntime as an actor is."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from torch import Tensor, nn

from robotrl.errors import PolicyError
from robotrl.export.foreign import NetworkSpec
from robotrl.spec.contract import MAX_BYTES
from robotrl.spec.tensors import check_tensors, stored_tensors

_REFUSALS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)

DOMAINS = ("", "ai.onnx")
"""Operator sets that every ONNX runtime has; an operator of another could be anyone's code."""


def read_model(file: Path) -> onnx.ModelProto:
    """Read an ONNX model whole: data that lie in other files of its own folder are taken in.

    Raises:
        PolicyError: it cannot be read, is no ONNX model, or refers to a file outside of its folder.
    """
    data = _read(file, file)
    try:
        model = _parsed(data)
        for tensor in stored_tensors(data):
            if tensor.external is not None:
                _check_inside(tensor.external, tensor.name, file)
        onnx.load_external_data_for_model(model, str(file.parent))
        onnx.checker.check_model(model, full_check=True)
    except (ValueError, OSError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        if isinstance(error, PolicyError):
            raise
        raise PolicyError(f"is no ONNX model: {_line(error)}", file=file) from error
    _check_domains(model, file)
    check_tensors(model.SerializeToString(), file)
    return model


def _parsed(data: bytes) -> onnx.ModelProto:
    """Parse a model; what else may be wrong with it is for later, with all its data there."""
    with contextlib.suppress(onnx.checker.ValidationError):
        onnx.checker.check_model(data)  # a ValueError where it cannot be parsed
    return onnx.load_from_string(data)


def _read(path: Path, file: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise PolicyError("is too large", file=file, value=f"{size} bytes", allowed=f"up to {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(f"cannot be read ({error.strerror})", file=path) from error


def _check_inside(location: str, name: str, file: Path) -> None:
    """Refuse a reference to anything but a plain file beside the model."""
    path = file.parent / location
    if Path(location).name != location or path.is_symlink() or not path.is_file():
        raise PolicyError(
            "lies outside of the model's folder, or nowhere",
            file=file,
            key=f"tensor {name}",
            value=location,
            allowed=f"a file in {file.parent}",
        )
    _read(path, file)


def _check_domains(model: onnx.ModelProto, file: Path) -> None:
    for entry in model.opset_import:
        if entry.domain not in DOMAINS:
            raise PolicyError(
                "has operators that not every runtime has",
                file=file,
                key="opset_import",
                value=entry.domain,
                allowed="ai.onnx",
            )


class ForeignNetwork(nn.Module):
    """The network of a foreign file as `PolicyGraph` runs an actor, one observation at a time.

    Attributes:
        model: the file's content.
        spec: names of its inputs and outputs.
        shapes: of every input and output, the batch dimension 1.
        memory_size: values that it carries from tick to tick, zero at first.
    """

    def __init__(self, model: onnx.ModelProto, spec: NetworkSpec, file: Path) -> None:
        super().__init__()
        self.model, self.spec = model, spec
        self.session = _open(model.SerializeToString(), file)
        self.shapes = _shapes(self.session, spec, file)
        self.memory = dict(spec.memory or {})
        self.memory_size = sum(math.prod(self.shapes[name]) for name in self.memory)

    def __deepcopy__(self, memo: dict[int, Any]) -> ForeignNetwork:
        """Return itself: nothing in it ever changes, and a session cannot be copied."""
        return self

    @property
    def observation_size(self) -> int:
        """Numbers that it reads."""
        return math.prod(self.shapes[self.spec.observation])

    @property
    def action_size(self) -> int:
        """Numbers that it answers."""
        return math.prod(self.shapes[self.spec.action])

    def forward(self, observation: Tensor) -> Tensor:
        """(B, obs) -> (B, n)."""
        return self.step(observation, observation[:, :0])[0]

    def step(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, obs), memory (B, m) -> action (B, n), next memory (B, m)."""
        rows = zip(observation.numpy(), memory.numpy(), strict=True)
        actions, memories = zip(*(self._tick(x, m) for x, m in rows), strict=True)
        return torch.from_numpy(np.stack(actions)), torch.from_numpy(np.stack(memories))

    def _tick(
        self, observation: NDArray[np.float32], memory: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        feeds = {self.spec.observation: observation.reshape(self.shapes[self.spec.observation])}
        start = 0
        for name in self.memory:
            size = math.prod(self.shapes[name])
            feeds[name] = memory[start : start + size].reshape(self.shapes[name])
            start += size
        action, *following = self.session.run([self.spec.action, *self.memory.values()], feeds)
        carried = [values.ravel() for values in following] or [memory]
        return action.ravel(), np.concatenate(carried)


def _open(data: bytes, file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except _REFUSALS as error:
        raise PolicyError(f"holds a graph that onnxruntime refuses: {_line(error)}", file=file) from error


def _shapes(
    session: onnxruntime.InferenceSession, spec: NetworkSpec, file: Path
) -> dict[str, tuple[int, ...]]:
    """Shape of each input and output; a dimension without a number is the batch and becomes 1."""
    memory = spec.memory or {}
    shapes = {}
    for kind, found, wanted, exactly in (
        ("inputs", session.get_inputs(), [spec.observation, *memory], True),
        ("outputs", session.get_outputs(), [spec.action, *memory.values()], False),
    ):
        names = [value.name for value in found if value.type == "tensor(float)"]
        if not set(wanted) <= set(names) or (exactly and len(found) != len(wanted)):
            raise PolicyError(
                f"{kind} are not those of [network]",
                file=file,
                key=kind,
                value=[value.name for value in found],
                allowed=f"{', '.join(wanted)} in float32",
            )
        for value in found:
            shapes[value.name] = tuple(d if isinstance(d, int) else 1 for d in value.shape)
    for name, following in memory.items():
        if shapes[name] != shapes[following]:
            raise PolicyError(
                "is carried in another shape",
                file=file,
                key=f"network.memory.{name}",
                value=list(shapes[following]),
                allowed=f"{list(shapes[name])}",
            )
    return shapes


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
