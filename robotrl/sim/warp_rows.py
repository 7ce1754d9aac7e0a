"""Rows of Warp arrays, one a world: copied between batches, repeated, and seen as tensors or words."""

from __future__ import annotations

import numpy as np
import warp as wp
from torch import Tensor


@wp.kernel  # type: ignore[untyped-decorator]
def mark(
    ids: wp.array[wp.int32], overflow: wp.array[wp.int32], mask: wp.array[wp.bool], seen: wp.array[wp.int32]
) -> None:
    """Mark the chosen worlds, and remember the overflows that their reset clears."""
    world = ids[wp.tid()]
    if world >= 0:
        mask[world] = True
        seen[world] = seen[world] | overflow[world]


@wp.kernel  # type: ignore[untyped-decorator]
def gather(ids: wp.array[wp.int32], source: wp.array2d[wp.int32], target: wp.array2d[wp.int32]) -> None:
    """Copy the chosen worlds' rows; what was not chosen (-1) gets a row that is never used."""
    row, column = wp.tid()
    target[row, column] = source[wp.max(ids[row], 0), column]


@wp.kernel  # type: ignore[untyped-decorator]
def scatter(ids: wp.array[wp.int32], source: wp.array2d[wp.int32], target: wp.array2d[wp.int32]) -> None:
    """Copy rows back to the chosen worlds."""
    row, column = wp.tid()
    if ids[row] >= 0:
        target[ids[row], column] = source[row, column]


def repeated_rows(array: wp.array, rows: int) -> wp.array:
    """A copy of an array's only row, so many times."""
    repeated = wp.empty((rows, *array.shape[1:]), dtype=array.dtype, device=array.device)
    wp.synchronize_device(array.device)
    wp.to_torch(repeated).copy_(wp.to_torch(array))
    return repeated


def zeros(shape: tuple[int, ...], dtype: type) -> tuple[wp.array, Tensor]:
    """A new array, and its torch view."""
    array = wp.zeros(shape, dtype=dtype)
    return array, wp.to_torch(array)


def as_words(array: wp.array) -> wp.array:
    """The rows of an array as 32-bit words (B, n), in the same memory."""
    width = int(np.prod(array.shape[1:])) * wp.types.type_size_in_bytes(array.dtype) // 4
    return wp.array(ptr=array.ptr, dtype=wp.int32, shape=(array.shape[0], width), device=array.device)
