"""The envelope of a policy file: an ONNX graph, then its contract, then a SHA-256 over both.

A policy file is ``graph || contract entry || seal entry``. The entries are two `metadata_props` of
the ONNX model, written as protobuf bytes: appending fields to a serialised message extends the
message, so every ONNX reader sees one model with metadata. The last 64 bytes of the file are the
hexadecimal SHA-256 of everything before them; checking that needs nothing but hashlib.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from robotrl.errors import PolicyError
from robotrl.spec.protobuf import bytes_field, read_varint, varint

CONTRACT_KEY = "robotrl.contract"
SEAL_KEY = "robotrl.sha256"
DIGEST_LENGTH = 64

_METADATA_PROPS = b"\x72"
"""Tag of field 14 of onnx.ModelProto, length-delimited."""


def seal(graph: bytes, contract: str) -> bytes:
    """Join a serialised ONNX model without metadata and its contract into a policy file.

    Args:
        graph: bytes of an onnx.ModelProto.
        contract: JSON text.
    """
    body = graph + _entry(CONTRACT_KEY, contract.encode())
    body += _entry(SEAL_KEY, bytes(DIGEST_LENGTH))[:-DIGEST_LENGTH]
    return body + hashlib.sha256(body).hexdigest().encode()


def unseal(data: bytes, file: Path) -> tuple[str, str]:
    """Check the seal and return the contract text and the digest.

    Args:
        data: the whole policy file.
        file: where it came from, for the error.

    Raises:
        PolicyError: no policy file, or not one byte for byte as it was written.
    """
    marker = bytes_field(1, CONTRACT_KEY.encode()) + _VALUE
    start = data.rfind(marker)
    if start < 0:
        raise PolicyError(
            "carries no robotrl contract: it is something else, or cut short",
            file=file,
            allowed="a policy file written by robotrl export",
        )
    body, digest = data[:-DIGEST_LENGTH], data[-DIGEST_LENGTH:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise PolicyError(
            "is damaged or cut short: its SHA-256 is not the one it was sealed with",
            file=file,
            allowed="the file exactly as robotrl export wrote it",
        )
    try:
        length, first = read_varint(body, start + len(marker))
        return body[first : first + length].decode(), digest.decode()
    except ValueError as error:
        raise PolicyError(f"holds a contract that is not text: {error}", file=file) from error


_VALUE = b"\x12"
"""Tag of field 2 of onnx.StringStringEntryProto."""


def _entry(key: str, value: bytes) -> bytes:
    """Encode one onnx.StringStringEntryProto as an element of `metadata_props`."""
    pair = bytes_field(1, key.encode()) + bytes_field(2, value)
    return _METADATA_PROPS + varint(len(pair)) + pair
