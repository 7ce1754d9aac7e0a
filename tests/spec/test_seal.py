"""Laws of the seal: graph and contract come out as they went in, and no other byte string opens."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from robotrl.errors import PolicyError
from robotrl.spec.seal import CONTRACT_KEY, SEAL_KEY, seal, unseal

FILE = Path("policy.onnx")
TEXTS = ["", "{}", "x" * 127, "x" * 128, "y" * 20_000, '{"unit": "µ°"}']
"""Lengths on both sides of one and two bytes of protobuf length."""


def graph() -> bytes:
    """A valid ONNX model: y = -x."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negative", value[:1], value[1:])
    )
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize("text", TEXTS, ids=len)
def test_what_was_sealed_comes_out(text: str) -> None:
    data = seal(graph(), text)
    assert unseal(data, FILE) == (text, data[-64:].decode())


@pytest.mark.parametrize("text", TEXTS, ids=len)
def test_every_onnx_reader_sees_the_graph_and_both_entries(text: str) -> None:
    data = seal(graph(), text)
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph == onnx.load_from_string(graph()).graph
    assert {p.key: p.value for p in model.metadata_props} == {
        CONTRACT_KEY: text,
        SEAL_KEY: data[-64:].decode(),
    }


def test_the_rule_is_as_simple_as_stated() -> None:
    data = seal(graph(), "{}")
    assert data.startswith(graph())
    assert hashlib.sha256(data[:-64]).hexdigest().encode() == data[-64:]


def test_no_flipped_bit_opens() -> None:
    data = seal(graph(), '{"robot": "quad12"}')
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PolicyError):
            unseal(bytes(damaged), FILE)


def test_no_prefix_and_no_extension_opens() -> None:
    data = seal(graph(), '{"robot": "quad12"}')
    others = [data[:length] for length in range(len(data))]
    others += [data + b"\0", data + data, b"\0" + data, data[1:]]
    for other in others:
        with pytest.raises(PolicyError, match=r"^policy\.onnx: "):
            unseal(other, FILE)


@pytest.mark.parametrize(
    "foreign",
    [b"", b"[control]\nrate_hz = 50.0\n", bytes(4096), np.random.default_rng(0).bytes(100_000), graph()],
    ids=["empty", "toml", "zeros", "noise", "another ONNX"],
)
def test_what_is_no_policy_is_called_so(foreign: bytes) -> None:
    with pytest.raises(PolicyError, match=r"carries no robotrl contract.*; allowed: "):
        unseal(foreign, FILE)
