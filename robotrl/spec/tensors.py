"""The tensors of an ONNX file, looked at before anything opens it: all inside, all there, none NaN."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from robotrl.errors import PolicyError
from robotrl.spec.protobuf import fields, read_varint

DEEPEST = 50
"""Messages within messages; a graph within a graph costs three."""

_INSIDE: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "model": {7: "graph", 20: "training", 25: "function"},
        "training": {1: "graph", 2: "graph"},
        "function": {7: "node", 11: "attribute"},
        "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
        "node": {5: "attribute"},
        "attribute": {
            5: "tensor",
            6: "graph",
            10: "tensor",
            11: "graph",
            22: "sparse tensor",
            23: "sparse tensor",
        },
    }
)
"""Message of onnx.proto -> field -> message in it that is, or may hold, a tensor."""

_DIMS, _TYPE, _FLOATS, _NAME, _RAW, _DOUBLES, _EXTERNAL, _WHERE = 1, 2, 4, 8, 9, 10, 13, 14
_PLAIN = {_FLOATS, _RAW, _DOUBLES}
_PAYLOAD = _PLAIN | {5, 6, 7, 11}
"""Fields of onnx.TensorProto; the payload in any of its kinds, in some as plain little-endian numbers."""

_FLOAT_TYPES: Mapping[int, str] = MappingProxyType({1: "<f4", 10: "<f2", 11: "<f8"})
"""Data type of onnx.TensorProto -> numpy's, where NaN can be."""

SMALLEST_BITS = 2
"""Of one element, in whichever type."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as it stands in the file."""

    name: str
    shape: tuple[int, ...]
    kind: int
    """Data type by onnx.TensorProto's numbers."""
    external: str | None
    """Name of the file that holds its data instead of this one."""
    data: bytes
    """Whatever there is of them here."""
    plain: bool
    """Whether the data are little-endian numbers of their type one after the other."""

    @property
    def missing(self) -> int:
        """Number of NaN among the numbers."""
        kind = _FLOAT_TYPES.get(self.kind)
        if kind is None or not self.plain or len(self.data) % np.dtype(kind).itemsize:
            return 0
        return int(np.isnan(np.frombuffer(self.data, kind)).sum())


def stored_tensors(data: bytes) -> Iterator[StoredTensor]:
    """Yield every tensor of an ONNX model: of its graphs, the graphs within, attributes and functions.

    Raises:
        ValueError: this is no ONNX model.
    """
    yield from _tensors("model", memoryview(data), 0)


def _tensors(kind: str, message: memoryview, depth: int) -> Iterator[StoredTensor]:
    if kind == "tensor":
        yield _tensor(message)
        return
    if depth > DEEPEST or kind == "sparse tensor":
        raise ValueError(kind if depth <= DEEPEST else f"messages more than {DEEPEST} deep")
    for number, value in fields(message):
        inner = _INSIDE[kind].get(number)
        if inner and isinstance(value, memoryview):
            yield from _tensors(inner, value, depth + 1)


def _tensor(message: memoryview) -> StoredTensor:
    ints: dict[int, int] = {}
    name, shape, data, external = "", list[int](), bytearray(), None
    held: set[int] = set()
    for number, value in fields(message):
        held.add(number)
        if number == _DIMS:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif number in _PAYLOAD:
            data += bytes(1) if isinstance(value, int) else value
        elif isinstance(value, int):
            ints[number] = value
        elif number == _NAME:
            name = bytes(value).decode(errors="replace")
        elif number == _EXTERNAL:
            external = _location(value, external)
    if ints.get(_WHERE):
        external = external or ""
    return StoredTensor(
        name, tuple(shape), ints.get(_TYPE, 0), external, bytes(data), held & _PAYLOAD <= _PLAIN
    )


def _location(entry: memoryview, known: str | None) -> str:
    """What one entry of a tensor's external data adds: the name of the file, where it is that."""
    pair = {
        number: bytes(value).decode(errors="replace")
        for number, value in fields(entry)
        if not isinstance(value, int)
    }
    return pair.get(2, "") if pair.get(1) == "location" else known or ""


def _varints(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        number, at = read_varint(packed, at)
        yield number


def check_tensors(data: bytes, file: Path) -> None:
    """Refuse a model with tensors in other files, with more elements than data, or with NaN in them.

    Raises:
        PolicyError: such a tensor, or no ONNX model at all.
    """
    try:
        for tensor in stored_tensors(data):
            _check_tensor(tensor, file)
    except ValueError as error:
        raise PolicyError(f"holds a graph that no policy has: {error}", file=file) from error


def _check_tensor(tensor: StoredTensor, file: Path) -> None:
    key = f"tensor {tensor.name}"
    if tensor.external is not None:
        raise PolicyError(
            "lies in another file",
            file=file,
            key=key,
            value=tensor.external,
            allowed="data in the policy file",
        )
    if math.prod(tensor.shape) * SMALLEST_BITS > 8 * len(tensor.data):
        shape, size = list(tensor.shape), len(tensor.data)
        raise PolicyError(
            "claims a shape that is larger than its data",
            file=file,
            key=key,
            value=shape,
            allowed=f"what fits into {size} bytes",
        )
    if tensor.missing:
        raise PolicyError(
            "holds what is no number", file=file, key=key, value=f"{tensor.missing} NaN", allowed="none"
        )
