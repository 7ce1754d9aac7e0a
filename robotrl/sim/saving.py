"""Exact resume of what is simulated: states as flat tables of tensors, taken out and put back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from robotrl.errors import CheckpointError

State = dict[str, Tensor]
"""Everything that decides how something goes on; names are dotted paths."""


@runtime_checkable
class Stateful(Protocol):
    """Something that goes on bit for bit from a state that it, or one built like it, was in."""

    def state(self) -> State:
        """Everything that decides how it goes on; the tensors may be its own, live ones."""

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned.

        Raises:
            CheckpointError: it is the state of something built differently.
        """


def joined(**parts: Mapping[str, Tensor]) -> State:
    """Put the states of parts into one: `part.name`."""
    return {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}


def part_of(tensors: Mapping[str, Tensor], part: str) -> State:
    """Take one part's state out of what `joined` made."""
    prefix = f"{part}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def put_back(live: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Overwrite live tensors by saved ones of the same names.

    Raises:
        CheckpointError: a name is missing or too many, or a tensor has another shape or type.
    """
    for name in sorted(live.keys() ^ tensors.keys()):
        raise CheckpointError("is missing" if name in live else "is of another environment", key=name)
    for name, value in live.items():
        found, wanted = tensors[name], (tuple(value.shape), value.dtype)
        if (tuple(found.shape), found.dtype) != wanted:
            raise CheckpointError(
                "is of another environment",
                key=name,
                value=(tuple(found.shape), found.dtype),
                allowed=str(wanted),
            )
        value.copy_(found)
