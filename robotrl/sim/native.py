"""CPU worlds on `mujoco.batch.Batch`: a C++ thread pool over live arrays shared with torch."""

from __future__ import annotations

import mujoco
import mujoco.batch
import numpy as np
import torch
from torch import Tensor

from robotrl.errors import SimulationError


class NativeWorlds:
    """See `robotrl.sim.worlds.Worlds`.

    The bound arrays are float64 views of the batch's rows; `_refresh` copies them once per step
    into float32 tensors, which is what tasks and learners read.
    """

    def __init__(self, model: mujoco.MjModel, num: int, threads: int) -> None:
        self.model, self.num = model, num
        self._batch = mujoco.batch.Batch(model, nsim=num, nthread=threads)
        self._ctrl = torch.from_numpy(self._batch.bind("ctrl"))
        self._qpos = torch.from_numpy(self._batch.bind("qpos"))
        self._qvel = torch.from_numpy(self._batch.bind("qvel"))
        # Derived fields are read-only arrays; torch only ever reads them.
        self._force = _read_only(self._batch.bind("actuator_force"))
        self._sensors = _read_only(self._batch.bind("sensordata"))
        self._columns: dict[tuple[str, ...], Tensor | slice] = {}
        self._fields: dict[str, Tensor] = {}
        self._batch.forward()
        self._refresh()

    @property
    def qpos(self) -> Tensor:
        """Generalised positions (B, nq)."""
        return self._qpos32

    @property
    def qvel(self) -> Tensor:
        """Generalised velocities (B, nv)."""
        return self._qvel32

    @property
    def actuator_force(self) -> Tensor:
        """Actuator forces of the last substep (B, nu)."""
        return self._force32

    def sensor(self, *names: str) -> Tensor:
        """Values of equally sized sensors (B, len(names), size), one substep behind the state.

        Raises:
            SimulationError: the model has no such sensor, or their sizes differ.
        """
        columns = self._columns.get(names)
        if columns is None:
            columns = self._columns[names] = self._find_columns(names)
        if isinstance(columns, slice):  # neighbours in the model: a view costs nothing
            return self._sensors32[:, columns].view(self.num, len(names), -1)
        return self._sensors32[:, columns]

    def step(self, targets: Tensor) -> None:
        """Advance one substep for each row of `targets` (substeps, B, nu)."""
        if all(torch.equal(targets[0], row) for row in targets[1:]):
            self._ctrl.copy_(targets[0])
            self._batch.step(nstep=len(targets))
        else:
            for row in targets:
                self._ctrl.copy_(row)
                self._batch.step()
        self._refresh()

    def reset(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Put the worlds `ids` (k,) into a state at rest of all memory, and update what is derived."""
        rows = ids.numpy()
        self._batch.reset(rows, stage=mujoco.mjtStage.mjSTAGE_NONE)
        self._qpos[ids] = qpos.double()
        self._qvel[ids] = qvel.double()
        self._batch.forward(rows)
        self._refresh()

    def set_velocity(self, ids: Tensor, qvel: Tensor) -> None:
        """Overwrite the velocities (k, nv) of the worlds `ids`."""
        self._qvel[ids] = qvel.double()

    def field(self, name: str) -> Tensor:
        """Live per-world values (B, ...) of a model field; writes take effect at the next step."""
        if name not in self._fields:
            self._fields[name] = torch.from_numpy(self._batch.expand(name))
        return self._fields[name]

    def update_constants(self, ids: Tensor) -> None:
        """Recompute what the model derives from masses and inertias for the worlds `ids`."""
        self._batch.set_const(ids.numpy())

    def _refresh(self) -> None:
        self._qpos32, self._qvel32 = self._qpos.float(), self._qvel.float()
        self._force32, self._sensors32 = self._force.float(), self._sensors.float()

    def _find_columns(self, names: tuple[str, ...]) -> Tensor | slice:
        ids = [mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SENSOR, name) for name in names]
        missing = [name for name, i in zip(names, ids, strict=True) if i < 0]
        if missing:
            raise SimulationError(f"the model has no sensor {', '.join(missing)}")
        sizes = {int(self.model.sensor_dim[i]) for i in ids}
        if len(sizes) != 1:
            raise SimulationError(f"sensors {', '.join(names)} differ in size: {sorted(sizes)}")
        size = sizes.pop()
        first = [int(self.model.sensor_adr[i]) for i in ids]
        if first == list(range(first[0], first[0] + size * len(ids), size)):
            return slice(first[0], first[-1] + size)
        return torch.tensor([[start + k for k in range(size)] for start in first])


def _read_only(array: np.ndarray) -> Tensor:
    """Share a read-only array with torch, which cannot express that and would warn."""
    interface = dict(array.__array_interface__)
    interface["data"] = (interface["data"][0], False)
    holder = type("Shared", (), {"__array_interface__": interface, "owner": array})()
    return torch.from_numpy(np.asarray(holder))
