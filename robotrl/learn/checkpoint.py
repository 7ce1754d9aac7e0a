"""A training run's state: one folder for each checkpoint, one safetensors file in it for each process.

A folder gets its name when all of its files are written, so that a checkpoint is whole or is not there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from robotrl.errors import CheckpointError
from robotrl.learn.group import Group

FOLDER = "checkpoints"
"""In a run's folder."""
FORMAT = 2
"""Of what is written here; other formats are refused."""
KEPT = 2
"""Checkpoints that a run keeps: the newest, and one in case a power cut spoils that."""

_FORMAT, _PROGRESS, _OWNER = "robotrl.format", "robotrl.progress", "robotrl.owner"

Owner = Mapping[str, str | int]
"""What a checkpoint belongs to: facts that must be the same where it is loaded."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    iteration: int
    steps: int
    """Environment steps."""
    seconds: float
    """Wall clock spent training."""


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint."""

    folder: Path
    progress: Progress
    owner: Owner

    def tensors(self, rank: int, part: str) -> dict[str, Tensor]:
        """Read the tensors of one process whose names start with `part` and a dot, without these."""
        prefix = f"{part}."
        with safe_open(_file(self.folder, rank), framework="pt") as handle:
            names = [name for name in handle.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name.removeprefix(prefix): handle.get_tensor(name) for name in names}

    def check(self, owner: Owner) -> None:
        """Refuse to be loaded where it does not belong.

        Raises:
            CheckpointError: one of these facts is another one here.
        """
        for key, value in owner.items():
            if self.owner.get(key) != value:
                raise CheckpointError(
                    "is the checkpoint of another run",
                    file=self.folder,
                    key=key,
                    value=self.owner.get(key),
                    allowed=repr(value),
                )


def save_checkpoint(
    run: Path, tensors: Mapping[str, Tensor], progress: Progress, owner: Owner, group: Group
) -> None:
    """Write a checkpoint; every rank of the group calls this with its own tensors.

    Args:
        run: the run's folder, the same one for all ranks.
        tensors: this rank's, by dotted name.
        progress: of the run.
        owner: what it belongs to.
        group: the ranks.
    """
    target = run / FOLDER / f"{progress.iteration:09d}"
    temporary = target.with_suffix(".tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    whole = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    facts = {_FORMAT: FORMAT, _PROGRESS: asdict(progress), _OWNER: dict(owner)}
    file = _file(temporary, group.rank)
    save_file(whole, file, metadata={name: json.dumps(value) for name, value in facts.items()})
    _flush(file)
    group.wait()
    if group.rank == 0:
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
        for older in _folders(run)[KEPT:]:
            shutil.rmtree(older)


def keep_only(run: Path, part: str) -> None:
    """Leave of a run's checkpoints the newest one, and of that what its name puts under `part`.

    Raises:
        CheckpointError: there is none.
    """
    checkpoint = newest_checkpoint(run)
    for rank in range(int(checkpoint.owner["processes"])):
        file = _file(checkpoint.folder, rank)
        kept = {f"{part}.{name}": value for name, value in checkpoint.tensors(rank, part).items()}
        facts = _facts(file)
        temporary = file.with_suffix(".tmp")
        save_file(kept, temporary, metadata={name: json.dumps(value) for name, value in facts.items()})
        _flush(temporary)
        temporary.replace(file)
    for older in _folders(run):
        if older != checkpoint.folder:
            shutil.rmtree(older)


def newest_checkpoint(run: Path) -> Checkpoint:
    """Find the newest whole checkpoint of a run.

    Raises:
        CheckpointError: there is none; the newest one's damage is named.
    """
    damage: CheckpointError | None = None
    for folder in _folders(run):
        try:
            return _opened(folder)
        except CheckpointError as error:
            damage = damage or error
    raise damage or CheckpointError("holds no checkpoint", file=run)


def _opened(folder: Path) -> Checkpoint:
    """Open a checkpoint and look at every file of it."""
    facts = _facts(_file(folder, 0))
    try:
        checkpoint = Checkpoint(folder, Progress(**facts[_PROGRESS]), facts[_OWNER])
        processes = int(facts[_OWNER]["processes"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError("holds no training progress", file=folder, key=_PROGRESS) from error
    for rank in range(1, processes):
        _facts(_file(folder, rank))
    return checkpoint


def _facts(file: Path) -> dict[str, Any]:
    """What a file's header says besides its tensors."""
    try:
        with safe_open(file, framework="pt") as handle:
            facts = {name: json.loads(value) for name, value in (handle.metadata() or {}).items()}
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"cannot be read ({error})", file=file) from error
    if facts.get(_FORMAT) != FORMAT:
        raise CheckpointError(
            "is of another version of robotrl",
            file=file,
            key=_FORMAT,
            value=facts.get(_FORMAT, "none"),
            allowed=str(FORMAT),
        )
    return facts


def _file(folder: Path, rank: int) -> Path:
    return folder / f"rank{rank}.safetensors"


def _folders(run: Path) -> list[Path]:
    """Checkpoints with a final name, newest first."""
    found = (run / FOLDER).glob("*") if (run / FOLDER).is_dir() else []
    return sorted((folder for folder in found if folder.name.isdigit()), key=lambda f: f.name, reverse=True)


def _flush(file: Path) -> None:
    """Let a file reach the disk before its folder gets its name."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
