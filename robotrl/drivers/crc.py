"""CRC-16 of DYNAMIXEL Protocol 2.0: polynomial 0x8005, not reflected, initial value 0 (CRC-16/UMTS).

Source: ROBOTIS e-Manual, "CRC Calculation". The CRC is linear over GF(2): that of a message is the
XOR of what each byte contributes by its value and its distance from the end. So the CRCs of many
messages of one length are one table look-up and one reduction.
"""

from __future__ import annotations

import struct
from functools import cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x8005
LONGEST = 1031
"""Bytes of the longest message whose CRC is taken by rows: header and the longest LEN believed."""


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (_POLYNOMIAL if crc & 0x8000 else 0)
        table.append(crc & 0xFFFF)
    return tuple(table)


_TABLE = _crc_table()


def crc16(data: bytes, crc: int = 0) -> int:
    """Return the CRC-16 of `data`, continuing from `crc`; two bytes at a time."""
    table, count = _word_table(), len(data) // 2
    for word in struct.unpack_from(f">{count}H", data):
        crc = table[crc ^ word]
    if len(data) % 2:
        crc = (crc << 8 & 0xFF00) ^ _TABLE[crc >> 8 ^ data[-1]]
    return crc


@cache
def _word_table() -> tuple[int, ...]:
    """CRC of each pair of bytes, high byte first."""
    table = np.array(_TABLE, np.uint16)
    after_high = table[:, np.newaxis]  # of the first byte alone
    pairs = after_high << 8 ^ table[after_high >> 8 ^ np.arange(256)]
    return tuple(pairs.reshape(-1).tolist())


@cache
def _contributions() -> NDArray[np.uint16]:
    """(LONGEST, 256): CRC of each byte value followed by so many zeros as there are rows below."""
    table = np.array(_TABLE, np.uint16)
    rows = np.empty((LONGEST, 256), np.uint16)
    rows[-1] = table
    for k in range(LONGEST - 2, -1, -1):
        rows[k] = (rows[k + 1] << 8) ^ table[rows[k + 1] >> 8]
    return rows


@cache
def _places(length: int) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """The contributions to a message of this length as one row, and where those of each byte begin."""
    return _contributions()[LONGEST - length :].reshape(-1), np.arange(0, 256 * length, 256)


def crc16_rows(rows: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return the (n,) CRC-16 of (n, length) messages, length at most `LONGEST`."""
    table, places = _places(rows.shape[1])
    crcs: NDArray[np.uint16] = np.bitwise_xor.reduce(table.take(rows + places), axis=1)
    return crcs
