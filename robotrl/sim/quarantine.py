"""Worlds whose simulation failed: counted, and kept in files from which the failure can be repeated."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import mujoco
import numpy as np
from torch import Tensor

from robotrl.errors import BadInputError
from robotrl.sim.exact import register_contact_forces
from robotrl.sim.worlds import Worlds
from robotrl.spec.state import Floats

_ALLOWED = "a dump of a broken world (broken_NNNN.npz), as training writes it"
_MODEL = "model.mjb"


@dataclass(frozen=True)
class Dump:
    """One world before the control step in which its simulation failed."""

    model: mujoco.MjModel
    """The world's own model, its randomised fields filled in."""
    qpos: Floats
    """(nq,) before the step."""
    qvel: Floats
    """(nv,) before the step."""
    targets: Floats
    """(substeps, nu) controls of the step, one row for each physics step."""
    world: int
    """Its index among the worlds."""
    reason: str
    """What was wrong after the step."""


class Quarantine:
    """Counts broken worlds and writes the first few down.

    Args:
        folder: where files go, made when the first is written; None: worlds are only counted.
        most: files that the folder may hold, earlier runs' included.

    Attributes:
        count: worlds that broke.
    """

    def __init__(self, folder: Path | None, most: int = 16) -> None:
        self.count = 0
        self._folder, self._most = folder, most

    def keep(self, worlds: Worlds, ids: Tensor, qpos: Tensor, qvel: Tensor, targets: Tensor) -> None:
        """Count the worlds `ids` (k,), which `worlds.step(targets)` has just broken, and write them down.

        Args:
            worlds: all worlds, as the step left them.
            ids: (k,) those that broke.
            qpos: (B, nq) before the step.
            qvel: (B, nv) before the step.
            targets: (substeps, B, nu) of the step.
        """
        self.count += len(ids)
        if self._folder is None:
            return
        for world in ids.tolist():
            file = _new_file(self._folder, self._most)
            if file is None:
                return
            with file:
                start = _floats(qpos[world]), _floats(qvel[world]), _floats(targets[:, world])
                reason = _reason(start[2], _floats(worlds.qpos[world]), _floats(worlds.qvel[world]))
                _write(file, Dump(worlds.world_model(world), *start, world, reason))


def _write(file: BinaryIO, dump: Dump) -> None:
    """Write a dump as npz: arrays, the reason's text, and the model in MuJoCo's binary format."""
    model = np.empty(mujoco.mj_sizeModel(dump.model), np.uint8)
    mujoco.mj_saveModel(dump.model, None, model)
    np.savez(
        file,
        model=model,
        qpos=dump.qpos,
        qvel=dump.qvel,
        targets=dump.targets,
        world=np.array(dump.world),
        reason=np.array(dump.reason),
    )


def load_dump(file: Path) -> Dump:
    """Read what a `Quarantine` wrote.

    Raises:
        BadInputError: the file is missing, damaged, not a dump, or of another version of MuJoCo.
    """
    try:
        content = io.BytesIO(file.read_bytes())
        with np.load(content, allow_pickle=False) as arrays:
            # A lone array is no archive and has no context to enter, hence TypeError.
            found = {name: arrays[name] for name in arrays.files}
        model = _model(found["model"].tobytes())
        qpos, qvel, targets = (found[name].astype(np.float64) for name in ("qpos", "qvel", "targets"))
        dump = Dump(model, qpos, qvel, targets, int(found["world"]), str(found["reason"]))
    except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise BadInputError(f"cannot be read ({error})", file=file, allowed=_ALLOWED) from error
    _check_sizes(dump, file)
    return dump


def _model(content: bytes) -> mujoco.MjModel:
    register_contact_forces()  # models of the classic tasks name it
    return mujoco.MjModel.from_binary_path(_MODEL, {_MODEL: content})


def _check_sizes(dump: Dump, file: Path) -> None:
    model = dump.model
    expected = {"qpos": (model.nq,), "qvel": (model.nv,), "targets": (len(dump.targets), model.nu)}
    for name, shape in expected.items():
        if getattr(dump, name).shape != shape:
            found = getattr(dump, name).shape
            raise BadInputError(
                "does not fit its model", file=file, key=name, value=found, allowed=str(shape)
            )


def _new_file(folder: Path, most: int) -> BinaryIO | None:
    """Open the first file of the folder that does not exist yet; None: there are enough."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(most):
        try:
            return (folder / f"broken_{number:04d}.npz").open("xb")
        except FileExistsError:  # of an earlier run, or of another process of this one
            continue
    return None


def _reason(targets: Floats, qpos: Floats, qvel: Floats) -> str:
    """What is wrong with the controls (substeps, nu) of a step, or with the state (nq,), (nv,) after it."""
    if not np.isfinite(targets).all():
        return "a control of the step is not finite"
    for name, values in (("qpos", qpos), ("qvel", qvel)):
        bad = np.flatnonzero(~(np.abs(values) <= mujoco.mjMAXVAL))
        if len(bad):
            return f"{name}[{bad[0]}] is {values[bad[0]]:g} after the step"
    return "MuJoCo found a bad value or failed within the step; the state after it is finite"


def _floats(values: Tensor) -> Floats:
    return np.asarray(values.double().cpu())
