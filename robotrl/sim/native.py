"""CPU worlds on `mujoco.batch.Batch`: a C++ thread pool over live arrays shared with torch."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping

import mujoco
import mujoco.batch
import numpy as np
import torch
from torch import Tensor

from robotrl.errors import SimulationError
from robotrl.sim.fields import place_mocap
from robotrl.sim.memory import require_memory
from robotrl.sim.saving import State, joined, part_of, put_back
from robotrl.sim.sensors import SensorColumns

_WARNING = mujoco.mjtWarning
_BAD = slice(int(_WARNING.mjWARN_BADQPOS), int(_WARNING.mjWARN_BADCTRL) + 1)
"""Counters of what MuJoCo calls bad: positions, velocities, accelerations, controls."""

_COUNTED = {
    "overflow_contacts": int(_WARNING.mjWARN_CONTACTFULL),
    "overflow_constraints": int(_WARNING.mjWARN_CNSTRFULL),
    "singular_inertias": int(_WARNING.mjWARN_INERTIA),
}
"""What `take_metrics` tells of MuJoCo's warning counters: physics that was lost, but not the world."""


class NativeWorlds:
    """See `robotrl.sim.worlds.Worlds`.

    Every field that is read is bound: after each call into the batch its rows lie in an array that
    torch shares. A snapshot is copied out of it when it is first asked for, so a field that nobody
    reads in a step costs nothing there. The first reading of a field binds it; if that is after a
    step, this one snapshot is of the present state instead of the last substep's start.

    Args:
        model: the model; shared, never written.
        num: B.
        threads: of the batch, the caller's included.
        dtype: of the snapshots; float64 is what the batch holds, bit by bit.

    Raises:
        BadInputError: so many worlds do not fit in memory.
    """

    device = torch.device("cpu")

    def __init__(
        self, model: mujoco.MjModel, num: int, threads: int, dtype: torch.dtype = torch.float32
    ) -> None:
        self.num, self.dtype = num, dtype
        self.model = copy.copy(model)
        self.model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        require_memory(num, _estimated_bytes(self.model, dtype), threads * _bytes_per_thread(self.model))
        self._batch = mujoco.batch.Batch(self.model, nsim=num, nthread=threads)
        self._warnings = self._batch.warning[:, :, 1]
        # A state's row starts with time, qpos and qvel (MuJoCo, mjtState).
        self._motion = self._batch.state[:, 1 : 1 + self.model.nq + self.model.nv]
        self._bound: dict[str, Tensor] = {}
        self._derived_bytes = 0
        self._snapshots: dict[str, Tensor] = {}
        self._fields: dict[str, Tensor] = {}
        self._columns = SensorColumns(self.model, self.device)
        mocap = ("mocap_pos", "mocap_quat") if self.model.nmocap else ()
        for name in ("ctrl", "qpos", "qvel", "actuator_force", "sensordata", *mocap):
            self._bind(name)
        self._ctrl = self._bound["ctrl"]
        self._qpos, self._qvel = self._bound["qpos"].numpy(), self._bound["qvel"].numpy()
        self._broken = torch.zeros(num, dtype=torch.bool)
        self._running: np.ndarray | None = None
        """Worlds that are stepped; None is all."""
        self._forgotten = np.zeros(self._warnings.shape[1], np.int64)
        self._told = self._forgotten
        self._batch.forward()

    @property
    def qpos(self) -> Tensor:
        """Generalised positions (B, nq)."""
        return self.data("qpos")

    @property
    def qvel(self) -> Tensor:
        """Generalised velocities (B, nv)."""
        return self.data("qvel")

    @property
    def actuator_force(self) -> Tensor:
        """Actuator forces of the last substep (B, nu)."""
        return self.data("actuator_force")

    def sensor(self, *names: str) -> Tensor:
        """Values of equally sized sensors (B, len(names), size), one substep behind the state.

        Raises:
            SimulationError: the model has no such sensor, or their sizes differ.
        """
        return self._columns.read(self.data("sensordata"), names)

    def data(self, name: str) -> Tensor:
        """A derived `MjData` field by its MuJoCo name (B, ...), as `mj_step` left it.

        Raises:
            SimulationError: MuJoCo has no such field, or its size changes from step to step.
        """
        snapshot = self._snapshots.get(name)
        if snapshot is None:
            if name not in self._bound:
                self._bind_late(name)
            snapshot = self._snapshots[name] = self._bound[name].to(self.dtype, copy=True)
        return snapshot

    def step(self, targets: Tensor) -> None:
        """Advance one substep for each row of `targets` (substeps, B, nu).

        Rows that equal their predecessor cost only physics. `Batch.rollout` would take all rows in
        one call, but was measured slower than this at 1,024 worlds (6 %) and hardly faster at 64 (2 %).
        """
        for goals, count in held(targets):
            self._ctrl.copy_(goals)
            self._running = self._advance(self._running, count)
        self._snapshots.clear()
        self._judge()

    def settle(self, ids: Tensor, targets: Tensor) -> None:
        """Advance the worlds `ids` (k,) alone, a substep for each row of `targets` (substeps, k, nu).

        See `robotrl.sim.worlds.Worlds`.
        """
        rows: np.ndarray | None = np.sort(ids[~self._broken[ids]].numpy())
        for goals, count in held(targets):
            self._ctrl[ids] = goals.to(self._ctrl)
            rows = self._advance(rows, count)
        with contextlib.suppress(mujoco.batch.SimulationError):  # `_judge` sees the status it leaves
            self._batch.forward(rows)
        self._snapshots.clear()
        self._judge()

    def reset(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Put the worlds `ids` (k,) into a state at rest of all memory, and update what is derived."""
        rows = np.sort(ids.numpy())
        self._forgotten = self._forgotten + self._warnings[rows].sum(0)
        self._batch.reset(rows, stage=mujoco.mjtStage.mjSTAGE_NONE)
        # numpy converts while it scatters, at a third of the cost of torch's indexing.
        self._qpos[ids.numpy()] = qpos.numpy()
        self._qvel[ids.numpy()] = qvel.numpy()
        with contextlib.suppress(mujoco.batch.SimulationError):  # `_judge` sees the status it leaves
            self._batch.forward(rows)
        self._snapshots.clear()
        if self._running is not None or self._batch.status.any():
            self._judge()

    def set_velocity(self, ids: Tensor, qvel: Tensor) -> None:
        """Overwrite the velocities (k, nv) of the worlds `ids`."""
        self._qvel[ids.numpy()] = qvel.numpy()
        self._snapshots.pop("qvel", None)

    def set_mocap(self, pos: Tensor, quat: Tensor) -> None:
        """Move the bodies that are moved from outside to (B, nmocap, 3) m and (B, nmocap, 4) wxyz."""
        self._bound["mocap_pos"].copy_(pos)
        self._bound["mocap_quat"].copy_(quat)

    def set_positions(self, columns: Tensor, qpos: Tensor) -> None:
        """Overwrite the positions (B, k) at addresses (k,), and derive anew what depends on them."""
        if self._running is None:
            self._qpos[:, columns.numpy()] = qpos.numpy()
        else:
            self._qpos[self._running[:, None], columns.numpy()] = qpos.numpy()[self._running]
        self._snapshots.clear()
        try:
            self._batch.forward(self._running, stage=mujoco.mjtStage.mjSTAGE_VEL)
        except mujoco.batch.SimulationError:
            self._judge()

    def field(self, name: str) -> Tensor:
        """Live per-world values (B, ...) of a model field; writes take effect at the next step.

        Raises:
            SimulationError: MuJoCo has no such field, or all worlds must share it.
            BadInputError: a row for each world does not fit in memory.
        """
        if name not in self._fields:
            owner, _, attribute = name.rpartition(".")
            nominal = getattr(self.model.opt if owner == "opt" else self.model, attribute, 0)
            require_memory(self.num, np.asarray(nominal).nbytes)
            try:
                self._fields[name] = torch.from_numpy(self._batch.expand(name))
            except ValueError as error:
                allowed = "what mujoco.batch.MODEL_FIELDS lists"
                raise SimulationError(f"no model field per world: {error}; allowed: {allowed}") from error
        return self._fields[name]

    def update_constants(self, ids: Tensor) -> None:
        """Recompute what the model derives from masses and inertias for the worlds `ids`."""
        self._batch.set_const(np.sort(ids.numpy()))

    def broken(self) -> Tensor:
        """(B,) bool: worlds in which MuJoCo failed, or whose state or controls it calls bad."""
        return self._broken.clone()

    def world_model(self, world: int) -> mujoco.MjModel:
        """Return one world's own model, its per-world fields and moved bodies filled in."""
        model = self._batch.get_model(world)
        if self.model.nmocap:
            place_mocap(model, *(self._bound[name][world].numpy() for name in ("mocap_pos", "mocap_quat")))
        return model

    def take_metrics(self) -> dict[str, float]:
        """Count warnings since the last call: of lost contacts or constraints, of singular inertias."""
        counted = self._forgotten + self._warnings.sum(0)
        new, self._told = counted - self._told, counted
        return {name: float(new[i]) for name, i in _COUNTED.items() if new[i]}

    def state(self) -> State:
        """Everything that decides how the worlds go on, see `robotrl.sim.saving`.

        State rows hold the warm start; outputs and snapshots are those of the last call, which the
        next step's reader may still ask for; model fields include what the model derived from them.
        """
        batch = self._batch
        own = {
            "rows": torch.from_numpy(batch.state),
            "warnings": torch.from_numpy(np.ascontiguousarray(self._warnings)),
            "status": _read_only(batch.status),
            "broken": self._broken,
            "forgotten": torch.from_numpy(np.stack((self._forgotten, self._told))),
        }
        # `set_const` expands fields of its own, of which the batch tells in no public way.
        expanded = {f for f in mujoco.batch.MODEL_FIELDS if batch._b.expanded(f) is not None}
        fields = {name: torch.from_numpy(batch.expand(name)) for name in sorted(expanded)}
        return joined(own=own, field=fields, output=self._bound, snapshot=self._snapshots)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned.

        Raises:
            CheckpointError: it is the state of other worlds.
        """
        for name in part_of(tensors, "field"):
            self.field(name)
        for name in part_of(tensors, "output").keys() - self._bound.keys():
            self._bind(name)
        live = {name: value for name, value in self.state().items() if not name.startswith("snapshot.")}
        saved = {name: value for name, value in tensors.items() if not name.startswith("snapshot.")}
        put_back(part_of(live, "field"), part_of(saved, "field"))
        if "field.body_invweight0" in saved:  # what masses decide: not all of it has a field
            self.update_constants(torch.arange(self.num))
        put_back(live, saved)
        self._warnings[...] = live["own.warnings"].numpy()
        self._forgotten, self._told = live["own.forgotten"].numpy()
        self._running = np.flatnonzero(~self._broken.numpy()) if self._broken.any() else None
        self._snapshots = part_of(tensors, "snapshot")

    def bytes_per_world(self) -> int:
        """Memory of one world, of the arrays held now: state, fields that are read, own model fields."""
        batch = self._batch
        # `set_const` expands fields of its own, of which the batch tells in no public way.
        expanded = [batch._b.expanded(name) for name in mujoco.batch.MODEL_FIELDS]
        arrays = [batch.state, batch.warning, batch.status, *(a for a in expanded if a is not None)]
        tensors = [*self._snapshots.values(), self._broken]
        held = self._derived_bytes + sum(a.nbytes for a in arrays) + sum(t.nbytes for t in tensors)
        return int(held // self.num)

    def _advance(self, rows: np.ndarray | None, count: int) -> np.ndarray | None:
        """Take substeps in some worlds, None being all: those in which MuJoCo does not fail."""
        try:
            self._batch.step(rows, nstep=count)
        except mujoco.batch.SimulationError as error:
            return np.setdiff1d(np.arange(self.num) if rows is None else rows, error.ids)
        return rows

    def _judge(self) -> None:
        """Find out which worlds are broken."""
        # Almost always nothing is, and a few cheap questions about all worlds at once tell so.
        motion, warned, failed = self._motion, self._warnings[:, _BAD], self._batch.status
        bounded = motion.min() >= -mujoco.mjMAXVAL and motion.max() <= mujoco.mjMAXVAL
        if bounded and not warned.any() and not failed.any():
            if self._running is not None:
                self._broken, self._running = torch.zeros_like(self._broken), None
            return
        good = (np.abs(motion) <= mujoco.mjMAXVAL).all(1) & ~warned.any(1) & (failed == 0)
        self._broken, self._running = torch.from_numpy(~good), np.flatnonzero(good)

    def _bind(self, name: str) -> None:
        """Share a field with torch, for good."""
        try:
            array = self._batch.bind(name)
        except ValueError as error:
            allowed = ", ".join(sorted(mujoco.batch.DATA_FIELDS))
            raise SimulationError(f"no data field to read: {error}; allowed: {allowed}") from error
        if array.flags.writeable:  # part of the state's rows
            self._bound[name] = torch.from_numpy(array)
        else:
            self._bound[name] = _read_only(array)
            self._derived_bytes += array.nbytes

    def _bind_late(self, name: str) -> None:
        """Bind a field between calls: derive its values now, and leave the snapshots as they are."""
        for known in self._bound:
            self.data(known)
        self._bind(name)
        # Broken worlds are left out: deriving them could clear the status that tells so.
        self._batch.forward(self._running)


def held(targets: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Split goals (substeps, B, nu) into rows and how many substeps each is held for."""
    count = len(targets)
    if targets.stride(0) == 0:
        starts = [0]
    else:
        starts = [k for k in range(count) if k == 0 or not torch.equal(targets[k], targets[k - 1])]
    for start, end in zip(starts, [*starts[1:], count], strict=True):
        yield targets[start], end - start


def _estimated_bytes(model: mujoco.MjModel, dtype: torch.dtype) -> int:
    """Memory of one world before anything else is read or any model field is expanded."""
    state = int(mujoco.mj_stateSize(model, int(mujoco.mjtState.mjSTATE_INTEGRATION)))
    derived = int(model.nu + model.nsensordata)
    return 8 * (state + derived) + dtype.itemsize * (int(model.nq + model.nv) + derived)


def _bytes_per_thread(model: mujoco.MjModel) -> int:
    """Memory of the one `MjData` and `MjModel` that a thread works with."""
    return int(model.narena + 2 * mujoco.mj_sizeModel(model))


def _read_only(array: np.ndarray) -> Tensor:
    """Share a read-only array with torch, which cannot express that and would warn."""
    interface = dict(array.__array_interface__)
    interface["data"] = (interface["data"][0], False)
    holder = type("Shared", (), {"__array_interface__": interface, "owner": array})()
    return torch.from_numpy(np.asarray(holder))
