"""A training run's state as one safetensors file: tensors, and counters as JSON in its header."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from robotrl.errors import CheckpointError

_KEY = "robotrl.progress"


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    iteration: int
    steps: int
    """Environment steps."""
    seconds: float
    """Wall clock spent training."""


def save_checkpoint(file: Path, tensors: dict[str, Tensor], progress: Progress) -> None:
    """Write a checkpoint under a temporary name, then rename it: a reader finds a whole one or none."""
    temporary = file.with_suffix(".tmp")
    whole = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    save_file(whole, temporary, metadata={_KEY: json.dumps(asdict(progress))})
    temporary.replace(file)


def load_checkpoint(file: Path) -> tuple[dict[str, Tensor], Progress]:
    """Read a checkpoint.

    Raises:
        CheckpointError: there is none, or it is not one of ours.
    """
    try:
        with safe_open(file, framework="pt") as handle:
            metadata = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot be read ({error})", file=file) from error
    try:
        return tensors, Progress(**json.loads(metadata[_KEY]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError("holds no training progress", file=file, key=_KEY) from error
