"""As much of the protobuf wire format as a policy file's envelope and a look at its tensors need."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types; those of groups are in no message of today."""

_FIXED = {FIXED64: 8, FIXED32: 4}


def varint(number: int) -> bytes:
    """Encode an unsigned integer, seven bits a byte, least significant first."""
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def bytes_field(number: int, value: bytes) -> bytes:
    """Encode one length-delimited field."""
    return bytes([number << 3 | BYTES]) + varint(len(value)) + value


def read_varint(data: bytes | memoryview, start: int) -> tuple[int, int]:
    """Decode the unsigned integer at `start`; return it and the offset behind it.

    Raises:
        ValueError: the data end within it, or it has more than 64 bits.
    """
    number = 0
    for offset in range(start, min(start + 10, len(data))):
        number |= (data[offset] & 0x7F) << 7 * (offset - start)
        if data[offset] < 0x80:  # noqa: PLR2004 - the top bit says that another byte follows
            return number, offset + 1
    raise ValueError("a number that does not end")


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of every field, integers of fixed size as their bytes.

    Raises:
        ValueError: this is no protobuf message.
    """
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = read_varint(message, at)
            yield number, value
            continue
        if wire == BYTES:
            length, at = read_varint(message, at)
        elif wire in _FIXED:
            length = _FIXED[wire]
        else:
            raise ValueError(f"a field of wire type {wire}")
        if at + length > len(message):
            raise ValueError("a field that does not end")
        yield number, message[at : at + length]
        at += length
